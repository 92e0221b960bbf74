//! The commands themselves: they open the world that the arguments describe, and wait.

use crate::{
    api::Api,
    args::{CreateArgs, ListArgs, ManageArgs},
    client::Place,
    cluster::Cluster,
    discovery::{self, Discovery, TokenUrl},
    hub::Engines,
    state::State,
    tokens::Tokens,
};
use anyhow::Context;
use osier_engine::{
    Client, resolve,
    server::{Listener, raise_file_limit, serve},
};
use osier_model::{
    Token,
    config::{ManagerConfig, path},
    port,
};
use osier_pki::Identity;
use osier_scheduler::Policy;
use osier_ui::{ExitKind, Failure, FailureExt, Ui};
use std::{collections::BTreeMap, future::Future, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::{info, warn};

/// How often the agent is asked for the mesh's members.
const MESH_EVERY: Duration = Duration::from_secs(2);

/// `osier manage`: serves until a signal arrives.
pub async fn manage(args: ManageArgs, ui: &Ui) -> Result<(), Failure> {
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let policy = Policy { strategy: args.strategy, ..Policy::default() };
    if let Some(config) = &args.config {
        return manage_provisioned(config, policy, shutdown).await;
    }
    let identity = match (&args.tlscacert, &args.tlscert, &args.tlskey) {
        (Some(ca), Some(cert), Some(key)) => {
            let identity = Identity::read_files(ca, cert, key);
            Some(identity.map_err(anyhow::Error::from).kind(ExitKind::Usage)?)
        }
        _ => None,
    };
    if identity.is_none() {
        ui.warn("without --tlsverify everybody who reaches this manager or an engine is root on every node");
    }
    let Some(discovery) = args.discovery else { return Err(Failure::usage("discovery required to manage a cluster")) };
    let tls = identity.as_ref().map(Identity::client).transpose().context("set up TLS")?;
    let state = match &args.state {
        Some(folder) => open_state(&folder.join("manager.json"))?,
        None => State::in_memory(),
    };
    let engines = Engines { state, ..tls.clone().into() };
    let cluster = Cluster::new(engines, policy);
    let mut listeners = Vec::new();
    for host in &args.host {
        listeners.push(listen(host, identity.as_ref()).await?);
    }
    let following = tokio::spawn(follow(discovery, cluster.clone(), tls, args.heartbeat));
    serve_all(listeners, Api::new(cluster, Arc::new(Tokens::default())), shutdown).await;
    following.abort();
    Ok(())
}

async fn manage_provisioned(config: &Path, policy: Policy, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let read = osier_store::read_json::<ManagerConfig>(config).context("read the manager's configuration");
    let missing = || Failure::usage(format!("there is no configuration '{}'", config.display()));
    let config = read.kind(ExitKind::Usage)?.ok_or_else(missing)?;
    let identity = Identity::read(Path::new(path::PKI)).context("read this node's certificate")?;
    let tls = Some(identity.client().context("set up TLS")?);
    let engines = Engines { state: open_state(&config.state)?, ..tls.into() };
    let cluster = Cluster::new(engines, policy);
    let tokens = Arc::new(Tokens::new(Some(config.token)));
    let socket = TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let listener = Listener::Tls(socket, identity.server().context("set up TLS")?);
    info!(cluster = config.cluster, listen = %config.listen, "managing a cluster");
    let agent = Client::unix(path::AGENT_SOCKET);
    let following = tokio::spawn(follow_mesh(agent, cluster.clone(), tokens.clone()));
    serve_all(vec![listener], Api::new(cluster, tokens), shutdown).await;
    following.abort();
    Ok(())
}

fn open_state(file: &Path) -> Result<State, Failure> {
    let opened = State::open(file).map_err(anyhow::Error::from).context("open the manager's state");
    opened.map_err(Failure::from).hint("nothing was changed; repair the file, or move it away to begin with none")
}

/// Serves on all listeners until `shutdown`, then lets running requests end.
async fn serve_all(listeners: Vec<Listener>, api: Api, shutdown: impl Future<Output = ()>) {
    let (closing, closed) = watch::channel(false);
    let api = Arc::new(api);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut closed = closed.clone();
        let end = async move { drop(closed.wait_for(|c| *c).await) };
        servers.spawn(serve(listener, api.clone(), end));
    }
    // Only where a service manager waits for it does this do anything.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    shutdown.await;
    info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    closing.send_replace(true);
    while servers.join_next().await.is_some() {}
}

