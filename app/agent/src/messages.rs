//! What agents ask of each other over the mesh's control connections, and the answers.

use crate::{addresses, members::Members, networks::Networks};
use osier_gossip::RequestHandler;
use osier_members::Signed;
use osier_model::{NetworkId, PeerId};
use osier_ring::{ChunkRecord, ChunkReply, ChunkRequest};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A question or an answer, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    AskChunk {
        /// Whose ring it is about.
        network: NetworkId,
        request: ChunkRequest,
    },
    Chunk(ChunkReply),
    /// What has the operator said about who belongs to the cluster?
    AskMembers,
    Members(Vec<Signed>),
    /// Of somebody who inherits: what is known of the ring? It is told only to who knows the same members and removals.
    AskRing {
        /// Whose ring it is about.
        network: NetworkId,
        /// Short for what the asker knows of the members.
        members: String,
    },
    Ring(Vec<ChunkRecord>),
    Refused(String),
}

/// Answers other agents.
pub(crate) struct Answers {
    pub(crate) networks: Arc<Networks>,
    pub(crate) members: Arc<Members>,
    /// Short for what this node works by.
    pub(crate) digest: String,
}

impl RequestHandler for Answers {
    async fn handle(&self, from: PeerId, request: Vec<u8>) -> Vec<u8> {
        crate::facts::encode(&match serde_json::from_slice(&request) {
            Ok(Message::AskChunk { network, request }) => {
                addresses::answer(from, &request, network, self.networks.get(network).as_deref())
            }
            Ok(Message::AskMembers) => Message::Members(self.members.signed()),
            Ok(Message::AskRing { members, .. }) if members != self.digest => {
                Message::Refused("other members or removals are known here".into())
            }
            // Whoever does not know a network has nothing of it either.
            Ok(Message::AskRing { network, .. }) => {
                Message::Ring(self.networks.get(network).map_or_else(Vec::new, |net| net.addresses.records()))
            }
            _ => Message::Refused("not a request this node understands".into()),
        })
    }
}
