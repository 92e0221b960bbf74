//! What the planner is told: this node, its peers, and the networks with everything attached to them.

use crate::Guard;
use ipnet::Ipv4Net;
use osier_model::{MacAddr, PeerId};
use std::net::Ipv4Addr;

/// A node of the cluster and where its tunnels end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node's identity.
    pub id: PeerId,
    /// The address its VXLAN packets come from and go to: its host address.
    pub vtep: Ipv4Addr,
}

/// A container of this node on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPort {
    /// The fabric's end of the container's veth, at most 15 bytes.
    pub name: String,
    /// The container's MAC.
    pub mac: MacAddr,
    /// The container's address, once it has one. Until then only its MAC is checked.
    pub address: Option<Ipv4Addr>,
}

impl LocalPort {
    /// What its container may send, once it has an address.
    pub fn guard(&self) -> Option<Guard> {
        let address = self.address?;
        Some(Guard { port: self.name.clone(), mac: self.mac, address })
    }
}

/// A container, or the joined host itself, of another node on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// The node it is on.
    pub peer: PeerId,
}

/// One Docker network: one Ethernet segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// VXLAN network identifier, 24 bits (RFC 7348).
    pub vni: u32,
    /// The bridge's name, at most 15 bytes.
    pub bridge: String,
    /// The addresses of its containers.
    pub subnet: Ipv4Net,
    /// Bytes of the largest IP packet: the underlay's MTU less the encapsulation.
    pub mtu: u32,
    /// Containers of this node.
    pub ports: Vec<LocalPort>,
    /// Containers and joined hosts of other nodes.
    pub remotes: Vec<Remote>,
}

/// The host's own place on the network whose subnet holds its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The interface's name in the host's namespace, at most 15 bytes.
    pub name_in_host: String,
    /// The host's address on the network.
    pub address: Ipv4Addr,
    /// The interface's MAC.
    pub mac: MacAddr,
}

/// Everything the plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// This node.
    pub me: Peer,
    /// The other nodes that broadcast and multicast go to.
    pub peers: Vec<Peer>,
    /// The networks that this node takes part in.
    pub networks: Vec<Network>,
    /// The UDP port of VXLAN, the same on every node.
    pub vxlan_port: u16,
    /// The link-local address that every node's bridges carry for the resolver.
    pub dns_address: Ipv4Addr,
    /// The host's place, or `None` where it is not joined.
    pub host: Option<HostPort>,
}
