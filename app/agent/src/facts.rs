//! What a node says about itself in the mesh, as JSON under a key: container endpoints, names, links and the node
//! itself. A fact that cannot be read (a newer version's, say) is passed over, never an error.

use osier_model::{Hostname, MacAddr, NetworkId, PeerId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::{Ipv4Addr, SocketAddr};

/// Keys begin with one of these.
pub(crate) mod prefix {
    pub(crate) const ENDPOINT: &str = "endpoint/";
    pub(crate) const NAME: &str = "name/";
    pub(crate) const RING: &str = "ring/";
    pub(crate) const LINK: &str = "link/";
    /// `network/<id>`: a network that this node has heard of, an `osier_networks::Network`.
    pub(crate) const NETWORK: &str = "network/";
    /// `network-gone/<id>`: a network that was removed.
    pub(crate) const NETWORK_GONE: &str = "network-gone/";
    pub(crate) const NODE: &str = "node";
    /// `routes`: the subnets that this host has routes to, as a list.
    pub(crate) const ROUTES: &str = "routes";
    /// `given/<id>`: a name that was set by hand on this node ([`osier_names::given::Entry`]).
    pub(crate) const GIVEN: &str = "given/";
    /// `given-gone/<peer>/<id>`: such a name of another node was removed on this one. The key says all.
    pub(crate) const GIVEN_GONE: &str = "given-gone/";
    /// `given-forgotten/<id>`: this node has heard that such a name of its own was removed, and keeps it no longer.
    pub(crate) const GIVEN_FORGOTTEN: &str = "given-forgotten/";
}

/// `endpoint/<mac>`, on networks besides the cluster's own `endpoint/<network>/<mac>`: a container's interface on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointFact {
    #[serde(default, skip_serializing_if = "is_main")]
    pub(crate) network: NetworkId,
    pub(crate) mac: MacAddr,
    pub(crate) address: Ipv4Addr,
}

/// `name/<container id>`, on networks besides the cluster's own `name/<container id>/<network>`: the names a running
/// container answers to there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameFact {
    pub(crate) container: String,
    #[serde(default, skip_serializing_if = "is_main")]
    pub(crate) network: NetworkId,
    pub(crate) address: Ipv4Addr,
    pub(crate) names: Vec<Hostname>,
    /// What this container alone calls others: alias and target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<(Hostname, String)>,
}

/// `node`: the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeFact {
    pub(crate) version: String,
    /// How many times the agent has started on this node.
    pub(crate) incarnation: u64,
    /// Drawn anew at each start; shown as Weave's UID was.
    pub(crate) uid: u64,
    /// Short for what it knows of who belongs to the cluster.
    #[serde(default)]
    pub(crate) members: String,
}

/// `link/<peer>`: the control connection to another node, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFact {
    /// The node at the other end.
    pub peer: PeerId,
    /// Its address and port, as connected.
    pub address: SocketAddr,
    /// Whether this node dialled.
    pub outbound: bool,
    /// Whether messages flow.
    pub established: bool,
}

impl EndpointFact {
    /// The fact's key.
    pub(crate) fn key(&self) -> String {
        let Self { network, mac, .. } = self;
        if is_main(network) {
            format!("{}{mac}", prefix::ENDPOINT)
        } else {
            format!("{}{network}/{mac}", prefix::ENDPOINT)
        }
    }
}

impl NameFact {
    /// The fact's key.
    pub(crate) fn key(&self) -> String {
        let Self { network, container, .. } = self;
        if is_main(network) {
            format!("{}{container}", prefix::NAME)
        } else {
            format!("{}{container}/{network}", prefix::NAME)
        }
    }
}

fn is_main(network: &NetworkId) -> bool {
    *network == NetworkId::MAIN
}

/// Encodes a fact's value.
pub(crate) fn encode<T: Serialize>(fact: &T) -> Vec<u8> {
    serde_json::to_vec(fact).unwrap_or_default()
}

/// Decodes a fact's value.
pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}
