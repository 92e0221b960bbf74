//! One statement, and its signed form.

use osier_model::{NodeName, PeerId, config::Member};
use serde::{Deserialize, Serialize};

/// Goes before a statement's text in what is signed, so that nothing else the same key signs can pass for one.
pub const CONTEXT: &[u8] = b"osier membership statement, version 1\n";

/// What the operator says about one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Statement {
    /// It belongs to the cluster, under this name and at this address.
    Member {
        /// Rises with each statement that the operator makes about the node.
        serial: u64,
        /// The node.
        node: Member,
    },
    /// It was removed.
    Removed {
        /// Rises with each statement that the operator makes about the node.
        serial: u64,
        /// How.
        removal: Removal,
    },
}

/// A node that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// The node.
    pub peer: PeerId,
    /// What it was called.
    pub name: NodeName,
    /// Who takes over its addresses.
    pub heir: PeerId,
    /// Whether the heir takes them without waiting for all others to know of the removal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// A statement as it is kept and passed on: the very text that was signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The [`Statement`] in JSON.
    pub text: String,
    /// The signature of [`CONTEXT`] and the text, in hexadecimal.
    pub signature: String,
}

impl Statement {
    /// The node that it is about.
    pub fn peer(&self) -> PeerId {
        match self {
            Self::Member { node, .. } => node.peer,
            Self::Removed { removal, .. } => removal.peer,
        }
    }

    /// Its place among the statements of its kind about its node.
    pub fn serial(&self) -> u64 {
        match self {
            Self::Member { serial, .. } | Self::Removed { serial, .. } => *serial,
        }
    }

    /// The text to be signed behind [`CONTEXT`].
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
