//! The control socket: what `osier status`, `weave status` and the local manager ask.

use crate::{
    config::Config,
    containers::Containers,
    dns::{self, Dns},
    exposure,
    facts::{LinkFact, NameFact, NodeFact, decode, prefix},
    given,
    networks::Net,
    plugin::BRIDGE,
    resolver,
    segment::{Segment, vni},
    status::{
        AddressStatus, Bridge, DnsEntry, DnsStatus, MacStatus, NetworkStatus, PeerStatus, Reconnect, Status,
        UserNetwork,
    },
};
use http::{Method, Request, Response, StatusCode};
use osier_dns::ResolvConf;
use osier_engine::{Body, Hijacker, error_response, json_response, server::Handler};
use osier_gossip::Snapshot;
use osier_model::{DNS_ADDRESS, NetworkId, PeerId, config::Member};
use serde_json::json;
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;
use tracing::warn;

/// The control socket's handler.
pub(crate) struct Control {
    pub(crate) config: Config,
    pub(crate) mtu: u32,
    pub(crate) segment: Arc<Segment>,
    pub(crate) containers: Arc<Containers>,
    pub(crate) resolv: ResolvConf,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) dns: Dns,
}

impl Handler for Control {
    async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/v1/status") => json_response(StatusCode::OK, &self.status().await),
            (&Method::GET, "/v1/members") => json_response(StatusCode::OK, &self.members()),
            (_, exposure::PATH) => self.segment.exposure.handle(request, self.segment.host_address()).await,
            (_, path) if path.starts_with(dns::PATH) => self.dns.handle(request).await,
            (_, path) => error_response(StatusCode::NOT_FOUND, format_args!("no such path: '{path}'")),
        }
    }
}

impl Control {
    fn members(&self) -> serde_json::Value {
        let snapshot = self.segment.gossip.snapshot();
        let member = |m: &Member| {
            let alive = m.peer == self.config.me.peer || snapshot.alive(m.peer);
            json!({ "name": m.name, "peer": m.peer, "address": m.address, "port": self.config.proxy_port, "alive": alive })
        };
        self.config.members.iter().map(member).collect()
    }

