//! What a node is told about itself and its cluster: the files that `converge` writes and the daemons read.
//!
//! None of these holds a secret; keys lie beside them in files of their own with mode 0600.

use crate::{Hostname, NodeName, PeerId, Token, port};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Paths on a node.
pub mod path {
    /// The agent's configuration, an [`super::AgentConfig`].
    pub const AGENT_CONFIG: &str = "/etc/osier/agent.json";
    /// Who belongs to the cluster: the operator's signed statements, as the operator last brought them.
    pub const MEMBERS: &str = "/etc/osier/members.json";
    /// The same with what this node has heard of others since.
    pub const HEARD_MEMBERS: &str = "/var/lib/osier/members.json";
    /// The manager's configuration, a [`super::ManagerConfig`]; on masters only.
    pub const MANAGER_CONFIG: &str = "/etc/osier/manager.json";
    /// `ca.pem`, `cert.pem` and `key.pem` of this node.
    pub const PKI: &str = "/etc/osier/pki";
    /// The gossip key: 64 hex digits, mode 0600.
    pub const GOSSIP_KEY: &str = "/etc/osier/gossip.key";
    /// Durable state of the daemons.
    pub const STATE: &str = "/var/lib/osier";
    /// What the manager keeps there.
    pub const MANAGER_STATE: &str = "/var/lib/osier/manager.json";
    /// The resolver configuration that containers get; must outlive a reboot, since engines mount it.
    pub const RESOLV_CONF: &str = "/var/lib/osier/resolv.conf";
    /// The agent's control socket.
    pub const AGENT_SOCKET: &str = "/run/osier/agent.sock";
    /// There while Osier is taken off the host: for a minute from when it is made, the agent does not put back what of the
    /// engine's networks is removed.
    pub const LEAVING: &str = "/run/osier/leaving";
    /// The Docker plugin socket.
    pub const PLUGIN_SOCKET: &str = "/run/docker/plugins/osier.sock";
    /// The engine's own socket.
    pub const ENGINE_SOCKET: &str = "/run/docker.sock";
}

/// One node of the cluster, as its operator names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its random identity.
    pub peer: PeerId,
    /// The address other nodes reach it at.
    pub address: Ipv4Addr,
}

/// `/etc/osier/agent.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The cluster's name.
    pub cluster: String,
    /// This node.
    pub me: Member,
    /// The member that owns every address at first (the ring's explicit init); all others join.
    pub founder: PeerId,
    /// The range that container addresses come from.
    #[serde(default = "default_pool")]
    pub pool: Ipv4Net,
    /// The zone of container names.
    #[serde(default = "default_domain")]
    pub domain: Hostname,
    /// Port of the engine proxy.
    #[serde(default = "default_proxy_port")]
    pub proxy_port: u16,
    /// Resolvers for all other names; the host's own where the list is empty.
    #[serde(default)]
    pub upstream: Vec<IpAddr>,
}

/// `/etc/osier/manager.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's discovery token.
    pub token: Token,
    /// Where to serve the Docker API.
    #[serde(default = "default_manager_listen")]
    pub listen: SocketAddr,
    /// Where the manager keeps what must outlive it.
    #[serde(default = "default_manager_state")]
    pub state: PathBuf,
}

fn default_pool() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 1, 1, 0), 24)
}

fn default_domain() -> Hostname {
    Hostname::default_domain()
}

fn default_proxy_port() -> u16 {
    port::ENGINE_PROXY
}

fn default_manager_state() -> PathBuf {
    path::MANAGER_STATE.into()
}

fn default_manager_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port::MANAGER).into()
}
