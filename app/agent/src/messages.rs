//! What agents ask of each other over the mesh's control connections, and the answers.

use crate::{addresses, members::Members, networks::Networks};
use osier_gossip::RequestHandler;
use osier_members::Signed;
use osier_model::{NetworkId, PeerId};
use osier_ring::{ChunkReply, ChunkRequest};
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
    Refused(String),
}

/// Answers other agents.
pub(crate) struct Answers {
    pub(crate) networks: Arc<Networks>,
    pub(crate) members: Arc<Members>,
}

impl RequestHandler for Answers {
    async fn handle(&self, from: PeerId, request: Vec<u8>) -> Vec<u8> {
        crate::facts::encode(&match serde_json::from_slice(&request) {
            Ok(Message::AskChunk { network, request }) => {
                addresses::answer(from, &request, network, self.networks.get(network).as_deref())
            }
            Ok(Message::AskMembers) => Message::Members(self.members.signed()),
            _ => Message::Refused("not a request this node understands".into()),
        })
    }
}
