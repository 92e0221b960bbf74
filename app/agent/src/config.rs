//! What the agent works by: its node's configuration file, and who belongs to the cluster by the operator's statements.
//!
//! Fixed for one run of the agent. When the members change it starts anew.

use osier_members::{Removal, Roll};
use osier_model::{
    PeerId,
    config::{AgentConfig, Member},
};
use std::{collections::BTreeSet, ops::Deref};

/// Configuration and members.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    file: AgentConfig,
    /// All nodes, this one included.
    pub(crate) members: Vec<Member>,
    /// The nodes that were removed.
    pub(crate) removals: Vec<Removal>,
    /// Short for all statements, as [`Roll::digest`].
    pub(crate) digest: String,
}

impl Deref for Config {
    type Target = AgentConfig;

    fn deref(&self) -> &AgentConfig {
        &self.file
    }
}

impl Config {
    /// Of a node that was removed it makes one that is alone: what runs on it goes on, and nobody else is spoken to.
    pub(crate) fn new(file: AgentConfig, roll: &Roll) -> Self {
        let mut this =
            Self { members: roll.members(), removals: roll.removals().cloned().collect(), digest: roll.digest(), file };
        if this.is_removed() {
            this.members = vec![this.me.clone()];
        }
        this
    }

    /// Whether the operator has taken this node out of the cluster.
    pub(crate) fn is_removed(&self) -> bool {
        self.removals.iter().any(|removal| removal.peer == self.file.me.peer)
    }

    /// The members' identities.
    pub(crate) fn peers(&self) -> BTreeSet<PeerId> {
        self.members.iter().map(|member| member.peer).collect()
    }

    /// What a node is called; its identity where it is no member.
    pub(crate) fn name_of(&self, peer: PeerId) -> String {
        let member = self.members.iter().find(|m| m.peer == peer);
        member.map_or_else(|| peer.to_string(), |m| m.name.to_string())
    }
}
