//! Carrying out a create request on the chosen engine: its declared volumes first, in the engine's own version, and its
//! image where it has to be fetched.

use super::{Api, create::Creation, images::is_pullable};
use crate::{
    engine::{CallError, Engine},
    placing::Reservation,
    stream::JsonStream,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use osier_dockerapi::{
    convert, image,
    path::upstream,
    placement::{connect_body, defer_endpoints, scale_cpu_shares},
    query::Query,
    version::CREATE_PLATFORM,
};
use osier_engine::{Body, body::collect, empty, full, plain};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tracing::debug;

/// How long an engine may take to create a container; image layers are unpacked already.
const CREATE: Duration = Duration::from_secs(120);
/// How long it may take to connect the container to one more network.
const CONNECT: Duration = Duration::from_secs(30);
/// How long it may take to make a volume.
const VOLUME: Duration = Duration::from_secs(60);
/// How long it may take to get an image that some other node has.
const PULL: Duration = Duration::from_secs(600);

/// What an engine made of a create request.
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Outcome {
    /// The new container.
    pub(super) fn id(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok().filter(|_| self.status.is_success())?;
        Some(body["Id"].as_str()?.to_owned())
    }

    /// What the engine says is wrong.
    pub(super) fn message(&self) -> String {
        super::message(&self.body)
    }
}

impl Api {
    /// Creates the container in its place. Volumes that were declared for it are made with what was declared, and are
    /// declared again where nothing comes of the container.
    pub(super) async fn launch(&self, creation: &Creation, place: &Reservation) -> Result<Outcome, CallError> {
        let engine = &place.engine;
        let mut made = Vec::new();
        let result = match self.make_declared(creation, engine, &mut made).await {
            Ok(()) => self.create_on(creation, engine).await,
            Err(error) => Err(error),
        };
        // Once a volume is here, nowhere else will do.
        let tied = |e: &CallError| !made.is_empty() && e.is_unreachable();
        let result = result.map_err(|e| if tied(&e) { e.unsettled(&engine.name()) } else { e });
        // Without an answer the engine may still be making the container, and its data may be in the volume already.
        let refused = match &result {
            Ok(outcome) => !outcome.status.is_success(),
            Err(error) => !error.is_unreachable(),
        };
        if refused {
            let said = self.cluster.hub.state.read();
            let unused =
                |v: &&str| !place.shares_volume(v) && said.volumes.get(*v).is_some_and(|state| state.request.is_some());
            for volume in made.into_iter().filter(unused) {
                let undone = engine.json(Method::DELETE, &["volumes", volume], "", None, VOLUME).await;
                debug!(node = engine.name(), volume, undone = undone.is_ok(), "undid a volume");
            }
        }
        result
    }

    /// Makes those of the container's volumes that were declared and that the engine does not have.
    async fn make_declared<'a>(
        &self,
        creation: &'a Creation,
        engine: &Engine,
        made: &mut Vec<&'a str>,
    ) -> Result<(), CallError> {
        let document = self.cluster.hub.state.read();
        for volume in &creation.placing.volumes {
            let request = document.volumes.get(volume).and_then(|v| v.request.as_ref());
            let known = engine.view().volumes.as_ref().is_some_and(|known| known.contains(volume));
            let Some(request) = request.filter(|_| !known) else { continue };
            // The cache may be behind; a volume that is there already is not ours to undo.
            if engine.get(&["volumes", volume], "", VOLUME).await.is_ok() {
                continue;
            }
            engine.json(Method::POST, &["volumes", "create"], "", Some(request), VOLUME).await?;
            made.push(volume);
        }
        Ok(())
    }

    async fn create_on(&self, creation: &Creation, engine: &Arc<Engine>) -> Result<Outcome, CallError> {
        let version = engine.api().nearest(creation.version);
        let (mut body, mut query) = (creation.body.clone(), creation.query.clone());
        let deferred = defer_endpoints(&mut body, version);
        convert::create(&mut body, creation.version, version);
        if self.cluster.policy.cpu_shares_as_cpus {
            scale_cpu_shares(&mut body, engine.facts().map_or(1, |f| f.node.cpus));
        }
        if version < CREATE_PLATFORM {
            query.remove("platform");
        }
        let path = upstream(version, &["containers", "create"], &query.to_string());
        let outcome = request(engine, creation, &path, full(body.to_string()), CREATE).await?;
        let Some(id) = outcome.id() else { return Ok(outcome) };
        for (network, settings) in deferred {
            let body = connect_body(&id, settings);
            let connected =
                engine.json(Method::POST, &["networks", &network, "connect"], "", Some(&body), CONNECT).await;
            if let Err(error) = connected {
                // Half a container is worse than none.
                let undone = engine.json(Method::DELETE, &["containers", &id], "force=1&v=1", None, CONNECT).await;
                return Err(match undone {
                    Ok(_) => error,
                    // Not an error of connecting: that would have the container made a second time elsewhere.
                    Err(undo) => CallError::Lost {
                        node: engine.name(),
                        reason: format!("{}; container {id} is left half made: {}", error.chain(), undo.chain()),
                    },
                });
            }
        }
        Ok(outcome)
    }

    /// Has one engine get an image that others have: from its registry, or from them where no registry has it.
    pub(super) async fn get_image(
        &self,
        engine: &Arc<Engine>,
        holders: &[Arc<Engine>],
        creation: &Creation,
    ) -> Result<(), String> {
        let name = &creation.image;
        let mut refused = None;
        if holders.iter().any(|e| is_pullable(name, e)) {
            match self.pull_on(engine, creation).await {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        let source = holders.first().ok_or("no node has it")?;
        let copy = self.copy_image(source, engine, name);
        let copied = tokio::time::timeout(PULL, copy).await;
        let copied = copied.map_err(|_| format!("no end within {} s", PULL.as_secs()));
        // What the registry said comes first: it may be the user's credentials that are missing.
        copied.and_then(|c| c.map_err(|refusal| refusal.message)).map_err(|error| refused.unwrap_or(error))
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
                let bytes = collect(response.into_body(), super::JSON_LIMIT).await.map_err(|e| plain(e.as_ref()))?;
                return Err(super::message(&bytes));
            }
            let mut progress = JsonStream::new(response.into_body());
            while let Some(line) = progress.next().await.map_err(|e| plain(e.as_ref()))? {
                if let Some(error) = super::stream_error(&line) {
                    return Err(error);
                }
            }
            Ok(())
        };
        tokio::time::timeout(PULL, pull).await.unwrap_or_else(|_| Err(format!("no end within {} s", PULL.as_secs())))
    }
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
