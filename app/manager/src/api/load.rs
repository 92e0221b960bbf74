//! Images that come in: pulls, imports and loads. They go to every engine that answers; one that fails neither stops nor
//! truncates what the others get, and the end says who failed.

use super::{
    Answer, Api, Call,
    images::{json_stream, refresh},
};
use crate::{engine::Engine, refusal::Refusal, stream::JsonStream};
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt;
use osier_dockerapi::path::upstream;
use osier_engine::{
    Body,
    body::{BodySender, channel, collect},
    empty,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long one engine may keep the others waiting for the next piece of an upload.
const STALLED: Duration = Duration::from_secs(30);

/// What one engine's part of the work came to: messages to be told once for the cluster, or what went wrong.
type Part = Result<Vec<String>, String>;

/// Where the client's progress goes.
#[derive(Clone)]
struct Progress {
    sender: BodySender,
    node: String,
    /// What is being done, such as `Pulling busybox:latest...`.
    doing: String,
}

impl Api {
    /// `POST /images/create`: a pull, or with `fromSrc` an import.
    pub(super) async fn image_create(&self, mut call: Call) -> Answer {
        if let Some(source) = call.query.get("fromSrc").map(str::to_owned) {
            let body = std::mem::replace(call.request.body_mut(), empty());
            let upload = (source == "-").then_some(body);
            return self.everywhere(call, &["images", "create"], "Importing...".into(), upload);
        }
        let image = call.query.get("fromImage").unwrap_or_default();
        let reference = match call.query.get("tag").unwrap_or_default() {
            "" => image.to_owned(),
            digest if digest.contains(':') => format!("{image}@{digest}"),
            tag => format!("{image}:{tag}"),
        };
        self.everywhere(call, &["images", "create"], format!("Pulling {reference}..."), None)
    }

    /// `POST /images/load`
    pub(super) async fn image_load(&self, mut call: Call) -> Answer {
        let body = std::mem::replace(call.request.body_mut(), empty());
        self.everywhere(call, &["images", "load"], "Loading image...".into(), Some(body))
    }

    fn everywhere(&self, call: Call, segments: &[&str], doing: String, upload: Option<Body>) -> Answer {
        let engines = self.cluster.healthy();
        if engines.is_empty() {
            return Err(self.cluster.any_healthy().err().unwrap_or_else(|| Refusal::internal("try again")));
        }
        let (sender, answer) = channel(64);
        let (mut feeds, mut parts) = (Vec::new(), Vec::new());
        for engine in &engines {
            let body = upload.as_ref().map(|_| channel(4)).map(|(feed, body)| {
                feeds.push((engine.clone(), feed));
                body
            });
            let path = upstream(engine.api().nearest(call.version), segments, &call.raw_query);
            let progress = Progress { sender: sender.clone(), node: engine.name(), doing: doing.clone() };
            parts.push(part(engine.clone(), path, headers(&call), body.unwrap_or_else(empty), progress));
        }
        tokio::spawn(async move {
            let work = async {
                let (parts, ()) = tokio::join!(join_all(parts), spread(upload, feeds));
                refresh(engines.iter()).await;
                conclude(&engines, parts, &sender).await;
            };
            // A client that goes away cancels everything, as it does with one engine.
            tokio::select! { () = work => {}, () = sender.closed() => {} }
        });
        Ok(json_stream(answer))
    }
}

/// The client's headers that an engine needs for this.
fn headers(call: &Call) -> HeaderMap {
    let names = [header::CONTENT_TYPE, http::HeaderName::from_static("x-registry-auth")];
    let known = names.into_iter().filter_map(|n| Some((n.clone(), call.request.headers().get(&n)?.clone())));
    known.collect()
}

/// Copies an upload to all engines. The slowest sets the pace; one that has gone or stalls is dropped.
async fn spread(upload: Option<Body>, mut feeds: Vec<(Arc<Engine>, BodySender)>) {
    let Some(mut upload) = upload else { return };
    while let Some(frame) = upload.frame().await {
        let chunk: Bytes = match frame.map(|f| f.into_data().ok()) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => continue,
            Err(error) => {
                // An upload that broke off must not look complete to any engine.
                let message = format!("read the client's upload: {error}");
                join_all(feeds.iter().map(|(_, feed)| feed.fail(message.clone()))).await;
                return;
            }
        };
        let sent = join_all(feeds.iter().map(|(engine, feed)| feed_one(engine, feed, chunk.clone()))).await;
        let mut sent = sent.into_iter();
        feeds.retain(|_| sent.next().unwrap_or(false));
        if feeds.is_empty() {
            return;
        }
    }
}

