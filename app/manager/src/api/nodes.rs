//! `/osier/v1/nodes`: the nodes for programs, and their availability.
//!
//! `GET nodes`, `GET nodes/{name}`, `POST nodes/{name}/{cordon|drain|activate|labels}`; a node without a known name goes by
//! its address. Draining and activating answer with a stream of steps; they go on when the client leaves.

use super::{Answer, Api, Call};
use crate::{
    engine::Engine,
    hub::Hub,
    nodes::{NodeReport, Step, drain, report, resume},
    refusal::Refusal,
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use osier_engine::{body::channel, json_response};
use osier_nodes::Availability;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tracing::info;

/// A change of the operator's labels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Relabel {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    remove: BTreeSet<String>,
}

impl Api {
    /// See the module. `rest` are the segments behind `nodes`.
    pub(super) async fn nodes(&self, mut call: Call, rest: &[&str]) -> Answer {
        match (call.request.method().clone(), rest) {
            (Method::GET, []) => Ok(json_response(StatusCode::OK, &self.reports())),
            (Method::GET, [name]) => Ok(self.report(&*self.one_node(name)?)),
            (Method::POST, [name, "cordon"]) => {
                let engine = self.one_node(name)?;
                make(&engine, &self.cluster.hub, Availability::Cordoned).await?;
                Ok(self.report(&engine))
            }
            (Method::POST, [name, "drain"]) => self.settle(self.one_node(name)?, Availability::Drained).await,
            (Method::POST, [name, "activate"]) => self.settle(self.one_node(name)?, Availability::Active).await,
            (Method::POST, [name, "labels"]) => {
                let engine = self.one_node(name)?;
                let change = serde_json::from_value(call.json().await?);
                let change = change.map_err(|e| Refusal::bad_request(format!("read the labels: {e}")))?;
                relabel(&engine, &self.cluster.hub, change).await?;
                Ok(self.report(&engine))
            }
            _ => Err(Refusal::not_found("page not found")),
        }
    }

    pub(super) fn reports(&self) -> Vec<NodeReport> {
        let (said, now) = (self.cluster.hub.state.read(), OffsetDateTime::now_utc());
        let mut reports: Vec<NodeReport> =
            self.cluster.engines().iter().map(|engine| report(engine, &said, now)).collect();
        reports
            .sort_by(|a, b| osier_dockerapi::info::natural(&a.name, &b.name).then_with(|| a.address.cmp(&b.address)));
        reports
    }

    fn report(&self, engine: &Engine) -> Response<osier_engine::Body> {
        let said = self.cluster.hub.state.read();
        json_response(StatusCode::OK, &report(engine, &said, OffsetDateTime::now_utc()))
    }

    fn one_node(&self, word: &str) -> Result<Arc<Engine>, Refusal> {
        let engines = self.cluster.engines();
        let found: Vec<_> = engines.iter().filter(|e| e.name() == word || e.target.address() == word).collect();
        match found.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(Refusal::not_found(format!("No such node: {word}"))),
            several => {
                let all: Vec<String> = several.iter().map(|e| e.target.address()).collect();
                Err(Refusal::bad_request(format!("'{word}' is ambiguous, it may be {}", all.join(" or "))))
            }
        }
    }

    async fn settle(&self, engine: Arc<Engine>, availability: Availability) -> Answer {
        let hub = self.cluster.hub.clone();
        make(&engine, &hub, availability).await?;
        let (told, mut steps) = mpsc::unbounded_channel();
        let _ = told.send(Step::Now { node: engine.name(), availability });
        tokio::spawn(async move {
            // Nobody listening is no reason to stop.
            let tell = |step| drop(told.send(step));
            let settled = match availability {
                Availability::Drained => drain(&engine, &hub, &tell).await,
                Availability::Active | Availability::Cordoned => resume(&engine, &hub, &tell).await,
            };
            if let Err(error) = settled {
                let (node, why) = (engine.name(), Refusal::from(error).message);
                tell(Step::Failed { node, container: String::new(), name: String::new(), why });
            }
        });
        let (sender, body) = channel(16);
        tokio::spawn(async move {
            while let Some(step) = steps.recv().await {
                let line = serde_json::to_string(&step).unwrap_or_default();
                if sender.send(format!("{line}\n")).await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// The name under which a node's state is kept.
fn known_name(engine: &Engine) -> Result<String, Refusal> {
    let name = engine.name();
    let unknown =
        || format!("the node at {} has not told its name yet: {}", engine.target.address(), engine.view().error());
    if name.is_empty() { Err(Refusal::new(StatusCode::CONFLICT, unknown())) } else { Ok(name) }
}

async fn make(engine: &Engine, hub: &Hub, availability: Availability) -> Result<(), Refusal> {
    let name = known_name(engine)?;
    hub.state.change(|d| d.nodes.entry(name.clone()).or_default().availability = availability).await?;
    info!(node = name, %availability, "the operator changed a node");
    Ok(())
}

async fn relabel(engine: &Engine, hub: &Hub, change: Relabel) -> Result<(), Refusal> {
    let bad = |key: &&String| {
        key.is_empty() || key.as_str() == "node" || key.contains(|c: char| c == '=' || c.is_whitespace())
    };
    if let Some(key) = change.set.keys().chain(&change.remove).find(bad) {
        return Err(Refusal::bad_request(format!("'{key}' cannot be a node's label")));
    }
    let name = known_name(engine)?;
    let labels = hub.state.change(|d| {
        let labels = &mut d.nodes.entry(name).or_default().labels;
        labels.extend(change.set);
        labels.retain(|key, _| !change.remove.contains(key));
        labels.clone()
    });
    engine.relabel(&labels.await?);
    Ok(())
}
