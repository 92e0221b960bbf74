//! How chunks change hands: requests, gifts, and records learnt from others.
//!
//! Must not know how any of them travels.

use crate::{
    ChunkRecord, ChunkReply, ChunkRequest, Owner, Refusal, Ring,
    ring::{Slot, runs},
};
use osier_model::PeerId;
use std::{cmp::Reverse, net::Ipv4Addr, ops::RangeInclusive};

/// What [`Ring::merge`] and [`Ring::accept`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergeOutcome {
    /// Whether the ring changed and must be persisted.
    pub changed: bool,
    /// How many chunks became this node's.
    pub gained: u32,
    /// What did not fit.
    pub conflicts: Vec<Conflict>,
}

/// A record contradicts what this node knows; see rule 4 in the crate's head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Two nodes own the same version of a chunk. This node stopped using it.
    #[error("{} to {} has two owners, {mine} and {theirs}: it is not used until the operator resolves it", span.start(), span.end())]
    TwoOwners {
        /// First and last address.
        span: RangeInclusive<Ipv4Addr>,
        /// The owner this node knows.
        mine: PeerId,
        /// The owner the record names.
        theirs: PeerId,
    },
    /// A newer record names another owner for a chunk this node believed to own: its disk is older than what it has
    /// told others. The record was taken over.
    #[error("{} to {} belongs to {owner} although this node's disk says it is its own ({} addresses in use)", span.start(), span.end(), held.len())]
    Overruled {
        /// First and last address.
        span: RangeInclusive<Ipv4Addr>,
        /// The owner the record names.
        owner: PeerId,
        /// What this node has handed out there.
        held: Vec<(Ipv4Addr, Owner)>,
    },
    /// The record names chunks that this range does not have: the peers were given different ranges.
    #[error("a record of {} names {} chunks from {} on, which range {range} does not have", record.owner, record.count, record.first)]
    OutsideRange {
        /// The range here.
        range: ipnet::Ipv4Net,
        /// The record.
        record: ChunkRecord,
    },
}

impl Ring {
    /// The request to send to a peer that [`Ring::allocate`] named: the one not granted yet, else a new one with the id
    /// `fresh`, a random number.
    pub fn request_chunk(&mut self, fresh: u64) -> ChunkRequest {
        ChunkRequest { id: *self.request.get_or_insert(fresh), wanted: None }
    }

    /// The request to send to the peer that [`crate::Claim::Foreign`] named, for the chunk that `address` lies in. It is not
    /// remembered: whoever still wants the address asks again.
    pub fn request_address(&self, address: Ipv4Addr, fresh: u64) -> ChunkRequest {
        ChunkRequest { id: fresh, wanted: Some(address) }
    }

    /// Answers the request of `from`: gives half of the chunks that are wholly free (rounded up), those without recently
    /// released addresses first. The same request is answered the same way again, except for chunks that have moved on.
    ///
    /// The caller persists the ring before it sends the reply: this is what keeps a chunk from having two owners.
    pub fn give(&mut self, from: PeerId, request: &ChunkRequest, members: &[PeerId]) -> ChunkReply {
        let id = request.id;
        if from == self.me || !members.contains(&from) {
            return ChunkReply::Nothing { id, reason: Refusal::NotAMember };
        }
        if let Some(address) = request.wanted {
            return self.give_address(from, id, address);
        }
        // Who was removed never asks again.
        self.given.retain(|peer, _| members.contains(peer));
        if let Some((_, records)) = self.given.get(&from).filter(|(last, _)| *last == id) {
            let records: Vec<_> = records.iter().flat_map(|record| self.unmoved(record)).collect();
            if !records.is_empty() {
                return ChunkReply::Given { id, records };
            }
        }
        let mut free: Vec<u32> = (0..self.layout.chunks()).filter(|chunk| self.is_free(*chunk)).collect();
        free.sort_by_key(|chunk| (self.freed.any_in(self.layout.bounds(*chunk, 1)), Reverse(*chunk)));
        free.truncate(free.len().div_ceil(2));
        if free.is_empty() {
            return ChunkReply::Nothing { id, reason: Refusal::NoneFree };
        }
        for chunk in &free {
            self.hand_over(*chunk, from);
        }
        free.sort_unstable();
        let records = runs(free.iter().map(|chunk| (*chunk, &self.slots[*chunk as usize])));
        self.given.insert(from, (id, records.clone()));
        ChunkReply::Given { id, records }
    }

    /// Gives the one chunk that an address lies in, or says again that it was given.
    fn give_address(&mut self, from: PeerId, id: u64, address: Ipv4Addr) -> ChunkReply {
        let nothing = ChunkReply::Nothing { id, reason: Refusal::NoneFree };
        let Some(chunk) = self.layout.chunk_of(address).filter(|_| self.usable(address)) else { return nothing };
        if self.is_free(chunk) {
            self.hand_over(chunk, from);
        }
        let slot = &self.slots[chunk as usize];
        if (slot.owner, slot.giver) != (Some(from), Some(self.me)) {
            return nothing;
        }
        ChunkReply::Given { id, records: runs([(chunk, slot)].into_iter()) }
    }

