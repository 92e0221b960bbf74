//! The host's Docker engine: whether there is one, and its networks.
//!
//! Must not change the engine's configuration.

use super::System;
use anyhow::{Context, Result};
use http::{Method, StatusCode};
use osier_converge::{ENGINE_UNIT, Engine, Name};
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

/// The packages that an engine's program on this host belongs to, as dpkg knows.
pub(super) async fn owners(system: &System) -> BTreeSet<Name> {
    let mut owners = BTreeSet::new();
    for program in PROGRAMS.iter().filter(|p| system.path(p).exists()) {
        // It fails where no package has the file.
        let said = system.run("dpkg-query", &["--search", "--", program]).await.unwrap_or_default();
        owners.extend(parse_owners(&said));
    }
    owners
}

/// Reads lines `NAME[:ARCHITECTURE][, NAME …]: PATH`; those on diversions are left out.
fn parse_owners(text: &str) -> BTreeSet<Name> {
    let lines = text.lines().filter(|l| !l.starts_with("diversion ")).filter_map(|l| l.split_once(": "));
    let names = lines.flat_map(|(names, _)| names.split(", "));
    names.filter_map(|name| name.split(':').next()?.parse().ok()).collect()
}

/// How many containers run or are paused, and whether they run on while the engine is restarted.
pub(super) async fn containers(system: &System) -> Result<(u64, bool)> {
    let info: Value = client(system).json(Method::GET, "/info", None).await.context("ask the engine what runs")?;
    let count = |of: &str| info[of].as_u64().unwrap_or_default();
    Ok((count("ContainersRunning") + count("ContainersPaused"), info["LiveRestoreEnabled"] == true))
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
///
/// An engine (up to 26) whose plugin died as containers started can count endpoints that are no more, and keeps their network
/// until it counts anew, which it does when it starts. It is restarted for that where no container stops by it.
pub(super) async fn remove_network(system: &System, name: &Name) -> Result<()> {
    let engine = client(system);
    let Err(refused) = empty_and_remove(&engine, name).await else { return Ok(()) };
    let counted = refused.status() == Some(StatusCode::FORBIDDEN)
        && inspect(&engine, name).await?.is_some_and(|network| attached(&network).next().is_none());
    if !counted {
        return Err(refused.into());
    }
    let (running, live_restore) = containers(system).await?;
    if running != 0 && !live_restore {
        return Err(refused).with_context(|| {
            format!(
                "the engine counts endpoints that are no more; it counts anew when it starts: run 'systemctl restart \
                 {ENGINE_UNIT}' there when its {running} running containers may stop, then this again"
            )
        });
    }
    system.run("systemctl", &["restart", ENGINE_UNIT]).await?;
    Ok(empty_and_remove(&engine, name).await?)
}

async fn empty_and_remove(engine: &Client, name: &Name) -> Result<(), Error> {
    let Some(network) = inspect(engine, name).await? else { return Ok(()) };
    for container in attached(&network) {
        let body = json!({ "Container": container, "Force": true });
        engine.call(Method::POST, &format!("/networks/{name}/disconnect"), Some(&body)).await?;
    }
    engine.call(Method::DELETE, &format!("/networks/{name}"), None).await.map(drop)
}

/// The containers on a network as the engine describes it; in place of the id of one that it has lost, the name of its
/// endpoint, by which it can be disconnected as well.
fn attached(network: &Value) -> impl Iterator<Item = &str> {
    let containers = network["Containers"].as_object().into_iter().flatten();
    containers.map(|(id, c)| if id.starts_with("ep-") { c["Name"].as_str().unwrap_or(id) } else { id.as_str() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn owners_are_read_as_dpkg_prints_them() {
        let text = "diversion by x from: /usr/bin/dockerd\ndocker.io, other:amd64: /usr/sbin/dockerd\n";
        let names: Vec<_> = parse_owners(text).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io", "other"]);
    }

    #[test]
    fn an_endpoint_without_a_container_is_called_by_its_own_name() {
        let network = json!({ "Containers": { "c1": { "Name": "web" }, "ep-7f": { "Name": "gone" } } });
        assert_eq!(attached(&network).collect::<Vec<_>>(), ["c1", "gone"]);
        assert_eq!(attached(&json!({})).count(), 0);
    }

    proptest! {
        #[test]
        fn any_output_is_taken(text in "\\PC{0,9}(: |, |\n)\\PC{0,9}") {
            parse_owners(&text);
        }
    }
}
