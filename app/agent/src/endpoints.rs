//! The endpoints and networks that libnetwork has given this node, kept on disk so that a restarted agent knows which
//! ports belong to containers that are still running.
//!
//! Must not know the engine's API: everything here comes from plugin calls alone.

use ipnet::Ipv4Net;
use osier_model::{MacAddr, NetworkId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One endpoint of a container on the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The Docker network it is on.
    pub(crate) network: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: MacAddr,
    /// The container's network namespace, between Join and Leave: the port exists and packets flow.
    pub(crate) sandbox: Option<PathBuf>,
}

impl Endpoint {
    pub(crate) fn is_joined(&self) -> bool {
        self.sandbox.is_some()
    }

    /// The bridge's end of its veth pair.
    pub(crate) fn bridge_end(id: &str) -> String {
        format!("oe{}", id.get(..11).unwrap_or(id))
    }

    /// The container's end, as it is called until Docker moves it.
    pub(crate) fn container_end(id: &str) -> String {
        format!("oc{}", id.get(..11).unwrap_or(id))
    }
}

/// What is kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// Docker network id → its subnet.
    pub(crate) networks: BTreeMap<String, Ipv4Net>,
    /// Docker network id → which of the cluster's networks it is, where that is not the cluster's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ids: BTreeMap<String, NetworkId>,
    /// Endpoint id → endpoint.
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
}

impl Table {
    /// Which of the cluster's networks an engine's is.
    pub(crate) fn network(&self, engine_id: &str) -> NetworkId {
        self.ids.get(engine_id).copied().unwrap_or(NetworkId::MAIN)
    }

    /// What the engine calls a network of the cluster. It may be several: one that was removed past the plugin leaves its
    /// id behind.
    pub(crate) fn engine_ids(&self, network: NetworkId) -> Vec<String> {
        self.networks.keys().filter(|id| self.network(id) == network).cloned().collect()
    }

    /// Whether the engine has a network of the cluster, or containers are still on it.
    pub(crate) fn is_here(&self, network: NetworkId) -> bool {
        let endpoints = self.endpoints.values().map(|e| &e.network);
        self.networks.keys().chain(endpoints).any(|engine_id| self.network(engine_id) == network)
    }

    /// Whether packets flow to this address on this network.
    pub(crate) fn is_joined(&self, network: NetworkId, address: Ipv4Addr) -> bool {
        self.at(network, address).any(|(_, e)| e.is_joined())
    }

    /// Makes an endpoint. Another one of its address that is in no container is left from a start that failed.
    pub(crate) fn make(&mut self, id: String, endpoint: Endpoint) {
        let network = self.network(&endpoint.network);
        let left = self.at(network, endpoint.address).filter(|(_, e)| !e.is_joined());
        let left: Vec<String> = left.map(|(id, _)| id.clone()).collect();
        left.iter().for_each(|id| drop(self.endpoints.remove(id)));
        self.endpoints.insert(id, endpoint);
    }

    /// The endpoints that are in no container.
    pub(crate) fn idle(&self) -> BTreeSet<String> {
        let idle = self.endpoints.iter().filter(|(_, e)| !e.is_joined());
        idle.map(|(id, _)| id.clone()).collect()
    }

    fn at(&self, network: NetworkId, address: Ipv4Addr) -> impl Iterator<Item = (&String, &Endpoint)> {
        let on = move |e: &Endpoint| e.address == address && self.network(&e.network) == network;
        self.endpoints.iter().filter(move |(_, e)| on(e))
    }

    /// Whether an endpoint has this address on this network.
    pub(crate) fn uses(&self, network: NetworkId, address: Ipv4Addr) -> bool {
        self.at(network, address).next().is_some()
    }
}

/// The table and its file.
pub(crate) struct Endpoints {
    path: PathBuf,
    table: Mutex<Table>,
}

impl Endpoints {
    /// Reads the table; one that is damaged is an error, since starting empty would cut running containers off.
    pub(crate) fn open(path: PathBuf) -> Result<Self, osier_store::Error> {
        let table = osier_store::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, table: Mutex::new(table) })
    }

    /// The table as it is now.
    pub(crate) fn read(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and writes it before anybody can act on the change. On a failed write nothing has changed.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut Table) -> T) -> Result<T, osier_store::Error> {
        let mut table = self.read();
        let mut next = table.clone();
        let result = edit(&mut next);
        if next != *table {
            tokio::task::block_in_place(|| osier_store::write_json(&self.path, &next, osier_store::PUBLIC))?;
            *table = next;
        }
        Ok(result)
    }
}

/// The MAC of a container at this address: locally administered, and the same wherever the address goes, so that
/// neighbours' ARP entries stay right when it moves.
pub(crate) fn mac_of(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([0x02, 0x6f, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_survives_a_restart_and_a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        let endpoints = Endpoints::open(path.clone()).unwrap();
        let address = Ipv4Addr::new(10, 1, 1, 3);
        let endpoint = Endpoint { network: "n".into(), address, mac: mac_of(address), sandbox: Some("/s".into()) };
        endpoints.change(|t| t.endpoints.insert("e".into(), endpoint.clone())).unwrap();
        assert_eq!(Endpoints::open(path.clone()).unwrap().read().endpoints["e"], endpoint);
        std::fs::write(&path, "{").unwrap();
        assert!(Endpoints::open(path).is_err());
    }

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
