//! What to do when a connection that is to stand for good has ended: once more, and when, or not at all.
//!
//! Must not know how connections are made. Time and luck are arguments.

use std::time::Duration;

/// A connection that stood this long ended for a reason of its own; one that ended sooner counts as a failure.
pub const HELD: Duration = Duration::from_secs(10);
/// The longest wait between two attempts, without its share of luck.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The wait after the first failure; it doubles with every further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The share of a wait that luck adds, so that many who lost one host do not come back in step.
const SPREAD: f64 = 0.25;

/// What kind of end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The network, or the other side; it may be over soon.
    Passing,
    /// The name has no address: a slip of the pen, unless it had one before.
    UnknownName,
    /// Only the user can mend it.
    Lasting,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again after so long.
    Again(Duration),
    /// Say what is wrong and end.
    GiveUp,
}

/// What is remembered of one connection through its lives.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    failures: u32,
    stood: bool,
}

impl Supervisor {
    /// Takes note that the connection ended after it had stood for a while, or never did. `luck` is from 0 to 1.
    pub fn ended(&mut self, trouble: Trouble, stood_for: Option<Duration>, luck: f64) -> Next {
        self.stood |= stood_for.is_some();
        match trouble {
            Trouble::Lasting => return Next::GiveUp,
            Trouble::UnknownName if !self.stood => return Next::GiveUp,
            Trouble::UnknownName | Trouble::Passing => {}
        }
        if stood_for.is_some_and(|held| held >= HELD) {
            self.failures = 0;
            return Next::Again(Duration::ZERO);
        }
        // 2^6 seconds are longer than the longest wait.
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(6)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        Next::Again(wait.mul_f64(1.0 + SPREAD * luck.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waits(supervisor: &mut Supervisor, held: Option<Duration>, times: usize) -> Vec<u64> {
        let next = |_| match supervisor.ended(Trouble::Passing, held, 0.0) {
            Next::Again(wait) => wait.as_secs(),
            Next::GiveUp => panic!("it gave up"),
        };
        (0..times).map(next).collect()
    }

    #[test]
    fn waits_double_to_a_minute_and_start_anew_once_a_connection_has_held() {
        let mut supervisor = Supervisor::default();
        assert_eq!(waits(&mut supervisor, None, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits(&mut supervisor, Some(HELD), 1), [0]);
        assert_eq!(waits(&mut supervisor, Some(Duration::from_secs(1)), 3), [1, 2, 4], "a short life is a failure");
    }

    #[test]
    fn what_only_the_user_can_mend_is_not_tried_again() {
        for held in [None, Some(HELD)] {
            assert_eq!(Supervisor::default().ended(Trouble::Lasting, held, 0.5), Next::GiveUp);
        }
    }

    #[test]
    fn a_name_that_had_an_address_may_have_one_again() {
        let mut supervisor = Supervisor::default();
        assert_eq!(supervisor.clone().ended(Trouble::UnknownName, None, 0.0), Next::GiveUp);
        supervisor.ended(Trouble::Passing, Some(HELD), 0.0);
        assert_eq!(supervisor.ended(Trouble::UnknownName, None, 0.0), Next::Again(FIRST_WAIT));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_longest_with_its_share_of_luck(
            ends in prop::collection::vec((prop::option::of(0_u64..100), -1.0..2.0_f64), 0..100)
        ) {
            let mut supervisor = Supervisor::default();
            for (held, luck) in ends {
                let next = supervisor.ended(Trouble::Passing, held.map(Duration::from_secs), luck);
                let Next::Again(wait) = next else { panic!("it gave up") };
                prop_assert!(wait <= LONGEST_WAIT.mul_f64(1.0 + SPREAD));
            }
        }
    }
}
