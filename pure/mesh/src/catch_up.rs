//! Whether a node that has started may know by now what its disk has missed.
//!
//! Must not know what is given out, how anybody is asked, or what is said of who belongs.
//!
//! # The rules
//!
//! A disk that was put back claims what its node has given away since, and those who have to do with it know better. So after
//! a start a node gives nothing out
//!
//! 1. before it has compared everything with all members that it knows. Those that are silent it waits for only so long, or
//!    nobody could be alone. Nor does it before every member that knows other statements of who belongs has told them: what
//!    it says of the rest is not taken in here before they are known.
//! 2. before it has listened for *strangers* for a moment. Its list of members is as old as its disk: all who remain may have
//!    been admitted since, and all whom it knows may be gone. Then nobody whom it knows tells it anything, and it would take
//!    itself for alone. But the others count it among the members, announce themselves to it or probe it, and have the
//!    cluster's key. So whoever it hears and does not know is asked who belongs before anything is given out.
//! 3. for a while after it was outbid: others know a later life of it, which is what they do of a disk that was put back.
//!
//! What it learns of who belongs makes it start anew, and wait for those.

use osier_model::PeerId;
use std::{collections::BTreeSet, time::Duration};

/// How long members that are silent are waited for. Who has something to tell and is being asked has twice as long.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long strangers are listened for at least. Those who count this node as dead announce themselves to it every second; those who
/// have not noticed that it was away probe it in turn, which may take longer than this.
const LISTEN: Duration = Duration::from_millis(1500);
/// How many strangers are heard; whoever has the cluster's key can make some up.
const MOST: usize = 64;

/// See the module.
#[derive(Debug, Clone)]
pub struct CatchUp {
    /// The members, and those who were removed; this node may be among either.
    others: BTreeSet<PeerId>,
    removed: BTreeSet<PeerId>,
    compared: BTreeSet<PeerId>,
    strangers: BTreeSet<PeerId>,
    /// Those who were asked who belongs, and told no news.
    asked: BTreeSet<PeerId>,
    started: Duration,
    outbid: Option<Duration>,
}

impl CatchUp {
    /// Begins now, with a start of `me`.
    pub fn new(
        now: Duration,
        me: PeerId,
        members: impl IntoIterator<Item = PeerId>,
        removed: impl IntoIterator<Item = PeerId>,
    ) -> Self {
        Self {
            others: members.into_iter().filter(|peer| *peer != me).collect(),
            removed: removed.into_iter().chain([me]).collect(),
            compared: BTreeSet::new(),
            strangers: BTreeSet::new(),
            asked: BTreeSet::new(),
            started: now,
            outbid: None,
        }
    }

    /// Notes that everything was compared with a member.
    pub fn note_compared(&mut self, peer: PeerId) {
        self.compared.insert(peer);
    }

    /// Notes that somebody was heard who has the cluster's key and is no member; whether that is a stranger who was not heard
    /// before. One who was removed is none.
    pub fn note_stranger(&mut self, peer: PeerId) -> bool {
        let is_known = self.others.contains(&peer) || self.removed.contains(&peer);
        !is_known && self.strangers.len() < MOST && self.strangers.insert(peer)
    }

    /// Notes that somebody has told all statements that it knows, and none was news.
    pub fn note_asked(&mut self, peer: PeerId) {
        self.asked.insert(peer);
    }

    /// Notes that others knew a later life of this node.
    pub fn note_outbid(&mut self, now: Duration) {
        self.outbid = Some(now);
    }

    /// The members that everything was compared with.
    pub fn compared(&self) -> &BTreeSet<PeerId> {
        &self.compared
    }

    /// The strangers who are to be asked.
    pub fn strangers(&self) -> impl Iterator<Item = PeerId> {
        self.strangers.difference(&self.asked).copied()
    }

