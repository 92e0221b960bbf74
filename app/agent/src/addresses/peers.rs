//! What a node's ring has to do with others: asking for chunks and giving them, telling records and taking them in.

use super::{ASK_DEADLINE, AddressError, Addresses, TAKE_IN};
use crate::{facts::encode, members::differs, networks::Net};
use osier_calls::control::Message;
use osier_gossip::Snapshot;
use osier_model::{NetworkId, PeerId};
use osier_ring::{ChunkRecord, ChunkReply, ChunkRequest, Conflict, Inheritance, MergeOutcome, Ring};
use std::{collections::BTreeSet, time::Duration};
use tracing::{info, warn};

/// What became of a question for addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Some were given.
    Given,
    /// None were, or there was no answer.
    Nothing,
    /// The peer says why it gives none to anybody; after its start it does so for a moment.
    Refused,
}

impl Addresses {
    /// Those of the peers that answer. A node that has heard of no owner yet asks everybody.
    pub(super) fn worth_asking(&self, peers: Vec<PeerId>) -> Vec<PeerId> {
        let peers = if peers.is_empty() { self.others.clone() } else { peers };
        let Some((gossip, _)) = self.gossip.get() else { return peers };
        let snapshot = gossip.snapshot();
        peers.into_iter().filter(|p| snapshot.alive(*p)).collect()
    }

    /// Waits, after a start, until the ring is no older than what its peers hold, so that a disk rolled back cannot give
    /// out what has been given away since ([`osier_mesh::CatchUp`]).
    pub(super) async fn catch_up(&self) {
        let Some((gossip, joined)) = self.gossip.get() else { return };
        let mut snapshots = gossip.changed();
        // One that can give out nothing anyway says why, and does not wait: of two machines under one identity each is outbid by
        // the other for as long as both run.
        while self.sound().is_ok()
            && let Some(left) = self.catching_up()
        {
            // What was heard may make it sooner or later.
            let _ = tokio::time::timeout(left, snapshots.changed()).await;
        }
        if joined.at.elapsed() < TAKE_IN {
            self.merge(&gossip.snapshot());
        }
    }

    fn catching_up(&self) -> Option<Duration> {
        let (gossip, joined) = self.gossip.get()?;
        gossip.catching_up(|peer| differs(&gossip.snapshot(), peer, &joined.digest))
    }

    /// Whether this node has started so recently that its disk may claim what it has given away, or another machine under its
    /// identity gives the same away.
    pub(crate) fn is_starting(&self) -> bool {
        self.catching_up().is_some() || self.gossip.get().is_some_and(|(gossip, _)| gossip.alone_in().is_some())
    }

    /// Asks one peer for what `request` makes of a random number; what became of that.
    pub(super) async fn ask(&self, peer: PeerId, request: impl FnOnce(&mut Ring, u64) -> ChunkRequest) -> Asked {
        let Some((gossip, _)) = self.gossip.get() else { return Asked::Nothing };
        let Ok(request) = self.change(|ring| request(ring, rand::random())) else { return Asked::Nothing };
        let call = gossip.request(peer, encode(&Message::AskChunk { network: self.network, request }));
        let reply = match tokio::time::timeout(ASK_DEADLINE, call).await {
            Ok(Ok(bytes)) => serde_json::from_slice::<Message>(&bytes),
            Ok(Err(error)) => {
                warn!(%peer, %error, "cannot ask for addresses");
                return Asked::Nothing;
            }
            Err(_) => {
                warn!(%peer, "no answer about addresses in time");
                return Asked::Nothing;
            }
        };
        match reply {
            Ok(Message::Chunk(reply)) => {
                let given = matches!(reply, ChunkReply::Given { .. });
                let kept = self.change(|ring| ring.accept(&reply));
                self.publish();
                match kept {
                    Ok(outcome) => {
                        self.note_conflicts(peer, outcome);
                        if given { Asked::Given } else { Asked::Nothing }
                    }
                    Err(_) => Asked::Nothing,
                }
            }
            Ok(Message::Refused(reason)) => {
                warn!(%peer, reason, "refused to give addresses");
                Asked::Refused
            }
            _ => Asked::Nothing,
        }
    }

