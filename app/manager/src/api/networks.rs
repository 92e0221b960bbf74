//! Networks. One of the cluster's own driver is one network on all nodes; every other belongs to its node.

use super::{
    Answer, Api, Call,
    fanout::{Ask, successes, unanimous},
};
use crate::{engine::Engine, picture::Seen, placing::Placing, refusal::Refusal};
use http::{Method, StatusCode, header};
use osier_dockerapi::{
    convert::{self, connect_need, network_need},
    filters::Filters,
    names::{Candidate, Resolution, resolve},
    network::{self, Local},
    version::ApiVersion,
};
use osier_engine::{empty_response, full, json_response};
use osier_model::NETWORK;
use osier_scheduler::{Request, Tie};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How long an engine may take to describe a network.
const INSPECT: Duration = Duration::from_secs(2);
/// How long it may take to remove one.
const REMOVE: Duration = Duration::from_secs(30);
/// How long the nodes may take to have, or no longer to have, a network of the cluster.
const EVERYWHERE: Duration = Duration::from_secs(10);
/// The pause between two looks at whether they do.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One engine's part of a network.
#[derive(Clone)]
struct Part {
    seen: Arc<Seen>,
    network: Arc<Value>,
}

impl Part {
    fn local(&self) -> Local<'_> {
        Local { node: &self.seen.name, network: &self.network }
    }
}

/// A network as the cluster knows it: on one node, or on all.
struct Found(Vec<Part>);

impl Found {
    fn is_cluster_wide(&self) -> bool {
        self.0.first().is_some_and(|p| p.local().is_cluster_wide())
    }

    /// Says that none of its engines answers.
    fn unreachable(&self, word: &str) -> Refusal {
        let down = self.0.iter().map(|p| {
            let why = p.seen.engine.view().error();
            format!("network {word} is on unhealthy node {}: {why}", p.seen.name)
        });
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, down.collect::<Vec<_>>().join("\n"))
    }

    /// What the engines call it: all of them know a cluster-wide network by its name, one knows its own by its id.
    fn engine_word(&self) -> String {
        let first = self.0.first().map(Part::local);
        first.map_or_else(String::new, |l| if l.is_cluster_wide() { l.name().to_owned() } else { l.id().to_owned() })
    }
}

impl Api {
    fn network_parts(&self) -> Vec<Part> {
        let nodes = self.cluster.nodes();
        let parts = nodes.iter().flat_map(|seen| seen.networks.iter().map(move |network| (seen, network)));
        parts.map(|(seen, network)| Part { seen: seen.clone(), network: network.clone() }).collect()
    }

    /// `GET /networks`, from the cache.
    pub(super) fn network_list(&self, call: &Call) -> Answer {
        let parts = self.network_parts();
        let filters = Filters::parse(call.query.get("filters"))?;
        // Lists do not tell who uses a network; the containers do.
        let used = if filters.has("dangling") { self.used_networks() } else { BTreeSet::new() };
        Ok(json_response(StatusCode::OK, &network::list(parts.iter().map(Part::local), &used, filters)?))
    }

    /// The ids, as the cluster shows them, of the networks that containers are on just now.
    fn used_networks(&self) -> BTreeSet<String> {
        let engines = self.cluster.engines();
        let used = engines.iter().flat_map(|engine| {
            let view = engine.view();
            let live =
                view.containers().filter(|c| matches!(c.row.state.as_str(), "running" | "paused" | "restarting"));
            live.flat_map(|c| c.row.networks.iter().map(|(_, id)| id.clone())).collect::<Vec<_>>()
        });
        used.collect()
    }

    /// The network that a word means.
    fn find_network(&self, word: &str) -> Result<Found, Refusal> {
        let mut groups: BTreeMap<(String, String), Vec<Part>> = BTreeMap::new();
        for part in self.network_parts() {
            let local = part.local();
            let node = if local.is_cluster_wide() { String::new() } else { part.seen.name.clone() };
            groups.entry((node, local.shown_id())).or_default().push(part);
        }
        let named: Vec<_> = groups.iter().map(|(key, parts)| (key, [parts[0].local().name().to_owned()])).collect();
        let candidates = named.iter().map(|((node, id), names)| Candidate { key: (node, id), node, id, names });
        let key = match resolve(word, candidates) {
            Resolution::Found((node, id)) => (node.clone(), id.clone()),
            Resolution::Missing => return Err(Refusal::not_found(format!("network {word} not found"))),
            Resolution::Ambiguous(all) => {
                let message = format!("network {word} is ambiguous, it may be {}", all.join(" or "));
                return Err(Refusal::bad_request(message));
            }
        };
        drop(named);
        let parts = groups.remove(&key).unwrap_or_default();
        Ok(Found(parts))
    }

