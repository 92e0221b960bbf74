//! One upload to many engines: every engine has a pipe of its own, so that one which fails or stalls is dropped without
//! truncating what the others get.

use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
    stream::JsonStream,
};
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use osier_dockerapi::image;
use osier_engine::{
    Body, BoxError,
    body::{BodySender, channel, collect},
    empty, plain,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};

/// How long one engine may keep the others waiting for the next piece of an upload.
const STALLED: Duration = Duration::from_secs(30);

/// What one engine's part of the work came to: messages to be told once for the cluster, or what went wrong.
pub(super) type Part = Result<Vec<String>, Refusal>;

/// What is done on all engines, in the words of the progress.
#[derive(Clone)]
pub(super) struct Errand {
    /// `Pull`, `Load` or `Import`.
    pub(super) verb: &'static str,
    /// What is being done, such as `Pulling busybox:latest...`.
    pub(super) doing: String,
    /// The repository of the images that come; any where there is none.
    pub(super) repository: Option<String>,
}

/// Where one engine's progress is told to the client.
pub(super) struct Progress {
    pub(super) sender: BodySender,
    pub(super) node: String,
    pub(super) errand: Errand,
    /// Told once the engine has taken the work on.
    pub(super) started: mpsc::Sender<()>,
    pub(super) layers: image::Progress,
}

impl Progress {
    /// Tells that the engine has begun.
    async fn start(&self) {
        // One word is enough for whoever waits.
        let _ = self.started.try_send(());
        self.tell(None, None).await;
    }

    /// Tells a line of the engine's progress, as far as it says something new about the node.
    async fn line(&mut self, line: &Value) {
        if let Some(told) = self.layers.take(line) {
            self.tell(Some(&told.status), told.done).await;
        }
    }

    /// Tells how it ended.
    async fn end(&self, part: &Part) {
        match part {
            Ok(_) => self.tell(Some("done"), None).await,
            Err(error) => match image::platform_mismatch(&error.message) {
                Some(why) => self.send(format!("{} skipped because {why}", self.errand.verb), None).await,
                None => self.tell(Some(&error.message), None).await,
            },
        }
    }

    async fn tell(&self, status: Option<&str>, done: Option<(u64, u64)>) {
        let doing = &self.errand.doing;
        let status = status.map_or_else(|| doing.clone(), |status| format!("{doing} : {status}"));
        self.send(status, done).await;
    }

    async fn send(&self, status: String, done: Option<(u64, u64)>) {
        let mut line = json!({"id": self.node, "status": status});
        if let Some((current, total)) = done {
            line["progressDetail"] = json!({"current": current, "total": total});
        }
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
pub(super) async fn part(work: Work, mut progress: Option<Progress>) -> Part {
    let Work { engine, path, headers, body, broken } = work;
    let stalled = || Refusal::internal(format!("the node took nothing of the upload for {} s", STALLED.as_secs()));
    let result = tokio::select! {
        biased;
        lost = engine.lost() => Err(lost.into()),
        () = broken.notified() => Err(stalled()),
        result = carry_out(&engine, path, headers, body, &mut progress) => result,
    };
    if let Some(progress) = &progress {
        progress.end(&result).await;
    }
    result
}

async fn carry_out(
    engine: &Engine,
    path: String,
    headers: HeaderMap,
    body: Body,
    progress: &mut Option<Progress>,
) -> Part {
    let formed = Request::builder().method(Method::POST).uri(path).body(body);
    let mut request = formed.map_err(|e| Refusal::internal(format!("form a request for the engine: {e}")))?;
    *request.headers_mut() = headers;
    let read = |e: BoxError| Refusal::internal(format!("read the engine's answer: {}", plain(e.as_ref())));
    let response = engine.client()?.send(request).await.map_err(CallError::Client)?;
    if !response.status().is_success() {
        let status = response.status();
        let bytes = collect(response.into_body(), super::JSON_LIMIT).await.map_err(read)?;
        return Err(Refusal::new(status, super::message(&bytes)));
    }
    if let Some(progress) = progress {
        progress.start().await;
    }
    let mut results = Vec::new();
    let mut stream = JsonStream::new(response.into_body());
    while let Some(line) = stream.next().await.map_err(read)? {
        if let Some(error) = super::stream_error(&line) {
            return Err(Refusal::internal(error));
        }
        match (line["stream"].as_str(), &mut *progress) {
            (Some(result), _) => results.push(result.to_owned()),
            (None, Some(progress)) => progress.line(&line).await,
            (None, None) => {}
        }
    }
    Ok(results)
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
