//! Keeps the kernel as the mesh says it should be: gathers peers, ports and remote containers, has the fabric planned,
//! and applies it, whenever something changed and from time to time regardless.
//!
//! Nodes that are down keep their entries: their containers may well be running behind a dead agent.

use crate::{
    addresses::{self, Addresses},
    endpoints::{Endpoint, Endpoints, mac_of},
    facts::{EndpointFact, decode, encode, prefix},
    plugin::BRIDGE,
};
use futures::StreamExt;
use osier_fabric::{HostPort, Input, LocalPort, Network, Peer, Remote};
use osier_gossip::{Handle, Snapshot};
use osier_kernel::Kernel;
use osier_model::{DNS_ADDRESS, MacAddr, PeerId, config::AgentConfig, port};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

/// How often the kernel is compared although nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);
/// How long changes are gathered before the kernel is compared again: one container's start brings a dozen of them, and
/// its own port has been made already.
const GATHER: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// The host's own interface on the overlay.
const HOST_INTERFACE: &str = "osier-host";

/// The cluster's one network on this node.
pub(crate) struct Segment {
    pub(crate) config: AgentConfig,
    pub(crate) mtu: u32,
    pub(crate) kernel: Kernel,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) gossip: Handle,
    /// Told when endpoints come or go.
    pub(crate) changed: Arc<Notify>,
    pub(crate) seen: Mutex<Seen>,
    /// Becomes true once the overlay has been set up for the first time: ports can be put on its bridge.
    pub(crate) up: watch::Sender<bool>,
}

/// What status shows of the segment.
#[derive(Default)]
pub(crate) struct Seen {
    /// MAC → the node it is on, and when it was first known there.
    pub(crate) macs: BTreeMap<MacAddr, (PeerId, SystemTime)>,
    pub(crate) host: Option<Ipv4Addr>,
    pub(crate) problem: Option<String>,
}

/// The segment's VXLAN network identifier: the founder's random identity cut to 24 bits, so that clusters that share
/// an underlay do not share a segment.
pub(crate) fn vni(founder: PeerId) -> u32 {
    let [_, _, _, a, b, c] = founder.0;
    u32::from_be_bytes([0, a, b, c]).max(1)
}

