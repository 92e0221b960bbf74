//! One node's view of the ring: handing out, claiming and releasing its own addresses.
//!
//! Must not know how chunks change hands; that is `exchange`.

use crate::{ChunkRecord, Owner, layout::Layout};
use ipnet::Ipv4Net;
use osier_model::PeerId;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// How many released addresses are remembered so that they are reused last.
const REMEMBERED_FREED: usize = 1024;

/// One range as one node sees it. See the crate's head for the rules, above all: persist before anything leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "crate::saved::Saved", into = "crate::saved::Saved")]
pub struct Ring {
    pub(crate) layout: Layout,
    pub(crate) me: PeerId,
    pub(crate) reserved: BTreeSet<Ipv4Addr>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) held: BTreeMap<Ipv4Addr, Owner>,
    pub(crate) freed: Freed,
    /// The request for chunks that has not been granted yet.
    pub(crate) request: Option<u64>,
    /// Per peer the last request granted and what it was given.
    pub(crate) given: BTreeMap<PeerId, (u64, Vec<ChunkRecord>)>,
}

/// What is known of one chunk; version 0 is "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) version: u64,
    pub(crate) owner: Option<PeerId>,
    pub(crate) giver: Option<PeerId>,
    /// Another node claims to own the same version: nobody may use it.
    pub(crate) disputed: bool,
}

/// Released addresses in the order of their release.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Freed {
    order: BTreeMap<u64, Ipv4Addr>,
    place: BTreeMap<Ipv4Addr, u64>,
}

/// The answer to [`Ring::allocate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocation {
    /// The owner holds this address now (or already did).
    Granted(Ipv4Addr),
    /// This node has no free address left: ask these peers for chunks, the best first. The list is empty while no
    /// other owner is known yet.
    NeedChunk {
        /// Peers that own chunks, those with the most first. The ring does not know who was removed: some may be.
        ask: Vec<PeerId>,
    },
    /// Every address of the range is this node's and in use.
    Full,
}

/// The answer to [`Ring::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The owner holds the address now (or already did).
    Granted,
    /// Another owner on this node holds it.
    Taken(Owner),
    /// It lies in a chunk of this peer, or of nobody known yet.
    Foreign(Option<PeerId>),
    /// It is the network's, the broadcast or a reserved address.
    Reserved,
    /// It does not lie in the range.
    OutsideRange,
}

/// Numbers for `status`; all count addresses, without the network and broadcast addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The range.
    pub range: Ipv4Net,
    /// Addresses in the range.
    pub total: u64,
    /// Addresses in chunks of this node.
    pub mine: u64,
    /// Addresses handed out by this node.
    pub in_use: u64,
    /// Addresses this node can still hand out without asking anybody.
    pub free_mine: u64,
    /// Addresses in chunks of each owner, this node included.
    pub per_peer: Vec<(PeerId, u64)>,
    /// Addresses in chunks whose owner is not known here.
    pub unowned: u64,
}

impl Ring {
    /// Founds the ring of `range`: `me` owns every chunk. Exactly one node of a cluster does this, once.
    pub fn found(range: Ipv4Net, me: PeerId, reserved: &[Ipv4Addr]) -> Self {
        let mut ring = Self::join(range, me, reserved);
        ring.slots.fill(Slot { generation: 1, version: 1, owner: Some(me), giver: None, disputed: false });
        ring
    }

    /// The ring of `range` as all of `founders` found it together: each owns an equal run of chunks, in the order of their
    /// identities. It follows from the arguments alone, so that every node makes the same one without asking anybody.
    /// Exactly one list of founders is right for a ring, and whoever makes it tells the list to all.
    pub fn found_among(range: Ipv4Net, me: PeerId, founders: &BTreeSet<PeerId>, reserved: &[Ipv4Addr]) -> Self {
        let mut ring = Self::join(range, me, reserved);
        let chunks = ring.slots.len();
        for (place, founder) in founders.iter().enumerate() {
            let start = |place: usize| (place * chunks).div_ceil(founders.len());
            let slot = Slot { generation: 1, version: 1, owner: Some(*founder), giver: None, disputed: false };
            ring.slots[start(place)..start(place + 1)].fill(slot);
        }
        ring
    }

