//! The agent: what runs on every node and makes its containers part of the cluster's network.
//!
//! It serves the engine's API with containers put on the overlay (12375), Docker's plugin socket, DNS for containers,
//! the mesh (6783), metrics (127.0.0.1:6782) and a control socket. It needs no manager and is ready without dockerd; it may be killed at any
//! moment, because packets are the kernel's business and everything it must remember is on disk before it is said.

mod addresses;
mod client;
mod config;
mod containers;
mod control;
mod counted;
mod dns;
mod dns_command;
mod endpoints;
mod exposition;
mod exposure;
mod facts;
mod given;
mod host;
mod hosts;
mod inheritance;
mod members;
mod messages;
mod metrics;
mod networks;
mod plugin;
mod proxy;
mod resolver;
mod segment;
mod setup;
pub mod status;
mod weave;

pub use client::{WeaveArgs, run_status, run_weave};
pub use dns::Lookup;
pub use dns_command::{DnsCommand, run_dns};
pub use exposure::{HostPlace, run_expose};
pub use facts::LinkFact;
pub use given::GivenName;
pub use weave::status as weave_status;

use anyhow::{Context, Result, anyhow, bail};
use config::Config;
use containers::Containers;
use control::Control;
use counted::{Calls, Counted};
use dns::Dns;
use endpoints::Endpoints;
use exposure::Exposure;
use given::Given;
use members::Members;
use messages::Answers;
use metrics::Metrics;
use networks::Networks;
use osier_engine::{
    Client,
    server::{Listener, raise_file_limit, serve, serve_within},
};
use osier_gossip::{Config as GossipConfig, Gossip};
use osier_kernel::Kernel;
use osier_model::{
    config::{AgentConfig, path},
    port,
};
use osier_pki::Identity;
use plugin::Plugin;
use proxy::Proxy;
use segment::Segment;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    task::JoinSet,
};
use tracing::{info, warn};

/// The network namespace that holds the overlay.
const NAMESPACE: &str = "osier";
/// How many of its routes a node tells the others of; a router's tables are no business of theirs.
const ROUTES: usize = 256;
/// How long to wait before the engine is set up again after a failure.
const SETUP_RETRY: Duration = Duration::from_secs(1);

/// Runs the agent of a node. Started by its unit; it needs root.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  osier agent\n  osier agent --config /etc/osier/agent.json --log debug\n\n\
    It serves metrics for Prometheus at http://127.0.0.1:6782/metrics, on the loopback address only.")]
pub struct AgentArgs {
    /// The node's configuration, as 'osier setup-cluster' writes it.
    #[arg(long, default_value = path::AGENT_CONFIG)]
    pub config: PathBuf,
}

