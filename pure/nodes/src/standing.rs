//! Whether an engine can be used, and when to try again while it cannot.

use crate::{Reason, Refresh, Trouble};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest wait between two attempts to reach an engine, whatever the refresh intervals are.
const LONGEST: Duration = Duration::from_secs(60);
/// The wait after the first failures, which is to find out soon whether an engine is gone.
const QUICK: Duration = Duration::from_millis(300);
/// A connection that held for so long was no accident.
const STEADY: Duration = Duration::from_secs(30);

/// The longest wait where the host is there and nobody listens.
const BRIEF: Duration = Duration::from_secs(5);
/// How long after its loss an engine may be back before anybody has to know.
const MOMENT: Duration = Duration::from_secs(6);

/// Whether an engine can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Found, but it was not accepted yet.
    Pending,
    /// It answers.
    Healthy,
    /// It was accepted once and no longer answers.
    Unhealthy,
    /// It left the cluster.
    Disconnected,
}

/// A change that everybody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It was accepted for the first time.
    Connected,
    /// It answers again.
    Reconnected,
    /// It no longer answers, or is no longer accepted.
    Lost,
}

/// One engine's standing.
#[derive(Debug, Clone)]
pub struct Standing {
    health: Health,
    refresh: Refresh,
    /// In a row.
    failures: u32,
    /// Connections in a row that did not hold.
    flaps: u32,
    trouble: Option<Trouble>,
}

impl Standing {
    /// That of an engine of which nothing is known yet.
    pub fn new(refresh: Refresh) -> Self {
        Self { health: Health::Pending, refresh, failures: 0, flaps: 0, trouble: None }
    }

    /// Whether the engine can be used.
    pub fn health(&self) -> Health {
        self.health
    }

