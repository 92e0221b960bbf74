//! DNS for containers: the zone's records from the mesh, and the server on the overlay's link-local address.

use crate::{
    config::Config,
    facts::{NameFact, decode, prefix},
    given,
    networks::Networks,
};
use ipnet::Ipv4Net;
use osier_dns::{ResolvConf, Resolver, Server, Sockets};
use osier_gossip::{Handle, Snapshot};
use osier_kernel::Kernel;
use osier_model::{DNS_ADDRESS, NetworkId, port};
use osier_names::{Link, Record, Records, Zone};
use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tracing::{info, warn};

/// How long to wait before the sockets are tried again (the bridge may not have its address yet).
const RETRY: Duration = Duration::from_millis(200);

/// Where names outside the zone go.
pub(crate) fn upstream(config: &Config, host: &ResolvConf) -> Vec<IpAddr> {
    if config.upstream.is_empty() { host.nameservers.clone() } else { config.upstream.clone() }
}

/// The resolver, and its service until it is stopped; that tries until the overlay has the address to serve on.
pub(crate) fn serve(
    kernel: Kernel,
    config: &Config,
    host: &ResolvConf,
    gossip: Handle,
    networks: Arc<Networks>,
    stopped: watch::Receiver<bool>,
) -> (Resolver, impl Future<Output = ()> + use<>) {
    let upstream: Vec<SocketAddr> = upstream(config, host).into_iter().map(|a| (a, port::DNS).into()).collect();
    let zone = Zone { domain: config.domain.clone(), pool: config.pool };
    let mut changes = gossip.changed();
    let (publish, records) = watch::channel(Arc::new(records(&gossip.snapshot(), networks.subnets())));
    let resolver = Resolver::new(zone, records, upstream);
    let answering = resolver.clone();
    let serving = async move {
        let mut last = String::new();
        let sockets = loop {
            match kernel.in_namespace(bind) {
                Ok(Ok(sockets)) => break sockets,
                Ok(Err(e)) => last = note(last, &e),
                Err(e) => last = note(last, &e),
            }
            tokio::time::sleep(RETRY).await;
        };
        let server = match Server::start(sockets, answering, stopped) {
            Ok(server) => server,
            Err(error) => {
                warn!(error = crate::plugin::chain(&error), "cannot serve DNS");
                return;
            }
        };
        info!(address = %DNS_ADDRESS, "serving DNS");
        while changes.changed().await.is_ok() {
            publish.send_replace(Arc::new(self::records(&gossip.snapshot(), networks.subnets())));
        }
        drop(server);
    };
    (resolver, serving)
}

fn note(last: String, error: &dyn std::error::Error) -> String {
    let text = crate::plugin::chain(error);
    if text != last {
        warn!(error = text, "cannot listen for DNS yet; trying again");
    }
    text
}

fn bind() -> std::io::Result<Sockets> {
    let address = SocketAddr::from((DNS_ADDRESS, port::DNS));
    Ok(Sockets { udp: UdpSocket::bind(address)?, tcp: TcpListener::bind(address)? })
}

/// The records of all nodes that are alive, and the names that were set by hand; `subnets` are those of the networks
/// besides the cluster's own.
pub(crate) fn records(snapshot: &Snapshot, subnets: Vec<(NetworkId, Ipv4Net)>) -> Records {
    let seen = given::seen(snapshot);
    let entries = seen.standing().map(|(node, _, entry)| (node, entry));
    Records::new(osier_names::given::with_given(running(snapshot), entries), subnets)
}

/// The containers of all nodes that are alive, with the names that they have by themselves.
pub(crate) fn running(snapshot: &Snapshot) -> Vec<Record> {
    let names = snapshot.facts.iter().filter(|(p, k, _)| k.starts_with(prefix::NAME) && snapshot.alive(*p));
    let records = names.filter_map(|(node, key, value)| {
        let fact: Option<NameFact> = decode(value);
        if fact.is_none() {
            warn!(%node, key, "passed over a fact that cannot be read");
        }
        fact.map(|NameFact { container, network, address, names, links }| {
            let links = links.into_iter().map(|(alias, target)| Link { alias, target }).collect();
            Record { address, network: Some(network), node, container, names, links }
        })
    });
    records.collect()
}
