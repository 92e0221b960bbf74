//! Engines' clocks, which need not agree with ours.

use time::{Duration, OffsetDateTime};

/// Differences below this are not worth showing: an answer takes time, too.
const TOLERANCE: Duration = Duration::seconds(2);

/// An engine's clock, compared with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// Our clock less the engine's, as exactly as it could be measured.
    pub offset: Duration,
    /// The same in whole seconds where it is worth showing, else zero.
    pub skew: Duration,
}

impl Clock {
    /// Compares by one question: when it was asked and answered by our clock, and the engine's time in the answer. What
    /// remains uncertain is half the answer's time.
    pub fn measure(asked: OffsetDateTime, answered: OffsetDateTime, engine: OffsetDateTime) -> Self {
        let half = (answered - asked).max(Duration::ZERO) / 2;
        let offset: Duration = asked + half - engine;
        let whole = Duration::seconds((offset + Duration::milliseconds(500)).as_seconds_f64().floor() as i64);
        Self { offset, skew: if offset.abs() < TOLERANCE + half { Duration::ZERO } else { whole } }
    }

    /// The engine's time when ours is `now`.
    pub fn engine_time(&self, now: OffsetDateTime) -> OffsetDateTime {
        now.checked_sub(self.offset).unwrap_or(now)
    }

    /// Whether the engine's clock was set since it was measured: `date` is its time in whole seconds, in an answer that
    /// was asked for and given at these times of our clock.
    pub fn stepped(&self, asked: OffsetDateTime, answered: OffsetDateTime, date: OffsetDateTime) -> bool {
        let slack = TOLERANCE * 2;
        date < self.engine_time(asked) - slack || date > self.engine_time(answered) + slack
    }

    /// How the engine's clock differs, for people; `None` where it does not.
    pub fn warning(&self) -> Option<String> {
        let side = if self.skew.is_positive() { "behind" } else { "ahead of" };
        let seconds = self.skew.whole_seconds().unsigned_abs();
        let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
        let by = match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds} s"),
            (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
            (0, _, _) => format!("{hours} h {minutes} min"),
            _ => format!("{days} d {hours} h"),
        };
        (!self.skew.is_zero()).then(|| format!("its clock is {by} {side} the manager's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    #[test]
    fn clocks_are_compared_at_the_middle_of_the_answer() {
        let skew = |answer: i64, engine| Clock::measure(NOON, NOON + Duration::seconds(answer), NOON + engine).skew;
        assert_eq!(skew(0, -Duration::hours(1)), Duration::hours(1));
        assert_eq!(skew(4, Duration::hours(1)), Duration::seconds(2) - Duration::hours(1));
        assert_eq!(skew(4, -Duration::seconds(1)), Duration::ZERO);
        assert_eq!(skew(0, Duration::seconds(1)), Duration::ZERO);
    }

    #[test]
    fn people_are_told_by_how_much() {
        let warning = |seconds| Clock::measure(NOON, NOON, NOON - Duration::seconds(seconds)).warning();
        assert_eq!(warning(1), None);
        assert_eq!(warning(3).unwrap(), "its clock is 3 s behind the manager's");
        assert_eq!(warning(-125).unwrap(), "its clock is 2 min 5 s ahead of the manager's");
        assert_eq!(warning(3 * 86400 + 7300).unwrap(), "its clock is 3 d 2 h behind the manager's");
    }

    proptest! {
        #[test]
        fn only_a_clock_that_was_set_has_stepped(
            offset in -100_000_i64..100_000, answer in 0_i64..10, later in 0_i64..100_000, step in -50_000_i64..50_000,
        ) {
            let (asked, answered) = (NOON, NOON + Duration::seconds(answer));
            let engine = |now: OffsetDateTime| now - Duration::seconds(offset);
            let clock = Clock::measure(asked, answered, engine(asked + Duration::seconds(answer) / 2));
            let then = NOON + Duration::seconds(later);
            prop_assert!(!clock.stepped(then, then + Duration::seconds(1), engine(then)));
            if step.abs() > 5 {
                prop_assert!(clock.stepped(then, then, engine(then) + Duration::seconds(step)));
            }
        }
    }
}
