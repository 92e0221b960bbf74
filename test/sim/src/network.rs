//! What is on its way between nodes. Datagrams get lost, come late and in another order; messages of the control channel
//! come in order or, where the way is cut, not at all. Must not know what they say.

use osier_ring::{ChunkReply, ChunkRequest};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

/// Something that travels.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Datagram(Vec<u8>),
    /// A request, and for which of the sender's containers it is.
    Ask(ChunkRequest, u64),
    Reply(ChunkReply, u64),
}

/// Something on its way.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// How often the receiver had started when this was sent: a connection does not outlive its ends.
    pub(crate) start: u64,
    pub(crate) message: Message,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Network {
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    parcels: BTreeMap<u64, Parcel>,
    next: u64,
}

impl Network {
    pub(crate) fn send(&mut self, at: Duration, parcel: Parcel) {
        self.next += 1;
        self.due.push(Reverse((at, self.next)));
        self.parcels.insert(self.next, parcel);
    }

    /// When something arrives next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// What has arrived by now, one after the other.
    pub(crate) fn arrived(&mut self, now: Duration) -> Option<Parcel> {
        self.next().filter(|at| *at <= now)?;
        let Reverse((_, key)) = self.due.pop()?;
        self.parcels.remove(&key)
    }
}