    /// When this node may give something out, unless it hears more until then. `differs` says of a member that everything was
    /// compared with whether it knows other statements than this node.
    pub fn ends(&self, differs: impl Fn(PeerId) -> bool) -> Duration {
        let mut unasked = self.compared.difference(&self.asked);
        let wait = if self.strangers().next().is_some() || unasked.any(|peer| differs(*peer)) {
            2 * PATIENCE
        } else if self.others.is_subset(&self.compared) {
            LISTEN
        } else {
            PATIENCE
        };
        let outbid = self.outbid.map_or(Duration::ZERO, |at| at + PATIENCE);
        outbid.max(self.started + wait)
    }

    /// From when on no other machine under this node's identity can have given the same away without either having heard of the
    /// other.
    pub fn alone_from(&self) -> Duration {
        self.outbid.unwrap_or(self.started) + PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: PeerId = peer(1);

    const fn peer(n: u8) -> PeerId {
        PeerId([2, 0, 0, 0, 0, n])
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ends(catch_up: &CatchUp) -> Duration {
        catch_up.ends(|_| false)
    }

    /// After a start at ten seconds, in a cluster of the first three, when the ninth had been removed.
    fn started() -> CatchUp {
        CatchUp::new(ms(10_000), ME, [1, 2, 3].map(peer), [peer(9)])
    }

    #[test]
    fn all_members_are_compared_with_and_the_silent_are_waited_for_only_so_long() {
        let mut catch_up = started();
        assert_eq!(ends(&catch_up), ms(13_000));
        catch_up.note_compared(peer(2));
        assert_eq!(ends(&catch_up), ms(13_000), "one of two");
        catch_up.note_compared(peer(3));
        assert_eq!(ends(&catch_up), ms(11_500), "nobody else was heard");
        assert_eq!(catch_up.alone_from(), ms(13_000));
    }

    #[test]
    fn a_node_whose_disk_knows_nobody_who_remains_asks_those_it_hears() {
        let mut catch_up = started();
        assert!(catch_up.note_stranger(peer(4)) && !catch_up.note_stranger(peer(4)), "a stranger is one once");
        assert!(!catch_up.note_stranger(peer(2)) && !catch_up.note_stranger(peer(9)) && !catch_up.note_stranger(ME));
        assert_eq!(catch_up.strangers().collect::<Vec<_>>(), [peer(4)]);
        assert_eq!(ends(&catch_up), ms(16_000), "silence alone does not make it alone");
        for member in [2, 3].map(peer) {
            catch_up.note_compared(member);
        }
        assert_eq!(ends(&catch_up), ms(16_000), "all whom it knows may be as far behind");
        catch_up.note_asked(peer(4));
        assert_eq!((ends(&catch_up), catch_up.strangers().next()), (ms(11_500), None));
    }

    #[test]
    fn a_node_that_was_by_itself_when_its_disk_was_copied_listens() {
        let mut catch_up = CatchUp::new(Duration::ZERO, ME, [ME], []);
        assert_eq!(ends(&catch_up), LISTEN);
        catch_up.note_stranger(peer(2));
        assert_eq!(ends(&catch_up), 2 * PATIENCE);
    }

    #[test]
    fn a_member_that_knows_other_statements_tells_them_first() {
        let mut catch_up = started();
        let differs = |peer_: PeerId| peer_ == peer(3);
        catch_up.note_compared(peer(2));
        assert_eq!(catch_up.ends(differs), ms(13_000), "it was not compared with");
        catch_up.note_compared(peer(3));
        assert_eq!(catch_up.ends(differs), ms(16_000));
        catch_up.note_asked(peer(3));
        assert_eq!(catch_up.ends(differs), ms(11_500), "it knows less");
    }

    #[test]
    fn whoever_is_outbid_waits_anew() {
        let mut catch_up = started();
        for member in [2, 3].map(peer) {
            catch_up.note_compared(member);
        }
        catch_up.note_outbid(ms(20_000));
        assert_eq!((ends(&catch_up), catch_up.alone_from()), (ms(23_000), ms(23_000)));
    }

    #[test]
    fn whoever_has_the_key_makes_up_so_many_strangers_at_most() {
        let mut catch_up = started();
        let heard = (10..=u8::MAX).filter(|n| catch_up.note_stranger(peer(*n))).count();
        assert_eq!((heard, catch_up.strangers().count()), (MOST, MOST));
    }
}
