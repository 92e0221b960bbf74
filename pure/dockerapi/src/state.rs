//! A container's run state as an inspect answer tells it, and the sentence that `ps` prints about it.
//!
//! List rows carry that sentence too, but it ages with the cache; so it is made anew for every answer.

use serde_json::Value;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// A container's state at the time it was inspected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunState {
    /// The engine's word: `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// The last start, if there was one.
    pub started: Option<OffsetDateTime>,
    /// The last end, if there was one.
    pub finished: Option<OffsetDateTime>,
    /// How it ended.
    pub exit_code: i64,
    /// The health check's result, where there is a check: `starting`, `healthy` or `unhealthy`.
    pub health: Option<String>,
}

impl RunState {
    /// Reads the `State` of an inspect answer. `skew` is added to its times: our clock less the engine's.
    pub fn read(inspect: &Value, skew: Duration) -> Self {
        let state = &inspect["State"];
        let time = |key: &str| {
            let time = OffsetDateTime::parse(state[key].as_str()?, &Rfc3339).ok()?;
            (time.year() > 1).then(|| time.checked_add(skew))?
        };
        let health = state["Health"]["Status"].as_str().filter(|s| !matches!(*s, "" | "none"));
        Self {
            status: state["Status"].as_str().unwrap_or_default().to_owned(),
            started: time("StartedAt"),
            finished: time("FinishedAt"),
            exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
            health: health.map(str::to_owned),
        }
    }

    /// The sentence in the `Status` column, as the engine words it.
    pub fn sentence(&self, now: OffsetDateTime) -> String {
        let since = |time: Option<OffsetDateTime>| human(time.map_or(Duration::ZERO, |t| now - t));
        match (self.status.as_str(), self.health.as_deref()) {
            ("running", None) => format!("Up {}", since(self.started)),
            ("running", Some("starting")) => format!("Up {} (health: starting)", since(self.started)),
            ("running", Some(health)) => format!("Up {} ({health})", since(self.started)),
            ("paused", _) => format!("Up {} (Paused)", since(self.started)),
            ("restarting", _) => format!("Restarting ({}) {} ago", self.exit_code, since(self.finished)),
            ("removing", _) => "Removal In Progress".into(),
            ("dead", _) => "Dead".into(),
            ("created", _) => "Created".into(),
            _ if self.finished.is_none() => String::new(),
            _ => format!("Exited ({}) {} ago", self.exit_code, since(self.finished)),
        }
    }
}

/// A duration in the words of Docker's command line: one unit, rounded as it rounds.
fn human(duration: Duration) -> String {
    let seconds = duration.whole_seconds().max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let exact_hours = seconds / 3600;
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", exact_hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn durations_are_worded_as_docker_words_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(human(Duration::seconds(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn states_are_told_as_the_engine_tells_them() {
        let now = datetime!(2026-01-01 12:00 UTC);
        let tell = |state: Value| RunState::read(&json!({ "State": state }), Duration::ZERO).sentence(now);
        let running = |more: Value| {
            let mut state = json!({"Status": "running", "StartedAt": "2026-01-01T11:55:00.123456789Z"});
            state.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            tell(state)
        };
        assert_eq!(running(json!({})), "Up 4 minutes");
        assert_eq!(running(json!({"Status": "paused"})), "Up 4 minutes (Paused)");
        assert_eq!(running(json!({"Health": {"Status": "starting"}})), "Up 4 minutes (health: starting)");
        assert_eq!(running(json!({"Health": {"Status": "none"}})), "Up 4 minutes");
        let ended = json!({"Status": "exited", "ExitCode": 137, "FinishedAt": "2026-01-01T11:59:58Z"});
        assert_eq!(tell(ended), "Exited (137) 2 seconds ago");
        assert_eq!(tell(json!({"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"})), "Created");
    }

    #[test]
    fn the_engines_clock_is_corrected() {
        let inspect = json!({"State": {"Status": "running", "StartedAt": "2026-01-01T10:00:00Z"}});
        let state = RunState::read(&inspect, Duration::hours(2));
        assert_eq!(state.sentence(datetime!(2026-01-01 12:00:05 UTC)), "Up 5 seconds");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in ".*", time in ".*", skew in any::<i32>()) {
            let inspect = json!({"State": {"Status": status, "StartedAt": time, "FinishedAt": "9999-12-31T23:59:59Z"}});
            RunState::read(&inspect, Duration::seconds(skew.into())).sentence(datetime!(2026-01-01 0:00 UTC));
        }
    }
}
