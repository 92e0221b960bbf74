//! Answers what other agents ask over the mesh's control connections.

use crate::{addresses, members::Members, networks::Networks};
use osier_calls::control::Message;
use osier_gossip::RequestHandler;
use osier_model::PeerId;
use std::sync::Arc;

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