    /// The name of the cluster-wide network that a word means by its id, the cluster's or an engine's own, or by the
    /// beginning of one; `None` for any other word, and for one that is some network's name.
    pub(super) fn cluster_network_name(&self, word: &str) -> Option<String> {
        if network::is_builtin(word) || matches!(word, "" | "default" | NETWORK) || word.starts_with("container:") {
            return None;
        }
        let parts = self.network_parts();
        let hits = by_id(word, &parts);
        let first = hits.first()?.local();
        let same = hits.iter().all(|p| p.local().is_cluster_wide() && p.local().name() == first.name());
        same.then(|| first.name().to_owned())
    }

    /// Whether a name is that of a network on all nodes.
    pub(super) fn is_cluster_wide(&self, name: &str) -> bool {
        self.cluster.healthy().iter().any(|engine| has_network(engine, name))
    }

    /// The nodes that have a network of this name, or else the one network whose id begins so.
    pub(super) fn nodes_with_network(&self, word: &str) -> Vec<String> {
        let parts = self.network_parts();
        let named = parts.iter().filter(|p| p.local().name() == word).map(|p| p.seen.name.clone());
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            return named;
        }
        let hits = by_id(word, &parts);
        let first = hits.first().map(|p| p.local().shown_id());
        let same = hits.iter().all(|p| Some(p.local().shown_id()) == first);
        hits.into_iter().filter(|_| same).map(|p| p.seen.name.clone()).collect()
    }

    /// `GET /networks/{name}`, with the endpoints of all nodes.
    pub(super) async fn network_inspect(&self, call: Call, name: &str) -> Answer {
        let found = self.find_network(name)?;
        let word = found.engine_word();
        let engines: Vec<Arc<Engine>> =
            found.0.iter().map(|p| p.seen.engine.clone()).filter(|e| e.is_healthy()).collect();
        if engines.is_empty() {
            return Err(found.unreachable(name));
        }
        let ask = Ask { version: call.version, query: &call.raw_query, ..Ask::get(INSPECT) };
        let answers = self.ask_as(engines, &["networks", &word], ask).await;
        let answers: Vec<(String, Value)> =
            successes(answers)?.into_iter().map(|(engine, answer)| (engine.name(), answer)).collect();
        let parts: Vec<Local<'_>> = answers.iter().map(|(node, network)| Local { node, network }).collect();
        let merged = network::merge(&parts, false);
        let merged = merged.ok_or_else(|| Refusal::not_found(format!("network {name} not found")))?;
        Ok(json_response(StatusCode::OK, &merged))
    }

    /// `POST /networks/create`: on the node that the name tells, or on one that the scheduler chooses.
    pub(super) async fn network_create(&self, mut call: Call) -> Answer {
        let mut body = call.object().await?;
        let mut name = body["Name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Refusal::bad_request("invalid name: name is empty"));
        }
        if body["Driver"] == NETWORK
            && let Some((_, bare)) = name.split_once('/').filter(|(node, _)| self.cluster.is_node(node))
        {
            // It comes to all nodes whichever makes it.
            let bare = bare.to_owned();
            body["Name"] = bare.as_str().into();
            name = bare;
        }
        let (mut ties, exists) =
            (Vec::new(), || Refusal::new(StatusCode::CONFLICT, format!("network with name {name} already exists")));
        // First the name is held, then it is looked up: of two who want it at once one is second.
        let _held = self.cluster.hold_network_name(&name).ok_or_else(exists)?;
        if let Some((node, name)) = name.split_once('/').filter(|(node, _)| self.cluster.is_node(node)) {
            ties.push(Tie { condition: format!("node=={node}"), nodes: [node.into()].into() });
            body["Name"] = name.into();
        } else if !network::is_builtin(&name) && !self.nodes_with_network(&name).is_empty() {
            return Err(exists());
        }
        let unsaid = matches!(body["Driver"].as_str(), None | Some("" | "default"));
        if unsaid && ties.is_empty() && self.has_own_network() {
            body["Driver"] = NETWORK.into();
        }
        let cluster_wide = body["Driver"] == NETWORK;
        if cluster_wide && name == NETWORK {
            return Err(exists());
        }
        if body["Driver"] == "overlay" {
            // The engine's own words speak of a swarm, which is no way out here.
            let message = format!(
                "networks of the driver overlay need swarm mode, which is not available here: a network of the driver \
                 {NETWORK} is on every node, one of the driver bridge on one node"
            );
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        if let Some(need) = network_need(&body, call.version) {
            let nodes = self.nodes_speaking(need.since).iter().map(|n| n.as_str().into()).collect();
            ties.push(Tie { condition: need.to_string(), nodes });
        }
        let request = Request { ties, ..Request::default() };
        let place = self.cluster.place(&Placing { request, ..Placing::default() })?;
        if let Some(body) = body.as_object_mut() {
            convert::network_create(body, call.version, place.engine.api().nearest(call.version));
        }
        set_body(&mut call, &body);
        let response = self.forward(&place.engine, call, &["networks", "create"]).await?;
        // The event tells it again; a failure here is no failure of the call.
        let _ = place.engine.sync_networks().await;
        if !cluster_wide || !response.status().is_success() {
            return Ok(response);
        }
        // The node's agent tells the others'; whoever uses the network next may be sent to any of them.
        let late = self.until_networks(|engine| has_network(engine, &name)).await;
        let names: Vec<String> = late.iter().map(|engine| engine.name()).collect();
        let warning = match names.as_slice() {
            [] => String::new(),
            names => format!("network {name} is not yet on {}; see 'osier status' there", names.join(", ")),
        };
        Ok(json_response(StatusCode::CREATED, &json!({ "Id": network::cluster_id(&name), "Warning": warning })))
    }

    /// Whether the engines of this cluster have agents, and with them networks of all nodes.
    fn has_own_network(&self) -> bool {
        let engines = self.cluster.healthy();
        !engines.is_empty() && engines.iter().all(|engine| has_network(engine, NETWORK))
    }

    /// Waits until every healthy engine's networks are as they should be, and gives those that are not in time.
    async fn until_networks(&self, fits: impl Fn(&Engine) -> bool) -> Vec<Arc<Engine>> {
        let end = tokio::time::Instant::now() + EVERYWHERE;
        loop {
            let mut late = self.cluster.healthy();
            late.retain(|engine| !fits(engine));
            if late.is_empty() || tokio::time::Instant::now() > end {
                return late;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            futures::future::join_all(late.iter().map(|engine| engine.sync_networks())).await;
        }
    }

    /// `DELETE /networks/{name}`
    pub(super) async fn network_remove(&self, call: Call, name: &str) -> Answer {
        if network::is_builtin(name) {
            let message = format!("{name} is a pre-defined network and cannot be removed");
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        let found = self.find_network(name)?;
        let word = found.engine_word();
        if found.is_cluster_wide() && word == NETWORK {
            let message = format!("network {NETWORK} is the cluster's own and cannot be removed");
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        let engines: Vec<Arc<Engine>> = found.0.iter().map(|p| p.seen.engine.clone()).collect();
        if !engines.iter().any(|e| e.is_healthy()) {
            return Err(found.unreachable(name));
        }
        if found.is_cluster_wide() {
            self.remove_everywhere(&word, engines).await?;
            return Ok(empty_response(StatusCode::NO_CONTENT));
        }
        let ask = Ask { method: Method::DELETE, query: &call.raw_query, ..Ask::get(REMOVE) };
        let answers = self.ask_as(engines.clone(), &["networks", &word], ask).await;
        futures::future::join_all(engines.iter().map(|e| e.sync_networks())).await;
        unanimous(answers)?;
        Ok(empty_response(StatusCode::NO_CONTENT))
    }

    /// Removes a network of the cluster: one node's agent refuses while containers of any node are on it, or tells the
    /// others', which remove it, too, those of nodes that are away once they are back.
    pub(super) async fn remove_everywhere(&self, name: &str, engines: Vec<Arc<Engine>>) -> Result<(), Refusal> {
        let healthy: Vec<Arc<Engine>> = engines.into_iter().filter(|e| e.is_healthy()).collect();
        let Some((first, others)) = healthy.split_first() else { return Ok(()) };
        let ask = |engine: &Arc<Engine>| {
            let engine = engine.clone();
            async move {
                let answer = engine.json(Method::DELETE, &["networks", name], "", None, REMOVE).await;
                // Its agent has heard of it before this call came.
                let gone = answer.as_ref().is_err_and(|e| e.status() == Some(StatusCode::NOT_FOUND));
                (engine, if gone { Ok(Value::Null) } else { answer })
            }
        };
        let answer = ask(first).await;
        let refused = answer.1.is_err();
        let mut answers = vec![answer];
        if !refused {
            answers.extend(futures::future::join_all(others.iter().map(ask)).await);
        }
        futures::future::join_all(healthy.iter().map(|e| e.sync_networks())).await;
        unanimous(answers)?;
        self.until_networks(|engine| !has_network(engine, name)).await;
        Ok(())
    }

    /// `POST /networks/{name}/connect` and `disconnect`: the container's engine does it.
    pub(super) async fn network_attachment(&self, mut call: Call, name: &str, verb: &str) -> Answer {
        let mut body = call.object().await?;
        let container = body["Container"].as_str().unwrap_or_default().to_owned();
        if container.is_empty() {
            return Err(Refusal::bad_request("invalid name or ID supplied: \"\""));
        }
        let (engine, found) = match self.cluster.reachable(&container).await {
            // What is left of a container that is gone is known to the engines alone.
            Err(missing) if missing.status == StatusCode::NOT_FOUND && body["Force"] == true => {
                return self.force_disconnect(call.version, name, &body).await;
            }
            found => found?,
        };
        let network = self.network_for(name, &engine)?;
        if !network.0.iter().any(|p| Arc::ptr_eq(&p.seen.engine, &engine)) {
            let message = format!("network {name} is not on node {}, where container {container} is", engine.name());
            return Err(Refusal::bad_request(message));
        }
        let spoken = engine.api().nearest(call.version);
        if let Some(need) = connect_need(&body, call.version).filter(|need| spoken < need.since) {
            return Err(Refusal::too_old(&engine, &need));
        }
        let id = found.row.id.clone();
        body["Container"] = id.as_str().into();
        set_body(&mut call, &body);
        let response = self.forward(&engine, call, &["networks", &network.engine_word(), verb]).await?;
        let _ = tokio::join!(engine.sync_networks(), engine.sync_container(&id));
        Ok(response)
    }

    /// The network that a word means for a container on this engine: several nodes may have a local one of the name, and
    /// then the container's own is meant.
    fn network_for(&self, word: &str, engine: &Arc<Engine>) -> Result<Found, Refusal> {
        self.find_network(word).or_else(|refusal| {
            let mut parts = self.network_parts();
            parts.retain(|p| Arc::ptr_eq(&p.seen.engine, engine) && p.local().name() == word);
            if parts.is_empty() { Err(refusal) } else { Ok(Found(parts)) }
        })
    }

    /// Takes an endpoint away whose container no engine knows any more, wherever it may be.
    async fn force_disconnect(&self, version: ApiVersion, name: &str, body: &Value) -> Answer {
        let found = self.find_network(name)?;
        let word = found.engine_word();
        let engines: Vec<Arc<Engine>> =
            found.0.iter().map(|p| p.seen.engine.clone()).filter(|e| e.is_healthy()).collect();
        if engines.is_empty() {
            return Err(found.unreachable(name));
        }
        let ask = Ask { version, method: Method::POST, body: Some(body), ..Ask::get(REMOVE) };
        successes(self.ask_as(engines, &["networks", &word, "disconnect"], ask).await)?;
        Ok(empty_response(StatusCode::OK))
    }
}

/// Whether an engine has the cluster's network of this name.
pub(super) fn has_network(engine: &Engine, name: &str) -> bool {
    let networks = engine.view().networks.clone();
    networks.iter().any(|network| network["Name"] == name && network["Driver"] == NETWORK)
}

/// The parts whose id, the cluster's or the engine's own, begins so; none where some network is called so.
fn by_id<'a>(word: &str, parts: &'a [Part]) -> Vec<&'a Part> {
    if word.is_empty() || parts.iter().any(|p| p.local().name() == word) {
        return Vec::new();
    }
    let hit = |p: &&Part| p.local().id().starts_with(word) || p.local().shown_id().starts_with(word);
    parts.iter().filter(hit).collect()
}

/// Gives a call another JSON body.
pub(super) fn set_body(call: &mut Call, body: &Value) {
    let bytes = body.to_string();
    call.request.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    *call.request.body_mut() = full(bytes);
}
