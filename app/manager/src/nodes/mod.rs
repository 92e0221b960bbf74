//! The nodes as the operator sees and steers them: `/osier/v1/nodes` on the manager, `osier node` on the command line.

mod command;
mod settle;

pub(crate) use command::table;
pub use command::{NodeCommand, run_node};
pub(crate) use settle::{Step, drain, resume, settle};

use crate::{engine::Engine, state::Document};
use osier_nodes::{Availability, Health};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// One node, as `osier node ls -o json` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Empty while it is not known.
    pub(crate) name: String,
    /// `host:port` of its engine.
    pub(crate) address: String,
    /// Its engine's id.
    pub(crate) id: String,
    /// Its host's own name.
    pub(crate) host: String,
    pub(crate) status: Health,
    pub(crate) availability: Availability,
    /// Its engine's version.
    pub(crate) engine: String,
    /// The newest API that its engine speaks, and the oldest.
    pub(crate) api: String,
    pub(crate) api_min: String,
    pub(crate) containers: Containers,
    pub(crate) images: usize,
    /// Cores, and how many are promised to containers.
    pub(crate) cpus: u64,
    pub(crate) reserved_cpus: f64,
    /// Bytes, and how many are promised to containers.
    pub(crate) memory: u64,
    pub(crate) reserved_memory: u64,
    /// Its engine's labels and the operator's.
    pub(crate) labels: BTreeMap<String, String>,
    /// The ids of the containers that draining stopped and that will be started again.
    pub(crate) stopped: BTreeSet<String>,
    pub(crate) error: Option<ErrorReport>,
    /// What is odd about it, although it works.
    pub(crate) warning: Option<String>,
    /// The manager's clock less the engine's.
    pub(crate) clock_skew_seconds: i64,
    /// When it was last heard of, RFC 3339, and how long ago that is.
    pub(crate) updated_at: String,
    pub(crate) age_seconds: u64,
}

/// A node's containers by their state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Containers {
    pub(crate) running: usize,
    pub(crate) paused: usize,
    pub(crate) stopped: usize,
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ErrorReport {
    /// One word for programs.
    pub(crate) reason: String,
    pub(crate) message: String,
    /// In a row.
    pub(crate) failures: u32,
    /// When the next attempt is due, RFC 3339; absent while one is under way.
    pub(crate) retry_at: Option<String>,
    pub(crate) retry_in_seconds: Option<u64>,
}

/// What is known of a node now.
pub(crate) fn report(engine: &Engine, said: &Document, now: OffsetDateTime) -> NodeReport {
    let rfc3339 = |time: OffsetDateTime| {
        // Formatting fails only for years beyond four digits.
        time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
    };
    let seconds = |duration: time::Duration| u64::try_from(duration.whole_seconds()).unwrap_or(0);
    let name = engine.name();
    let view = engine.view();
    let facts = view.facts.as_deref();
    let (counts, load, said) = (view.counts(), view.census().load(), said.node(&name));
    let error = view.standing.trouble().map(|trouble| ErrorReport {
        reason: trouble.reason.to_string(),
        message: trouble.text.clone(),
        failures: view.standing.failures(),
        retry_at: view.retry_at.map(rfc3339),
        retry_in_seconds: view.retry_at.map(|at| seconds(at - now)),
    });
    let text = |get: fn(&crate::engine::Facts) -> String| facts.map(get).unwrap_or_default();
    NodeReport {
        name,
        address: engine.target.address(),
        id: text(|f| f.node.id.clone()),
        host: text(|f| f.host.clone()),
        status: view.standing.health(),
        availability: said.availability,
        engine: text(|f| f.server_version.clone()),
        api: text(|f| f.api.max.to_string()),
        api_min: text(|f| f.api.min.to_string()),
        containers: Containers { running: counts.running, paused: counts.paused, stopped: counts.stopped },
        images: view.images.len(),
        cpus: facts.map_or(0, |f| f.node.cpus),
        reserved_cpus: load.cpus.0 as f64 / 1e9,
        memory: facts.map_or(0, |f| f.node.memory),
        reserved_memory: load.memory.0,
        labels: facts.map(|f| f.node.labels.clone()).unwrap_or_default(),
        stopped: said.stopped,
        error,
        warning: facts.and_then(|f| f.clock.warning()),
        clock_skew_seconds: facts.map_or(0, |f| f.clock.skew.whole_seconds()),
        updated_at: rfc3339(view.updated),
        age_seconds: seconds(now - view.updated),
    }
}