async fn listen(host: &str, identity: Option<&Identity>) -> Result<Listener, Failure> {
    let (scheme, address) = host.split_once("://").unwrap_or(("tcp", host));
    match scheme {
        "unix" => {
            // A socket file left by a manager that was killed would be in the way.
            osier_store::remove(Path::new(address)).map_err(anyhow::Error::from)?;
            let listener = UnixListener::bind(address).with_context(|| format!("listen on {host}"))?;
            let private = std::fs::Permissions::from_mode(osier_store::SECRET);
            std::fs::set_permissions(address, private).with_context(|| format!("protect '{address}'"))?;
            Ok(Listener::Unix(listener))
        }
        "tcp" => {
            let target = discovery::parse_entry(address).map_err(Failure::usage)?;
            let address = resolve(&target.host, target.port).await;
            let address = address.map_err(|e| anyhow::anyhow!("{e}")).with_context(|| format!("resolve '{host}'"))?;
            let socket = TcpListener::bind(address).await.with_context(|| format!("listen on {host}"))?;
            Ok(match identity {
                Some(identity) => Listener::Tls(socket, identity.server().context("set up TLS")?),
                None => Listener::Tcp(socket),
            })
        }
        other => Err(Failure::usage(format!("unsupported protocol: \"{other}\""))),
    }
}

/// Keeps the cluster's members what discovery says. A failure keeps the last list.
async fn follow(discovery: Discovery, cluster: Arc<Cluster>, tls: Option<Arc<rustls::ClientConfig>>, every: Duration) {
    loop {
        let targets = match &discovery {
            Discovery::Nodes(targets) => return cluster.set_members(targets.clone()),
            Discovery::File(path) => discovery::read_file(path),
            Discovery::Token(url) => match token_client(url, tls.clone()).await {
                Ok(client) => discovery::token_targets(&client, &url.token).await,
                Err(error) => Err(error),
            },
        };
        match targets {
            Ok(targets) => cluster.set_members(targets),
            Err(error) => warn!(%error, "discovery failed, keeping the last list"),
        }
        tokio::time::sleep(every).await;
    }
}

