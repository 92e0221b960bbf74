//! Creating a container: what it needs decides which nodes will do, the scheduler chooses one, and the request goes to
//! that node's engine in the engine's own version.

use super::{Answer, Api, Call, launch::Outcome};
use crate::{
    engine::CallError,
    placing::{Placing, Reservation},
    refusal::Refusal,
};
use http::{HeaderMap, Response, StatusCode};
use osier_dockerapi::{
    convert::needs_version,
    placement::{bindings, map_companions, needs, rename_networks, rename_volumes},
    query::Query,
    row,
    version::ApiVersion,
    wishes,
};
use osier_engine::{Body, error_response, json_bytes};
use osier_model::NETWORK;
use osier_scheduler::{Expression, Request, Tie};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};
use tracing::{debug, info, warn};

/// The label by which nodes tell their operating system.
const OS: &str = "ostype";

/// One create request on its way.
pub(super) struct Creation {
    pub(super) version: ApiVersion,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) image: String,
    pub(super) placing: Placing,
}

/// An attempt that came to nothing on one node, which is told if no other node does better.
struct Setback {
    status: StatusCode,
    message: String,
}

impl Setback {
    fn beside(self, elsewhere: &Refusal) -> Response<Body> {
        error_response(self.status, format!("{} (elsewhere: {})", self.message, elsewhere.message))
    }
}

impl Api {
    /// `POST /containers/create`. What was begun is finished also when the client goes away, as an engine does: the place
    /// is held until it is known what became of the container.
    pub(super) async fn container_create(&self, mut call: Call) -> Answer {
        let body = call.object().await?;
        let (api, creation) = (self.clone(), self.prepare(&call, body)?);
        let created = tokio::spawn(async move { api.create(creation).await }).await;
        created.unwrap_or_else(|e| Err(Refusal::internal(format!("create a container: {e}"))))
    }

