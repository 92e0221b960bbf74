//! Ports of a node that containers take.

use std::net::IpAddr;

/// A port of the node that a container takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The one address of the node that it is bound to; all addresses where this is `None`.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

impl Binding {
    /// Whether one node cannot give both.
    pub fn clashes(&self, other: &Self) -> bool {
        let same_address = self.ip.is_none() || other.ip.is_none() || self.ip == other.ip;
        same_address && self.port == other.port && self.protocol == other.protocol
    }
}
