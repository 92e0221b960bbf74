//! Following one engine for as long as it belongs to the cluster: connect, read everything, listen to its events, look
//! after it regularly, and start over when anything fails. Nothing depends on an event having been seen: every new
//! connection reads all of it again, and a list every half minute finds what events did not tell.

use super::{CallError, Engine, Facts, view::FAILURES};
use crate::{hub::Hub, stream::JsonStream};
use http::Method;
use osier_dockerapi::{event, info::Health, inspect::NodeFacts, row::Owner, version};
use osier_engine::{BoxError, Client};
use rand::RngExt;
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::{debug, info, warn};

/// How long an engine may take for a small answer before it counts as failed.
const PROBE: Duration = Duration::from_secs(2);
/// How long it may take for its own description, and to open its events.
const HELLO: Duration = Duration::from_secs(5);
/// How often a quiet engine is probed.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// How often all containers are listed.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// The longest wait between two attempts to reach an engine.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Containers of one engine that are read at a time.
const PARALLEL: usize = 8;

/// Why a connection to an engine ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("resolve '{host}'")]
    Resolve { host: String, source: BoxError },
    #[error("{doing}")]
    Call { doing: &'static str, source: CallError },
    #[error("{0}")]
    Refused(String),
    #[error("the engine's event stream ended")]
    EventsEnded,
    #[error("read the engine's events")]
    Events(#[source] BoxError),
}

impl Lost {
    fn call(doing: &'static str) -> impl FnOnce(CallError) -> Self {
        move |source| Self::Call { doing, source }
    }

    fn chain(&self) -> String {
        match self {
            Self::Call { doing, source } => format!("{doing}: {}", source.chain()),
            Self::Resolve { source, .. } | Self::Events(source) => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Follows the engine for ever. Dropping the future ends it.
pub(crate) async fn follow(engine: Arc<Engine>, hub: Arc<Hub>) {
    let mut last_event = 0;
    loop {
        let Err(lost) = session(&engine, &hub, &mut last_event).await;
        let failures = note_failure(&engine, &hub, &lost);
        let pause = backoff(failures, rand::rng().random_range(0.0..1.0));
        debug!(engine = engine.target.address(), failures, ?pause, error = lost.chain(), "lost an engine");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = engine.suspicion.notified(), if failures > FAILURES => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// How long to wait after so many failures in a row. The first ones are repeated quickly, to find out whether the engine
/// is gone; `luck` (0 to 1) spreads the later ones, so that many managers or engines do not move in step.
fn backoff(failures: u32, luck: f64) -> Duration {
    match failures.checked_sub(FAILURES) {
        None => Duration::from_millis(300),
        Some(more) => {
            let full = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(more.min(6))).min(MAX_BACKOFF);
            full.mul_f64(0.5 + luck / 2.0)
        }
    }
}

fn note_failure(engine: &Engine, hub: &Hub, lost: &Lost) -> u32 {
    let (failures, turned) = {
        let mut view = engine.view_mut();
        view.failures += 1;
        view.error = Some(lost.chain());
        view.updated = OffsetDateTime::now_utc();
        (view.failures, view.health == Health::Healthy && view.failures >= FAILURES)
    };
    if turned {
        engine.set_health(Health::Unhealthy);
        warn!(node = engine.name(), engine = engine.target.address(), error = lost.chain(), "an engine is unhealthy");
        hub.announce(engine, "engine_disconnect");
    }
    failures
}

fn note_success(engine: &Engine, hub: &Hub) {
    let before = {
        let mut view = engine.view_mut();
        view.failures = 0;
        view.error = None;
        view.updated = OffsetDateTime::now_utc();
        view.health
    };
    if before != Health::Healthy {
        engine.set_health(Health::Healthy);
        info!(node = engine.name(), engine = engine.target.address(), "an engine is healthy");
        hub.announce(engine, if before == Health::Pending { "engine_connect" } else { "engine_reconnect" });
    }
}

async fn session(
    engine: &Arc<Engine>,
    hub: &Arc<Hub>,
    last_event: &mut i128,
) -> Result<std::convert::Infallible, Lost> {
    let address = osier_engine::resolve(&engine.target.host, engine.target.port).await;
    let address = address.map_err(|source| Lost::Resolve { host: engine.target.host.clone(), source })?;
    connect(engine, hub, address).await.map_err(Lost::call("connect to the engine"))?;
    engine.json_probe().await.map_err(Lost::call("reach the engine"))?;
    let facts = describe(engine, address).await?;
    hub.claim(engine, &facts).map_err(Lost::Refused)?;
    engine.view_mut().facts = Some(Arc::new(facts));
    // Open the events before reading the lists, so that no change falls between the two.
    let mut events = open_events(engine, *last_event).await.map_err(Lost::call("open the engine's events"))?;
    engine.sync_networks().await.map_err(Lost::call("list the engine's networks"))?;
    engine.sync_images().await.map_err(Lost::call("list the engine's images"))?;
    engine.sync_containers(true).await.map_err(Lost::call("list the engine's containers"))?;
    note_success(engine, hub);

    let reader = Reader { engine: engine.clone(), slots: Arc::new(Semaphore::new(PARALLEL)) };
    let mut reads = JoinSet::new();
    let mut probe = tokio::time::interval_at((Instant::now() + PROBE_EVERY).into(), PROBE_EVERY);
    let mut list = tokio::time::interval_at((Instant::now() + LIST_EVERY).into(), LIST_EVERY);
    loop {
        tokio::select! {
            event = events.next() => {
                let event = event.map_err(Lost::Events)?.ok_or(Lost::EventsEnded)?;
                if event::time_nanos(&event) > *last_event {
                    *last_event = event::time_nanos(&event);
                    reader.react(&event, &mut reads);
                    hub.publish(engine, event);
                }
            }
            _ = probe.tick() => check(engine, hub).await?,
            () = engine.suspicion.notified() => check(engine, hub).await?,
            _ = list.tick() => {
                let engine = engine.clone();
                reads.spawn(async move {
                    let _ = tokio::try_join!(engine.sync_networks(), engine.sync_images());
                    let _ = engine.sync_containers(false).await;
                });
            }
            Some(_) = reads.join_next() => {}
        }
    }
}

async fn connect(engine: &Engine, hub: &Hub, address: SocketAddr) -> Result<(), CallError> {
    let client = match &hub.tls {
        Some(config) => Client::tls(address, &engine.target.server_name, config.clone())?,
        None => Client::tcp(address),
    };
    engine.view_mut().client = Some(client);
    Ok(())
}

async fn check(engine: &Engine, hub: &Hub) -> Result<(), Lost> {
    engine.json_probe().await.map_err(Lost::call("reach the engine"))?;
    note_success(engine, hub);
    Ok(())
}

impl Engine {
    /// Asks for the smallest answer there is.
    async fn json_probe(&self) -> Result<(), CallError> {
        let call = async { self.client()?.call(Method::GET, "/_ping", None).await.map_err(CallError::Client) };
        tokio::time::timeout(PROBE, call).await.map_err(|_| CallError::Deadline(PROBE))?.map(drop)
    }
}

async fn describe(engine: &Engine, address: SocketAddr) -> Result<Facts, Lost> {
    // Without a version in the path: which ones the engine knows is only asked here.
    let ask = async |path: &str| {
        let client = engine.client()?;
        let call = client.json::<Value>(Method::GET, path, None);
        let answer = tokio::time::timeout(HELLO, call).await.map_err(|_| CallError::Deadline(HELLO))?;
        answer.map_err(CallError::Client)
    };
    let info = ask("/info").await.map_err(Lost::call("ask the engine for its description"))?;
    let version = ask("/version").await.map_err(Lost::call("ask the engine for its version"))?;
    read_facts(engine, address, info, &version)
}

fn read_facts(engine: &Engine, address: SocketAddr, info: Value, version: &Value) -> Result<Facts, Lost> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (cpus, memory) = (info["NCPU"].as_u64().unwrap_or(0), info["MemTotal"].as_u64().unwrap_or(0));
    if cpus == 0 || memory == 0 {
        let address = engine.target.address();
        return Err(Lost::Refused(format!(
            "cannot get resources for this engine, make sure {address} is a Docker Engine, not a manager"
        )));
    }
    let mut labels = labels(&info);
    for (label, key) in [
        ("storagedriver", "Driver"),
        ("kernelversion", "KernelVersion"),
        ("operatingsystem", "OperatingSystem"),
        ("ostype", "OSType"),
    ] {
        let value = text(&info, key);
        if !value.is_empty() {
            labels.insert(label.to_owned(), value);
        }
    }
    let api = |key: &str| version[key].as_str().and_then(|v| v.parse::<version::ApiVersion>().ok());
    let now = OffsetDateTime::now_utc();
    let skew = OffsetDateTime::parse(&text(&info, "SystemTime"), &Rfc3339).map_or(time::Duration::ZERO, |t| now - t);
    let name = engine.target.name.clone().unwrap_or_else(|| text(&info, "Name"));
    if name.is_empty() {
        return Err(Lost::Refused("the engine does not say its host's name".into()));
    }
    Ok(Facts {
        owner: Owner { node: name, ip: address.ip(), cluster_networks: Default::default() },
        node: NodeFacts { id: text(&info, "ID"), address: engine.target.address(), cpus, memory, labels },
        api: version::Range {
            min: api("MinAPIVersion").unwrap_or(version::MIN),
            max: api("ApiVersion").unwrap_or(version::MIN),
        },
        server_version: text(version, "Version"),
        skew: if skew.abs() < time::Duration::seconds(2) { time::Duration::ZERO } else { skew },
        info,
    })
}

/// The labels that the engine was started with. One called `node` would shadow the node's own name.
fn labels(info: &Value) -> std::collections::BTreeMap<String, String> {
    let entries = info["Labels"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let pairs = entries.map(|e| e.split_once('=').unwrap_or((e, "")));
    pairs.filter(|(k, _)| *k != "node").map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Opens the event stream, from the last event seen on, so that subscribers miss nothing while the engine was away.
async fn open_events(engine: &Engine, last_event: i128) -> Result<JsonStream, CallError> {
    let since = match last_event {
        0 => String::new(),
        nanos => format!("?since={}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000),
    };
    let version = engine.api().nearest(version::MAX);
    let path = format!("/v{version}/events{since}");
    let client = engine.client()?;
    let open = client.call(Method::GET, &path, None);
    let response = tokio::time::timeout(HELLO, open).await.map_err(|_| CallError::Deadline(HELLO))??;
    Ok(JsonStream::new(response.into_body()))
}

/// What is read again because an event says that it changed.
enum Stale {
    Container(String),
    Images,
    Networks,
}

impl Stale {
    async fn read(&self, engine: &Engine) {
        let read = match self {
            Self::Container(id) => engine.sync_container(id).await,
            Self::Images => engine.sync_images().await,
            Self::Networks => engine.sync_networks().await,
        };
        if let Err(error) = read {
            debug!(node = engine.name(), error = error.chain(), "cannot follow an event");
        }
    }
}

/// Reads again what events say has changed, not too much at a time.
struct Reader {
    engine: Arc<Engine>,
    slots: Arc<Semaphore>,
}

impl Reader {
    fn react(&self, event: &Value, reads: &mut JoinSet<()>) {
        let action = event["Action"].as_str().unwrap_or_default();
        let action = action.split(':').next().unwrap_or_default();
        let id = event["Actor"]["ID"].as_str().unwrap_or_default();
        match (event["Type"].as_str().unwrap_or_default(), action) {
            ("container", "destroy") => self.engine.forget_container(id),
            (
                "container",
                "top" | "resize" | "attach" | "detach" | "export" | "copy" | "archive-path" | "extract-to-dir"
                | "exec_create" | "exec_start" | "exec_detach" | "exec_die",
            ) => {}
            ("container", "commit") | ("image" | "builder", _) => self.spawn(reads, Stale::Images),
            ("container", _) => self.spawn(reads, Stale::Container(id.to_owned())),
            ("network", _) => {
                self.spawn(reads, Stale::Networks);
                if let Some(container) = event["Actor"]["Attributes"]["container"].as_str() {
                    self.spawn(reads, Stale::Container(container.to_owned()));
                }
            }
            _ => {}
        }
    }

    fn spawn(&self, reads: &mut JoinSet<()>, stale: Stale) {
        let (engine, slots) = (self.engine.clone(), self.slots.clone());
        reads.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            stale.read(&engine).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_minute_and_no_further() {
        assert!(backoff(1, 0.5) < Duration::from_secs(1) && backoff(2, 0.5) < Duration::from_secs(1));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(1));
        for failures in [9, 20, u32::MAX] {
            assert!((30.0..=60.0).contains(&backoff(failures, 0.3).as_secs_f64()), "{failures}");
        }
    }
}
