//! What the agent measures of itself, for Prometheus, at `http://127.0.0.1:6782/metrics` and nowhere else.
//!
//! Counters begin at zero when the agent starts. A value that is "1 or 0" says yes or no.
//!
//! | metric | what |
//! |---|---|
//! | `osier_build_info{version}` | always 1 |
//! | `osier_node_info{cluster,node,peer}` | always 1 |
//! | `osier_agent_starts` | how often the agent has started on this node, as far as its disk knows |
//! | `osier_ready` | whether containers can be put on the overlay, 1 or 0 |
//! | `osier_engine_up` | whether the local engine can be followed, 1 or 0 |
//! | `osier_peers_known` | other members of the cluster |
//! | `osier_peers_alive` | of these, those that answer |
//! | `osier_links{state}` | control connections by state: `established`, `connecting`, `failed` |
//! | `osier_gossip_datagrams_sent_total` | datagrams of gossip sent |
//! | `osier_gossip_datagrams_received_total` | datagrams received and taken |
//! | `osier_gossip_datagrams_refused_total` | datagrams that were not sealed with the cluster's key, or malformed |
//! | `osier_gossip_sent_bytes_total` | bytes of datagrams and of control connections' frames, without headers |
//! | `osier_addresses_range{network,id}` | addresses in a network's range, by the network's name and id: two sides of a partition may make two of one name |
//! | `osier_addresses_mine{network,id}` | of these, those that this node gives out |
//! | `osier_addresses_free{network,id}` | of these, those that nobody has |
//! | `osier_addresses_in_use{network,id}` | addresses that containers of this node, and the node itself, have |
//! | `osier_addresses_unowned{network,id}` | addresses of the range whose owner this node does not know |
//! | `osier_ring_conflict{network,id}` | whether the ring contradicts itself, so that no address is given out, 1 or 0 |
//! | `osier_endpoints{state}` | endpoints of this node: `joined` (a container is attached) or `idle` |
//! | `osier_overlay_interfaces` | interfaces on the overlay that this node knows, on all nodes |
//! | `osier_overlay_failing` | whether the overlay cannot be set up, 1 or 0 |
//! | `osier_fabric_changes_total` | changes made to the kernel's configuration |
//! | `osier_fabric_repairs_total` | of these, those that undid what somebody else had done |
//! | `osier_fabric_failures_total` | times that the configuration could not be made what it is to be |
//! | `osier_dns_names` | names that the zone answers |
//! | `osier_dns_queries_total{type,result}` | queries of containers: type `A`, `AAAA`, `PTR`, `ANY`, `other`; result `answered`, `empty`, `nxdomain`, `error`, `forwarded`, `dropped` |
//! | `osier_dns_cache_hits_total` | of the forwarded ones, those answered from the cache |
//! | `osier_dns_cache_misses_total` | of the forwarded ones, those for which resolvers had to be asked |
//! | `osier_dns_cache_entries` | replies in the cache |
//! | `osier_dns_cache_bytes` | bytes that they take |
//! | `osier_dns_unanswered_total` | forwarded queries that no resolver answered |
//! | `osier_dns_overload_drops_total` | forwarded queries dropped because too many were waiting |
//! | `osier_dns_upstream_queries_total{server}` | queries sent to one of the host's resolvers |
//! | `osier_dns_upstream_failures_total{server}` | of these, those without a useful answer |
//! | `osier_plugin_calls_total{call}` | calls of the engine to the network and address driver |
//! | `osier_plugin_failures_total{call}` | of these, those that failed |
//! | `osier_proxy_creates_total` | containers that were to be created through this node's port 12375 |
//! | `osier_proxy_create_failures_total` | of these, those that were refused or failed |

use crate::{
    config::Config,
    containers::Containers,
    counted::Calls,
    exposition::{Kind, MEDIA_TYPE, Page},
    networks::Net,
    resolver,
    segment::Segment,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use osier_dns::Resolver;
use osier_engine::{
    Body, Hijacker, error_response, full,
    server::{Handler, Limits},
};
use osier_gossip::Traffic;
use osier_model::port;
use osier_ring::Stats;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};
use tokio::sync::watch;

/// Where metrics are served.
pub(crate) const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port::METRICS));
/// The most connections at a time; who measures needs one or two.
const CONNECTIONS: usize = 16;

/// What who measures may take.
pub(crate) fn limits() -> Limits {
    Limits { connections: CONNECTIONS, ..Limits::default() }
}