    /// Joins the ring of `range`, owning nothing. Addresses in `reserved` are never handed out here.
    pub fn join(range: Ipv4Net, me: PeerId, reserved: &[Ipv4Addr]) -> Self {
        let layout = Layout::new(range);
        Self {
            slots: vec![Slot::default(); layout.chunks() as usize],
            layout,
            me,
            reserved: reserved.iter().copied().collect(),
            held: BTreeMap::new(),
            freed: Freed::default(),
            request: None,
            given: BTreeMap::new(),
        }
    }

    /// The range that is shared.
    pub fn range(&self) -> Ipv4Net {
        self.layout.range()
    }

    /// The node whose view this is.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Gives `owner` an address: the one it already holds, else one never handed out, else the one released longest ago.
    pub fn allocate(&mut self, owner: &Owner) -> Allocation {
        let holding = self.held.iter().find(|(_, holder)| *holder == owner).map(|(address, _)| *address);
        if let Some(address) = holding {
            return Allocation::Granted(address);
        }
        if let Some(address) = self.next_free() {
            self.hold(address, owner);
            return Allocation::Granted(address);
        }
        let ask = self.other_owners();
        let all_mine = (0..self.layout.chunks()).all(|chunk| self.may_use(chunk));
        if all_mine { Allocation::Full } else { Allocation::NeedChunk { ask } }
    }

    /// Gives `owner` this very address, if it is this node's to give and free.
    pub fn claim(&mut self, owner: &Owner, address: Ipv4Addr) -> Claim {
        let Some(chunk) = self.layout.chunk_of(address) else { return Claim::OutsideRange };
        match self.held.get(&address) {
            Some(holder) if holder == owner => return Claim::Granted,
            Some(holder) => return Claim::Taken(holder.clone()),
            None => {}
        }
        if !self.usable(address) {
            return Claim::Reserved;
        }
        if !self.may_use(chunk) {
            return Claim::Foreign(self.slots[chunk as usize].owner);
        }
        self.hold(address, owner);
        Claim::Granted
    }

    /// Releases everything `owner` holds and returns it.
    pub fn release(&mut self, owner: &Owner) -> Vec<Ipv4Addr> {
        let addresses: Vec<_> = self.held.iter().filter(|(_, o)| *o == owner).map(|(a, _)| *a).collect();
        for address in &addresses {
            self.release_address(*address);
        }
        addresses
    }

    /// Releases one address and returns who held it.
    pub fn release_address(&mut self, address: Ipv4Addr) -> Option<Owner> {
        let owner = self.held.remove(&address)?;
        self.freed.push(address);
        Some(owner)
    }

    /// Hands everything `from` holds to `to` (an address reserved before its container had an id); false if `from` holds
    /// nothing.
    pub fn rename(&mut self, from: &Owner, to: &Owner) -> bool {
        let mut any = false;
        for holder in self.held.values_mut().filter(|holder| *holder == from) {
            *holder = to.clone();
            any = true;
        }
        any
    }

    /// Every address handed out by this node, in order, and its holder.
    pub fn held(&self) -> impl Iterator<Item = (Ipv4Addr, &Owner)> {
        self.held.iter().map(|(address, owner)| (*address, owner))
    }

    /// Who holds an address, if this node handed it out.
    pub fn owner_of(&self, address: Ipv4Addr) -> Option<&Owner> {
        self.held.get(&address)
    }

    /// The peer that owns the chunk an address lies in, as far as this node knows.
    pub fn peer_of(&self, address: Ipv4Addr) -> Option<PeerId> {
        self.slots[self.layout.chunk_of(address)? as usize].owner
    }

    /// Everything known of all chunks.
    pub fn records(&self) -> Vec<ChunkRecord> {
        runs((0..).zip(&self.slots))
    }

    /// The records this node publishes: those of its own chunks, and those of chunks it gave away or whose inheritance it
    /// bears witness of, so that an owner whose reply was lost, or whose disk was, learns what it owns.
    pub fn my_records(&self) -> Vec<ChunkRecord> {
        let mine = |slot: &Slot| slot.owner == Some(self.me) || slot.giver == Some(self.me);
        runs((0..).zip(&self.slots).filter(|(_, slot)| mine(slot)))
    }

