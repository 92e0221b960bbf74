//! Tells another machine under the same identity from this node's own past.
//!
//! A node whose disk was lost or put back is outbid by its former lives, which others remember: once, or a little more often
//! where several nodes remember different lives. Those do not answer. Another machine does: whatever incarnation this node
//! takes, it takes a later one as soon as it hears of it. Must not know what incarnations look like.

use std::{collections::VecDeque, time::Duration};

/// So many times within [`WITHIN`] no past outbids a node.
const TIMES: usize = 4;
/// See [`TIMES`]. Two machines hear of each other within a few seconds each time, also where only the comparisons of facts
/// reach one of them.
const WITHIN: Duration = Duration::from_secs(30);

/// How long a node that has a rival leaves it the last word: each answers the other in no time, and all others hear it.
const REST: Duration = Duration::from_secs(1);

/// When this node was outbid of late.
#[derive(Debug, Default)]
pub(crate) struct Rivals(VecDeque<Duration>);

impl Rivals {
    /// Whether a later incarnation is to be outbid now.
    pub(crate) fn may_outbid(&self, now: Duration) -> bool {
        self.0.len() < TIMES || self.0.back().is_none_or(|last| *last + REST <= now)
    }

    /// Notes that this node was outbid; whether that was once too often.
    pub(crate) fn outbid(&mut self, now: Duration) -> bool {
        self.0.push_back(now);
        self.0.retain(|at| now.saturating_sub(*at) < WITHIN);
        while self.0.len() > TIMES {
            self.0.pop_front();
        }
        self.0.len() == TIMES
    }
}

/// A node that is told so long, with no longer pauses than [`PAUSE`], that it is dead, is known in a later life. Comparisons
/// of facts, where they know of that life, say so much sooner, and in which incarnation it was.
const UNDEAD: Duration = Duration::from_secs(3);
/// See [`UNDEAD`].
const PAUSE: Duration = Duration::from_secs(1);

/// Since when others tell this node that it is dead. Who knows it in a later incarnation, but nothing that it said in
/// that, tells each of its new identities so and no more.
#[derive(Debug, Default)]
pub(crate) struct Undead {
    since: Duration,
    last: Option<Duration>,
}

impl Undead {
    /// Notes that it was told so; whether that can only mean that a later incarnation is known.
    pub(crate) fn note(&mut self, now: Duration) -> bool {
        if self.last.is_none_or(|last| now.saturating_sub(last) > PAUSE) {
            self.since = now;
        }
        self.last = Some(now);
        now.saturating_sub(self.since) >= UNDEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_for_long_that_it_is_dead_is_known_in_a_later_life() {
        let mut undead = Undead::default();
        assert!(!(0..12).any(|n| undead.note(Duration::from_secs(n * 2))), "now and then it happens to anybody");
        let told: Vec<bool> =
            (0..6).map(|n| undead.note(Duration::from_secs(60) + Duration::from_millis(700 * n))).collect();
        assert_eq!(told, [false, false, false, false, false, true]);
    }

    #[test]
    fn only_who_is_outbid_often_and_at_once_has_a_rival() {
        let noted = |pause: u64, times: u64| {
            let mut rivals = Rivals::default();
            (0..times).filter(|n| rivals.outbid(Duration::from_secs(n * pause))).count()
        };
        assert_eq!((noted(1, 3), noted(1, 4), noted(1, 8)), (0, 1, 5));
        assert_eq!(noted(11, 20), 0, "three in any half minute");
    }

    #[test]
    fn who_has_a_rival_does_not_answer_it_at_once() {
        let ms = Duration::from_millis;
        let mut rivals = Rivals::default();
        for at in 0..4 {
            assert!(rivals.may_outbid(ms(at)));
            rivals.outbid(ms(at));
        }
        assert!(!rivals.may_outbid(ms(1_002)) && rivals.may_outbid(ms(1_003)));
    }
}
