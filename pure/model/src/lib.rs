//! The words every other crate shares: checked names, identities, addresses and the ports of the design.
//!
//! Must not know: any protocol, file format or component. A string that passed a check becomes a type here, and
//! `FromStr` is the only way in (serde goes through it too), so a value of one of these types is always valid.

pub mod config;
mod mac;
mod name;
mod network;
mod size;
mod token;

pub use mac::{MacAddr, ParseMacError, PeerId};
pub use name::{Hostname, NodeName, ParseNameError};
pub use network::{NetworkId, ParseNetworkIdError};
pub use size::{Bytes, Cpus, ParseSizeError};
pub use token::{ParseTokenError, Token};

/// The TCP and UDP ports of a cluster (design: "Ports"; the seed's and Weave Net's own numbers).
pub mod port {
    /// Docker API of the whole cluster, mutual TLS, on masters.
    pub const MANAGER: u16 = 3376;
    /// Docker API of one engine, mutual TLS, on every node.
    pub const ENGINE_PROXY: u16 = 12375;
    /// Peer control over mutual TLS (TCP) and sealed gossip (UDP).
    pub const PEER: u16 = 6783;
    /// VXLAN between nodes (UDP).
    pub const VXLAN: u16 = 6784;
    /// Metrics and health on the loopback address.
    pub const METRICS: u16 = 6782;
    /// DNS for containers.
    pub const DNS: u16 = 53;
}

/// The zone every container name lives in (Weave Net's default, without the trailing dot).
pub const DOMAIN: &str = "weave.local";
/// The Docker network and the libnetwork/IPAM driver that carry containers.
pub const NETWORK: &str = "osier";
/// The driver option, for networks and for their addresses, that tells which network of the cluster an engine's is.
pub const NETWORK_ID_OPTION: &str = "osier.id";
/// Prefix of the overlay's interfaces inside containers; the first one is `ethwe0`, with the altname `ethwe`.
pub const INTERFACE_PREFIX: &str = "ethwe";
/// The link-local address at which every node answers DNS to its own containers (RFC 3927 range).
pub const DNS_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 53, 53);