    /// Counts for `status`.
    pub fn stats(&self) -> Stats {
        let mut per_peer = BTreeMap::<PeerId, u64>::new();
        let (mut total, mut unowned, mut free_mine) = (0, 0, 0);
        for (chunk, slot) in (0..).zip(&self.slots) {
            let capacity = self.layout.capacity(chunk);
            total += capacity;
            match slot.owner {
                Some(peer) => *per_peer.entry(peer).or_default() += capacity,
                None => unowned += capacity,
            }
            if self.may_use(chunk) {
                let bounds = self.layout.bounds(chunk, 1);
                let reserved = self.reserved.range(bounds.clone()).filter(|a| !self.layout.is_edge(**a));
                let out = reserved.count() + self.held.range(bounds).filter(|(a, _)| self.usable(**a)).count();
                free_mine += capacity - out as u64;
            }
        }
        let mine = per_peer.get(&self.me).copied().unwrap_or(0);
        let per_peer = per_peer.into_iter().collect();
        Stats { range: self.range(), total, mine, in_use: self.held.len() as u64, free_mine, per_peer, unowned }
    }

    /// Whether this node owns the chunk, undisputed.
    pub(crate) fn may_use(&self, chunk: u32) -> bool {
        let slot = &self.slots[chunk as usize];
        slot.owner == Some(self.me) && !slot.disputed
    }

    /// Whether an address may ever be handed out.
    pub(crate) fn usable(&self, address: Ipv4Addr) -> bool {
        !self.layout.is_edge(address) && !self.reserved.contains(&address)
    }

    fn hold(&mut self, address: Ipv4Addr, owner: &Owner) {
        self.freed.remove(address);
        self.held.insert(address, owner.clone());
    }

    fn next_free(&self) -> Option<Ipv4Addr> {
        let mine = (0..self.layout.chunks()).filter(|chunk| self.may_use(*chunk));
        let mut free = mine
            .flat_map(|chunk| self.layout.addresses(chunk))
            .filter(|address| self.usable(*address) && !self.held.contains_key(address));
        let fresh = free.find(|address| !self.freed.contains(*address));
        fresh.or_else(|| {
            let usable = |a: &Ipv4Addr| self.usable(*a) && self.layout.chunk_of(*a).is_some_and(|c| self.may_use(c));
            self.freed.oldest_first().find(usable)
        })
    }

    fn other_owners(&self) -> Vec<PeerId> {
        let mut chunks = BTreeMap::<PeerId, u32>::new();
        let useful = (0..).zip(&self.slots).filter(|(chunk, slot)| !slot.disputed && self.layout.capacity(*chunk) > 0);
        for peer in useful.filter_map(|(_, slot)| slot.owner) {
            *chunks.entry(peer).or_default() += 1;
        }
        chunks.remove(&self.me);
        let mut peers: Vec<_> = chunks.into_iter().collect();
        peers.sort_by_key(|(peer, count)| (std::cmp::Reverse(*count), *peer));
        peers.into_iter().map(|(peer, _)| peer).collect()
    }
}

/// Writes chunks, given in order, as records: neighbours with the same history become one.
pub(crate) fn runs<'a>(slots: impl Iterator<Item = (u32, &'a Slot)>) -> Vec<ChunkRecord> {
    let mut runs: Vec<ChunkRecord> = Vec::new();
    for (chunk, slot) in slots {
        let Some(owner) = slot.owner else { continue };
        let (generation, version, giver) = (slot.generation, slot.version, slot.giver);
        let next = ChunkRecord { first: chunk, count: 1, generation, version, owner, giver };
        match runs.last_mut() {
            Some(last) if last.continues(&next) => last.count += 1,
            _ => runs.push(next),
        }
    }
    runs
}

impl Slot {
    /// What makes one record newer than another.
    pub(crate) fn age(&self) -> (u32, u64) {
        (self.generation, self.version)
    }
}

impl Freed {
    pub(crate) fn push(&mut self, address: Ipv4Addr) {
        self.remove(address);
        let place = self.order.last_key_value().map_or(0, |(place, _)| place + 1);
        self.order.insert(place, address);
        self.place.insert(address, place);
        while self.order.len() > REMEMBERED_FREED {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.place.remove(&oldest);
        }
    }

    pub(crate) fn remove(&mut self, address: Ipv4Addr) {
        if let Some(place) = self.place.remove(&address) {
            self.order.remove(&place);
        }
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.place.contains_key(&address)
    }

    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.order.values().copied()
    }

    /// Whether any remembered address lies in these bounds.
    pub(crate) fn any_in(&self, bounds: std::ops::RangeInclusive<Ipv4Addr>) -> bool {
        self.place.range(bounds).next().is_some()
    }
}