    /// What is wrong with it. An engine whose connections keep breaking is shown with the reason also while it answers.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// How much longer a call is to wait for an engine that was lost so long ago: nothing where it is not likely to be back in a
    /// moment.
    pub fn patience(&self, lost_for: Duration) -> Duration {
        let is_brief = self.trouble.as_ref().is_some_and(|trouble| trouble.reason.is_brief());
        if self.health == Health::Unhealthy && is_brief { MOMENT.saturating_sub(lost_for) } else { Duration::ZERO }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Classic Swarm's health indicator: 0 for an engine that is not to be used, else 100 less its share for every
    /// failure in a row.
    pub fn indicator(&self) -> u8 {
        let retry = self.refresh.failure_retry.max(1);
        let left = 100 - u64::from(self.failures.min(retry)) * 100 / u64::from(retry);
        if self.health == Health::Healthy { u8::try_from(left).unwrap_or(0) } else { 0 }
    }

    /// Takes a failure, and says how long to wait. `held` is how long the connection had been good; `luck` (0 to 1)
    /// spreads the waits, so that many engines do not move in step.
    pub fn fail(&mut self, trouble: Trouble, held: Option<Duration>, luck: f64) -> (Option<Turn>, Duration) {
        let retry = self.refresh.failure_retry.max(1);
        self.failures = self.failures.saturating_add(1);
        if trouble.reason.is_verdict() {
            self.failures = self.failures.max(retry);
        }
        match held {
            Some(held) if held >= STEADY => self.flaps = 0,
            Some(_) => self.flaps = self.flaps.saturating_add(1),
            None => {}
        }
        let wait = self.wait(trouble.reason, luck);
        self.trouble = Some(trouble);
        let lost = self.health == Health::Healthy && self.failures >= retry;
        if lost {
            self.health = Health::Unhealthy;
        }
        (lost.then_some(Turn::Lost), wait)
    }

    fn wait(&self, reason: Reason, luck: f64) -> Duration {
        let attempts = self.failures.max(self.flaps);
        let full = match attempts.checked_sub(self.refresh.failure_retry.max(1)) {
            None => QUICK,
            // Somebody has to go and change something first.
            Some(more) if reason.is_verdict() => doubled(Duration::from_secs(5), more),
            // A refusal costs nothing, and calls that wait have it looked at often: that must not put off the next look by much.
            Some(more) if reason.is_brief() && self.flaps < self.refresh.failure_retry.max(1) => {
                doubled(Duration::from_secs(1), more).min(BRIEF)
            }
            Some(more) => doubled(Duration::from_secs(1), more),
        };
        full.min(self.refresh.max).min(LONGEST).mul_f64(0.5 + luck.clamp(0.0, 1.0) / 2.0)
    }

    /// Takes a success on a connection that has been good for so long.
    pub fn succeed(&mut self, held: Duration) -> Option<Turn> {
        self.failures = 0;
        if held >= STEADY {
            self.flaps = 0;
        }
        if self.flaps < self.refresh.failure_retry.max(1) {
            self.trouble = None;
        }
        let before = std::mem::replace(&mut self.health, Health::Healthy);
        match before {
            Health::Healthy => None,
            Health::Pending => Some(Turn::Connected),
            Health::Unhealthy | Health::Disconnected => Some(Turn::Reconnected),
        }
    }

    /// Another engine answers at the address: what is known of the former one says nothing about it.
    pub fn replace(&mut self) {
        *self = Self::new(self.refresh);
    }

    /// The engine left the cluster.
    pub fn leave(&mut self) {
        self.health = Health::Disconnected;
        self.trouble = Some(Trouble { reason: Reason::Unreachable, text: "it left the cluster".into() });
    }

    /// How long until all containers are listed again.
    pub fn until_list(&self, luck: f64) -> Duration {
        let Refresh { min, max, .. } = self.refresh;
        min + max.saturating_sub(min).mul_f64(luck.clamp(0.0, 1.0))
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(6)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trouble(reason: Reason) -> Trouble {
        Trouble { reason, text: "x".into() }
    }

    fn fail(standing: &mut Standing, reason: Reason) -> (Option<Turn>, Duration) {
        standing.fail(trouble(reason), None, 1.0)
    }

    #[test]
    fn every_failure_costs_health_until_the_engine_is_lost() {
        let mut standing = Standing::new(Refresh::default());
        assert_eq!((standing.indicator(), standing.succeed(Duration::ZERO)), (0, Some(Turn::Connected)));
        assert_eq!(standing.indicator(), 100);
        let turns = [(None, 67), (None, 34), (Some(Turn::Lost), 0), (None, 0)];
        for (turn, indicator) in turns {
            assert_eq!((fail(&mut standing, Reason::Timeout).0, standing.indicator()), (turn, indicator));
        }
        assert_eq!(standing.succeed(Duration::ZERO), Some(Turn::Reconnected));
        assert_eq!((standing.indicator(), standing.trouble()), (100, None));
    }

    #[test]
    fn what_is_refused_is_lost_at_once_and_not_asked_again_soon() {
        let mut standing = Standing::new(Refresh::default());
        standing.succeed(Duration::ZERO);
        assert_eq!(fail(&mut standing, Reason::DuplicateId), (Some(Turn::Lost), Duration::from_secs(5)));
        assert_eq!(standing.health(), Health::Unhealthy);
    }

    #[test]
    fn only_an_engine_that_may_be_starting_anew_is_waited_for_and_not_for_long() {
        let mut standing = Standing::new(Refresh::default());
        assert_eq!(standing.patience(Duration::ZERO), Duration::ZERO, "it was never there");
        standing.succeed(Duration::ZERO);
        assert_eq!(standing.patience(Duration::ZERO), Duration::ZERO, "it is there");
        while fail(&mut standing, Reason::Refused).0.is_none() {}
        assert_eq!(standing.patience(Duration::from_secs(1)), MOMENT - Duration::from_secs(1));
        assert_eq!(standing.patience(MOMENT * 2), Duration::ZERO);
        fail(&mut standing, Reason::Timeout);
        assert_eq!(standing.patience(Duration::ZERO), Duration::ZERO, "its host is away");
    }

    #[test]
    fn connections_that_keep_breaking_are_made_ever_more_slowly() {
        let mut standing = Standing::new(Refresh::default());
        let mut last = Duration::ZERO;
        for round in 0..12 {
            standing.succeed(Duration::ZERO);
            assert_eq!(standing.trouble().is_some(), round >= 3, "{round}");
            let (turn, wait) = standing.fail(trouble(Reason::Broken), Some(Duration::from_secs(1)), 1.0);
            assert!(turn.is_none() && wait >= last);
            last = wait;
        }
        assert_eq!(last, LONGEST);
        standing.succeed(STEADY);
        assert_eq!(standing.trouble(), None);
        assert_eq!(standing.fail(trouble(Reason::Broken), Some(STEADY), 1.0).1, QUICK);
    }

    #[test]
    fn an_engine_that_is_away_for_a_moment_is_looked_at_soon_however_often_calls_asked() {
        let mut standing = Standing::new(Refresh::default());
        standing.succeed(Duration::ZERO);
        let last = (0..30).map(|_| fail(&mut standing, Reason::Refused).1).last();
        assert_eq!(last, Some(BRIEF));
        let gone = (0..30).map(|_| fail(&mut standing, Reason::Unreachable).1).last();
        assert!(gone > Some(BRIEF), "{gone:?}");
    }

    fn reason() -> impl Strategy<Value = Reason> {
        prop::sample::select(vec![Reason::Refused, Reason::Timeout, Reason::Label, Reason::DuplicateName])
    }

    proptest! {
        #[test]
        fn waits_are_never_long_and_health_follows_the_last_words(
            steps in prop::collection::vec(prop::option::of((reason(), prop::option::of(0_u64..100), 0.0..=1.0)), 1..60),
            retry in 0_u32..5, max in 1_u64..600,
        ) {
            let refresh = Refresh { min: Duration::from_secs(1), max: Duration::from_secs(max), failure_retry: retry };
            let mut standing = Standing::new(refresh);
            let mut accepted = false;
            for step in steps {
                let before = standing.health();
                match step {
                    Some((reason, held, luck)) => {
                        let (turn, wait) = standing.fail(trouble(reason), held.map(Duration::from_secs), luck);
                        prop_assert!(wait <= LONGEST && wait >= Duration::from_millis(100));
                        prop_assert_eq!(turn.is_some(), before == Health::Healthy && standing.health() == Health::Unhealthy);
                        prop_assert!(standing.trouble().is_some());
                    }
                    None => {
                        let turn = standing.succeed(Duration::ZERO);
                        prop_assert_eq!(turn.is_some(), before != Health::Healthy);
                        prop_assert_eq!(turn == Some(Turn::Connected), !accepted);
                        accepted = true;
                    }
                }
                prop_assert_eq!(standing.health() == Health::Pending, !accepted);
                prop_assert_eq!(standing.indicator() > 0, standing.health() == Health::Healthy);
                let list = standing.until_list(0.5);
                prop_assert!(list >= refresh.min && list <= refresh.max.max(refresh.min));
            }
        }
    }
}