    async fn status(&self) -> Status {
        let snapshot = self.segment.gossip.snapshot();
        let me = self.config.me.peer;
        let mut members: Vec<&Member> = self.config.members.iter().collect();
        members.sort_by_key(|m| (m.peer != me, m.name.clone()));
        let links = self.segment.gossip.links();
        let reconnects = links.iter().filter(|l| !l.established).map(|l| Reconnect {
            peer: l.peer,
            address: l.address.to_string(),
            problem: l.error.clone().unwrap_or_else(|| "connecting".into()),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: self.config.cluster.clone(),
            me,
            peers: members.into_iter().map(|m| peer_status(m, me, &snapshot)).collect(),
            reconnects: reconnects.collect(),
            network: self.network().await,
            addresses: self.addresses(&self.segment.networks.main(), &snapshot),
            networks: self.networks(&snapshot),
            network_problems: self.segment.networks.problems.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            dns: self.dns(&snapshot),
            engine_problem: self.containers.problem(),
            ready: *self.ready.borrow(),
        }
    }

    async fn network(&self) -> NetworkStatus {
        let bridge = match self.segment.kernel.observe().await {
            Ok(observed) => observed.bridges().find(|b| b.name == BRIDGE).map(|b| Bridge {
                index: b.index,
                name: b.name.clone(),
                mac: b.mac,
                mtu: b.mtu,
                up: b.up,
            }),
            Err(error) => {
                warn!(error = crate::plugin::chain(&error), "cannot read the overlay");
                None
            }
        };
        let seen = self.segment.seen();
        let since = |t: &SystemTime| t.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let macs = seen.macs.iter().map(|(mac, (peer, at))| MacStatus { mac: *mac, peer: *peer, since: since(at) });
        NetworkStatus {
            vni: vni(self.config.founder),
            mtu: self.mtu,
            encrypted: false,
            bridge,
            host_address: seen.host,
            macs: macs.collect(),
            problem: seen.problem.clone(),
        }
    }

    fn addresses(&self, net: &Net, snapshot: &Snapshot) -> AddressStatus {
        let (stats, members) = (net.addresses.stats(), self.config.peers());
        let is_silent =
            |peer: &PeerId| *peer != self.config.me.peer && members.contains(peer) && !snapshot.alive(*peer);
        AddressStatus {
            range: stats.range,
            mine: stats.mine,
            in_use: stats.in_use,
            unreachable: stats.per_peer.iter().filter(|(peer, _)| is_silent(peer)).map(|(_, count)| count).sum(),
            frozen: net.addresses.frozen(&members),
            frozen_until: net.addresses.waits_for().into_iter().map(|peer| self.config.name_of(peer)).collect(),
            owned: stats.per_peer,
            conflict: net.addresses.conflict(),
        }
    }

    fn networks(&self, snapshot: &Snapshot) -> Vec<UserNetwork> {
        let mut nets = self.segment.networks.all();
        nets.retain(|net| net.network.id != NetworkId::MAIN);
        nets.sort_by(|a, b| a.network.name.cmp(&b.network.name));
        let shown = |net: &Arc<Net>| UserNetwork {
            id: net.network.id,
            name: net.network.name.clone(),
            vni: net.network.vni,
            subnet: net.network.subnet,
            addresses: self.addresses(net, snapshot),
        };
        nets.iter().map(shown).collect()
    }

    fn dns(&self, snapshot: &Snapshot) -> DnsStatus {
        let me = self.config.me.peer;
        let alive = |peer| peer == me || snapshot.alive(peer);
        let facts = snapshot.facts.iter().filter(|(p, k, _)| k.starts_with(prefix::NAME) && alive(*p));
        let facts = facts.filter_map(|(node, _, value)| Some((node, decode::<NameFact>(value)?)));
        let mut entries: Vec<DnsEntry> = facts
            .flat_map(|(node, fact)| {
                let NameFact { container, address, names, .. } = fact;
                names.into_iter().map(move |name| DnsEntry { container: container.clone(), address, name, node })
            })
            .collect();
        let seen = given::seen(snapshot);
        let mut set = Vec::new();
        for (node, _, entry) in seen.standing() {
            let container = entry.container.clone().unwrap_or_else(|| osier_names::given::EXTERN.to_owned());
            let own: BTreeSet<Ipv4Addr> =
                entries.iter().filter(|e| e.container == container).map(|e| e.address).collect();
            let addresses = match entry.address {
                // The names of a container that does not run are not answered.
                Some(_) if entry.container.is_some() && own.is_empty() => continue,
                Some(address) => [address].into(),
                None => own,
            };
            let name = &entry.name;
            set.extend(addresses.into_iter().map(|address| {
                let (container, name) = (container.clone(), name.clone());
                DnsEntry { container, address, name, node }
            }));
        }
        entries.extend(set);
        entries.sort();
        DnsStatus {
            domain: self.config.domain.clone(),
            address: DNS_ADDRESS,
            upstream: resolver::upstream(&self.config, &self.resolv),
            search: self.resolv.search.clone(),
            entries,
        }
    }
}

fn peer_status(member: &Member, me: PeerId, snapshot: &Snapshot) -> PeerStatus {
    let facts = snapshot.facts.iter().filter(|(peer, _, _)| *peer == member.peer);
    let mut status = PeerStatus {
        name: member.name.clone(),
        peer: member.peer,
        address: member.address,
        alive: member.peer == me || snapshot.alive(member.peer),
        version: None,
        incarnation: 0,
        uid: 0,
        links: Vec::new(),
    };
    for (_, key, value) in facts {
        if key == prefix::NODE {
            if let Some(NodeFact { version, incarnation, uid, .. }) = decode(value) {
                (status.version, status.incarnation, status.uid) = (Some(version), incarnation, uid);
            }
        } else if key.starts_with(prefix::LINK) {
            status.links.extend(decode::<LinkFact>(value));
        }
    }
    status
}