impl Segment {
    /// Runs for ever.
    pub(crate) async fn keep(&self) {
        let mut changes = self.gossip.changed();
        loop {
            let wait = match self.once().await {
                Ok(()) => RESYNC,
                Err(problem) => {
                    let mut seen = self.seen();
                    if seen.problem.as_ref() != Some(&problem) {
                        warn!(problem, "cannot set up the overlay; trying again");
                    }
                    seen.problem = Some(problem);
                    RETRY
                }
            };
            let watch = self.kernel.watch().await;
            let touched = async {
                match watch {
                    Ok(mut watch) => watch.next().await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::time::sleep(GATHER).await;
            tokio::select! {
                () = self.changed.notified() => {}
                _ = changes.changed() => {}
                _ = touched => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Gets the host an address of its own, which may have to wait for a peer; containers need none of it. Runs for ever.
    pub(crate) async fn join_host(&self) {
        let _ = self.up.subscribe().wait_for(|up| *up).await;
        while self.addresses.held_by(&addresses::host()).is_none() {
            match self.addresses.allocate(&addresses::host()).await {
                Ok(_) => self.changed.notify_one(),
                Err(error) => {
                    warn!(error = crate::plugin::chain(&error), "this host has no address on the overlay yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn once(&self) -> Result<(), String> {
        let host = self.addresses.held_by(&addresses::host());
        let snapshot = self.gossip.snapshot();
        let input = self.input(&snapshot, host);
        let changes = self.kernel.apply(&osier_fabric::plan(&input)).await;
        let changes = changes.map_err(|e| crate::plugin::chain(&e))?;
        if !changes.is_empty() {
            info!(?changes, "changed the overlay");
        }
        self.publish(host);
        self.remember(&input, host);
        self.up.send_if_modified(|up| !std::mem::replace(up, true));
        Ok(())
    }

    /// Everything the plan depends on.
    fn input(&self, snapshot: &Snapshot, host: Option<Ipv4Addr>) -> Input {
        let me = &self.config.me;
        let others = self.config.members.iter().filter(|m| m.peer != me.peer);
        let ports = self.endpoints.read();
        let ports = ports.endpoints.iter().filter(|(_, e)| e.is_joined()).map(|(id, e)| LocalPort {
            name: Endpoint::bridge_end(id),
            mac: e.mac,
            address: Some(e.address),
        });
        Input {
            me: Peer { id: me.peer, vtep: me.address },
            peers: others.map(|m| Peer { id: m.peer, vtep: m.address }).collect(),
            networks: vec![Network {
                vni: vni(self.config.founder),
                bridge: BRIDGE.to_owned(),
                subnet: self.config.pool,
                mtu: self.mtu,
                ports: ports.collect(),
                remotes: remotes(me.peer, snapshot),
            }],
            vxlan_port: port::VXLAN,
            dns_address: DNS_ADDRESS,
            host: host.map(|address| HostPort {
                name_in_host: HOST_INTERFACE.to_owned(),
                address,
                mac: mac_of(address),
            }),
        }
    }

    /// Tells the mesh which containers are here.
    fn publish(&self, host: Option<Ipv4Addr>) {
        let table = self.endpoints.read();
        let local = table.endpoints.values().filter(|e| e.is_joined()).map(|e| (e.mac, e.address));
        let all: BTreeMap<MacAddr, Ipv4Addr> = local.chain(host.map(|a| (mac_of(a), a))).collect();
        let mut stale: BTreeSet<String> = self.gossip.own_keys(prefix::ENDPOINT).into_iter().collect();
        for (mac, address) in all {
            let key = format!("{}{mac}", prefix::ENDPOINT);
            stale.remove(&key);
            self.gossip.set_fact(&key, Some(encode(&EndpointFact { mac, address })));
        }
        for key in stale {
            self.gossip.set_fact(&key, None);
        }
    }

    fn remember(&self, input: &Input, host: Option<Ipv4Addr>) {
        let mut seen = self.seen();
        let me = self.config.me.peer;
        let network = &input.networks[0];
        let local = network.ports.iter().map(|p| (p.mac, me)).chain(input.host.iter().map(|h| (h.mac, me)));
        let now: BTreeMap<MacAddr, PeerId> = local.chain(network.remotes.iter().map(|r| (r.mac, r.peer))).collect();
        seen.macs.retain(|mac, (peer, _)| now.get(mac) == Some(peer));
        for (mac, peer) in now {
            seen.macs.entry(mac).or_insert_with(|| (peer, SystemTime::now()));
        }
        (seen.host, seen.problem) = (host, None);
    }
}

/// The containers of other nodes. Where two nodes name one MAC, a node that is alive is believed before one that is not.
fn remotes(me: PeerId, snapshot: &Snapshot) -> Vec<Remote> {
    let mut found: BTreeMap<MacAddr, (bool, Remote)> = BTreeMap::new();
    for (peer, key, value) in snapshot.facts.iter().filter(|(p, k, _)| *p != me && k.starts_with(prefix::ENDPOINT)) {
        let Some(fact) = decode::<EndpointFact>(value) else {
            warn!(%peer, key, "passed over a fact that cannot be read");
            continue;
        };
        let alive = snapshot.alive(peer);
        let remote = Remote { mac: fact.mac, address: fact.address, peer };
        if found.get(&fact.mac).is_none_or(|(known_alive, _)| alive && !known_alive) {
            found.insert(fact.mac, (alive, remote));
        }
    }
    found.into_values().map(|(_, remote)| remote).collect()
}
