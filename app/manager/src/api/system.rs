//! What the cluster says about itself: `_ping`, `version` and `info`.

use super::Api;
use crate::{
    engine::{Engine, View},
    picture::Seen,
    state::Document,
};
use http::{HeaderValue, Response, StatusCode, header};
use osier_dockerapi::{
    convert,
    info::{Manager, NodeStatus, info},
    version::{ApiVersion, MAX, MIN},
};
use osier_engine::{Body, full, json_response};
use osier_model::{Bytes, Cpus};
use osier_scheduler::{Filter, Overcommit};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The version that clients are told.
const VERSION: &str = concat!("osier/", env!("CARGO_PKG_VERSION"));
/// What is shown of an engine that answers although discovery forgot it.
const LEAVING: &str = "discovery no longer lists this engine; it is let go unless it is listed again soon";

impl Api {
    /// The newest version that any engine knows. What an older engine cannot be told in it is converted, or goes to the
    /// newer ones.
    pub(super) fn advertised(&self) -> ApiVersion {
        self.cluster.picture().newest_version().unwrap_or(MAX).clamp(MIN, MAX)
    }

    /// The nodes whose engines speak this version.
    pub(super) fn nodes_speaking(&self, version: ApiVersion) -> Vec<String> {
        let nodes = self.cluster.nodes();
        let speaks = |s: &&Arc<Seen>| s.facts.as_ref().is_some_and(|f| f.api.max >= version);
        nodes.iter().filter(speaks).map(|s| s.name.clone()).collect()
    }

    pub(super) fn ping(&self) -> Response<Body> {
        let mut response = Response::new(full("OK"));
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
            (header::PRAGMA, "no-cache"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // The classic builder by default: a BuildKit build's result is not shared between nodes either, and old engines
        // have no BuildKit.
        headers.insert("builder-version", HeaderValue::from_static("1"));
        headers.insert("swarm", HeaderValue::from_static("inactive"));
        response
    }

    pub(super) fn version(&self) -> Response<Body> {
        let advertised = self.advertised().to_string();
        let kernel = kernel("osrelease");
        json_response(
            StatusCode::OK,
            &json!({
                "Platform": {"Name": "Osier"},
                "Version": VERSION,
                "ApiVersion": advertised,
                "MinAPIVersion": MIN.to_string(),
                "Os": "linux",
                "Arch": architecture(),
                "KernelVersion": kernel,
                "Experimental": self.experimental,
                "Components": [{
                    "Name": "Engine",
                    "Version": VERSION,
                    "Details": {"ApiVersion": advertised, "MinAPIVersion": MIN.to_string(), "Os": "linux",
                                "Arch": architecture(), "KernelVersion": kernel, "Experimental": self.experimental.to_string()},
                }],
            }),
        )
    }

    pub(super) fn info(&self, version: ApiVersion) -> Response<Body> {
        let (engines, said) = (self.cluster.engines(), self.cluster.hub.state.read());
        let overcommit = self.cluster.policy.overcommit;
        let nodes: Vec<NodeStatus> = engines.iter().map(|e| status(e, &e.view(), &said, overcommit)).collect();
        let facts: Vec<_> = self.cluster.healthy().iter().filter_map(|e| e.facts()).collect();
        let facts: Vec<(&str, &Value)> = facts.iter().map(|f| (f.owner.node.as_str(), &f.info)).collect();
        let policy = &self.cluster.policy;
        let strategy = policy.strategy.to_string();
        let filters: Vec<String> = policy.filters.iter().map(Filter::to_string).collect();
        let primary = self.role.as_ref().map(|role| role.borrow().clone()).filter(|role| !role.leads(Instant::now()));
        let primary = primary.map(|role| role.primary().map(ToString::to_string).unwrap_or_default());
        let manager = Manager {
            primary: primary.as_deref(),
            strategy: &strategy,
            filters: &filters,
            name: &kernel("hostname"),
            version: VERSION,
            time: rfc3339(OffsetDateTime::now_utc()),
            listeners: self.cluster.hub.subscribers(),
        };
        let mut answer = info(&manager, &nodes, &facts);
        answer["ExperimentalBuild"] = self.experimental.into();
        convert::info(&mut answer, version);
        json_response(StatusCode::OK, &answer)
    }
}

fn status(engine: &Engine, view: &View, said: &Document, overcommit: Overcommit) -> NodeStatus {
    let facts = view.facts.as_deref();
    let load = view.census().load();
    let name = facts.map(|f| f.owner.node.clone()).or_else(|| engine.target.name.clone());
    let name = name.unwrap_or_default();
    NodeStatus {
        address: engine.target.address(),
        id: facts.map(|f| f.node.id.clone()).unwrap_or_default(),
        health: view.standing.health(),
        availability: said.availability(&name),
        name,
        counts: view.counts(),
        images: view.images.len(),
        reserved_cpus: load.cpus,
        cpus: Cpus::whole(facts.map_or(0, |f| overcommit.of(f.node.cpus))),
        reserved_memory: load.memory,
        memory: Bytes(facts.map_or(0, |f| overcommit.of(f.node.memory))),
        labels: facts.map(|f| f.node.labels.clone()).unwrap_or_default(),
        error: error(view, OffsetDateTime::now_utc()).or_else(|| engine.is_leaving().then(|| LEAVING.to_owned())),
        warning: facts.and_then(|f| f.clock.warning()),
        updated_at: rfc3339(view.updated.replace_nanosecond(0).unwrap_or(view.updated)),
        server_version: facts.map(|f| f.server_version.clone()).unwrap_or_default(),
    }
}

/// What is wrong with an engine, of what kind that is, and when it will be tried again.
fn error(view: &View, now: OffsetDateTime) -> Option<String> {
    let trouble = view.standing.trouble()?;
    let next = view.retry_at.map(|at| format!("; next attempt in {} s", (at - now).whole_seconds().max(0)));
    Some(format!("{} ({}{})", trouble.text, trouble.reason, next.unwrap_or_default()))
}

fn rfc3339(time: OffsetDateTime) -> String {
    // Formatting fails only for years beyond four digits.
    time.format(&Rfc3339).unwrap_or_default()
}

/// A fact that the kernel tells about this host; empty where it does not.
fn kernel(fact: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/kernel/{fact}"));
    text.map(|t| t.trim().to_owned()).unwrap_or_default()
}

/// The architecture by Go's name for it, which Docker's clients know.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