async fn token_client(
    url: &TokenUrl,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Client, osier_engine::BoxError> {
    let (host, port) = url.host.as_ref().ok_or("the token's URL names no host (token://HOST:PORT/TOKEN)")?;
    let address = resolve(host, *port).await?;
    match tls {
        Some(tls) => Ok(Client::tls(address, host, tls)?),
        None => Ok(Client::tcp(address)),
    }
}

/// Keeps the cluster's members what the mesh says. While the agent is away, the last list stays.
async fn follow_mesh(agent: Client, cluster: Arc<Cluster>, tokens: Arc<Tokens>) {
    let mut alive = BTreeMap::new();
    let mut failing = false;
    loop {
        match discovery::mesh(&agent).await {
            Ok(mesh) => {
                let entry = |name: &Option<String>| Some(format!("{}:{}", name.as_ref()?, port::ENGINE_PROXY));
                tokens.set_members(mesh.targets.iter().filter_map(|t| entry(&t.name)).collect());
                cluster.set_members(mesh.targets);
                let changed = mesh.alive.iter().filter(|(name, now)| alive.get(*name) != Some(*now));
                changed.for_each(|(name, _)| cluster.suspect(name));
                alive = mesh.alive;
                failing = false;
            }
            Err(error) if !failing => {
                warn!(%error, "cannot learn the members, keeping the last list");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(MESH_EVERY).await;
    }
}

/// `osier create`: prints a new token, made here.
pub fn create(_: CreateArgs, ui: &Ui) -> Result<(), Failure> {
    ui.line(Token::from_random(rand::random()));
    Ok(())
}

/// `osier list`: prints one engine per line. `place` knows the managers of the clusters that this machine provisioned.
pub async fn list(args: ListArgs, ui: &Ui, place: impl Fn(&Token) -> Option<Place>) -> Result<(), Failure> {
    let entries = match &args.discovery {
        Discovery::Nodes(targets) => targets.iter().map(|t| t.address()).collect(),
        Discovery::File(path) => {
            let targets = discovery::read_file(path).map_err(|e| anyhow::anyhow!("{e}"))?;
            targets.iter().map(|t| t.address()).collect()
        }
        Discovery::Token(url) => {
            let asked = list_token(url, place(&url.token));
            let answer = tokio::time::timeout(args.timeout, asked).await;
            answer.map_err(|_| Failure::message_only(ExitKind::Failed, "Timed out"))??
        }
    };
    if ui.is_json() {
        ui.json(&entries);
    } else {
        entries.iter().for_each(|entry| ui.line(entry));
    }
    Ok(())
}

async fn list_token(url: &TokenUrl, place: Option<Place>) -> Result<Vec<String>, Failure> {
    let client = match (&url.host, place) {
        (None, None) => {
            let message = format!("no cluster of this machine has the token {}", url.token);
            return Err(Failure::message_only(ExitKind::Failed, message)
                .hint("name the manager: osier list token://HOST[:PORT]/TOKEN"));
        }
        (None, Some(place)) => {
            let tls = place.identity.client().context("set up TLS")?;
            Client::tls(place.address, &place.server_name, tls).context("reach the manager")?
        }
        (Some((host, port)), place) => {
            let address = resolve(host, *port).await;
            let address = match (address, &place) {
                (Ok(address), _) => address,
                // The user may call the manager by a name that only the cluster's own records know.
                (Err(_), Some(place)) if place.server_name == *host => place.address,
                (Err(e), _) => return Err(anyhow::anyhow!("{e}").context(format!("resolve '{host}'")).into()),
            };
            match place {
                Some(place) => {
                    let tls = place.identity.client().context("set up TLS")?;
                    Client::tls(address, host, tls).context("reach the manager")?
                }
                None => Client::tcp(address),
            }
        }
    };
    let listed = discovery::list_token(&client, &url.token).await.map_err(|e| anyhow::anyhow!("{e}"));
    Ok(listed.with_context(|| format!("list the engines of token {}", url.token))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use osier_engine::{Body, Hijacker, json_response, server::Handler};
    use serde_json::{Value, json};
    use std::{collections::BTreeSet, future::pending, sync::Mutex, time::Instant};

    struct Agent(Arc<Mutex<Value>>);

    impl Handler for Agent {
        async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
            assert_eq!(request.uri().path(), "/v1/members");
            json_response(StatusCode::OK, &*self.0.lock().unwrap())
        }
    }

    #[tokio::test]
    async fn the_members_are_the_meshs_and_stay_while_the_agent_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let token: Token = "a".repeat(32).parse().unwrap();
        let (cluster, tokens) = (Cluster::new(None, Policy::default()), Arc::new(Tokens::new(Some(token.clone()))));
        // The manager may start before the agent.
        let following = tokio::spawn(follow_mesh(Client::unix(&socket), cluster.clone(), tokens.clone()));
        let member =
            |name: &str| json!({"name": name, "peer": "02:00:00:00:00:01", "address": "127.0.0.1", "alive": true});
        let members = Arc::new(Mutex::new(json!([member("master"), member("node-1")])));
        let listener = Listener::Unix(UnixListener::bind(&socket).unwrap());
        let agent = tokio::spawn(serve(listener, Arc::new(Agent(members.clone())), pending()));
        let until = async |names: &[&str]| {
            let wanted: BTreeSet<String> = names.iter().map(|n| format!("{n}:12375")).collect();
            let start = Instant::now();
            while tokens.list(&token, start) != wanted || cluster.engines().len() != names.len() {
                assert!(start.elapsed() < Duration::from_secs(15), "{names:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        until(&["master", "node-1"]).await;
        assert_eq!(cluster.engines()[0].target.server_name, "master");
        // An agent that knows nobody yet, and then one that is gone, change nothing; the next list does.
        *members.lock().unwrap() = json!([]);
        assert!(discovery::mesh(&Client::unix(&socket)).await.is_err());
        until(&["master", "node-1"]).await;
        *members.lock().unwrap() = json!([member("master")]);
        until(&["master"]).await;
        agent.abort();
        following.abort();
    }
}