/// Runs until SIGTERM or SIGINT, or until the members of the cluster change: then the service manager starts it anew.
pub async fn run(args: AgentArgs) -> Result<()> {
    raise_file_limit();
    let file: AgentConfig = osier_store::read_json(&args.config)?
        .with_context(|| format!("there is no '{}'; run 'osier setup-cluster'", args.config.display()))?;
    let ca = Path::new(path::PKI).join("ca.pem");
    let members = Arc::new(Members::open(Path::new(path::MEMBERS), Path::new(path::HEARD_MEMBERS), &ca)?);
    let config = Config::new(file, &members.roll());
    if !config.peers().contains(&config.me.peer) {
        bail!("no statement of the operator says that this node belongs to the cluster; run 'osier setup-cluster'");
    }
    if config.is_removed() {
        warn!(name = %config.me.name, peer = %config.me.peer, "this node was removed from the cluster");
    }
    let (stopping, stopped) = watch::channel(false);
    // Names and mesh go last, so that containers can resolve while connections drain.
    let (ending, ended) = watch::channel(false);
    let state = Path::new(path::STATE);
    let identity = Identity::read(Path::new(path::PKI))?;
    let key = host::gossip_key(Path::new(path::GOSSIP_KEY))?;
    let resolv = host::resolv_conf();
    host::write_resolv_conf(Path::new(path::RESOLV_CONF), &config.domain, &resolv)?;

    let counter = state.join("incarnation");
    let me = config.me.peer;
    let endpoints = Arc::new(Endpoints::open(state.join("endpoints.json"))?);
    let found = me == config.founder && !counter.exists();
    let networks = Arc::new(Networks::open(state, config.clone(), endpoints.clone(), found)?);
    // Only now: a founder that dies before its ring is on disk has not started yet, and founds it the next time.
    let starts = host::count_start(&counter)?;
    info!(name = %config.me.name, peer = %me, starts, "starting");
    let kernel = Kernel::open(NAMESPACE).await.context("open the overlay's namespace")?;
    let gossip = Gossip::start(
        GossipConfig {
            me: config.me.clone(),
            members: config.members.clone(),
            removed: config.removals.iter().map(|removal| removal.peer).collect(),
            key,
            listen: (config.me.address, port::PEER).into(),
            identity,
            incarnation: osier_gossip::incarnation(starts, rand::random()),
            handler: Arc::new(Answers {
                networks: networks.clone(),
                members: members.clone(),
                digest: config.digest.clone(),
            }),
        },
        ended.clone(),
    )
    .await
    .context("join the mesh")?;
    let given = Arc::new(Given::open(state.join("names.json"), &config, gossip.clone())?);
    gossip.set_fact(facts::prefix::NODE, Some(facts::encode(&host::node_fact(starts, &config))));
    networks.connect(gossip.clone());

    for endpoint in endpoints.read().endpoints.values() {
        if let Some(sandbox) = endpoint.sandbox.clone() {
            plugin::name_interface(sandbox, endpoint.mac);
        }
    }
    let changed = Arc::new(Notify::new());
    let (up, is_up) = watch::channel(BTreeSet::new());
    let mtu = host::overlay_mtu(config.me.address)?;
    let segment = Arc::new(Segment {
        config: config.clone(),
        mtu,
        kernel: kernel.clone(),
        networks: networks.clone(),
        endpoints: endpoints.clone(),
        gossip: gossip.clone(),
        changed: changed.clone(),
        exposure: Exposure::open(state.join("host.json"), changed.clone())?,
        seen: Mutex::default(),
        up,
    });
    let plugin = Plugin {
        mtu,
        kernel: kernel.clone(),
        networks: networks.clone(),
        endpoints: endpoints.clone(),
        changed,
        up: is_up.clone(),
    };
    let engine = Client::unix(path::ENGINE_SOCKET);
    let containers = Arc::new(Containers::new(
        engine.clone(),
        config.domain.clone(),
        networks.clone(),
        endpoints.clone(),
        gossip.clone(),
        is_up,
    ));
    let (set_up, ready) = watch::channel(false);
    let proxy = Proxy {
        engine: engine.clone(),
        networks: networks.clone(),
        containers: containers.clone(),
        endpoints: endpoints.clone(),
        ready: ready.clone(),
    };
    let (resolver, resolving) =
        resolver::serve(kernel.clone(), &config, &resolv, gossip.clone(), networks.clone(), ended);
    let control = Control {
        config: config.clone(),
        mtu,
        segment: segment.clone(),
        containers: containers.clone(),
        resolv,
        ready: ready.clone(),
        dns: Dns { given: given.clone(), resolver: resolver.clone() },
    };
    let (plugin_calls, creates) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
    let metrics = Metrics {
        config: config.clone(),
        starts,
        segment: segment.clone(),
        containers: containers.clone(),
        resolver,
        ready: ready.clone(),
        plugin_calls: plugin_calls.clone(),
        creates: creates.clone(),
    };
    let plugin = Counted::new(plugin, plugin_calls, counted::plugin_call);
    let proxy = Counted::new(proxy, creates, counted::create);

    let plugin_listener = host::plugin_socket(Path::new(path::PLUGIN_SOCKET))?;
    let control_listener = host::unix_socket(Path::new(path::AGENT_SOCKET))?;
    let proxy_address = (config.me.address, config.proxy_port);
    let tcp = TcpListener::bind(proxy_address).await.with_context(|| format!("listen on {proxy_address:?}"))?;
    let tls = Identity::read(Path::new(path::PKI))?.server()?;
    let metrics_listener = TcpListener::bind(metrics::LISTEN).await;
    let stop = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|s| *s).await;
    };
    let mut servers = JoinSet::new();
    servers.spawn(serve(Listener::Unix(plugin_listener), Arc::new(plugin), stop(stopped.clone())));
    servers.spawn(serve(Listener::Unix(control_listener), Arc::new(control), stop(stopped.clone())));
    servers.spawn(serve(Listener::Tls(tcp, tls), Arc::new(proxy), stop(stopped.clone())));
    match metrics_listener {
        Ok(listener) => {
            let limits = metrics::limits();
            drop(servers.spawn(serve_within(limits, Listener::Tcp(listener), Arc::new(metrics), stop(stopped))));
        }
        // Containers come first: an agent that cannot be measured still does its work.
        Err(error) => warn!(address = %metrics::LISTEN, %error, "cannot serve metrics"),
    }
    let wake = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(resolving);
    tasks.spawn(async move { given.follow().await });
    let host = segment.clone();
    tasks.spawn(async move { host.join_host().await });
    tasks.spawn(async move { segment.keep().await });
    tasks.spawn(follow_networks(networks.clone(), gossip.clone()));
    tasks.spawn(keep_engine(engine, networks.clone(), set_up, wake.clone()));
    tasks.spawn(async move { containers.follow(|| wake.notify_one()).await });
    tasks.spawn(publish_surroundings(gossip.clone()));
    host::notify_ready();
    info!("ready");

    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        // None of them ends by itself; the service manager starts the whole agent anew.
        () = members.follow(&config, &gossip) => Ok(()),
        () = inheritance::follow(&config, &networks, &gossip) => Ok(()),
        Some(end) = tasks.join_next() => Err(anyhow!("a part of the agent has ended: {end:?}")),
        Some(end) = servers.join_next() => Err(anyhow!("a server of the agent has ended: {end:?}")),
    };
    info!("stopping");
    let _ = stopping.send(true);
    while servers.join_next().await.is_some() {}
    let _ = ending.send(true);
    result
}

