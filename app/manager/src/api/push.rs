//! Pushing: from a node that has the image, or, for all tags of a repository that no single node has, from several.

use super::{
    Answer, Api, Call,
    images::{image_path, json_stream},
};
use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
    stream::JsonStream,
};
use http::{HeaderMap, HeaderName, Method, Request};
use osier_dockerapi::{
    image::{Reference, push_plan, tags_of},
    path::upstream,
    query::Query,
    version::ApiVersion,
};
use osier_engine::{
    BoxError,
    body::{BodySender, channel, collect},
    empty, plain,
};
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc};

/// One node's part of a push.
struct Part {
    engine: Arc<Engine>,
    path: String,
}

impl Api {
    /// `POST /images/{name}/push`: with `tag` that image, without it every tag of the repository.
    pub(super) async fn image_push(&self, call: Call, name: &str) -> Answer {
        let segments = image_path(name, &["push"]);
        let tag = call.query.get("tag").unwrap_or_default().to_owned();
        if !tag.is_empty() || Reference::parse(name).is_tagged() {
            let word = if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") };
            // What no node has is an engine's to refuse, in its words for a push.
            let holder = self.image_holders(&word).await.ok().and_then(|holders| holders.into_iter().next());
            let engine = holder.map_or_else(|| self.cluster.any_healthy(), Ok)?;
            return self.forward(&engine, call, &segments).await;
        }
        let engines = self.cluster.healthy();
        let tags: Vec<BTreeSet<String>> = engines.iter().map(|e| tags_of(name, &e.view().images)).collect();
        let plan = push_plan(&tags);
        let parts: Vec<Part> = plan
            .iter()
            .map(|step| Part {
                engine: engines[step.node].clone(),
                path: path(&engines[step.node], call.version, &segments, &call.query, step.tag),
            })
            .collect();
        match parts.as_slice() {
            [] => self.forward(&self.cluster.any_healthy()?, call, &segments).await,
            [only] => self.forward(&only.engine, call, &segments).await,
            _ => {
                let (sender, answer) = channel(16);
                let headers = credentials(&call);
                tokio::spawn(async move {
                    let work = push_all(parts, headers, &sender);
                    tokio::select! { () = work => {}, () = sender.closed() => {} }
                });
                Ok(json_stream(answer))
            }
        }
    }
}

fn path(engine: &Engine, version: ApiVersion, segments: &[&str], query: &Query, tag: Option<&str>) -> String {
    let mut query = query.clone();
    if let Some(tag) = tag {
        query.set("tag", tag);
    }
    upstream(engine.api().nearest(version), segments, &query.to_string())
}

fn credentials(call: &Call) -> HeaderMap {
    let name = HeaderName::from_static("x-registry-auth");
    call.request.headers().get(&name).map(|value| (name, value.clone())).into_iter().collect()
}

/// One node after the other: registries like it, and the client reads one push at a time. The first failure is the last
/// word.
async fn push_all(parts: Vec<Part>, headers: HeaderMap, sender: &BodySender) {
    for Part { engine, path } in parts {
        let pushed = tokio::select! {
            pushed = push(&engine, &path, &headers, sender) => pushed,
            lost = engine.lost() => Err(lost.into()),
        };
        if let Err(Refusal { message, .. }) = pushed {
            let message = format!("{}: {message}", engine.name());
            let line = json!({"errorDetail": {"code": 1, "message": message}, "error": message});
            let _ = sender.send(format!("{line}\n")).await;
            return;
        }
    }
}

async fn push(engine: &Engine, path: &str, headers: &HeaderMap, sender: &BodySender) -> Result<(), Refusal> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .body(empty())
        .map_err(|e| Refusal::internal(format!("form a path for the engine: {e}")))?;
    *request.headers_mut() = headers.clone();
    let response = engine.client()?.send(request).await.map_err(CallError::Client)?;
    if !response.status().is_success() {
        let status = response.status();
        let bytes = collect(response.into_body(), super::JSON_LIMIT).await;
        return Err(Refusal::new(status, bytes.map_or_else(|e| plain(e.as_ref()), |b| super::message(&b))));
    }
    let mut progress = JsonStream::new(response.into_body());
    let read = |e: BoxError| Refusal::internal(format!("read the engine's progress: {}", plain(e.as_ref())));
    while let Some(line) = progress.next().await.map_err(read)? {
        if let Some(error) = super::stream_error(&line) {
            return Err(Refusal::internal(error));
        }
        // That the client is gone is seen by whoever drives the push.
        let _ = sender.send(format!("{line}\n")).await;
    }
    Ok(())
}
