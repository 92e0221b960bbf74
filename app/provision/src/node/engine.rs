//! The host's Docker engine: whether there is one, and its networks.
//!
//! Must not change the engine's configuration.

use super::System;
use anyhow::{Context, Result};
use http::{Method, StatusCode};
use osier_converge::{Engine, Name};
use osier_engine::{Client, Error};
use osier_model::config::path::ENGINE_SOCKET;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where an engine's program may lie.
const PROGRAMS: [&str; 4] = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/snap/bin/dockerd"];
/// The bridge that libnetwork shares between Swarm mode and other overlays.
const GATEWAY_BRIDGE: &str = "docker_gwbridge";

/// Whether an engine is installed and answers.
pub(super) async fn state(system: &System) -> Engine {
    if client(system).json::<Value>(Method::GET, "/version", None).await.is_ok() {
        Engine::Running
    } else if PROGRAMS.iter().any(|p| system.path(p).exists()) {
        Engine::Stopped
    } else {
        Engine::Missing
    }
}

/// Which of these networks the engine has. A gateway bridge that Swarm mode uses counts as none of ours.
pub(super) async fn networks(system: &System, names: &[Name]) -> Result<BTreeSet<Name>> {
    let mut found = BTreeSet::new();
    let engine = client(system);
    for name in names {
        match inspect(&engine, name).await {
            Ok(None) => {}
            Ok(Some(_)) if name.as_str() == GATEWAY_BRIDGE && swarm_mode(&engine).await? => {}
            Ok(Some(_)) => drop(found.insert(name.clone())),
            // Without an engine that answers there is no way to its networks.
            Err(Error::Connect { .. }) => {}
            Err(e) => return Err(e).with_context(|| format!("inspect the docker network '{name}'")),
        }
    }
    Ok(found)
}

/// Disconnects all containers from a network and removes it.
pub(super) async fn remove_network(system: &System, name: &Name) -> Result<()> {
    let engine = client(system);
    let Some(network) = inspect(&engine, name).await? else { return Ok(()) };
    let containers = network["Containers"].as_object().into_iter().flatten().map(|(id, _)| id.as_str());
    for id in containers {
        let body = json!({ "Container": id, "Force": true });
        let called = engine.call(Method::POST, &format!("/networks/{name}/disconnect"), Some(&body)).await;
        called.with_context(|| format!("disconnect container {id}"))?;
    }
    engine.call(Method::DELETE, &format!("/networks/{name}"), None).await?;
    Ok(())
}

async fn inspect(engine: &Client, name: &Name) -> Result<Option<Value>, Error> {
    match engine.json(Method::GET, &format!("/networks/{name}"), None).await {
        Err(e) if e.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        other => other.map(Some),
    }
}

async fn swarm_mode(engine: &Client) -> Result<bool> {
    let info: Value = engine.json(Method::GET, "/info", None).await.context("ask the engine about Swarm mode")?;
    Ok(info.pointer("/Swarm/LocalNodeState").and_then(Value::as_str).is_some_and(|s| s != "inactive"))
}

fn client(system: &System) -> Client {
    Client::unix(system.path(ENGINE_SOCKET))
}
