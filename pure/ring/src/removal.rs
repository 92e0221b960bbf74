//! What becomes of the chunks of a node that was removed for good: who inherits them, and when.
//!
//! Must not know how a removal is signed, how it travels, or how a member says that it has acknowledged one.
//!
//! # The rules of an inheritance
//!
//! 1. A node that learns of a removal writes it down, and from then on takes nothing from the removed node and gives it
//!    nothing. Then it *acknowledges*: it says which removals it knows of, and everything that it knows of the ring
//!    ([`Ring::records`], not only [`Ring::my_records`]) as of that moment or later. Its own records would not do: a chunk
//!    that it had of the removed node and has passed on since is no longer among them, and a gift that is known to
//!    neither side any more may be known to a third.
//! 2. The heir takes the chunks once every remaining member has acknowledged *all* removals that the heir knows of, no
//!    fewer and no others, as one who knows the same members, and the heir has merged what they said with that. Two heirs
//!    then decide by the same knowledge, so that no chunk has two of them: the newest record that any member has seen
//!    decides whose the chunk was.
//! 3. It takes them in the next generation ([`Ring::inherit`]), so that whatever was done under the former one loses.
//!
//! Until then they are frozen: nobody gives out addresses of them but the removed node itself, should it live on somewhere.
//! A removal that is `forced` skips the second rule. That is safe where everybody has heard all that the removed
//! node ever said; else a chunk that it gave away unseen may get a second owner. So whoever forces still hears those first
//! who answer, and leaves alone what it knows nothing of.

use crate::{Conflict, MergeOutcome, Ring, ring::Slot};
use osier_model::PeerId;
use std::collections::BTreeSet;

/// A node was removed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Removal {
    /// The removed node.
    pub peer: PeerId,
    /// Who was named to take its chunks over.
    pub heir: PeerId,
    /// Whether the heir waits for nobody.
    pub forced: bool,
}

/// Chunks of a removed node that its heir may not take yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The removed node.
    pub peer: PeerId,
    /// Who takes them in the end; nobody where no member remains.
    pub heir: Option<PeerId>,
    /// The members whose acknowledgement this node does not know.
    pub waits_for: BTreeSet<PeerId>,
}

/// What [`inheritance`] decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inheritance {
    /// The removed nodes whose chunks this node takes now (see [`Ring::inherit`]); for good, so that they are named again
    /// when it has taken them.
    pub takes: BTreeSet<PeerId>,
    /// Those whose chunks nobody takes yet, as far as this node knows.
    pub waiting: Vec<Waiting>,
    /// A member beside this one that is to know what is taken, so that not only the heir's own disk does.
    pub witness: Option<PeerId>,
    /// What is taken is taken in a later generation than this: how many nodes were removed. A chunk that a removed node
    /// inherited, by what it knew then, is in no later one, so that its own heir's record wins.
    pub after: u32,
}

/// Who takes over the chunks of a removed node: the heir that was named for it, or the heir of that one where it was removed
/// as well, and so on. Where nobody who remains was named so, because two nodes inherit each other or because the heir never
/// was a member, it is the smallest remaining member. All who know the same removals and members find the same heir.
///
/// `members` are the remaining ones; there is no heir if there are none, or if `peer` was not removed. Of several removals of
/// one node the smallest counts.
pub fn heir(peer: PeerId, removals: &[Removal], members: &BTreeSet<PeerId>) -> Option<PeerId> {
    let named = |of: PeerId| removals.iter().filter(|removal| removal.peer == of).min().map(|removal| removal.heir);
    let mut seen = BTreeSet::from([peer]);
    let mut next = named(peer)?;
    loop {
        if members.contains(&next) {
            return Some(next);
        }
        if !seen.insert(next) {
            break;
        }
        match named(next) {
            Some(further) => next = further,
            None => break,
        }
    }
    members.first().copied()
}

/// Which removed nodes' chunks this node takes now, and what the others wait for.
///
/// `members` are the remaining ones, this node among them. `has_acknowledged` says of a member whether the first rule in the
/// module's head is known to hold for it: it knows of exactly the `removals` given here, and what it knew of the ring
/// when it said so has been merged. It is not asked about this node itself.
pub fn inheritance(
    me: PeerId,
    removals: &[Removal],
    members: &BTreeSet<PeerId>,
    has_acknowledged: impl Fn(PeerId) -> bool,
) -> Inheritance {
    let missing = members.iter().filter(|member| **member != me && !has_acknowledged(**member));
    let waits_for: BTreeSet<PeerId> = missing.copied().collect();
    let witness = members.iter().find(|member| **member != me).copied();
    let removed: BTreeSet<PeerId> = removals.iter().map(|removal| removal.peer).collect();
    let after = u32::try_from(removed.len()).unwrap_or(u32::MAX);
    let mut decided = Inheritance { witness, after, ..Inheritance::default() };
    for peer in removed {
        let heir = heir(peer, removals, members);
        let forced = removals.iter().filter(|removal| removal.peer == peer).min().is_some_and(|removal| removal.forced);
        let waits_for = if forced { BTreeSet::new() } else { waits_for.clone() };
        if heir.is_none() || !waits_for.is_empty() {
            decided.waiting.push(Waiting { peer, heir, waits_for });
        } else if heir == Some(me) {
            decided.takes.insert(peer);
        }
    }
    decided
}

