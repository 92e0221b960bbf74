//! What a node shows of itself: one value that `osier status`, `weave status` and `-o json` are printed from.

use crate::facts::LinkFact;
use ipnet::Ipv4Net;
use osier_model::{Hostname, MacAddr, NetworkId, NodeName, PeerId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// `GET /v1/status` on the agent's control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// This node.
    pub me: PeerId,
    /// Every member, this node first.
    pub peers: Vec<PeerStatus>,
    /// Peers that no control connection stands to, and why.
    pub reconnects: Vec<Reconnect>,
    /// The overlay.
    pub network: NetworkStatus,
    /// The address ring.
    pub addresses: AddressStatus,
    /// The networks that users made.
    #[serde(default)]
    pub networks: Vec<UserNetwork>,
    /// What is wrong with them.
    #[serde(default)]
    pub network_problems: Vec<String>,
    /// The resolver.
    pub dns: DnsStatus,
    /// Why the local engine cannot be followed, if it cannot.
    pub engine_problem: Option<String>,
    /// Whether containers can be put on the overlay.
    pub ready: bool,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: NodeName,
    /// Its identity.
    pub peer: PeerId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it answers.
    pub alive: bool,
    /// Its agent's version, once heard.
    pub version: Option<String>,
    /// How many times its agent has started.
    pub incarnation: u64,
    /// A number drawn anew at each start of its agent.
    pub uid: u64,
    /// Its control connections, as it reports them.
    pub links: Vec<LinkFact>,
}

/// A peer without a control connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconnect {
    /// Whom.
    pub peer: PeerId,
    /// Where.
    pub address: String,
    /// The last error.
    pub problem: String,
}

/// The overlay on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether packets between nodes are encrypted.
    pub encrypted: bool,
    /// The bridge, as the kernel has it.
    pub bridge: Option<Bridge>,
    /// This host's own address on the overlay.
    pub host_address: Option<Ipv4Addr>,
    /// Every container interface of the cluster and where it is.
    pub macs: Vec<MacStatus>,
    /// Why the overlay cannot be set up, if it cannot.
    pub problem: Option<String>,
}

/// The bridge, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bridge {
    /// Interface index in the fabric's namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// MAC.
    pub mac: MacAddr,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// One interface on the overlay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MacStatus {
    /// The interface.
    pub mac: MacAddr,
    /// The node it is on.
    pub peer: PeerId,
    /// Since when this node knows it there: seconds since 1970, UTC.
    pub since: f64,
}

/// The address ring as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// The range that they are given out of.
    pub range: Ipv4Net,
    /// Addresses of the range that this node gives out.
    pub mine: u64,
    /// Addresses that containers of this node have.
    pub in_use: u64,
    /// Addresses per owning node.
    pub owned: Vec<(PeerId, u64)>,
    /// Addresses of nodes that do not answer: nobody can be given them before those are back.
    #[serde(default)]
    pub unreachable: u64,
    /// Addresses of nodes that were removed: nobody is given them before their heir has taken them over.
    #[serde(default)]
    pub frozen: u64,
    /// The nodes that are to tell what they know before this node takes those over, where it is the heir.
    #[serde(default)]
    pub frozen_until: Vec<String>,
    /// Why no address is given out, if so.
    pub conflict: Option<String>,
}

/// A network that a user made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// Which one.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Its addresses.
    pub addresses: AddressStatus,
}

/// The resolver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// The zone.
    pub domain: Hostname,
    /// Where containers reach it.
    pub address: Ipv4Addr,
    /// Where other names go.
    pub upstream: Vec<IpAddr>,
    /// The host's own search domains.
    pub search: Vec<String>,
    /// Every record of the zone.
    pub entries: Vec<DnsEntry>,
}

/// One name of the zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DnsEntry {
    /// The container that has it; `weave:extern` where it was set by hand for an address.
    pub container: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The name.
    pub name: Hostname,
    /// The node that it runs on, or that the name was set on.
    pub node: PeerId,
}

impl Status {
    /// A node's name, or its identity where it is no member.
    pub fn name_of(&self, peer: PeerId) -> String {
        let found = self.peers.iter().find(|p| p.peer == peer);
        found.map_or_else(|| peer.to_string(), |p| p.name.to_string())
    }
}
