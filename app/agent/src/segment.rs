//! Keeps the kernel as the mesh says it should be: gathers peers, ports and remote containers, has the fabric planned,
//! and applies it, whenever something changed and from time to time regardless.
//!
//! Nodes that are down keep their entries: their containers may well be running behind a dead agent.

use crate::{
    addresses,
    config::Config,
    endpoints::Endpoints,
    exposure::Exposure,
    facts::{EndpointFact, encode, prefix},
    networks::{self, Net, Networks},
};
use futures::StreamExt;
use osier_endpoints::{Endpoint, mac_of};
use osier_fabric::{HostPort, Input, LocalPort, Network, Peer, Remote};
use osier_gossip::{Handle, Snapshot};
use osier_kernel::Kernel;
use osier_model::{DNS_ADDRESS, MacAddr, NetworkId, PeerId, port};
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

/// The cluster's networks on this node.
pub(crate) struct Segment {
    pub(crate) config: Config,
    pub(crate) mtu: u32,
    pub(crate) kernel: Kernel,
    pub(crate) networks: Arc<Networks>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) gossip: Handle,
    /// Told when endpoints come or go.
    pub(crate) changed: Arc<Notify>,
    /// Whether the host is to be on the overlay.
    pub(crate) exposure: Exposure,
    pub(crate) seen: Mutex<Seen>,
    /// The networks that have been set up: ports can be put on their bridges.
    pub(crate) up: watch::Sender<BTreeSet<NetworkId>>,
}