    async fn create(&self, mut creation: Creation) -> Answer {
        let (mut unreachable, mut setback) = (BTreeSet::new(), None::<Setback>);
        let mut retries = self.cluster.policy.create_retry;
        loop {
            let reservation = match (self.reserve(&creation, &unreachable), setback.take()) {
                (Ok(reservation), _) => reservation,
                (Err(refusal), Some(first)) => return Ok(first.beside(&refusal)),
                (Err(refusal), None) => return Err(refusal),
            };
            let engine = reservation.engine.clone();
            let node = engine.name();
            match self.launch(&creation, &reservation).await {
                Ok(outcome) if outcome.status == StatusCode::NOT_FOUND => {
                    return self.create_with_image(&mut creation, reservation, outcome).await;
                }
                Ok(outcome) if outcome.status.is_success() => {
                    return Ok(self.finish(&creation, reservation, outcome).await);
                }
                Ok(outcome) => {
                    let message = outcome.message();
                    if let Some(os) = foreign_os(&message).filter(|_| creation.wants_no_os()) {
                        info!(node, os, "an image is for another operating system, trying its nodes");
                        creation.placing.request.wishes.constraints.push(Expression::literal(OS, false, os));
                    } else if outcome.status.is_server_error() && retries > 0 {
                        warn!(node, retries, error = message, "cannot create on a node, trying again");
                        retries -= 1;
                    } else {
                        return Ok(self.finish(&creation, reservation, outcome).await);
                    }
                    setback = Some(Setback { status: outcome.status, message });
                }
                // Nothing reached this engine, so nothing was created there: another one may do.
                Err(error @ CallError::Client(osier_engine::Error::Connect { .. })) => {
                    info!(node, error = error.chain(), "cannot create on a node, trying another");
                    engine.suspect();
                    unreachable.insert(node);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what the request needs, and rewrites the names in it that only the cluster understands.
    pub(super) fn prepare(&self, call: &Call, mut body: Value) -> Result<Creation, Refusal> {
        let wishes = wishes::take(&mut body)?;
        wishes::ensure_id(&mut body, &super::random_id());
        let (mut ties, mut dependencies) = (Vec::new(), Vec::new());
        let mut query = call.query.clone();
        let name = query.get("name").map(|n| n.trim_start_matches('/').to_owned()).filter(|n| !n.is_empty());
        let name = name.map(|name| match name.split_once('/') {
            Some((node, name)) if self.cluster.is_node(node) => {
                ties.push(tie(format!("node=={node}"), [node]));
                query.set("name", name);
                name.to_owned()
            }
            _ => name,
        });
        let mut on_node = |kind: &str, word: &str| {
            let (node, name) = word.split_once('/').filter(|(node, _)| self.cluster.is_node(node))?;
            ties.push(tie(format!("{kind}=={word}"), [node]));
            Some(name.to_owned())
        };
        rename_networks(&mut body, |word| on_node("network", word));
        rename_volumes(&mut body, |word| on_node("volume", word));
        rename_networks(&mut body, |word| self.cluster_network_name(word));
        let mode = body["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
        let mode = if matches!(mode, "" | "default") { NETWORK } else { mode }.to_owned();
        let on_overlay = mode == NETWORK || self.is_cluster_wide(&mode);
        map_companions(&mut body, |word, condition| {
            // Engines say 400 here: to 404 clients answer with a pull of the image.
            let found = self.cluster.container(word);
            let (engine, container) = found.map_err(|r| Refusal { status: StatusCode::BAD_REQUEST, ..r })?;
            let reached_by_name = on_overlay && container.row.networks.iter().any(|(network, _)| *network == mode);
            if reached_by_name && condition.starts_with("--link=") {
                // On the overlay a link is a name, which leads to any node.
                return Ok(container.row.name().to_owned());
            }
            dependencies.push(tie(condition, [engine.name().as_str()]));
            Ok::<_, Refusal>(container.row.id.clone())
        })?;
        let needs = needs(&body);
        for network in &needs.networks {
            let nodes = self.nodes_with_network(network);
            // A network that no node has is the engine's to refuse, in its own words.
            if !nodes.is_empty() {
                ties.push(tie(format!("network=={network}"), nodes.iter().map(String::as_str)));
            }
        }
        if let Some(need) = needs_version(&body, call.version) {
            let nodes: Vec<String> = self.nodes_speaking(need.since);
            ties.push(tie(need.to_string(), nodes.iter().map(String::as_str)));
        }
        let request = Request {
            cpus: needs.requested_cpus(self.cluster.policy.cpu_shares_as_cpus),
            memory: needs.memory,
            bindings: bindings(&body),
            host_network: needs.host_network,
            dependencies,
            wishes,
            ties,
        };
        let placing = Placing { name, labels: row::labels(body.get("Labels")), volumes: needs.volumes, request };
        let headers = call.request.headers().clone();
        Ok(Creation { version: call.version, query, headers, body, image: needs.image, placing })
    }

    fn reserve(&self, creation: &Creation, unreachable: &BTreeSet<String>) -> Result<Reservation, Refusal> {
        let mut placing = creation.placing.clone();
        if !unreachable.is_empty() {
            let left: Vec<String> = self.cluster.healthy().iter().map(|e| e.name()).collect();
            let left = left.iter().filter(|n| !unreachable.contains(*n)).map(String::as_str);
            placing.request.ties.push(tie("reachable".to_owned(), left));
        }
        self.cluster.place(&placing)
    }

    /// The chosen engine lacks something, most often the image. Where another node has the image, the engine first gets
    /// it, so that one node does not end up with every container; else the container goes to a node that has it. Where
    /// no node has it, the engine's answer tells the client to pull.
    async fn create_with_image(&self, creation: &mut Creation, place: Reservation, missing: Outcome) -> Answer {
        let here = place.engine.clone();
        let holders = self.engines_with_image(&creation.image);
        if holders.is_empty() || holders.iter().any(|e| Arc::ptr_eq(e, &here)) {
            return Ok(self.finish(creation, place, missing).await);
        }
        let refused = match self.get_image(&here, &holders, creation).await {
            Ok(()) => {
                let outcome = self.launch(creation, &place).await?;
                return Ok(self.finish(creation, place, outcome).await);
            }
            Err(error) => error,
        };
        debug!(node = here.name(), image = creation.image, error = refused, "cannot get an image for a create");
        drop(place);
        let names: Vec<String> = holders.iter().map(|e| e.name()).collect();
        let on_holders = tie(format!("image=={}", creation.image), names.iter().map(String::as_str));
        creation.placing.request.ties.push(on_holders);
        let place = match self.reserve(creation, &BTreeSet::new()) {
            Ok(place) => place,
            // What is missing and why comes first, that the holders are full or excluded second.
            Err(refusal) => {
                let message = format!("{}; get it on {}: {refused}", missing.message(), here.name());
                return Ok(Setback { status: missing.status, message }.beside(&refusal));
            }
        };
        let outcome = self.launch(creation, &place).await?;
        Ok(self.finish(creation, place, outcome).await)
    }

    /// Answers, after the cache knows the new container and before its reservation ends.
    async fn finish(&self, creation: &Creation, place: Reservation, outcome: Outcome) -> Response<Body> {
        if let Some(id) = outcome.id() {
            if let Err(error) = place.engine.sync_container(&id).await {
                debug!(
                    node = place.engine.name(),
                    container = id,
                    error = error.chain(),
                    "cannot read a new container"
                );
                self.cluster.remember_unseen(&id, &place.engine);
            }
            self.note_volumes(&creation.placing.volumes, &place.engine).await;
        }
        json_bytes(outcome.status, outcome.body)
    }
}

impl Creation {
    fn wants_no_os(&self) -> bool {
        self.placing.request.wishes.constraints.iter().all(|c| c.key() != OS)
    }
}

/// The operating system that an image is for, where an engine says that it is not its own.
fn foreign_os(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("image operating system \"")?;
    let (os, rest) = rest.split_once('"')?;
    rest.contains("cannot be used on this platform").then_some(os)
}

fn tie<'a>(condition: String, nodes: impl IntoIterator<Item = &'a str>) -> Tie {
    Tie { condition, nodes: nodes.into_iter().map(Into::into).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_tells_the_image_s_operating_system() {
        let told =
            "image operating system \"windows\" cannot be used on this platform: operating system is not supported";
        assert_eq!(foreign_os(told), Some("windows"));
        for other in ["", "image operating system \"", "image operating system \"x\" is fine", "no such image"] {
            assert_eq!(foreign_os(other), None, "{other}");
        }
    }
}
