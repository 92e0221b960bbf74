//! The members of the mesh, as the local agent's control socket tells them.

use crate::engine::Target;
use http::Method;
use osier_engine::{BoxError, Client};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What the agent tells of one member.
#[derive(Debug, Deserialize)]
struct MeshMember {
    name: String,
    address: std::net::IpAddr,
    /// Where its engine's proxy listens.
    port: u16,
    alive: bool,
}

/// The members of the mesh.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mesh {
    /// Every member's engine.
    pub(crate) targets: BTreeSet<Target>,
    /// Whether the mesh believes it alive, by name.
    pub(crate) alive: BTreeMap<String, bool>,
}

/// Asks the local agent who belongs to the mesh.
pub(crate) async fn members(agent: &Client) -> Result<Mesh, BoxError> {
    let call = agent.json::<Vec<MeshMember>>(Method::GET, "/v1/members", None);
    let answer = tokio::time::timeout(ANSWER, call).await.map_err(|_| "the agent does not answer")?;
    let members = answer.map_err(|e| format!("ask the agent for the members: {}", e.chain()))?;
    if members.is_empty() {
        // Its own node is always a member: an empty answer cannot mean that the cluster is gone.
        return Err("the agent does not know any member yet".into());
    }
    let target = |m: &MeshMember| Target {
        name: Some(m.name.clone()),
        host: m.address.to_string(),
        port: m.port,
        server_name: m.name.clone(),
    };
    Ok(Mesh {
        targets: members.iter().map(target).collect(),
        alive: members.into_iter().map(|m| (m.name, m.alive)).collect(),
    })
}