async fn feed_one(engine: &Engine, feed: &BodySender, chunk: Bytes) -> bool {
    tokio::select! {
        sent = tokio::time::timeout(STALLED, feed.send(chunk)) => match sent {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                feed.fail(format!("the engine took nothing for {} s", STALLED.as_secs())).await;
                false
            }
        },
        () = engine.lost() => false,
    }
}

/// One engine's part: the call, and its progress told under the node's name.
async fn part(engine: Arc<Engine>, path: String, headers: HeaderMap, body: Body, progress: Progress) -> Part {
    progress.tell(json!({})).await;
    let work = async {
        let client = engine.client().map_err(|e| e.chain())?;
        let mut request = Request::builder().method(Method::POST).uri(path).body(body).map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        let response = client.send(request).await.map_err(|e| e.chain())?;
        if !response.status().is_success() {
            let bytes = collect(response.into_body(), super::JSON_LIMIT).await.map_err(|e| e.to_string())?;
            let json: Option<Value> = serde_json::from_slice(&bytes).ok();
            let message = json.and_then(|v| v["message"].as_str().map(str::to_owned));
            return Err(message.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()));
        }
        let mut results = Vec::new();
        let mut stream = JsonStream::new(response.into_body());
        while let Some(line) = stream.next().await.map_err(|e| e.to_string())? {
            if let Some(error) = line["errorDetail"]["message"].as_str().or(line["error"].as_str()) {
                return Err(error.to_owned());
            }
            match line["stream"].as_str() {
                Some(result) => results.push(result.to_owned()),
                None => progress.tell(line).await,
            }
        }
        Ok(results)
    };
    let result = tokio::select! {
        result = work => result,
        () = engine.lost() => Err("the node was lost".to_owned()),
    };
    let end = match &result {
        Ok(_) => "done",
        Err(error) => error,
    };
    progress.tell(json!({ "status": end })).await;
    result
}

impl Progress {
    /// Tells a line of the engine's progress under the node's name.
    async fn tell(&self, mut line: Value) {
        let Some(object) = line.as_object_mut() else { return };
        let status = match object.get("status").and_then(Value::as_str) {
            Some(status) => format!("{} : {status}", self.doing),
            None => self.doing.clone(),
        };
        object.insert("status".into(), status.into());
        object.insert("id".into(), self.node.as_str().into());
        // A client that went away is noticed by whoever drives the whole work.
        let _ = self.sender.send(format!("{line}\n")).await;
    }
}

/// Tells each result once, and the failures at the end, as an engine does.
async fn conclude(engines: &[Arc<Engine>], parts: Vec<Part>, sender: &BodySender) {
    let results: BTreeSet<&String> = parts.iter().filter_map(|p| p.as_ref().ok()).flatten().collect();
    for result in results {
        let _ = sender.send(format!("{}\n", json!({ "stream": result }))).await;
    }
    let failed: Vec<(String, &String)> =
        engines.iter().zip(&parts).filter_map(|(e, p)| Some((e.name(), p.as_ref().err()?))).collect();
    let message = match failed.as_slice() {
        [] => return,
        all if all.len() == parts.len() && all.iter().all(|(_, e)| *e == all[0].1) => all[0].1.clone(),
        some => some.iter().map(|(node, e)| format!("{node}: {e}")).collect::<Vec<_>>().join("; "),
    };
    let trailer = json!({"errorDetail": {"code": 1, "message": message}, "error": message});
    let _ = sender.send(format!("{trailer}\n")).await;
}
