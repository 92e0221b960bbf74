//! Volumes. They live on their nodes. One that is created without saying where is declared: it is made, with its options,
//! on the node where the first container that uses it lands; from then on its data ties containers to that node. Those of
//! a node that does not answer are listed, as its containers are, and nothing else can be done with them.

use super::{
    Answer, Api, Call,
    fanout::{successes, unanimous},
    networks::set_body,
};
use crate::{
    engine::Engine,
    refusal::Refusal,
    state::{Document, VolumeState},
};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_dockerapi::{filters::Filters, query::Query, row::labels, volume, wishes};
use osier_engine::json_response;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;

/// How long an engine may take to list or describe volumes.
const READ: Duration = Duration::from_secs(5);
/// How long it may take to make or remove one; drivers may have to talk to a storage system.
const CHANGE: Duration = Duration::from_secs(60);

impl Api {
    /// `GET /volumes`
    pub(super) async fn volume_list(&self, call: Call) -> Answer {
        let filters = Filters::parse(call.query.get("filters"))?;
        let dangling = filters.boolean("dangling")?;
        let mut query = Query::default();
        if let Some(dangling) = dangling {
            query.set("filters", &json!({"dangling": [dangling.to_string()]}).to_string());
        }
        let healthy = self.cluster.healthy();
        let answers = self.ask(healthy.clone(), Method::GET, &["volumes"], &query.to_string(), None, READ).await;
        let answered = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(engine, _)| engine.name()).collect();
        let away = self.away_volumes(&answered);
        // Where nobody can answer, what is remembered is the answer.
        let answers = if healthy.is_empty() && !away.is_empty() { Vec::new() } else { successes(answers)? };
        let lists: Vec<(String, Value)> = answers.into_iter().map(|(e, list)| (e.name(), list)).collect();
        let volumes = lists.iter().flat_map(|(node, list)| {
            list["Volumes"].as_array().into_iter().flatten().map(|volume| (node.as_str(), volume))
        });
        // What is the same everywhere is listed already.
        let shared: BTreeSet<&str> =
            volumes.clone().filter(|(_, v)| is_shared(v)).filter_map(|(_, v)| v["Name"].as_str()).collect();
        let away: Vec<(&str, Value)> = away
            .iter()
            .flat_map(|(node, names)| names.iter().map(move |name| (node.as_str(), name)))
            .filter(|(_, name)| !shared.contains(name.as_str()))
            .filter(|(node, name)| dangling.is_none_or(|dangling| dangling != self.is_in_use(node, name)))
            .map(|(node, name)| (node, volume::remembered(name)))
            .collect();
        let away = away.iter().map(|(node, volume)| (*node, volume));
        // No container uses a volume that is only declared.
        let declared: Vec<Value> = if dangling == Some(false) { Vec::new() } else { self.declared_volumes() };
        let declared = declared.iter().map(|volume| ("", volume));
        Ok(json_response(StatusCode::OK, &volume::list(volumes.chain(away).chain(declared), filters)?))
    }

    /// The volumes of the nodes that are not among those which answered, as far as they are known.
    fn away_volumes(&self, answered: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
        let engines = self.cluster.engines();
        let seen: Vec<_> = engines.iter().map(|e| (e.name(), e.view().volumes.clone())).collect();
        let seen = seen.iter().map(|(node, volumes)| (node.as_str(), volumes.as_deref()));
        let document = self.cluster.hub.state.read();
        let made =
            document.volumes.iter().flat_map(|(name, state)| state.nodes.iter().map(|n| (name.as_str(), n.as_str())));
        volume::away(|node| answered.contains(node), seen, made)
    }

    /// The nodes that do not answer and have this volume, as far as that is known.
    fn away_holders(&self, volume: &str) -> Vec<String> {
        let answering = self.cluster.healthy().iter().map(|e| e.name()).collect();
        let away = self.away_volumes(&answering).into_iter();
        away.filter(|(_, volumes)| volumes.contains(volume)).map(|(node, _)| node).collect()
    }

    /// Whether a container of a node used this volume when the node was last heard of.
    fn is_in_use(&self, node: &str, volume: &str) -> bool {
        let engine = self.cluster.node(node);
        engine.is_some_and(|e| e.view().containers().any(|c| c.row.mounts.iter().any(|mount| mount == volume)))
    }

    fn declared_volumes(&self) -> Vec<Value> {
        let document = self.cluster.hub.state.read();
        document.volumes.iter().filter_map(|(name, state)| describe(name, state)).collect()
    }

    /// The engines that a volume's name may mean, and the name they know it by.
    fn volume_place<'a>(&self, name: &'a str) -> Result<(Vec<Arc<Engine>>, &'a str), Refusal> {
        match name.split_once('/') {
            Some((node, volume)) => match self.cluster.node(node) {
                Some(engine) if engine.is_healthy() => Ok((vec![engine], volume)),
                None if !self.away_holders(volume).iter().any(|away| away == node) => Err(no_such_volume(name)),
                _ => Err(unanswered(StatusCode::SERVICE_UNAVAILABLE, volume, &[node.to_owned()])),
            },
            None => Ok((self.cluster.healthy(), name)),
        }
    }

    /// The engines that have this volume, with what they say of it; none where none has it.
    async fn volume_holders(&self, name: &str) -> Result<(Vec<(Arc<Engine>, Value)>, String), Refusal> {
        let (engines, volume) = self.volume_place(name)?;
        let nobody = engines.is_empty();
        let answers = self.ask(engines, Method::GET, &["volumes", volume], "", None, READ).await;
        match successes(answers) {
            Ok(holders) => Ok((holders, volume.to_owned())),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok((Vec::new(), volume.to_owned())),
            Err(_) if nobody && !self.away_holders(volume).is_empty() => Ok((Vec::new(), volume.to_owned())),
            Err(refusal) => Err(refusal),
        }
    }

    /// `GET /volumes/{name}`
    pub(super) async fn volume_inspect(&self, _: Call, name: &str) -> Answer {
        let (holders, volume) = self.volume_holders(name).await?;
        let away = if holders.is_empty() { self.away_holders(&volume) } else { Vec::new() };
        if !away.is_empty() {
            return Err(unanswered(StatusCode::SERVICE_UNAVAILABLE, &volume, &away));
        }
        // A volume that is not local is the same everywhere.
        let shared = holders.iter().position(|(_, volume)| is_shared(volume));
        let found = match (holders.as_slice(), shared) {
            (holders, Some(shared)) => holders[shared].1.clone(),
            ([], None) => {
                let document = self.cluster.hub.state.read();
                let declared = document.volumes.get(name).and_then(|state| describe(name, state));
                declared.ok_or_else(|| no_such_volume(name))?
            }
            ([(_, only)], None) => only.clone(),
            (several, None) => return Err(ambiguous(name, several)),
        };
        Ok(json_response(StatusCode::OK, &found))
    }

    /// `POST /volumes/create`: at once on the nodes that the name or the labels tell; on all nodes where the driver keeps
    /// the data elsewhere; else once a container uses it.
    pub(super) async fn volume_create(&self, mut call: Call) -> Answer {
        let mut body = call.object().await?;
        if !body.is_object() {
            return Err(Refusal::bad_request("the body of a volume's create request must be a JSON object"));
        }
        let wanted = body["Name"].as_str().unwrap_or_default().to_owned();
        let (engines, name) = self.volume_place(&wanted)?;
        let name = if name.is_empty() { super::random_id() } else { name.to_owned() };
        body["Name"] = name.as_str().into();
        if let ([engine], true) = (engines.as_slice(), wanted.contains('/')) {
            set_body(&mut call, &body);
            let response = self.forward(engine, call, &["volumes", "create"]).await?;
            self.volumes_changed(&engines).await;
            if response.status().is_success() {
                self.note_volumes(&[name], engine).await;
            }
            return Ok(response);
        }
        let whitelists = wishes::of_labels(&body["Labels"])?.whitelists;
        if volume::wants_local(&body) && whitelists.is_empty() {
            return self.volume_declare(&name, body).await;
        }
        let listed = |engine: &&Arc<Engine>| whitelists.iter().all(|w| w.lists(&engine.name()));
        let engines: Vec<Arc<Engine>> = engines.iter().filter(listed).cloned().collect();
        let answers = self.ask(engines.clone(), Method::POST, &["volumes", "create"], "", Some(&body), CHANGE).await;
        self.volumes_changed(&engines).await;
        let (_, volume) =
            unanimous(answers)?.into_iter().next().ok_or_else(|| Refusal::internal("no engine answered"))?;
        Ok(json_response(StatusCode::CREATED, &volume))
    }

    /// Keeps in mind that there is to be such a volume, unless there is one.
    async fn volume_declare(&self, name: &str, body: Value) -> Answer {
        volume::check_name(name).map_err(|e| Refusal::bad_request(e.to_string()))?;
        let has = |e: &Arc<Engine>| e.view().volumes.as_ref().is_some_and(|volumes| volumes.contains(name));
        if let Some(holder) = self.cluster.healthy().into_iter().find(has) {
            // The engine answers what it answers when it has the volume already.
            let made = holder.json(Method::POST, &["volumes", "create"], "", Some(&body), CHANGE).await?;
            return Ok(json_response(StatusCode::CREATED, &made));
        }
        if !self.away_holders(name).is_empty() {
            return Ok(json_response(StatusCode::CREATED, &volume::remembered(name)));
        }
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
        let declare = |document: &mut Document| {
            let state = document.volumes.entry(name.to_owned()).or_default();
            if state.request.is_none() {
                (state.request, state.declared) = (Some(body), now);
            }
            describe(name, state)
        };
        let declared = self.cluster.hub.state.change(declare).await?;
        Ok(json_response(StatusCode::CREATED, &declared))
    }

    /// `DELETE /volumes/{name}`: wherever it is. One that is on a node that does not answer stays, unless it is only to
    /// be forgotten (`force`).
    pub(super) async fn volume_remove(&self, call: Call, name: &str) -> Answer {
        let (holders, volume) = self.volume_holders(name).await?;
        check_one(name, &holders)?;
        let shared = holders.iter().any(|(_, volume)| is_shared(volume));
        let state = self.cluster.hub.state.read().volumes.get(&volume).cloned();
        let engines: Vec<Arc<Engine>> = holders.into_iter().map(|(engine, _)| engine).collect();
        let asked: BTreeSet<String> = engines.iter().map(|e| e.name()).collect();
        let (whole, force) = (volume == name, call.query.flag("force"));
        let away = if whole && !shared { self.away_holders(&volume) } else { Vec::new() };
        if !away.is_empty() && !force {
            return Err(unanswered(StatusCode::CONFLICT, &volume, &away));
        }
        if engines.is_empty() && state.is_none() && !force {
            return Err(no_such_volume(name));
        }
        let answers =
            self.ask(engines.clone(), Method::DELETE, &["volumes", &volume], &call.raw_query, None, CHANGE).await;
        self.volumes_changed(&engines).await;
        if !engines.is_empty() {
            unanimous(answers)?;
        }
        // A node that could not be asked may still have it; only force forgets that.
        let has = |node: &String| {
            let engine = self.cluster.node(node);
            engine.is_none_or(|e| e.view().volumes.as_ref().is_none_or(|volumes| volumes.contains(&volume)))
        };
        let forget = |document: &mut Document| {
            if let Some(state) = document.volumes.get_mut(&volume) {
                state.nodes.retain(|node| !(asked.contains(node) || whole && force) && has(node));
                if whole {
                    (state.request, state.declared) = (None, String::new());
                }
            }
        };
        self.cluster.hub.state.change(forget).await?;
        Ok(osier_engine::empty_response(StatusCode::NO_CONTENT))
    }

    /// Forgets volumes that were pruned (`node/name` each), and adds to them those that were only declared and pass the
    /// filters, where there are some. What is on a node that does not answer is not pruned.
    pub(super) async fn forget_volumes(&self, pruned: &mut Value, filters: Option<&Filters>) -> Result<(), Refusal> {
        let gone: Vec<String> =
            pruned.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        let passes = |request: &Value, filters: &Filters| {
            let labels = labels(request.get("Labels"));
            filters.labels("label", |label| labels.get(label).map(String::as_str))
        };
        let answering = self.cluster.healthy().iter().map(|e| e.name()).collect();
        let away: BTreeSet<String> = self.away_volumes(&answering).into_values().flatten().collect();
        let forget = |document: &mut Document| {
            for (node, name) in gone.iter().filter_map(|gone| gone.split_once('/')) {
                document.volumes.get_mut(name).map(|state| state.nodes.remove(node));
            }
            let declared = document.volumes.iter_mut().filter(|(name, state)| {
                let is_meant = |request, filters| passes(request, filters) && !away.contains(*name);
                filters.is_some_and(|filters| state.request.as_ref().is_some_and(|request| is_meant(request, filters)))
            });
            let take = |(name, state): (&String, &mut VolumeState)| {
                (state.request, state.declared) = (None, String::new());
                Value::from(name.as_str())
            };
            declared.map(take).collect::<Vec<_>>()
        };
        let declared = self.cluster.hub.state.change(forget).await?;
        match pruned {
            Value::Array(pruned) => pruned.extend(declared),
            none if !declared.is_empty() => *none = declared.into(),
            _ => {}
        }
        Ok(())
    }

    /// Has the cache know which volumes these engines have now. A failure is no failure of the call: events tell it again.
    async fn volumes_changed(&self, engines: &[Arc<Engine>]) {
        join_all(engines.iter().map(|e| e.sync_volumes())).await;
    }

    /// Remembers that these volumes are on this node, those of them that are: their data ties containers to it also while
    /// it is away.
    pub(super) async fn note_volumes(&self, volumes: &[String], engine: &Engine) {
        let node = engine.name();
        let document = self.cluster.hub.state.read();
        let known =
            |v: &String| document.volumes.get(v).is_some_and(|s| s.nodes.contains(&node) && s.request.is_none());
        if volumes.iter().all(known) {
            return;
        }
        if let Err(error) = engine.sync_volumes().await {
            warn!(node, error = error.chain(), "cannot list the volumes of a node that has new ones");
        }
        let on_node = engine.view().volumes.clone().unwrap_or_default();
        let note = |document: &mut Document| {
            for volume in volumes.iter().filter(|v| on_node.contains(*v)) {
                let state = document.volumes.entry(volume.clone()).or_default();
                *state = VolumeState { nodes: std::mem::take(&mut state.nodes), ..VolumeState::default() };
                state.nodes.insert(node.clone());
            }
        };
        if let Err(error) = self.cluster.hub.state.change(note).await {
            warn!(node, error = %anyhow::Error::new(error), "cannot remember where volumes are");
        }
    }
}

