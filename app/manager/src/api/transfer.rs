//! One upload to many engines: every engine has a pipe of its own, so that one which fails or stalls is dropped without
//! truncating what the others get.

use crate::{engine::Engine, stream::JsonStream};
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use osier_engine::{
    Body,
    body::{BodySender, channel, collect},
    empty,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// How long one engine may keep the others waiting for the next piece of an upload.
const STALLED: Duration = Duration::from_secs(30);

/// What one engine's part of the work came to: messages to be told once for the cluster, or what went wrong.
pub(super) type Part = Result<Vec<String>, String>;

/// Where one engine's progress is told to the client.
pub(super) struct Progress {
    pub(super) sender: BodySender,
    pub(super) node: String,
    /// What is being done, such as `Pulling busybox:latest...`.
    pub(super) doing: String,
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

/// One engine's end of an upload.
pub(super) struct Feed {
    sender: BodySender,
    /// Tells the engine's part that it gets no more, so that it gives up instead of taking the end for the end.
    broken: Arc<Notify>,
    alive: bool,
}

/// What an engine's part of the work is made of.
pub(super) struct Work {
    pub(super) engine: Arc<Engine>,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    body: Body,
    broken: Arc<Notify>,
}

impl Work {
    /// A call without an upload.
    pub(super) fn plain(engine: Arc<Engine>, path: String, headers: HeaderMap) -> Self {
        Self { engine, path, headers, body: empty(), broken: Arc::default() }
    }

    /// A call with an upload, and where to feed it.
    pub(super) fn fed(engine: Arc<Engine>, path: String, headers: HeaderMap) -> (Self, Feed) {
        let (sender, body) = channel(4);
        let broken = Arc::new(Notify::new());
        let feed = Feed { sender, broken: broken.clone(), alive: true };
        (Self { engine, path, headers, body, broken }, feed)
    }
}

/// Does one engine's part and tells its progress.
pub(super) async fn part(work: Work, progress: Option<Progress>) -> Part {
    let Work { engine, path, headers, body, broken } = work;
    let tell = async |line: Value| {
        if let Some(progress) = &progress {
            progress.tell(line).await;
        }
    };
    tell(json!({})).await;
    let work = async {
        let mut request = Request::builder().method(Method::POST).uri(path).body(body).map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        let client = engine.client().map_err(|e| e.chain())?;
        let response = client.send(request).await.map_err(|e| e.chain())?;
        if !response.status().is_success() {
            let bytes = collect(response.into_body(), super::JSON_LIMIT).await.map_err(|e| e.to_string())?;
            return Err(super::message(&bytes));
        }
        let mut results = Vec::new();
        let mut stream = JsonStream::new(response.into_body());
        while let Some(line) = stream.next().await.map_err(|e| e.to_string())? {
            if let Some(error) = super::stream_error(&line) {
                return Err(error);
            }
            match line["stream"].as_str() {
                Some(result) => results.push(result.to_owned()),
                None => tell(line).await,
            }
        }
        Ok(results)
    };
    let result = tokio::select! {
        biased;
        lost = engine.lost() => Err(lost.chain()),
        () = broken.notified() => Err(format!("the node took nothing of the upload for {} s", STALLED.as_secs())),
        result = work => result,
    };
    let end = match &result {
        Ok(_) => "done",
        Err(error) => error,
    };
    tell(json!({ "status": end })).await;
    result
}

/// Copies an upload to all engines. The slowest sets the pace; one that is gone or stalls is dropped.
pub(super) async fn spread(mut upload: Body, mut feeds: Vec<Feed>) {
    while let Some(frame) = upload.frame().await {
        let chunk: Bytes = match frame.map(|f| f.into_data().ok()) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => continue,
            Err(error) => {
                // An upload that broke off must not look complete to any engine.
                let message = format!("read the upload: {error}");
                join_all(feeds.iter().map(|feed| feed.sender.fail(message.clone()))).await;
                return;
            }
        };
        join_all(feeds.iter_mut().filter(|f| f.alive).map(|feed| feed.send(chunk.clone()))).await;
        if !feeds.iter().any(|f| f.alive) {
            return;
        }
    }
}

impl Feed {
    async fn send(&mut self, chunk: Bytes) {
        // An engine that is lost ends its part by itself, which ends this.
        match tokio::time::timeout(STALLED, self.sender.send(chunk)).await {
            // One that reads no more has answered or failed, and its part knows how.
            Ok(sent) => self.alive = sent.is_ok(),
            Err(_) => {
                self.alive = false;
                self.broken.notify_one();
            }
        }
    }
}
