//! Engines' clocks, which need not agree with ours.

use time::{Duration, OffsetDateTime};

/// Differences below this are not worth showing: an answer takes time, too.
const TOLERANCE: Duration = Duration::seconds(2);

/// Our clock less the engine's, from one question: when it was asked and answered by our clock, and the engine's time in
/// the answer. Zero where the two agree within two seconds and half the answer's time.
pub fn skew(asked: OffsetDateTime, answered: OffsetDateTime, engine: OffsetDateTime) -> Duration {
    let half = (answered - asked).max(Duration::ZERO) / 2;
    let skew: Duration = asked + half - engine;
    if skew.abs() < TOLERANCE + half { Duration::ZERO } else { skew }
}

/// Whether an engine's clock was set since its skew was measured: `date` is the engine's time in whole seconds, in an
/// answer that was asked for and given at these times of our clock.
pub fn stepped(asked: OffsetDateTime, answered: OffsetDateTime, date: OffsetDateTime, skew: Duration) -> bool {
    let expected = (asked - skew - TOLERANCE * 2)..=(answered - skew + TOLERANCE * 2);
    !expected.contains(&date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    #[test]
    fn clocks_are_compared_at_the_middle_of_the_answer() {
        let later = NOON + Duration::seconds(4);
        assert_eq!(skew(NOON, NOON, NOON - Duration::hours(1)), Duration::hours(1));
        assert_eq!(skew(NOON, later, NOON + Duration::hours(1)), Duration::seconds(2) - Duration::hours(1));
        assert_eq!(skew(NOON, later, NOON - Duration::seconds(1)), Duration::ZERO);
        assert_eq!(skew(NOON, NOON, NOON + Duration::seconds(1)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn only_a_clock_that_was_set_has_stepped(skew_s in -100_000_i64..100_000, answer in 0_i64..10, step in -50_000_i64..50_000) {
            let (asked, answered) = (NOON, NOON + Duration::seconds(answer));
            let engine = |now: OffsetDateTime| now - Duration::seconds(skew_s);
            let measured = skew(asked, answered, engine(asked + Duration::seconds(answer) / 2));
            let date = engine(asked).replace_nanosecond(0).unwrap();
            prop_assert!(!stepped(asked, answered, date, measured) || measured.is_zero() && skew_s.abs() > 2);
            if step.abs() > answer + 9 {
                prop_assert!(stepped(asked, answered, date + Duration::seconds(step), Duration::seconds(skew_s)));
            }
        }
    }
}
