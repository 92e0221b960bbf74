//! `osier manage`: opens the world that the arguments describe, serves, and drains when a signal arrives.

use crate::{
    api::Api,
    args::ManageArgs,
    client::Place,
    cluster::Cluster,
    discovery,
    front::Front,
    hub::Engines,
    listen::listen,
    replication::{Election, Gate},
    settings::{Caller, Managing},
    state::State,
    tokens::Tokens,
};
use anyhow::Context;
use osier_engine::{
    Client,
    server::{Handler, Listener, raise_file_limit, serve},
};
use osier_model::{
    Token,
    config::{ManagerConfig, path},
};
use osier_pki::Identity;
use osier_ui::{ExitKind, Failure, FailureExt, Ui};
use std::{future::Future, path::Path, sync::Arc};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::info;

/// Serves until a signal arrives. `place` knows the managers of the clusters that this machine provisioned.
pub async fn manage(
    args: ManageArgs,
    caller: &Caller,
    ui: &Ui,
    place: impl Fn(&Token) -> Option<Place>,
) -> Result<(), Failure> {
    let managing = Managing::check(&args, caller, &place)?;
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    if let Some(config) = &args.config {
        let cors = args.api_enable_cors;
        return manage_provisioned(config, managing, cors, caller, shutdown).await;
    }
    let Managing { tls, refresh, heartbeat, backend, policy, hosts, replication } = managing;
    let Some(backend) = backend else { return Err(Failure::usage("discovery required to manage a cluster")) };
    if tls.is_none() {
        ui.warn(
            "this manager speaks plain HTTP, and so do its engines: without --tlsverify everybody who reaches one of \
             them is root on every node",
        );
    }
    let state = match &args.state {
        Some(folder) => open_state(&folder.join("manager.json"))?,
        None => State::in_memory(),
    };
    let (server, client) = tls.map(|tls| (tls.server, tls.client)).unzip();
    let cluster = Cluster::new(Engines { tls: client.clone(), refresh, state }, policy);
    let mut listeners = Vec::new();
    for host in &hosts {
        listeners.push(listen(host, server.as_ref()).await?);
    }
    let election = replication.map(Election::begin);
    let role = election.as_ref().map(|election| election.role.clone());
    if let Some(role) = role.clone() {
        cluster.hub.stand_behind(role);
    }
    let following = tokio::spawn(discovery::follow(backend, cluster.clone(), heartbeat));
    let api = Api::new(cluster.clone(), Arc::new(Tokens::default())).experimental(caller.experimental);
    let gate = role.clone().map(|role| Gate::new(role, client));
    let front = Front { api: api.replicated(role), cors: args.api_enable_cors, gate };
    // A leader hands over before it drains: others wait for it, and its own clients are not kept.
    let shutdown = async {
        shutdown.await;
        if let Some(election) = election {
            election.end().await;
        }
    };
    serve_all(listeners, front, &cluster, shutdown).await;
    following.abort();
    Ok(())
}

async fn manage_provisioned(
    config: &Path,
    managing: Managing,
    cors: bool,
    caller: &Caller,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let read = osier_store::read_json::<ManagerConfig>(config).context("read the manager's configuration");
    let missing = || Failure::usage(format!("there is no configuration '{}'", config.display()));
    let config = read.kind(ExitKind::Usage)?.ok_or_else(missing)?;
    let identity = Identity::read(Path::new(path::PKI)).context("read this node's certificate")?;
    let tls = Some(identity.client().context("set up TLS")?);
    let engines = Engines { tls, refresh: managing.refresh, state: open_state(&config.state)? };
    let cluster = Cluster::new(engines, managing.policy);
    let tokens = Arc::new(Tokens::new(Some(config.token)));
    let socket = TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let listener = Listener::Tls(socket, identity.server().context("set up TLS")?);
    info!(cluster = config.cluster, listen = %config.listen, "managing a cluster");
    let agent = Client::unix(path::AGENT_SOCKET);
    let following = tokio::spawn(discovery::follow_mesh(agent.clone(), cluster.clone(), tokens.clone()));
    let api = Api::new(cluster.clone(), tokens).experimental(caller.experimental).beside(agent);
    serve_all(vec![listener], Front { api, cors, gate: None }, &cluster, shutdown).await;
    following.abort();
    Ok(())
}

fn open_state(file: &Path) -> Result<State, Failure> {
    let opened = State::open(file);
    let hint = match &opened {
        Err(error) if error.is_in_use() => {
            "another manager keeps its state there; stop it, or give this one a --state folder of its own"
        }
        _ => "nothing was changed; repair the file, or move it away to begin with none",
    };
    opened.context("open the manager's state").map_err(Failure::from).hint(hint)
}

/// Serves on all listeners until `shutdown`. Then nobody new is let in, streams without an end are ended at once, and what
/// else is running has a few seconds.
async fn serve_all(
    listeners: Vec<Listener>,
    handler: impl Handler,
    cluster: &Cluster,
    shutdown: impl Future<Output = ()>,
) {
    let (closing, closed) = watch::channel(false);
    let handler = Arc::new(handler);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut closed = closed.clone();
        let end = async move { drop(closed.wait_for(|c| *c).await) };
        servers.spawn(serve(listener, handler.clone(), end));
    }
    // Only where a service manager waits for it does this do anything.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    shutdown.await;
    info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    closing.send_replace(true);
    cluster.end_streams();
    while servers.join_next().await.is_some() {}
}
