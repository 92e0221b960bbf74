//! Creating a container: what it needs decides which nodes will do, the scheduler chooses one, and the request goes to
//! that node's engine in the engine's own version.

use super::{Answer, Api, Call};
use crate::{
    cluster::{Placing, Reservation},
    engine::{CallError, Engine},
    refusal::Refusal,
    stream::JsonStream,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use osier_dockerapi::{
    image,
    path::upstream,
    placement::{Binding, bindings, connect_body, defer_endpoints, map_companions, needs, rename_networks},
    query::Query,
    version::{ApiVersion, CREATE_PLATFORM},
};
use osier_engine::{Body, body::collect, empty, error_response, full, json_bytes};
use osier_scheduler::{Load, Tie};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tracing::{debug, info};

/// How long an engine may take to create a container; image layers are unpacked already.
const CREATE: Duration = Duration::from_secs(120);
/// How long it may take to connect the container to one more network.
const CONNECT: Duration = Duration::from_secs(30);
/// How long it may take to get an image that some other node has.
const PULL: Duration = Duration::from_secs(600);

/// One create request on its way.
struct Creation {
    version: ApiVersion,
    query: Query,
    headers: HeaderMap,
    body: Value,
    name: Option<String>,
    image: String,
    load: Load,
    bindings: Vec<Binding>,
    ties: Vec<Tie>,
}

/// What an engine made of it.
struct Outcome {
    status: StatusCode,
    body: Vec<u8>,
}

impl Api {
    /// `POST /containers/create`
    pub(super) async fn container_create(&self, mut call: Call) -> Answer {
        let body = call.json().await?;
        let mut creation = self.prepare(&call, body)?;
        let mut unreachable = BTreeSet::new();
        loop {
            let reservation = self.reserve(&creation, &unreachable)?;
            let engine = reservation.engine.clone();
            match self.create_on(&creation, &engine).await {
                Ok(outcome) if outcome.status == StatusCode::NOT_FOUND => {
                    return self.create_with_image(&mut creation, reservation, outcome).await;
                }
                Ok(outcome) => return Ok(self.finish(reservation, outcome).await),
                // Nothing reached this engine, so nothing was created there: another one may do.
                Err(error @ CallError::Client(osier_engine::Error::Connect { .. })) => {
                    info!(node = engine.name(), error = error.chain(), "cannot create on a node, trying another");
                    engine.suspect();
                    unreachable.insert(engine.name());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what the request needs, and rewrites the names in it that only the cluster understands.
    fn prepare(&self, call: &Call, mut body: Value) -> Result<Creation, Refusal> {
        let mut ties = Vec::new();
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
        rename_networks(&mut body, |word| {
            let (node, network) = word.split_once('/').filter(|(node, _)| self.cluster.is_node(node))?;
            ties.push(tie(format!("node=={node}"), [node]));
            Some(network.to_owned())
        });
        rename_networks(&mut body, |word| self.cluster_network_name(word));
        map_companions(&mut body, |word| {
            let (engine, container) = self.cluster.container(word)?;
            ties.push(tie(format!("container=={word}"), [engine.name().as_str()]));
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
        let load = Load::one(needs.cpus, needs.memory);
        let headers = call.request.headers().clone();
        let bindings = bindings(&body);
        Ok(Creation { version: call.version, query, headers, body, name, image: needs.image, load, bindings, ties })
    }

    fn reserve(&self, creation: &Creation, unreachable: &BTreeSet<String>) -> Result<Reservation, Refusal> {
        let mut ties = creation.ties.clone();
        if !unreachable.is_empty() {
            let left: Vec<String> = self.cluster.healthy().iter().map(|e| e.name()).collect();
            let left = left.iter().filter(|n| !unreachable.contains(*n)).map(String::as_str);
            ties.push(tie("reachable".to_owned(), left));
        }
        let Creation { name, load, bindings, .. } = creation;
        self.cluster.place(&Placing { name: name.as_deref(), load: *load, bindings, ties: &ties })
    }

    /// The chosen engine lacks something, most often the image. Where another node has the image, the engine first gets
    /// it, so that one node does not end up with every container; else the container goes to a node that has it. Where
    /// no node has it, the engine's answer tells the client to pull.
    async fn create_with_image(&self, creation: &mut Creation, reservation: Reservation, missing: Outcome) -> Answer {
        let here = reservation.engine.clone();
        let holders = self.engines_with_image(&creation.image);
        if holders.is_empty() || holders.iter().any(|e| Arc::ptr_eq(e, &here)) {
            return Ok(self.finish(reservation, missing).await);
        }
        match self.get_image(&here, &holders, creation).await {
            Ok(()) => {
                let outcome = self.create_on(creation, &here).await?;
                return Ok(self.finish(reservation, outcome).await);
            }
            Err(error) => {
                debug!(node = here.name(), image = creation.image, %error, "cannot get an image for a create")
            }
        }
        drop(reservation);
        let names: Vec<String> = holders.iter().map(|e| e.name()).collect();
        creation.ties.push(tie(format!("image=={}", creation.image), names.iter().map(String::as_str)));
        let reservation = match self.reserve(creation, &BTreeSet::new()) {
            Ok(reservation) => reservation,
            // The first answer says what is missing; that the holders are full or excluded comes second.
            Err(refusal) => {
                let first = super::message(&missing.body);
                return Ok(error_response(
                    missing.status,
                    format!("{first} (on {}; elsewhere: {})", here.name(), refusal.message),
                ));
            }
        };
        let outcome = self.create_on(creation, &reservation.engine).await?;
        Ok(self.finish(reservation, outcome).await)
    }

    async fn create_on(&self, creation: &Creation, engine: &Arc<Engine>) -> Result<Outcome, CallError> {
        let version = engine.api().nearest(creation.version);
        let (mut body, mut query) = (creation.body.clone(), creation.query.clone());
        let deferred = defer_endpoints(&mut body, version);
        if version < CREATE_PLATFORM {
            query.remove("platform");
        }
        let path = upstream(version, &["containers", "create"], &query.to_string());
        let outcome = request(engine, creation, &path, full(body.to_string()), CREATE).await?;
        let id = serde_json::from_slice::<Value>(&outcome.body).ok().and_then(|b| Some(b["Id"].as_str()?.to_owned()));
        let Some(id) = id.filter(|_| outcome.status.is_success()) else { return Ok(outcome) };
        for (network, settings) in deferred {
            let body = connect_body(&id, settings);
            let connected =
                engine.json(Method::POST, &["networks", &network, "connect"], "", Some(&body), CONNECT).await;
            if let Err(error) = connected {
                // Half a container is worse than none.
                let undone = engine.json(Method::DELETE, &["containers", &id], "force=1", None, CONNECT).await;
                debug!(node = engine.name(), container = id, undone = undone.is_ok(), "undid a create");
                return Err(error);
            }
        }
        Ok(outcome)
    }

    /// Has one engine get an image that others have: from its registry, or from them where no registry has it.
    async fn get_image(
        &self,
        engine: &Arc<Engine>,
        holders: &[Arc<Engine>],
        creation: &Creation,
    ) -> Result<(), String> {
        let name = &creation.image;
        let is_pullable =
            |e: &Arc<Engine>| image::find(name, &e.view().images).is_some_and(|row| image::is_from_registry(row));
        if holders.iter().any(is_pullable) {
            match self.pull_on(engine, creation).await {
                Ok(()) => return Ok(()),
                Err(error) => debug!(node = engine.name(), image = name, %error, "cannot pull for a create"),
            }
        }
        let source = holders.first().ok_or("no node has it")?;
        let copy = self.copy_image(source, engine, name);
        let copied = tokio::time::timeout(PULL, copy).await;
        copied.map_err(|_| format!("no end within {} s", PULL.as_secs()))?.map_err(|refusal| refusal.message)
    }

    /// Has one engine pull the image, with the credentials that came with the create request.
    async fn pull_on(&self, engine: &Arc<Engine>, creation: &Creation) -> Result<(), String> {
        let reference = image::Reference::parse(&creation.image);
        let mut query = Query::default();
        query.set("fromImage", &creation.image);
        if !reference.is_tagged() {
            query.set("tag", "latest");
        }
        if let Some(platform) = creation.query.get("platform") {
            query.set("platform", platform);
        }
        let path = upstream(engine.api().nearest(creation.version), &["images", "create"], &query.to_string());
        let pull = async {
            let response = send(engine, creation, &path, empty()).await.map_err(|e| e.chain())?;
            if !response.status().is_success() {
                let bytes = collect(response.into_body(), super::JSON_LIMIT).await.map_err(|e| e.to_string())?;
                return Err(super::message(&bytes));
            }
            let mut progress = JsonStream::new(response.into_body());
            while let Some(line) = progress.next().await.map_err(|e| e.to_string())? {
                if let Some(error) = super::stream_error(&line) {
                    return Err(error);
                }
            }
            Ok(())
        };
        tokio::time::timeout(PULL, pull).await.unwrap_or_else(|_| Err(format!("no end within {} s", PULL.as_secs())))
    }

    /// Answers, after the cache knows the new container and before its reservation ends.
    async fn finish(&self, reservation: Reservation, outcome: Outcome) -> Response<Body> {
        let engine = &reservation.engine;
        let id = serde_json::from_slice::<Value>(&outcome.body).ok().and_then(|b| Some(b["Id"].as_str()?.to_owned()));
        if let Some(id) = id.filter(|_| outcome.status.is_success())
            && let Err(error) = engine.sync_container(&id).await
        {
            debug!(node = engine.name(), container = id, error = error.chain(), "cannot read a new container");
        }
        json_bytes(outcome.status, outcome.body)
    }
}

fn tie<'a>(condition: String, nodes: impl IntoIterator<Item = &'a str>) -> Tie {
    Tie { condition, nodes: nodes.into_iter().map(Into::into).collect() }
}

async fn send(engine: &Engine, creation: &Creation, path: &str, body: Body) -> Result<Response<Body>, CallError> {
    let client = engine.client()?;
    let request = Request::builder().method(Method::POST).uri(path).body(body);
    let mut request =
        request.map_err(|e| osier_engine::Error::Request { endpoint: client.name(), source: e.into() })?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for name in ["x-registry-auth", "x-registry-config", "user-agent"] {
        if let Some(value) = creation.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    Ok(client.send(request).await?)
}

async fn request(
    engine: &Engine,
    creation: &Creation,
    path: &str,
    body: Body,
    deadline: Duration,
) -> Result<Outcome, CallError> {
    let call = async {
        let response = send(engine, creation, path, body).await?;
        let status = response.status();
        let endpoint = engine.target.address();
        let bytes = collect(response.into_body(), super::JSON_LIMIT).await;
        let bytes = bytes.map_err(|source| osier_engine::Error::Talk { endpoint, source })?;
        Ok(Outcome { status, body: bytes.to_vec() })
    };
    let call = async { tokio::time::timeout(deadline, call).await.unwrap_or(Err(CallError::Deadline(deadline))) };
    engine.while_healthy(call).await
}
