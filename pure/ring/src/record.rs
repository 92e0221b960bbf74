//! What travels between nodes: records of chunks, requests for chunks and the replies to them.

use osier_model::PeerId;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Neighbouring chunks with one history: who owns them, in which version, and who gave them to that owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRecord {
    /// Index of the first chunk.
    pub first: u32,
    /// How many chunks, at least one.
    pub count: u32,
    /// Rises when chunks are taken from a removed node; orders before the version.
    pub generation: u32,
    /// Rises each time the owner gives the chunk away.
    pub version: u64,
    /// The owner.
    pub owner: PeerId,
    /// Who gave it to the owner, or bears witness that it inherited it; nobody at the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub giver: Option<PeerId>,
}

impl ChunkRecord {
    /// Whether `next` begins where this one ends and has the same history.
    pub(crate) fn continues(&self, next: &Self) -> bool {
        let history = |r: &Self| (r.generation, r.version, r.owner, r.giver);
        self.first + self.count == next.first && history(self) == history(next)
    }
}

/// A node asks another for free chunks. It may be sent any number of times, to any number of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRequest {
    /// Names this request among all that its sender ever makes.
    pub id: u64,
    /// The address that is wanted of the peer; half of all that it has free where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Ipv4Addr>,
}

/// The answer to a [`ChunkRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ChunkReply {
    /// These chunks are the asker's now.
    Given {
        /// The request answered.
        id: u64,
        /// The new records of the chunks.
        records: Vec<ChunkRecord>,
    },
    /// Nothing is given, and why.
    Nothing {
        /// The request answered.
        id: u64,
        /// Why not.
        reason: Refusal,
    },
}

/// Why a request for chunks was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The peer has no chunk that is wholly free, or none with the wanted address in it.
    NoneFree,
    /// The peer does not count the asker among the members.
    NotAMember,
}