/// Takes in what other nodes say of networks and addresses as it comes.
async fn follow_networks(networks: Arc<Networks>, gossip: osier_gossip::Handle) {
    let mut changes = gossip.changed();
    loop {
        networks.hear(&gossip.snapshot());
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Makes the engine fit for overlay containers each time it is (re)connected or the cluster's networks change, until it
/// is.
async fn keep_engine(engine: Client, networks: Arc<Networks>, ready: watch::Sender<bool>, wake: Arc<Notify>) {
    let mut last = String::new();
    loop {
        tokio::select! {
            () = wake.notified() => {}
            () = networks.wanted.notified() => {}
        }
        while !host::is_leaving(Path::new(path::LEAVING)) {
            match setup::ensure(&engine, &networks, &host::routes()).await {
                Ok(()) => {
                    last.clear();
                    ready.send_replace(true);
                    break;
                }
                Err(error) => {
                    ready.send_replace(false);
                    let text = plugin::chain(&error);
                    if text != last {
                        warn!(error = text, "cannot set up the engine; trying again");
                        last = text;
                    }
                    tokio::time::sleep(SETUP_RETRY).await;
                }
            }
        }
    }
}

/// Keeps known to all what this node is connected to: its control connections, for status, and its routes, for who makes networks.
async fn publish_surroundings(gossip: osier_gossip::Handle) {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    loop {
        tick.tick().await;
        let mut stale: BTreeSet<String> = gossip.own_keys(facts::prefix::LINK).into_iter().collect();
        for link in gossip.links() {
            let key = format!("{}{}", facts::prefix::LINK, link.peer);
            stale.remove(&key);
            let fact = LinkFact {
                peer: link.peer,
                address: link.address,
                outbound: link.outbound,
                established: link.established,
            };
            gossip.set_fact(&key, Some(facts::encode(&fact)));
        }
        for key in stale {
            gossip.set_fact(&key, None);
        }
        let mut routes = host::routes();
        routes.truncate(ROUTES);
        gossip.set_fact(facts::prefix::ROUTES, Some(facts::encode(&routes)));
    }
}
