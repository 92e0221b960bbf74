//! The ring as it is written down, and the checks that a file must pass to become a ring again.
//!
//! Must not know where the file lies. A file that fails a check is an error, never a panic and never half a ring.

use crate::{
    ChunkRecord, Owner, Ring,
    ring::{Freed, Slot},
};
use ipnet::Ipv4Net;
use osier_model::PeerId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// The format written by this version.
const FORMAT: u32 = 1;

/// A saved ring cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Another version wrote it.
    #[error("the ring is written in format {0}, this version knows format {FORMAT}")]
    Format(u32),
    /// Its parts contradict each other.
    #[error("the ring contradicts itself: {0}")]
    Damaged(&'static str),
    /// It is another node's, such as that of a copied disk.
    #[error("the ring belongs to node {theirs}, this is node {ours}")]
    OtherNode {
        /// Whose it is.
        theirs: PeerId,
        /// This node.
        ours: PeerId,
    },
    /// It is about another range.
    #[error("the ring is about range {theirs}, the cluster uses {ours}")]
    OtherRange {
        /// The ring's range.
        theirs: Ipv4Net,
        /// The configured range.
        ours: Ipv4Net,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    format: u32,
    range: Ipv4Net,
    me: PeerId,
    reserved: Vec<Ipv4Addr>,
    chunks: Vec<ChunkRecord>,
    disputed: Vec<u32>,
    held: BTreeMap<Ipv4Addr, Owner>,
    freed: Vec<Ipv4Addr>,
    request: Option<u64>,
    given: Vec<Given>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    to: PeerId,
    request: u64,
    records: Vec<ChunkRecord>,
}

impl Ring {
    /// Takes up a ring read from disk: it must be this node's and of this range. `reserved` replaces what was saved.
    pub fn resume(mut self, range: Ipv4Net, me: PeerId, reserved: &[Ipv4Addr]) -> Result<Self, RingError> {
        if self.me != me {
            return Err(RingError::OtherNode { theirs: self.me, ours: me });
        }
        if self.range() != range.trunc() {
            return Err(RingError::OtherRange { theirs: self.range(), ours: range.trunc() });
        }
        self.reserved = reserved.iter().copied().collect();
        Ok(self)
    }
}

impl From<Ring> for Saved {
    fn from(ring: Ring) -> Self {
        let disputed = (0..).zip(&ring.slots).filter(|(_, slot)| slot.disputed).map(|(chunk, _)| chunk).collect();
        let given = |(to, (request, records))| Given { to, request, records };
        Self {
            format: FORMAT,
            range: ring.range(),
            me: ring.me,
            chunks: ring.records(),
            disputed,
            freed: ring.freed.oldest_first().collect(),
            reserved: ring.reserved.into_iter().collect(),
            held: ring.held,
            request: ring.request,
            given: ring.given.into_iter().map(given).collect(),
        }
    }
}

impl TryFrom<Saved> for Ring {
    type Error = RingError;

    fn try_from(saved: Saved) -> Result<Self, RingError> {
        if saved.format != FORMAT {
            return Err(RingError::Format(saved.format));
        }
        let mut ring = Self::join(saved.range, saved.me, &saved.reserved);
        for record in &saved.chunks {
            ring.restore(record)?;
        }
        for chunk in saved.disputed {
            let slot =
                ring.slots.get_mut(chunk as usize).ok_or(RingError::Damaged("a disputed chunk does not exist"))?;
            slot.disputed = true;
        }
        if saved.held.keys().any(|address| ring.layout.chunk_of(*address).is_none()) {
            return Err(RingError::Damaged("an address in use lies outside the range"));
        }
        ring.held = saved.held;
        ring.freed = Freed::default();
        for address in saved.freed {
            if ring.layout.chunk_of(address).is_none() || ring.held.contains_key(&address) {
                return Err(RingError::Damaged("a released address is in use or outside the range"));
            }
            ring.freed.push(address);
        }
        ring.request = saved.request;
        for given in saved.given {
            if given.records.iter().any(|record| !ring.has_chunks_of(record)) {
                return Err(RingError::Damaged("a chunk given away does not exist"));
            }
            ring.given.insert(given.to, (given.request, given.records));
        }
        Ok(ring)
    }
}

impl Ring {
    fn restore(&mut self, record: &ChunkRecord) -> Result<(), RingError> {
        if !self.has_chunks_of(record) {
            return Err(RingError::Damaged("a chunk does not exist"));
        }
        let (first, count) = (record.first as usize, record.count as usize);
        for slot in &mut self.slots[first..first + count] {
            if slot.owner.is_some() {
                return Err(RingError::Damaged("a chunk is listed twice"));
            }
            *slot = Slot {
                generation: record.generation,
                version: record.version,
                owner: Some(record.owner),
                giver: record.giver,
                disputed: false,
            };
        }
        Ok(())
    }

    /// Whether a record names at least one chunk, and only chunks that the range has.
    pub(crate) fn has_chunks_of(&self, record: &ChunkRecord) -> bool {
        let end = record.first.checked_add(record.count);
        record.count > 0 && end.is_some_and(|end| end <= self.layout.chunks())
    }
}
