//! The endpoints and networks that libnetwork has given a node, what becomes of those that are left over, and what their
//! interfaces are called.
//!
//! Must not know the engine's API, or where the table is kept: everything here comes from plugin calls alone.

mod idle;

pub use idle::{Idle, START};

use ipnet::Ipv4Net;
use osier_model::{MacAddr, NetworkId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};

/// One endpoint of a container on the overlay: its interface there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The Docker network it is on.
    pub network: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its MAC.
    pub mac: MacAddr,
    /// The container's network namespace, between Join and Leave: the port exists and packets flow.
    pub sandbox: Option<PathBuf>,
}

impl Endpoint {
    /// Whether it is in a container.
    pub fn is_joined(&self) -> bool {
        self.sandbox.is_some()
    }

    /// The bridge's end of the veth pair of this endpoint, at most 15 bytes.
    pub fn bridge_end(id: &str) -> String {
        format!("oe{}", id.get(..11).unwrap_or(id))
    }

    /// The container's end, as it is called until Docker moves it; at most 15 bytes.
    pub fn container_end(id: &str) -> String {
        format!("oc{}", id.get(..11).unwrap_or(id))
    }
}

/// The endpoints and networks that libnetwork has given a node; this is kept on its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Docker network id → its subnet.
    pub networks: BTreeMap<String, Ipv4Net>,
    /// Docker network id → which of the cluster's networks it is, where that is not the cluster's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ids: BTreeMap<String, NetworkId>,
    /// Endpoint id → endpoint.
    pub endpoints: BTreeMap<String, Endpoint>,
}

impl Table {
    /// Which of the cluster's networks an engine's is.
    pub fn network(&self, engine_id: &str) -> NetworkId {
        self.ids.get(engine_id).copied().unwrap_or(NetworkId::MAIN)
    }

    /// What the engine calls a network of the cluster. It may be several: one that was removed past the plugin leaves its
    /// id behind.
    pub fn engine_ids(&self, network: NetworkId) -> Vec<String> {
        self.networks.keys().filter(|id| self.network(id) == network).cloned().collect()
    }

    /// Whether the engine has a network of the cluster, or containers are still on it.
    pub fn is_here(&self, network: NetworkId) -> bool {
        let endpoints = self.endpoints.values().map(|e| &e.network);
        self.networks.keys().chain(endpoints).any(|engine_id| self.network(engine_id) == network)
    }

    /// Whether packets flow to this address on this network.
    pub fn is_joined(&self, network: NetworkId, address: Ipv4Addr) -> bool {
        self.at(network, address).any(|(_, e)| e.is_joined())
    }

    /// Makes an endpoint. Another one of its address that is in no container is left from a start that failed.
    pub fn make(&mut self, id: String, endpoint: Endpoint) {
        let network = self.network(&endpoint.network);
        let left = self.at(network, endpoint.address).filter(|(_, e)| !e.is_joined());
        let left: Vec<String> = left.map(|(id, _)| id.clone()).collect();
        left.iter().for_each(|id| drop(self.endpoints.remove(id)));
        self.endpoints.insert(id, endpoint);
    }

    /// The endpoints that are in no container.
    pub fn idle(&self) -> BTreeSet<String> {
        let idle = self.endpoints.iter().filter(|(_, e)| !e.is_joined());
        idle.map(|(id, _)| id.clone()).collect()
    }

    fn at(&self, network: NetworkId, address: Ipv4Addr) -> impl Iterator<Item = (&String, &Endpoint)> {
        let on = move |e: &Endpoint| e.address == address && self.network(&e.network) == network;
        self.endpoints.iter().filter(move |(_, e)| on(e))
    }

    /// Whether an endpoint has this address on this network.
    pub fn uses(&self, network: NetworkId, address: Ipv4Addr) -> bool {
        self.at(network, address).next().is_some()
    }
}

/// The MAC of a container at this address: locally administered, and the same wherever the address goes, so that
/// neighbours' ARP entries stay right when it moves.
pub fn mac_of(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([0x02, 0x6f, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_start_has_left_gives_way_and_what_runs_does_not() {
        let address = Ipv4Addr::new(10, 1, 1, 3);
        let endpoint = |sandbox: Option<&str>| Endpoint {
            network: "n".into(),
            address,
            mac: mac_of(address),
            sandbox: sandbox.map(PathBuf::from),
        };
        let mut table = Table::default();
        table.make("left".into(), endpoint(None));
        assert!(table.uses(NetworkId::MAIN, address) && !table.is_joined(NetworkId::MAIN, address));
        table.make("again".into(), endpoint(None));
        assert_eq!(table.idle(), ["again".to_owned()].into());
        table.endpoints.insert("again".into(), endpoint(Some("/s")));
        table.make("other".into(), endpoint(None));
        assert!(table.is_joined(NetworkId::MAIN, address) && table.endpoints.len() == 2);
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let id = "0123456789abcdef".repeat(4);
        assert!(Endpoint::bridge_end(&id).len() <= 15 && Endpoint::container_end("short") == "ocshort");
    }
}
