//! What draining does to a node's containers, and what activating undoes. Both look at what is to be and at what is, so
//! they can be interrupted anywhere and begun again: by the operator, or when the node or the manager comes back.
//!
//! A container is remembered before it is stopped. Those that are removed when they stop (`--rm`) are stopped, too, but
//! nothing is left of them to remember.

use crate::{
    engine::{CallError, Container, Engine},
    hub::Hub,
    state::{NodeState, StateError},
};
use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use osier_engine::Error as ClientError;
use osier_nodes::Availability;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tracing::warn;

/// Containers of one node that are stopped at a time.
const PARALLEL: usize = 8;
/// How long an engine may take to describe a container.
const READ: Duration = Duration::from_secs(10);
/// How long a stop may take beyond the time that the container has to end by itself.
const STOP: Duration = Duration::from_secs(30);
/// The time that a container has, where it does not say otherwise (Docker's default).
const GRACE: u64 = 10;
/// How long a start may take.
const START: Duration = Duration::from_secs(120);

/// One thing that happened to a node, as its operator is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// The node's availability is this now.
    Now { node: String, availability: Availability },
    /// A container is being stopped or started.
    Doing { node: String, container: String, name: String, what: String },
    /// A container is as it is to be.
    Done { node: String, container: String, name: String, what: String },
    /// A container could not be stopped or started.
    Failed { node: String, container: String, name: String, why: String },
    /// The node does not answer; its containers will be seen to when it does.
    Later { node: String, why: String },
}

/// Who is told.
pub(crate) type Tell<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// Does to a node that has just come what its operator wanted meanwhile.
pub(crate) async fn settle(engine: Arc<Engine>, hub: Arc<Hub>) {
    if !hub.leads() {
        return;
    }
    let said = hub.state.read().node(&engine.name());
    let tell = |step: Step| {
        if let Step::Failed { node, container, why, .. } = step {
            warn!(node, container, why, "cannot settle a container");
        }
    };
    let settled = match said {
        NodeState { availability: Availability::Drained, .. } => drain(&engine, &hub, &tell).await,
        NodeState { availability: Availability::Active, stopped, .. } if !stopped.is_empty() => {
            resume(&engine, &hub, &tell).await
        }
        _ => Ok(()),
    };
    if let Err(error) = settled {
        warn!(node = engine.name(), %error, "cannot settle a node");
    }
}

/// Stops what runs on a node, for as long as it is to be drained.
pub(crate) async fn drain(engine: &Arc<Engine>, hub: &Hub, tell: Tell<'_>) -> Result<(), StateError> {
    let _one_at_a_time = engine.settling.lock().await;
    let node = engine.name();
    if !engine.is_healthy() {
        tell(Step::Later { why: engine.view().error(), node });
        return Ok(());
    }
    let running: Vec<Arc<Container>> = engine.view().containers().filter(|c| runs(&c.row.state)).cloned().collect();
    let stops = stream::iter(running).map(|container| stop(engine, hub, &node, container, tell));
    let results: Vec<Result<(), StateError>> = stops.buffer_unordered(PARALLEL).collect().await;
    results.into_iter().collect()
}

fn runs(state: &str) -> bool {
    matches!(state, "running" | "restarting" | "paused")
}

async fn stop(
    engine: &Arc<Engine>,
    hub: &Hub,
    node: &str,
    container: Arc<Container>,
    tell: Tell<'_>,
) -> Result<(), StateError> {
    let (id, name) = (container.row.id.clone(), container.row.name().to_owned());
    let node = node.to_owned();
    // Its operator may have changed his mind while the others were stopped.
    if hub.state.read().availability(&node) != Availability::Drained {
        return Ok(());
    }
    let inspect = engine.get(&["containers", &id, "json"], "", READ).await.unwrap_or_default();
    if inspect["HostConfig"]["AutoRemove"] != true {
        hub.state.change(|d| d.nodes.entry(node.clone()).or_default().stopped.insert(id.clone())).await?;
    }
    tell(Step::Doing { node: node.clone(), container: id.clone(), name: name.clone(), what: "stopping".into() });
    let grace = inspect["Config"]["StopTimeout"].as_u64().unwrap_or(GRACE);
    let deadline = STOP.saturating_add(Duration::from_secs(grace));
    let stopped = change(engine, &id, "stop", deadline).await;
    tell(match stopped {
        Ok(_) => Step::Done { node, container: id, name, what: "stopped".into() },
        Err(why) => Step::Failed { node, container: id, name, why },
    });
    Ok(())
}

/// Starts what draining stopped on a node, for as long as it is active. Containers that need others are tried again when
/// those run.
pub(crate) async fn resume(engine: &Arc<Engine>, hub: &Hub, tell: Tell<'_>) -> Result<(), StateError> {
    let _one_at_a_time = engine.settling.lock().await;
    let node = engine.name();
    let mut waiting = hub.state.read().node(&node).stopped;
    if !engine.is_healthy() && !waiting.is_empty() {
        tell(Step::Later { why: engine.view().error(), node });
        return Ok(());
    }
    loop {
        let mut failed = Vec::new();
        for id in &waiting {
            if hub.state.read().availability(&node) != Availability::Active {
                return Ok(());
            }
            let name = engine.view().container(id).map_or_else(|| id.clone(), |c| c.row.name().to_owned());
            let of = |what: &str| (node.clone(), id.clone(), name.clone(), what.to_owned());
            let (node, container, name, what) = of("starting");
            tell(Step::Doing { node, container, name, what });
            match change(engine, id, "start", START).await {
                Ok(what) => {
                    let (node, container, name, what) = of(what);
                    hub.state.change(|d| d.nodes.entry(node.clone()).or_default().stopped.remove(id)).await?;
                    tell(Step::Done { node, container, name, what });
                }
                Err(why) => failed.push((id.clone(), of(&why))),
            }
        }
        let left: BTreeSet<String> = failed.iter().map(|(id, _)| id.clone()).collect();
        if left.is_empty() || left == waiting {
            let steps = failed.into_iter().map(|(_, (node, container, name, why))| (node, container, name, why));
            steps.for_each(|(node, container, name, why)| tell(Step::Failed { node, container, name, why }));
            return Ok(());
        }
        waiting = left;
    }
}

/// Starts or stops a container, and says what became of it.
async fn change(
    engine: &Arc<Engine>,
    id: &str,
    what: &'static str,
    deadline: Duration,
) -> Result<&'static str, String> {
    let segments = ["containers", id, what];
    let call = engine.json(Method::POST, &segments, "", None, deadline);
    let result: Result<Value, CallError> = engine.while_healthy(call).await;
    let done = match result {
        Ok(_) => Ok(if what == "stop" { "stopped" } else { "started" }),
        // It was so already.
        Err(CallError::Client(ClientError::Engine { status: StatusCode::NOT_MODIFIED, .. })) => {
            Ok(if what == "stop" { "stopped" } else { "started" })
        }
        Err(CallError::Client(ClientError::Engine { status: StatusCode::NOT_FOUND, .. })) => Ok("gone"),
        Err(error) => Err(error.chain()),
    };
    if let Err(error) = engine.sync_container(id).await {
        tracing::debug!(node = engine.name(), container = id, error = error.chain(), "cannot read a changed container");
    }
    done
}
