//! What agents ask of each other over the mesh's control connections, and the answers.

use osier_members::Signed;
use osier_model::NetworkId;
use osier_ring::{ChunkRecord, ChunkReply, ChunkRequest};
use serde::{Deserialize, Serialize};

/// A question or an answer, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Give me addresses.
    AskChunk {
        /// Whose ring it is about.
        network: NetworkId,
        /// How many, and what the asker knows.
        request: ChunkRequest,
    },
    /// The answer to that.
    Chunk(ChunkReply),
    /// What has the operator said about who belongs to the cluster?
    AskMembers,
    /// The answer to that.
    Members(Vec<Signed>),
    /// Of somebody who inherits: what is known of the ring? It is told only to who knows the same members and removals.
    AskRing {
        /// Whose ring it is about.
        network: NetworkId,
        /// Short for what the asker knows of the members.
        members: String,
    },
    /// The answer to that.
    Ring(Vec<ChunkRecord>),
    /// No, and why.
    Refused(String),
}
