//! Networks. One of the cluster's own driver is one network on all nodes; every other belongs to its node.

use super::{
    Answer, Api, Call,
    fanout::{successes, unanimous},
};
use crate::{engine::Engine, placing::Placing, refusal::Refusal};
use http::{Method, StatusCode, header};
use osier_dockerapi::{
    filters::Filters,
    names::{Candidate, Resolution, resolve},
    network::{self, Local},
};
use osier_engine::{full, json_response};
use osier_model::NETWORK;
use osier_scheduler::{Request, Tie};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long an engine may take to describe a network.
const INSPECT: Duration = Duration::from_secs(2);
/// How long it may take to remove one.
const REMOVE: Duration = Duration::from_secs(30);

/// One engine's part of a network.
struct Part {
    engine: Arc<Engine>,
    node: String,
    network: Arc<Value>,
}

impl Part {
    fn local(&self) -> Local<'_> {
        Local { node: &self.node, network: &self.network }
    }
}

/// A network as the cluster knows it: on one node, or on all.
struct Found(Vec<Part>);

impl Found {
    fn is_cluster_wide(&self) -> bool {
        self.0.first().is_some_and(|p| p.local().is_cluster_wide())
    }

    /// What the engines call it: all of them know a cluster-wide network by its name, one knows its own by its id.
    fn engine_word(&self) -> String {
        let first = self.0.first().map(Part::local);
        first.map_or_else(String::new, |l| if l.is_cluster_wide() { l.name().to_owned() } else { l.id().to_owned() })
    }
}

impl Api {
    fn network_parts(&self) -> Vec<Part> {
        let engines = self.cluster.engines();
        let lists = engines.into_iter().map(|engine| {
            let (node, networks) = (engine.name(), engine.view().networks.clone());
            let parts =
                networks.iter().map(|n| Part { engine: engine.clone(), node: node.clone(), network: n.clone() });
            parts.collect::<Vec<_>>()
        });
        lists.flatten().collect()
    }

    /// `GET /networks`, from the cache.
    pub(super) fn network_list(&self, call: &Call) -> Answer {
        let parts = self.network_parts();
        let filters = Filters::parse(call.query.get("filters"))?;
        Ok(json_response(StatusCode::OK, &network::list(parts.iter().map(Part::local), filters)?))
    }

    /// The network that a word means.
    fn find_network(&self, word: &str) -> Result<Found, Refusal> {
        let mut groups: BTreeMap<(String, String), Vec<Part>> = BTreeMap::new();
        for part in self.network_parts() {
            let local = part.local();
            let node = if local.is_cluster_wide() { String::new() } else { part.node.clone() };
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

    /// The name of the cluster-wide network that a word means by its id; `None` for any other word.
    pub(super) fn cluster_network_name(&self, word: &str) -> Option<String> {
        let parts = self.network_parts();
        let mut hits = parts.iter().map(Part::local).filter(|l| l.is_cluster_wide() && l.name() != word);
        let hit = hits.find(|l| word.len() >= 12 && l.shown_id().starts_with(word))?;
        Some(hit.name().to_owned())
    }

    /// The nodes that have a network of this name or id.
    pub(super) fn nodes_with_network(&self, word: &str) -> Vec<String> {
        let has = |part: &Part| {
            let local = part.local();
            local.name() == word || (word.len() >= 12 && local.id().starts_with(word))
        };
        self.network_parts().into_iter().filter(has).map(|p| p.node).collect()
    }

    /// `GET /networks/{name}`, with the endpoints of all nodes.
    pub(super) async fn network_inspect(&self, call: Call, name: &str) -> Answer {
        let found = self.find_network(name)?;
        let word = found.engine_word();
        let engines = found.0.iter().map(|p| p.engine.clone()).filter(|e| e.is_healthy()).collect();
        let answers = self.ask(engines, Method::GET, &["networks", &word], &call.raw_query, None, INSPECT).await;
        let answers: Vec<(String, Value)> =
            successes(answers)?.into_iter().map(|(engine, answer)| (engine.name(), answer)).collect();
        let parts: Vec<Local<'_>> = answers.iter().map(|(node, network)| Local { node, network }).collect();
        let merged = network::merge(&parts, false);
        let merged = merged.ok_or_else(|| Refusal::not_found(format!("network {name} not found")))?;
        Ok(json_response(StatusCode::OK, &merged))
    }

    /// `POST /networks/create`: on the node that the name tells, or on one that the scheduler chooses.
    pub(super) async fn network_create(&self, mut call: Call) -> Answer {
        let mut body = call.json().await?;
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let mut ties = Vec::new();
        if let Some((node, name)) = name.split_once('/').filter(|(node, _)| self.cluster.is_node(node)) {
            ties.push(Tie { condition: format!("node=={node}"), nodes: [node.into()].into() });
            body["Name"] = name.into();
        } else if !self.nodes_with_network(&name).is_empty() {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("network with name {name} already exists")));
        }
        let request = Request { ties, ..Request::default() };
        let place = self.cluster.place(&Placing { request, ..Placing::default() })?;
        set_body(&mut call, &body);
        let response = self.forward(&place.engine, call, &["networks", "create"]).await?;
        // The event tells it again; a failure here is no failure of the call.
        let _ = place.engine.sync_networks().await;
        Ok(response)
    }

    /// `DELETE /networks/{name}`
    pub(super) async fn network_remove(&self, call: Call, name: &str) -> Answer {
        let found = self.find_network(name)?;
        let word = found.engine_word();
        if found.is_cluster_wide() && word == NETWORK {
            let message = format!("network {NETWORK} is the cluster's own and cannot be removed");
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        let engines: Vec<Arc<Engine>> = found.0.into_iter().map(|p| p.engine).collect();
        let asked = engines.clone();
        let answers = self.ask(asked, Method::DELETE, &["networks", &word], &call.raw_query, None, REMOVE).await;
        futures::future::join_all(engines.iter().map(|e| e.sync_networks())).await;
        unanimous(answers)?;
        Ok(osier_engine::empty_response(StatusCode::NO_CONTENT))
    }

    /// `POST /networks/{name}/connect` and `disconnect`: the container's engine does it.
    pub(super) async fn network_attachment(&self, mut call: Call, name: &str, verb: &str) -> Answer {
        let mut body = call.json().await?;
        let container = body["Container"].as_str().unwrap_or_default().to_owned();
        let (engine, found) = self.cluster.reachable(&container)?;
        let network = match self.find_network(name) {
            Ok(network) => network,
            // Several nodes may have a local network of this name: the container's own is meant.
            Err(ambiguous) => {
                let mut parts = self.network_parts();
                parts.retain(|p| Arc::ptr_eq(&p.engine, &engine) && p.local().name() == name);
                if parts.is_empty() {
                    return Err(ambiguous);
                }
                Found(parts)
            }
        };
        if !network.0.iter().any(|p| Arc::ptr_eq(&p.engine, &engine)) {
            let message = format!("network {name} is not on node {}, where container {container} is", engine.name());
            return Err(Refusal::bad_request(message));
        }
        let id = found.row.id.clone();
        body["Container"] = id.as_str().into();
        set_body(&mut call, &body);
        let response = self.forward(&engine, call, &["networks", &network.engine_word(), verb]).await?;
        let _ = tokio::join!(engine.sync_networks(), engine.sync_container(&id));
        Ok(response)
    }
}

/// Gives a call another JSON body.
pub(super) fn set_body(call: &mut Call, body: &Value) {
    let bytes = body.to_string();
    call.request.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    *call.request.body_mut() = full(bytes);
}
