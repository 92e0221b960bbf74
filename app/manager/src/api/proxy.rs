//! Forwarding a call to one engine, in that engine's version, for as long as the engine answers.

use super::{Answer, Api, Call, JSON_LIMIT};
use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
    stream::after,
};
use http::{Method, Response, StatusCode, Uri};
use osier_dockerapi::{convert::container_need, path::upstream, row::Row};
use osier_engine::{Body, BoxError, body::collect, forward, plain};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tracing::debug;

/// How long an engine may take to say what it knows already.
const READ: Duration = Duration::from_secs(30);

impl Api {
    /// Forwards the call under these path segments. The answer streams; an engine that is lost before it answers is
    /// an error of the call, not a wait without end.
    pub(super) async fn forward(&self, engine: &Arc<Engine>, mut call: Call, segments: &[&str]) -> Answer {
        let path = upstream(engine.api().nearest(call.version), segments, &call.raw_query);
        let uri: Uri = path.parse().map_err(|e| Refusal::bad_request(format!("form a path for the engine: {e}")))?;
        *call.request.uri_mut() = uri;
        let client = engine.client()?;
        let reads = reads(&call, segments);
        let answer = async {
            let answer = forward(&client, call.request, call.hijacker);
            if !reads {
                return Ok(answer.await);
            }
            tokio::time::timeout(READ, answer).await.map_err(|_| CallError::Deadline(READ))
        };
        let response = engine.while_healthy(answer).await?;
        if response.status() == StatusCode::BAD_GATEWAY {
            engine.suspect();
            return Ok(unanswered(engine, response).await.response());
        }
        Ok(response)
    }

    /// Forwards a call about one container, whose name the user may have written in many ways.
    pub(super) async fn forward_container(&self, call: Call, name: &str, rest: &[&str]) -> Result<Forwarded, Refusal> {
        let (engine, container) = self.cluster.reachable(name).await?;
        let need = container_need(call.request.method(), rest, &call.query, call.version);
        if let Some(need) = need.filter(|need| engine.api().nearest(call.version) < need.since) {
            return Err(Refusal::too_old(&engine, &need));
        }
        let id = container.row.id.clone();
        let word = engine_word(name, &engine.name(), &container.row);
        let mut segments = vec!["containers", word];
        segments.extend(rest);
        let response = self.forward(&engine, call, &segments).await?;
        Ok(Forwarded { engine, id, response })
    }
}

async fn read_again(engine: &Engine, container: &str) {
    if let Err(error) = engine.sync_container(container).await {
        debug!(node = engine.name(), container, error = error.chain(), "cannot read a changed container");
    }
}

/// Whether the call only asks what the engine knows: it has no reason to wait for anything. (Sizes are measured.)
fn reads(call: &Call, segments: &[&str]) -> bool {
    call.request.method() == Method::GET
        && matches!(segments, [.., "json" | "top" | "changes" | "history"] | ["networks" | "volumes", _])
        && !call.query.flag("size")
}

/// Says which node it was that gave no answer: the engine itself, or the one behind its node's proxy.
async fn unanswered(engine: &Engine, response: Response<Body>) -> Refusal {
    let bytes = tokio::time::timeout(READ, collect(response.into_body(), JSON_LIMIT)).await;
    let why = bytes.map_or_else(|e| e.to_string(), |b| b.map_or_else(|e| plain(e.as_ref()), |b| super::message(&b)));
    Refusal::new(StatusCode::BAD_GATEWAY, format!("node {} gave no answer: {why}", engine.name()))
}

/// Reads the whole JSON answer of an engine that has begun it.
pub(super) async fn read_json(engine: &Engine, response: Response<Body>) -> Result<Value, Refusal> {
    let bytes = tokio::time::timeout(READ, collect(response.into_body(), JSON_LIMIT)).await;
    let broken = |e: BoxError| {
        let message = format!("node {} gave no whole answer: {}", engine.name(), plain(e.as_ref()));
        Refusal::new(StatusCode::BAD_GATEWAY, message)
    };
    let bytes = bytes.map_err(|_| CallError::Deadline(READ))?.map_err(broken)?;
    serde_json::from_slice(&bytes).map_err(|e| broken(e.into()))
}

/// What the engine is to call a container: as its user did, without the node, so that its errors say the same word.
fn engine_word<'a>(word: &'a str, node: &str, row: &'a Row) -> &'a str {
    let word = word.strip_prefix('/').unwrap_or(word);
    let local = word.strip_prefix(node).and_then(|rest| rest.strip_prefix('/')).unwrap_or(word);
    let named = !local.contains('/') && row.names.iter().any(|name| name == local);
    if named || row.id.starts_with(local) { local } else { &row.id }
}

/// What an engine answered about one container.
pub(super) struct Forwarded {
    pub(super) engine: Arc<Engine>,
    pub(super) id: String,
    pub(super) response: Response<Body>,
}

impl Forwarded {
    /// The answer, once the cache knows what the call changed.
    pub(super) async fn refreshed(self) -> Answer {
        read_again(&self.engine, &self.id).await;
        Ok(self.response)
    }

    /// The answer to a wait, whose end is told once the cache knows what was waited for: who waited looks at the list next.
    pub(super) fn waited(self) -> Response<Body> {
        let Self { engine, id, response } = self;
        if !response.status().is_success() {
            return response;
        }
        response.map(|body| after(body, async move { read_again(&engine, &id).await }))
    }
}