/// The removed nodes that `me` is heir of.
pub fn estates(me: PeerId, removals: &[Removal], members: &BTreeSet<PeerId>) -> BTreeSet<PeerId> {
    let removed = removals.iter().map(|removal| removal.peer);
    removed.filter(|peer| heir(*peer, removals, members) == Some(me)).collect()
}

impl MergeOutcome {
    /// The same without contradictions that are none: what a removed node had of this one, as its own disk no longer knows, and
    /// this one is heir of, becomes this node's again. Another member may even know that it came back before.
    #[must_use]
    pub fn but_for(mut self, estates: &BTreeSet<PeerId>) -> Self {
        let is_own =
            |conflict: &Conflict| matches!(conflict, Conflict::Overruled { owner, .. } if estates.contains(owner));
        self.conflicts.retain(|conflict| !is_own(conflict));
        self
    }
}

impl Ring {
    /// Takes over the chunks of the removed nodes that `decided` names: each chunk that one of them owns, as far as is known
    /// here, becomes this node's, in the next generation and the first version of that. Where the ring's only `founder` is
    /// among them, those of which nothing is known become this node's, too; a ring that several founded has none such
    /// and is given no `founder`. Doing it again changes nothing.
    ///
    /// The new records name the witness as their giver, which is how that member comes to publish them as well
    /// ([`Ring::my_records`]): a chunk without a giver would be lost with its owner's disk. What the removed nodes
    /// had given to others, this node publishes in their stead, as their gift may not have arrived.
    ///
    /// A disputed chunk stays as it is. Who else claims it is not known here: that may be a remaining member, with containers
    /// that have its addresses, and a new generation would take them away.
    ///
    /// The caller persists the ring before anything leaves.
    pub fn inherit(&mut self, decided: &Inheritance, founder: Option<PeerId>) -> MergeOutcome {
        let mut outcome = MergeOutcome::default();
        let Inheritance { takes, witness, after, .. } = decided;
        let unowned = founder.is_some_and(|founder| takes.contains(&founder));
        let me = self.me;
        for slot in self.slots.iter_mut().filter(|slot| !slot.disputed) {
            let inherits = slot.owner.map_or(unowned, |owner| takes.contains(&owner));
            // There is none after the last of all generations, which nobody reaches honestly.
            if inherits && let Some(generation) = slot.generation.max(*after).checked_add(1) {
                *slot = Slot { generation, version: 1, owner: Some(me), giver: *witness, disputed: false };
                outcome.gained += 1;
            } else if slot.owner != Some(me) && slot.giver.is_some_and(|giver| takes.contains(&giver)) {
                slot.giver = Some(me);
                outcome.changed = true;
            }
        }
        if outcome.gained > 0 {
            // The wish is granted; repeating it would only bring more.
            (outcome.changed, self.request) = (true, None);
        }
        outcome
    }