/// Refuses to do to several volumes what was said of one. One that is not local is the same everywhere.
fn check_one(name: &str, holders: &[(Arc<Engine>, Value)]) -> Result<(), Refusal> {
    let local = !holders.iter().any(|(_, volume)| is_shared(volume));
    if local && holders.len() > 1 { Err(ambiguous(name, holders)) } else { Ok(()) }
}

/// Whether a volume is the same on every node.
fn is_shared(volume: &Value) -> bool {
    volume["Driver"] != "local"
}

fn ambiguous(name: &str, holders: &[(Arc<Engine>, Value)]) -> Refusal {
    let all: Vec<String> = holders.iter().map(|(engine, _)| format!("{}/{name}", engine.name())).collect();
    Refusal::bad_request(format!("volume {name} is ambiguous, it may be {}", all.join(" or ")))
}

fn unanswered(status: StatusCode, volume: &str, nodes: &[String]) -> Refusal {
    let nodes = nodes.join(" and ");
    Refusal::new(status, format!("the data of volume '{volume}' is on node {nodes}, which does not answer"))
}

fn no_such_volume(name: &str) -> Refusal {
    Refusal::not_found(format!("No such volume: {name}"))
}

fn describe(name: &str, state: &VolumeState) -> Option<Value> {
    state.request.as_ref().map(|request| volume::declared(name, request, &state.declared))
}