/// The parts of the agent that are measured.
pub(crate) struct Metrics {
    pub(crate) config: Config,
    pub(crate) starts: u64,
    pub(crate) segment: Arc<Segment>,
    pub(crate) containers: Arc<Containers>,
    pub(crate) resolver: Resolver,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) plugin_calls: Arc<Calls>,
    pub(crate) creates: Arc<Calls>,
}

impl Handler for Metrics {
    async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
        answer(&request, || page(&self.sample()))
    }
}

/// The page, or why there is none.
fn answer<T>(request: &Request<T>, page: impl FnOnce() -> String) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut response = Response::new(full(page()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            response
        }
        (_, "/metrics") => error_response(StatusCode::METHOD_NOT_ALLOWED, "metrics are only read: use GET"),
        (_, path) => error_response(StatusCode::NOT_FOUND, format_args!("no such path: '{path}'; try '/metrics'")),
    }
}

/// All values at one moment.
#[derive(Debug, Clone)]
struct Sample {
    cluster: String,
    node: String,
    peer: String,
    starts: u64,
    ready: bool,
    engine_up: bool,
    peers: (usize, usize),
    /// By state.
    links: [(&'static str, usize); 3],
    traffic: Traffic,
    addresses: Vec<Ring>,
    /// Joined, and not.
    endpoints: (usize, usize),
    interfaces: usize,
    overlay_failing: bool,
    fabric: osier_kernel::Counts,
    names: usize,
    dns: osier_dns::Counts,
    plugin: BTreeMap<&'static str, (u64, u64)>,
    creates: (u64, u64),
}

/// The addresses of one network.
#[derive(Debug, Clone)]
struct Ring {
    network: String,
    id: String,
    stats: Stats,
    conflict: bool,
}

impl Metrics {
    fn sample(&self) -> Sample {
        let (config, segment) = (&self.config, &*self.segment);
        let snapshot = segment.gossip.snapshot();
        let others = || config.members.iter().filter(|m| m.peer != config.me.peer);
        let links = segment.gossip.links();
        let count = |state: fn(&osier_gossip::Link) -> bool| links.iter().filter(|l| state(l)).count();
        let joined = |joined: bool| {
            let table = segment.endpoints.read();
            table.endpoints.values().filter(|e| e.is_joined() == joined).count()
        };
        let (interfaces, overlay_failing) = {
            let seen = segment.seen();
            (seen.macs.len(), seen.problem.is_some())
        };
        Sample {
            cluster: config.cluster.clone(),
            node: config.me.name.to_string(),
            peer: config.me.peer.to_string(),
            starts: self.starts,
            ready: *self.ready.borrow(),
            engine_up: self.containers.problem().is_none(),
            peers: (others().count(), others().filter(|m| snapshot.alive(m.peer)).count()),
            links: [
                ("established", count(|l| l.established)),
                ("connecting", count(|l| !l.established && l.error.is_none())),
                ("failed", count(|l| !l.established && l.error.is_some())),
            ],
            traffic: segment.gossip.traffic(),
            addresses: segment.networks.all().iter().map(|net| ring(net)).collect(),
            endpoints: (joined(true), joined(false)),
            interfaces,
            overlay_failing,
            fabric: segment.kernel.counts(),
            names: resolver::records(&snapshot, Vec::new()).len(),
            dns: self.resolver.counts(),
            plugin: self.plugin_calls.counts(),
            creates: self.creates.counts().into_values().next().unwrap_or_default(),
        }
    }
}

fn ring(net: &Net) -> Ring {
    Ring {
        network: net.network.name.clone(),
        id: net.network.id.to_string(),
        stats: net.addresses.stats(),
        conflict: net.addresses.conflict().is_some(),
    }
}

/// The values as a page.
fn page(s: &Sample) -> String {
    use Kind::{Counter, Gauge};
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut page = Page::default();
    page.family("osier_build_info", Gauge, "The agent's version, as a label.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("osier_node_info", Gauge, "Which node this is, as labels.")
        .sample(&[("cluster", &s.cluster), ("node", &s.node), ("peer", &s.peer)], 1);
    page.value("osier_agent_starts", Gauge, "How often the agent has started on this node.", s.starts);
    page.value("osier_ready", Gauge, "Whether containers can be put on the overlay, 1 or 0.", s.ready.into());
    page.value("osier_engine_up", Gauge, "Whether the local engine can be followed, 1 or 0.", s.engine_up.into());

    page.value("osier_peers_known", Gauge, "Other members of the cluster.", number(s.peers.0));
    page.value("osier_peers_alive", Gauge, "Other members that answer.", number(s.peers.1));
    let mut family = page.family("osier_links", Gauge, "Control connections to other members, by state.");
    for (state, count) in s.links {
        family.sample(&[("state", state)], number(count));
    }
    let t = &s.traffic;
    page.value("osier_gossip_datagrams_sent_total", Counter, "Datagrams of gossip sent.", t.datagrams_sent);
    let help = "Datagrams of gossip received and taken.";
    page.value("osier_gossip_datagrams_received_total", Counter, help, t.datagrams_received);
    let help = "Datagrams refused: not sealed with the cluster's key, malformed, or from no member.";
    page.value("osier_gossip_datagrams_refused_total", Counter, help, t.datagrams_refused);
    let help = "Bytes of datagrams and of control connections' frames sent, without headers.";
    let bytes = t.datagram_bytes_sent.saturating_add(t.frame_bytes_sent);
    page.value("osier_gossip_sent_bytes_total", Counter, help, bytes);

    let mut by_network = |name: &'static str, help: &str, value: &dyn Fn(&Stats, bool) -> u64| {
        let mut family = page.family(name, Gauge, help);
        for Ring { network, id, stats, conflict } in &s.addresses {
            family.sample(&[("network", network), ("id", id)], value(stats, *conflict));
        }
    };
    by_network("osier_addresses_range", "Addresses in the network's range.", &|a, _| a.total);
    by_network("osier_addresses_mine", "Addresses that this node gives out.", &|a, _| a.mine);
    by_network("osier_addresses_free", "Addresses that this node gives out and nobody has.", &|a, _| a.free_mine);
    by_network("osier_addresses_in_use", "Addresses that this node has given out.", &|a, _| a.in_use);
    let help = "Addresses of the range whose owner this node does not know.";
    by_network("osier_addresses_unowned", help, &|a, _| a.unowned);
    let help = "Whether the ring contradicts itself, so that no address is given out, 1 or 0.";
    by_network("osier_ring_conflict", help, &|_, conflict| conflict.into());

    let mut family =
        page.family("osier_endpoints", Gauge, "Endpoints of this node, by whether a container is attached.");
    family.sample(&[("state", "joined")], number(s.endpoints.0));
    family.sample(&[("state", "idle")], number(s.endpoints.1));
    let help = "Interfaces on the overlay that this node knows, on all nodes.";
    page.value("osier_overlay_interfaces", Gauge, help, number(s.interfaces));
    let help = "Whether the overlay cannot be set up on this node, 1 or 0.";
    page.value("osier_overlay_failing", Gauge, help, s.overlay_failing.into());
    let help = "Changes made to the kernel's configuration.";
    page.value("osier_fabric_changes_total", Counter, help, s.fabric.changes);
    let help = "Changes that undid what somebody else had done to the kernel's configuration.";
    page.value("osier_fabric_repairs_total", Counter, help, s.fabric.repairs);
    let help = "Times that the kernel's configuration could not be made what it is to be.";
    page.value("osier_fabric_failures_total", Counter, help, s.fabric.failures);

    let d = &s.dns;
    page.value("osier_dns_names", Gauge, "Names that the zone answers.", number(s.names));
    let mut family = page.family("osier_dns_queries_total", Counter, "Queries, by type and by what became of them.");
    for (kind, result, count) in &d.queries {
        family.sample(&[("type", kind), ("result", result)], *count);
    }
    let help = "Forwarded queries that were answered from the cache.";
    page.value("osier_dns_cache_hits_total", Counter, help, d.cache_hits);
    let help = "Forwarded queries for which resolvers had to be asked.";
    page.value("osier_dns_cache_misses_total", Counter, help, d.cache_misses);
    page.value("osier_dns_cache_entries", Gauge, "Replies in the cache.", d.cache_entries);
    page.value("osier_dns_cache_bytes", Gauge, "Bytes that the replies in the cache take.", d.cache_bytes);
    page.value("osier_dns_unanswered_total", Counter, "Forwarded queries that no resolver answered.", d.unanswered);
    let help = "Forwarded queries that were dropped because too many were waiting.";
    page.value("osier_dns_overload_drops_total", Counter, help, d.overloads);
    let help = "Queries sent to each of the host's resolvers.";
    let mut family = page.family("osier_dns_upstream_queries_total", Counter, help);
    for server in &d.upstream {
        family.sample(&[("server", &server.address.to_string())], server.asked);
    }
    let help = "Queries to each of the host's resolvers that it did not answer usefully.";
    let mut family = page.family("osier_dns_upstream_failures_total", Counter, help);
    for server in &d.upstream {
        family.sample(&[("server", &server.address.to_string())], server.failed);
    }

    let help = "Calls of the engine to the network and address driver.";
    let mut family = page.family("osier_plugin_calls_total", Counter, help);
    for (call, (made, _)) in &s.plugin {
        family.sample(&[("call", call)], *made);
    }
    let help = "Calls of the engine to the network and address driver that failed.";
    let mut family = page.family("osier_plugin_failures_total", Counter, help);
    for (call, (_, failed)) in &s.plugin {
        family.sample(&[("call", call)], *failed);
    }
    let help = "Containers that were to be created through this node's engine proxy.";
    page.value("osier_proxy_creates_total", Counter, help, s.creates.0);
    let help = "Containers that could not be created through this node's engine proxy.";
    page.value("osier_proxy_create_failures_total", Counter, help, s.creates.1);
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::read;
    use osier_dns::UpstreamCounts;

    fn sample() -> Sample {
        let range = "10.1.1.0/24".parse().unwrap();
        let stats = Stats { range, total: 256, mine: 64, in_use: 5, free_mine: 58, per_peer: vec![], unowned: 0 };
        let ring =
            |id: &str, conflict| Ring { network: "one name".into(), id: id.into(), stats: stats.clone(), conflict };
        let upstream = UpstreamCounts { address: "[::1]:53".parse().unwrap(), asked: 9, failed: 2 };
        Sample {
            cluster: "a \"b\"\\\nc".into(),
            node: "n1".into(),
            peer: "02:00:00:00:00:01".into(),
            starts: 3,
            ready: true,
            engine_up: false,
            peers: (4, 3),
            links: [("established", 2), ("connecting", 1), ("failed", 1)],
            traffic: Traffic { datagram_bytes_sent: 5, frame_bytes_sent: 6, ..Traffic::default() },
            addresses: vec![ring("0000000000000000", false), ring("0000000000000007", true)],
            endpoints: (2, 1),
            interfaces: 7,
            overlay_failing: true,
            fabric: osier_kernel::Counts { changes: 20, repairs: 2, failures: 1 },
            names: 8,
            dns: osier_dns::Counts {
                queries: vec![("A", "answered", 10), ("other", "forwarded", 0)],
                upstream: vec![upstream],
                ..osier_dns::Counts::default()
            },
            plugin: [("NetworkDriver.Join", (6, 1))].into(),
            creates: (11, 1),
        }
    }

    #[test]
    fn the_page_is_one_and_every_metric_is_in_the_list_above() {
        let text = page(&sample());
        let read = read::page(&text);
        let one = |name: &str| read[name].1[0].1;
        assert_eq!((one("osier_peers_known"), one("osier_peers_alive"), one("osier_engine_up")), (4, 3, 0));
        assert_eq!((one("osier_gossip_sent_bytes_total"), one("osier_fabric_repairs_total")), (11, 2));
        let conflicts = &read["osier_ring_conflict"].1;
        assert_eq!((conflicts[0].1, conflicts[1].1), (0, 1), "networks of one name are told apart");
        assert_eq!(read["osier_node_info"].1[0].0[0].1, "a \"b\"\\\nc");
        assert_eq!(read["osier_dns_upstream_failures_total"].1[0], (vec![("server".into(), "[::1]:53".into())], 2));
        let listed: Vec<&str> = include_str!("metrics.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `")?.split(['`', '{']).next())
            .collect();
        let mut shown: Vec<&str> = read.keys().map(String::as_str).collect();
        shown.sort_by_key(|name| listed.iter().position(|l| l == name));
        assert_eq!(shown, listed);
    }

    #[test]
    fn only_the_page_is_there_and_only_to_be_read() {
        let ask = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let response = answer(&request, || "page".into());
            let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            (response.status().as_u16(), kind)
        };
        assert_eq!(ask(Method::GET, "/metrics"), (200, MEDIA_TYPE.into()));
        assert_eq!(ask(Method::GET, "/metrics?x=1").0, 200);
        assert_eq!((ask(Method::POST, "/metrics").0, ask(Method::GET, "/").0), (405, 404));
        assert!(LISTEN.ip().is_loopback());
    }
}