    /// How many addresses lie in chunks whose owner is known and none of `members`: nobody gives them out until an heir takes
    /// them over.
    pub fn frozen(&self, members: &BTreeSet<PeerId>) -> u64 {
        let slots = (0..).zip(&self.slots);
        let frozen = slots.filter(|(_, slot)| slot.owner.is_some_and(|owner| !members.contains(&owner)));
        frozen.map(|(chunk, _)| self.layout.capacity(chunk)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allocation, ChunkRecord, Owner};
    use proptest::prelude::*;

    fn peer(n: u8) -> PeerId {
        PeerId([2, 0, 0, 0, 0, n])
    }

    fn removal(of: u8, heir: u8) -> Removal {
        Removal { peer: peer(of), heir: peer(heir), forced: false }
    }

    fn peers(all: impl IntoIterator<Item = u8>) -> BTreeSet<PeerId> {
        all.into_iter().map(peer).collect()
    }

    #[test]
    fn an_heir_that_was_removed_is_followed_by_its_own() {
        let removals = [removal(1, 2), removal(2, 3), removal(5, 9), removal(6, 7), removal(7, 6)];
        let members = peers([3, 4, 8]);
        let heirs = [1, 2, 5, 6, 7].map(|of| heir(peer(of), &removals, &members));
        assert_eq!(heirs, [3, 3, 3, 3, 3].map(|n| Some(peer(n))), "a chain, a stranger, and two that name each other");
        assert_eq!(heir(peer(1), &removals, &peers([2])), Some(peer(2)), "it was named and it remains");
        assert_eq!(heir(peer(3), &removals, &members), None, "it was not removed");
        assert_eq!(heir(peer(1), &removals, &peers([])), None);
    }

    #[test]
    fn what_comes_back_with_an_estate_is_no_contradiction() {
        // It founded the ring, gave a chunk to one that gave it back and was removed, and has lost its disk since.
        let (me, [one, other]) = (peer(1), [peer(2), peer(3)]);
        let mut ring = Ring::found("10.0.0.0/26".parse().unwrap(), me, &[]);
        let owner = Owner::new("container:a".to_owned());
        let Allocation::Granted(address) = ring.allocate(&owner) else { panic!("it owns all") };
        let chunk = ring.records().into_iter().find(|record| record.first == 0).unwrap();
        let given = |version, owner, giver| ChunkRecord { version, owner, giver: Some(giver), ..chunk.clone() };
        let mut outcome = ring.merge(&given(2, one, me));
        outcome.conflicts.extend(ring.merge(&given(2, other, me)).conflicts);
        assert!(outcome.conflicts.len() > 1, "{outcome:?}");
        let estates = estates(me, &[removal(2, 1), removal(3, 9)], &peers([1, 9]));
        assert_eq!(estates, peers([2]));
        let left = outcome.but_for(&estates).conflicts;
        assert!(matches!(left[..], [Conflict::TwoOwners { .. }]), "{left:?}");
        let mut ring = Ring::found("10.0.0.0/26".parse().unwrap(), me, &[]);
        assert_eq!(ring.allocate(&owner), Allocation::Granted(address));
        assert!(ring.merge(&given(2, one, me)).but_for(&estates).conflicts.is_empty());
        let decided = inheritance(me, &[removal(2, 1)], &peers([1, 9]), |_| true);
        assert!(ring.inherit(&decided, None).gained > 0);
        assert_eq!(ring.owner_of(address), Some(&owner));
        assert_eq!(ring.allocate(&owner), Allocation::Granted(address));
    }

    #[test]
    fn an_heir_waits_for_every_member_unless_the_removal_is_forced() {
        let forced = Removal { forced: true, ..removal(2, 3) };
        let (removals, members) = ([removal(1, 3), forced, removal(6, 4)], peers([3, 4, 5]));
        let decided = inheritance(peer(3), &removals, &members, |member| member == peer(4));
        assert_eq!((decided.takes, decided.witness), (peers([2]), Some(peer(4))));
        let waiting = |of, heir| Waiting { peer: peer(of), heir: Some(peer(heir)), waits_for: peers([5]) };
        assert_eq!(decided.waiting, [waiting(1, 3), waiting(6, 4)]);
        let decided = inheritance(peer(3), &removals, &members, |_| true);
        assert_eq!((decided.takes, decided.waiting), (peers([1, 2]), vec![]));
        let alone = inheritance(peer(3), &removals, &peers([3]), |_| unreachable!("it knows what it knows"));
        assert_eq!((alone.takes, alone.witness), (peers([1, 2, 6]), None));
    }

    proptest! {
        #[test]
        fn all_members_find_one_heir_and_it_remains(
            pairs in prop::collection::vec((0..8u8, 0..9u8, any::<bool>()), 0..12), order in any::<u64>(),
        ) {
            let removals: Vec<Removal> =
                pairs.into_iter().map(|(of, heir, forced)| Removal { forced, ..removal(of, heir) }).collect();
            let members: BTreeSet<PeerId> =
                (0..9).map(peer).filter(|p| !removals.iter().any(|r| r.peer == *p)).collect();
            let mut other = removals.clone();
            other.rotate_left(order as usize % removals.len().max(1));
            let mut taken = BTreeSet::new();
            for me in &members {
                let decided = inheritance(*me, &other, &members, |_| true);
                prop_assert_eq!(&decided, &inheritance(*me, &removals, &members, |_| true));
                prop_assert!(decided.waiting.is_empty());
                for of in decided.takes {
                    prop_assert_eq!(heir(of, &removals, &members), Some(*me));
                    prop_assert!(taken.insert(of), "two heirs");
                }
            }
            let removed: BTreeSet<PeerId> = removals.iter().map(|removal| removal.peer).collect();
            prop_assert_eq!(taken, removed);
        }
    }
}