/// What status shows of the segment.
#[derive(Default)]
pub(crate) struct Seen {
    /// MAC → the node it is on, and when it was first known there.
    pub(crate) macs: BTreeMap<MacAddr, (PeerId, SystemTime)>,
    pub(crate) host: Option<Ipv4Addr>,
    pub(crate) problem: Option<String>,
    /// Why the kernel does not check which addresses containers send from.
    pub(crate) unguarded: Option<String>,
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
                () = self.networks.changed.notified() => {}
                _ = changes.changed() => {}
                _ = touched => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Gets the host an address of its own, which may have to wait for a peer; containers need none of it. Runs for ever.
    pub(crate) async fn join_host(&self) {
        let _ = self.up.subscribe().wait_for(|up| up.contains(&NetworkId::MAIN)).await;
        let main = self.networks.main();
        while main.addresses.held_by(&addresses::host()).is_none() {
            match main.addresses.allocate(&addresses::host()).await {
                Ok(_) => self.changed.notify_one(),
                Err(error) => {
                    warn!(error = crate::plugin::chain(&error), "this host has no address on the overlay yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    /// The host's address on the overlay, whether it is there just now or not.
    pub(crate) fn host_address(&self) -> Option<Ipv4Addr> {
        self.networks.main().addresses.held_by(&addresses::host())
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn once(&self) -> Result<(), String> {
        self.networks.sweep();
        let mut nets = self.networks.all();
        {
            // Of networks that collide the engine has one; the others have nobody here.
            let table = self.endpoints.read();
            nets.retain(|net| net.network.id == NetworkId::MAIN || table.is_here(net.network.id));
        }
        let host = self.host_address().filter(|_| self.exposure.is_joined());
        let snapshot = self.gossip.snapshot();
        let input = self.input(&nets, &snapshot, host);
        let changes = self.kernel.apply(&osier_fabric::plan(&input)).await;
        let changes = changes.map_err(|e| crate::plugin::chain(&e))?;
        self.say_whether_guarded(changes.unguarded.as_deref());
        if !changes.is_empty() {
            info!(?changes, "changed the overlay");
        }
        self.publish(host);
        self.remember(&input, host);
        let ready: BTreeSet<NetworkId> = nets.iter().map(|net| net.network.id).collect();
        self.up.send_if_modified(|up| std::mem::replace(up, ready.clone()) != ready);
        Ok(())
    }

    /// Says once that containers may send from any address, and once that this is over.
    fn say_whether_guarded(&self, reason: Option<&str>) {
        let mut seen = self.seen();
        if seen.unguarded.as_deref() == reason {
            return;
        }
        match reason {
            Some(reason) => warn!(reason, "containers may send from any address: this kernel cannot check it"),
            None => info!("containers may send from their own address only, again"),
        }
        seen.unguarded = reason.map(str::to_owned);
    }

    /// Everything the plan depends on.
    fn input(&self, nets: &[Arc<Net>], snapshot: &Snapshot, host: Option<Ipv4Addr>) -> Input {
        let me = &self.config.me;
        let others = self.config.members.iter().filter(|m| m.peer != me.peer);
        let mut remotes = remotes(me.peer, snapshot);
        let mut ports = BTreeMap::<NetworkId, Vec<LocalPort>>::new();
        let table = self.endpoints.read();
        for (id, e) in table.endpoints.iter().filter(|(_, e)| e.is_joined()) {
            let port = LocalPort { name: Endpoint::bridge_end(id), mac: e.mac, address: Some(e.address) };
            ports.entry(table.network(&e.network)).or_default().push(port);
        }
        drop(table);
        let network = |net: &Arc<Net>| Network {
            vni: net.network.vni,
            bridge: net.bridge.clone(),
            subnet: net.network.subnet,
            mtu: self.mtu,
            ports: ports.remove(&net.network.id).unwrap_or_default(),
            remotes: remotes.remove(&net.network.id).unwrap_or_default(),
        };
        Input {
            me: Peer { id: me.peer, vtep: me.address },
            peers: others.map(|m| Peer { id: m.peer, vtep: m.address }).collect(),
            networks: nets.iter().map(network).collect(),
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
        let fact = |network, mac, address| EndpointFact { network, mac, address };
        let table = self.endpoints.read();
        let local = table.endpoints.values().filter(|e| e.is_joined());
        let local = local.map(|e| fact(table.network(&e.network), e.mac, e.address));
        let mut stale: BTreeSet<String> = self.gossip.own_keys(prefix::ENDPOINT).into_iter().collect();
        for fact in local.chain(host.map(|address| fact(NetworkId::MAIN, mac_of(address), address))) {
            let key = fact.key();
            stale.remove(&key);
            self.gossip.set_fact(&key, Some(encode(&fact)));
        }
        for key in stale {
            self.gossip.set_fact(&key, None);
        }
    }

    fn remember(&self, input: &Input, host: Option<Ipv4Addr>) {
        let mut seen = self.seen();
        let me = self.config.me.peer;
        let local = input.networks.iter().flat_map(|n| &n.ports).map(|p| p.mac);
        let local = local.chain(input.host.iter().map(|h| h.mac)).map(|mac| (mac, me));
        let remote = input.networks.iter().flat_map(|n| &n.remotes).map(|r| (r.mac, r.peer));
        let now: BTreeMap<MacAddr, PeerId> = local.chain(remote).collect();
        seen.macs.retain(|mac, (peer, _)| now.get(mac) == Some(peer));
        for (mac, peer) in now {
            seen.macs.entry(mac).or_insert_with(|| (peer, SystemTime::now()));
        }
        (seen.host, seen.problem) = (host, None);
    }
}

/// The containers of other nodes by network. Where two nodes name one MAC there, a node that is alive is believed before
/// one that is not.
fn remotes(me: PeerId, snapshot: &Snapshot) -> BTreeMap<NetworkId, Vec<Remote>> {
    let mut found: BTreeMap<(NetworkId, MacAddr), (bool, Remote)> = BTreeMap::new();
    for (peer, fact) in networks::endpoints(snapshot).filter(|(peer, _)| *peer != me) {
        let alive = snapshot.alive(peer);
        let remote = Remote { mac: fact.mac, address: fact.address, peer };
        let place = (fact.network, fact.mac);
        if found.get(&place).is_none_or(|(known_alive, _)| alive && !known_alive) {
            found.insert(place, (alive, remote));
        }
    }
    let mut by_network = BTreeMap::<NetworkId, Vec<Remote>>::new();
    for ((network, _), (_, remote)) in found {
        by_network.entry(network).or_default().push(remote);
    }
    by_network
}
