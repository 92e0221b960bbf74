//! What a lab consists of: its checked name, its nodes, their addresses and releases, decided before anything is made.
//!
//! Must not know engines, files or networks of the host; the subnet is an argument.

use crate::release::{ParseReleaseError, Release};
use ipnet::Ipv4Net;
use osier_model::NodeName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

/// The most nodes one lab can have; their addresses fit a /24 with room to spare.
pub(crate) const MAX_NODES: u8 = 100;
/// The host part of the first node's address.
const FIRST_HOST: u8 = 10;

/// The name of a lab: 1 to 32 of `a-z 0-9 -`, beginning and ending with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// What node names begin with: one DNS label of 1 to 40 of `a-z 0-9 -`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix(String);

/// `RELEASE` for every node, or `NODE=RELEASE` for one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleaseChoice {
    /// The node meant; all of them if none is named.
    pub node: Option<NodeName>,
    /// What it runs.
    pub release: Release,
}

/// A name, prefix or release on the command line is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The lab's name is not one.
    #[error("'{0}' is not a lab name (1 to 32 of a-z, 0-9 and '-', a letter or digit at both ends)")]
    Name(String),
    /// The prefix cannot begin a host name.
    #[error("'{0}' is not a prefix of host names (1 to 40 of a-z, 0-9 and '-', a letter or digit at both ends)")]
    Prefix(String),
    /// `NODE=RELEASE` has no usable node name.
    #[error("read the node name in '{0}'")]
    Node(String, #[source] osier_model::ParseNameError),
    /// The release is unknown.
    #[error("read the release in '{0}'")]
    Release(String, #[source] ParseReleaseError),
    /// A release is chosen for a node that the lab does not have.
    #[error("choose a release for '{0}': the lab has no such node (it has {1})")]
    UnknownNode(NodeName, String),
}

/// One node as it will be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its host name.
    pub name: NodeName,
    /// Its fixed address on the lab's network.
    pub address: Ipv4Addr,
    /// The Debian release it runs.
    pub release: Release,
    /// The container that is this node.
    pub container: String,
}

fn is_label(text: &str, longest: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| allowed(b) || b == b'-')
        && ends.iter().all(|b| b.is_some_and(allowed))
}

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The engine's name for the lab's network.
    pub(crate) fn network(&self) -> String {
        format!("osier-lab-{}", self.0)
    }

    /// The host's name for the lab's bridge: derived from the lab's name, within the kernel's 15 characters.
    pub(crate) fn bridge(&self) -> String {
        format!("osl{}", hex::encode(&Sha256::digest(&self.0)[..5]))
    }

    /// The container that is this node of the lab.
    pub(crate) fn container(&self, node: &NodeName) -> String {
        format!("osier-lab-{}-{node}", self.0)
    }
}

/// Names the nodes `PREFIX-master`, `PREFIX-1`, … and gives each its address and release.
///
/// Fails if a release is chosen for a node that is not among them.
pub(crate) fn nodes(
    lab: &LabName,
    prefix: &Prefix,
    count: u8,
    choices: &[ReleaseChoice],
    subnet: Ipv4Net,
) -> Result<Vec<Node>, PlanError> {
    let names: Vec<NodeName> = (0..count).map(|index| prefix.node(index)).collect::<Result<_, _>>()?;
    let mut default = Release::default();
    let mut chosen = BTreeMap::new();
    for choice in choices {
        match &choice.node {
            None => default = choice.release,
            Some(node) if names.contains(node) => drop(chosen.insert(node, choice.release)),
            Some(node) => {
                let known: Vec<&str> = names.iter().map(NodeName::as_str).collect();
                return Err(PlanError::UnknownNode(node.clone(), known.join(", ")));
            }
        }
    }
    let first = u32::from(subnet.network()) + u32::from(FIRST_HOST);
    let node = |(name, offset): (&NodeName, u32)| Node {
        name: name.clone(),
        address: Ipv4Addr::from(first + offset),
        release: chosen.get(name).copied().unwrap_or(default),
        container: lab.container(name),
    };
    Ok(names.iter().zip(0..).map(node).collect())
}

impl Prefix {
    fn node(&self, index: u8) -> Result<NodeName, PlanError> {
        let name = if index == 0 { format!("{}-master", self.0) } else { format!("{}-{index}", self.0) };
        name.parse().map_err(|source| PlanError::Node(name, source))
    }
}

impl FromStr for LabName {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        if is_label(text, 32) { Ok(Self(text.to_owned())) } else { Err(PlanError::Name(text.to_owned())) }
    }
}

impl TryFrom<String> for LabName {
    type Error = PlanError;
    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        if is_label(text, 40) { Ok(Self(text.to_owned())) } else { Err(PlanError::Prefix(text.to_owned())) }
    }
}

impl FromStr for ReleaseChoice {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let (node, release) = match text.split_once('=') {
            None => (None, text),
            Some((node, release)) => (Some(node.parse().map_err(|e| PlanError::Node(text.to_owned(), e))?), release),
        };
        let release = release.parse().map_err(|e| PlanError::Release(text.to_owned(), e))?;
        Ok(Self { node, release })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(choices: &[&str]) -> Result<Vec<Node>, PlanError> {
        let choices: Vec<ReleaseChoice> = choices.iter().map(|c| c.parse().unwrap()).collect();
        let subnet = "10.213.4.0/24".parse().unwrap();
        nodes(&"lab".parse().unwrap(), &"datalyse".parse().unwrap(), 3, &choices, subnet)
    }

    #[test]
    fn nodes_are_named_and_addressed_in_order() {
        let nodes = plan(&["trixie", "datalyse-2=bookworm"]).unwrap();
        let rows: Vec<String> = nodes.iter().map(|n| format!("{} {} {}", n.name, n.address, n.release)).collect();
        assert_eq!(
            rows,
            ["datalyse-master 10.213.4.10 trixie", "datalyse-1 10.213.4.11 trixie", "datalyse-2 10.213.4.12 bookworm"]
        );
        assert_eq!(nodes[0].container, "osier-lab-lab-datalyse-master");
    }

    #[test]
    fn a_release_for_an_unknown_node_is_refused_with_the_known_ones() {
        let error = plan(&["datalyse-3=trixie"]).unwrap_err().to_string();
        assert!(error.contains("datalyse-3") && error.contains("datalyse-master, datalyse-1, datalyse-2"), "{error}");
    }

    #[test]
    fn names_are_checked() {
        for good in ["lab", "a", "0-1", &"x".repeat(32)] {
            assert!(good.parse::<LabName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "..", "a b", &"x".repeat(33)] {
            assert!(bad.parse::<LabName>().is_err() && bad.parse::<Prefix>().is_err() != (bad.len() == 33), "{bad}");
        }
        for bad in ["=trixie", "n=", "n=sarge", "sarge"] {
            assert!(bad.parse::<ReleaseChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bridge_names_fit_the_kernel_and_differ() {
        let names = ["lab", "lab2"].map(|n| n.parse::<LabName>().unwrap().bridge());
        assert!(names[0] != names[1] && names.iter().all(|n| n.len() <= 15), "{names:?}");
    }
}