    /// Makes `to` the owner of a chunk that is free.
    fn hand_over(&mut self, chunk: u32, to: PeerId) {
        for address in self.layout.addresses(chunk) {
            self.freed.remove(address);
        }
        let slot = &mut self.slots[chunk as usize];
        slot.version += 1;
        (slot.owner, slot.giver) = (Some(to), Some(self.me));
    }

    /// Takes a reply in. The caller persists the ring before it hands out any address of the new chunks.
    pub fn accept(&mut self, reply: &ChunkReply) -> MergeOutcome {
        let ChunkReply::Given { id, records } = reply else { return MergeOutcome::default() };
        let mut outcome = MergeOutcome { changed: self.request == Some(*id), ..MergeOutcome::default() };
        self.request.take_if(|waiting| waiting == id);
        for record in records {
            outcome.add(self.merge(record));
        }
        outcome
    }

    /// Takes in a record that another node published. Newer wins, older changes nothing, a contradiction is reported.
    pub fn merge(&mut self, record: &ChunkRecord) -> MergeOutcome {
        let mut outcome = MergeOutcome::default();
        if !self.has_chunks_of(record) {
            let (range, record) = (self.range(), record.clone());
            outcome.conflicts.push(Conflict::OutsideRange { range, record });
            return outcome;
        }
        for chunk in record.first..record.first + record.count {
            outcome.add(self.merge_chunk(chunk, record));
        }
        outcome
    }

    fn merge_chunk(&mut self, chunk: u32, record: &ChunkRecord) -> MergeOutcome {
        let known = self.slots[chunk as usize];
        let span = self.layout.bounds(chunk, 1);
        let mut outcome = MergeOutcome::default();
        let age = (record.generation, record.version);
        if age < known.age() {
            return outcome;
        }
        if age == known.age() {
            if let Some(mine) = known.owner.filter(|owner| *owner != record.owner) {
                outcome.changed = !known.disputed;
                self.slots[chunk as usize].disputed = true;
                outcome.conflicts.push(Conflict::TwoOwners { span, mine, theirs: record.owner });
            }
            return outcome;
        }
        if known.owner == Some(self.me) && record.owner != self.me {
            let held = self.held.range(span.clone()).map(|(a, o)| (*a, o.clone())).collect();
            outcome.conflicts.push(Conflict::Overruled { span, owner: record.owner, held });
        }
        outcome.changed = true;
        if record.owner == self.me && known.owner != Some(self.me) {
            outcome.gained = 1;
            // Whoever gave it, the wish is granted; repeating it would only bring the same chunks again.
            self.request = None;
        }
        let (generation, version) = age;
        let (owner, giver) = (Some(record.owner), record.giver);
        self.slots[chunk as usize] = Slot { generation, version, owner, giver, disputed: false };
        outcome
    }

    /// Whether this node may give the chunk away: its own, undisputed, good for something, nothing handed out in it.
    fn is_free(&self, chunk: u32) -> bool {
        self.may_use(chunk)
            && self.slots[chunk as usize].version < u64::MAX
            && self.held.range(self.layout.bounds(chunk, 1)).next().is_none()
            && self.layout.addresses(chunk).any(|address| self.usable(address))
    }

    /// The part of a record given earlier that still stands.
    fn unmoved(&self, record: &ChunkRecord) -> Vec<ChunkRecord> {
        let stands =
            |slot: &Slot| slot.age() == (record.generation, record.version) && slot.owner == Some(record.owner);
        let chunks = record.first..record.first + record.count;
        runs(chunks.map(|chunk| (chunk, &self.slots[chunk as usize])).filter(|(_, slot)| stands(slot)))
    }
}

impl MergeOutcome {
    fn add(&mut self, other: Self) {
        self.changed |= other.changed;
        self.gained += other.gained;
        for conflict in other.conflicts {
            if !self.conflicts.last_mut().is_some_and(|last| last.extend(&conflict)) {
                self.conflicts.push(conflict);
            }
        }
    }
}

impl Conflict {
    /// Takes in a conflict of the next chunk between the same two; false if it is another one.
    fn extend(&mut self, next: &Self) -> bool {
        let follows = |a: &RangeInclusive<Ipv4Addr>, b: &RangeInclusive<Ipv4Addr>| {
            u32::from(*a.end()).checked_add(1) == Some(u32::from(*b.start()))
        };
        match (self, next) {
            (Self::TwoOwners { span, mine, theirs }, Self::TwoOwners { span: more, mine: m, theirs: t })
                if mine == m && theirs == t && follows(span, more) =>
            {
                *span = *span.start()..=*more.end();
                true
            }
            (Self::Overruled { span, owner, held }, Self::Overruled { span: more, owner: o, held: h })
                if owner == o && follows(span, more) =>
            {
                *span = *span.start()..=*more.end();
                held.extend_from_slice(h);
                true
            }
            _ => false,
        }
    }
}