    pub(super) fn give(&self, from: PeerId, request: &ChunkRequest) -> Result<ChunkReply, AddressError> {
        self.sound()?;
        if self.is_starting() {
            // It may have given these chunks away already, in a life that its disk does not know. Askers try again.
            return Err(AddressError::Starting);
        }
        let reply = self.change(|ring| ring.give(from, request, &self.members))?;
        info!(%from, network = %self.network, ?reply, "asked for addresses");
        self.publish();
        Ok(reply)
    }

    /// Makes this node's own records facts of the mesh.
    pub(super) fn publish(&self) {
        let Some((gossip, _)) = self.gossip.get() else { return };
        let inner = self.lock();
        if inner.discarded {
            return;
        }
        let records = inner.ring.my_records();
        drop(inner);
        let prefix = self.prefix();
        let own = gossip.own_keys(&prefix).into_iter();
        let mut stale: BTreeSet<String> = own.filter(|key| is_record(key, &prefix)).collect();
        for record in records {
            let key = format!("{prefix}{}", record.first);
            stale.remove(&key);
            gossip.set_fact(&key, Some(encode(&record)));
        }
        for key in stale {
            gossip.set_fact(&key, None);
        }
    }

    /// Takes in the records that other nodes published.
    pub(crate) fn merge(&self, snapshot: &Snapshot) {
        let prefix = self.prefix();
        let records = snapshot.facts.iter().filter(|(_, key, _)| is_record(key, &prefix));
        for (peer, _, value) in records.filter(|(peer, _, _)| self.others.contains(peer)) {
            let Some(record) = crate::facts::decode::<ChunkRecord>(value) else { continue };
            if let Err(error) = self.take_in(peer, &[record], &BTreeSet::new()) {
                warn!(error = crate::plugin::chain(&error), "cannot keep the ring");
            }
        }
        self.publish();
    }

    /// Takes in records that a peer told. `estates` are removed nodes that this one is heir of, where what they left is told.
    pub(crate) fn take_in(
        &self,
        peer: PeerId,
        records: &[ChunkRecord],
        estates: &BTreeSet<PeerId>,
    ) -> Result<(), AddressError> {
        for record in records {
            let outcome = self.change(|ring| ring.merge(record))?;
            self.note_conflicts(peer, outcome.but_for(estates));
        }
        Ok(())
    }

    /// All that is known of the ring.
    pub(crate) fn records(&self) -> Vec<ChunkRecord> {
        self.lock().ring.records()
    }

    /// Takes over the chunks of removed nodes ([`Ring::inherit`]), and tells how many.
    pub(crate) fn inherit(&self, decided: &Inheritance, founder: Option<PeerId>) -> Result<u32, AddressError> {
        let outcome = self.change(|ring| ring.inherit(decided, founder))?;
        self.publish();
        Ok(outcome.gained)
    }

    /// Notes whom an inheritance waits for; true if that has changed.
    pub(crate) fn note_waiting(&self, peers: BTreeSet<PeerId>) -> bool {
        let mut inner = self.lock();
        std::mem::replace(&mut inner.waits_for, peers.clone()) != peers
    }

    /// Whom an inheritance waits for.
    pub(crate) fn waits_for(&self) -> BTreeSet<PeerId> {
        self.lock().waits_for.clone()
    }

    /// How many addresses are nobody's to give out, because these are the members and their owner is none of them.
    pub(crate) fn frozen(&self, members: &BTreeSet<PeerId>) -> u64 {
        self.lock().ring.frozen(members)
    }

    fn note_conflicts(&self, peer: PeerId, outcome: MergeOutcome) {
        for conflict in outcome.conflicts {
            // A record that overruled this node's older one has been taken over; nothing is left to resolve.
            if let Conflict::Overruled { .. } = conflict {
                warn!(%conflict, %peer, "the ring on disk was older than what this node had said");
                continue;
            }
            self.halt(format!("{conflict} (heard from {peer})"));
        }
    }
}

/// Answers another node's request for addresses of a network; `net` is that one, if it is known here.
pub(crate) fn answer(from: PeerId, request: &ChunkRequest, network: NetworkId, net: Option<&Net>) -> Message {
    match net.map(|net| net.addresses.give(from, request)) {
        Some(Ok(reply)) => Message::Chunk(reply),
        Some(Err(e)) => Message::Refused(crate::plugin::chain(&e)),
        None => Message::Refused(format!("network {network} is not known here")),
    }
}

/// Whether a fact's key is that of a ring's record: what comes behind the prefix is the first chunk's number.
fn is_record(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/'))
}
