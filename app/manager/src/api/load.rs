//! Images that come in: pulls, imports and loads. They go to every engine that answers; one that fails neither stops nor
//! truncates what the others get, and the end says who failed.

use super::{
    Answer, Api, Call,
    fanout::joint,
    images::{json_stream, refresh},
    supersede::Before,
    transfer::{Errand, Part, Progress, Work, part, spread},
};
use crate::{engine::Engine, refusal::Refusal, stream::JsonStream};
use futures::future::join_all;
use http::{HeaderMap, Method, header};
use osier_dockerapi::{
    image::{self, Reference, platform_mismatch},
    path::upstream,
    query::Query,
    refusals::{self, Refused},
    version::MAX,
};
use osier_engine::{
    Body,
    body::{BodySender, channel},
    empty,
};
use osier_nodes::Availability;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tokio::{sync::mpsc, task::JoinSet};

impl Api {
    /// `POST /images/create`: a pull, or with `fromSrc` an import.
    pub(super) async fn image_create(&self, call: Call) -> Answer {
        if call.query.get("fromSrc").is_some() {
            return self.image_import(call).await;
        }
        let image = call.query.get("fromImage").unwrap_or_default();
        let reference = match call.query.get("tag").unwrap_or_default() {
            "" => image.to_owned(),
            digest if digest.contains(':') => format!("{image}@{digest}"),
            tag => format!("{image}:{tag}"),
        };
        let errand = Errand {
            verb: "Pull",
            doing: format!("Pulling {reference}..."),
            repository: Some(Reference::parse(&reference).repository().to_owned()),
        };
        self.everywhere(call, &["images", "create"], errand, None).await
    }

    /// `POST /images/load`
    pub(super) async fn image_load(&self, mut call: Call) -> Answer {
        let body = std::mem::replace(call.request.body_mut(), empty());
        let errand = Errand { verb: "Load", doing: "Loading image...".to_owned(), repository: None };
        self.everywhere(call, &["images", "load"], errand, Some(body)).await
    }

    /// Makes the same call to all engines that answer, and tells their progress as one. Where all of them refuse at
    /// once, so does this; else what went wrong where is told at the end of the progress.
    async fn everywhere(&self, call: Call, segments: &[&str], errand: Errand, upload: Option<Body>) -> Answer {
        let engines = self.cluster.supplied()?;
        // Nobody reads before one of them starts, and each may have a line to tell until then.
        let (sender, answer) = channel(64 + engines.len());
        let (started, mut starts) = mpsc::channel(1);
        let mut befores: Vec<Before> = engines.iter().map(|e| self.before(e)).collect();
        let (mut feeds, mut parts) = (Vec::new(), Vec::new());
        for engine in &engines {
            let path = upstream(engine.api().nearest(call.version), segments, &call.raw_query);
            let work = if upload.is_some() {
                let (work, feed) = Work::fed(engine.clone(), path, headers(&call));
                feeds.push(feed);
                work
            } else {
                Work::plain(engine.clone(), path, headers(&call))
            };
            let (sender, started, node) = (sender.clone(), started.clone(), engine.name());
            let progress = Progress { sender, node, errand: errand.clone(), started, layers: Default::default() };
            parts.push(part(work, Some(progress)));
        }
        drop(started);
        let upload = upload.unwrap_or_else(empty);
        // Dropping it ends the work, as when the client goes away.
        let mut work = JoinSet::new();
        work.spawn(async move { tokio::join!(join_all(parts), spread(upload, feeds)).0 });
        if starts.recv().await.is_none() {
            let parts = work.join_next().await.and_then(Result::ok).unwrap_or_default();
            let refused = engines.iter().zip(parts).filter_map(|(e, part)| Some((e.name(), part.err()?)));
            return Err(joint(refused.collect()));
        }
        let said = self.cluster.hub.state.read();
        let absent = |e: &Arc<Engine>| absent(e, said.availability(&e.name()), &errand.doing);
        let absent: Vec<Value> = self.cluster.engines().iter().filter_map(absent).collect();
        tokio::spawn(async move {
            let tell = async {
                for line in absent {
                    let _ = sender.send(format!("{line}\n")).await;
                }
                if let Some(Ok(parts)) = work.join_next().await {
                    refresh(engines.iter()).await;
                    if let Some(done) = parts.iter().position(Result::is_ok) {
                        let mine = |name: &str| {
                            errand.repository.as_deref().is_none_or(|r| Reference::parse(name).repository() == r)
                        };
                        befores.swap_remove(done).settle(mine).await;
                    }
                    conclude(&engines, parts, &sender).await;
                }
            };
            tokio::select! { () = tell => {}, () = sender.closed() => {} }
        });
        Ok(json_stream(answer))
    }

    /// An import makes an image of the current time, so two engines would make two images of one import. One engine
    /// makes it, the others get a copy.
    async fn image_import(&self, call: Call) -> Answer {
        let mut others = self.cluster.supplied()?;
        let engine = others.remove(0);
        let repository = call.query.get("repo").filter(|r| !r.is_empty());
        let name = repository.map(|r| image::target(r, call.query.get("tag").unwrap_or_default()));
        let before = self.before(&engine);
        let response = self.forward(&engine, call, &["images", "create"]).await?;
        if !response.status().is_success() {
            return Ok(response);
        }
        let (sender, answer) = channel(16);
        tokio::spawn(async move {
            let mut stream = JsonStream::new(response.into_body());
            let mut id = None;
            while let Ok(Some(line)) = stream.next().await {
                let status = line["status"].as_str().filter(|s| s.starts_with("sha256:"));
                id = status.map(str::to_owned).or(id);
                if sender.send(format!("{line}\n")).await.is_err() {
                    return;
                }
            }
            // Without an id the import failed, and the engine has told why.
            if let Some(image) = id.map(|id| name.unwrap_or(id)) {
                let parts = copy(&engine, &others, &image).await;
                before.settle(|given| given == image).await;
                refresh(others.iter().chain([&engine])).await;
                conclude(&others, parts, &sender).await;
            }
        });
        Ok(json_stream(answer))
    }
}

impl Api {
    /// Copies an image from one engine to another.
    pub(super) async fn copy_image(&self, from: &Arc<Engine>, to: &Arc<Engine>, image: &str) -> Result<(), Refusal> {
        let parts = copy(from, std::slice::from_ref(to), image).await;
        refresh([to].into_iter()).await;
        parts.into_iter().try_for_each(|part| part.map(drop))
    }
}

/// Copies an image from one engine to others.
async fn copy(from: &Arc<Engine>, to: &[Arc<Engine>], image: &str) -> Vec<Part> {
    let mut query = Query::default();
    query.set("names", image);
    let path = upstream(from.api().nearest(MAX), &["images", "get"], &query.to_string());
    let read = async { Ok(from.client()?.call(Method::GET, &path, None).await?) };
    let archive = match from.while_healthy(read).await {
        Ok(response) => response.into_body(),
        Err(error) => {
            let refusal = Refusal::from(error);
            return to.iter().map(|_| Err(refusal.clone())).collect();
        }
    };
    let (mut feeds, mut parts) = (Vec::new(), Vec::new());
    for engine in to {
        let path = upstream(engine.api().nearest(MAX), &["images", "load"], "quiet=1");
        let tar = HeaderMap::from_iter([(header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-tar"))]);
        let (work, feed) = Work::fed(engine.clone(), path, tar);
        feeds.push(feed);
        parts.push(part(work, None));
    }
    // What the copies say is the same as what the import said; only their failures are told.
    let (parts, ()) = tokio::join!(join_all(parts), spread(archive, feeds));
    parts.into_iter().map(|part| part.map(|_| Vec::new())).collect()
}

/// The client's headers that an engine needs for this.
fn headers(call: &Call) -> HeaderMap {
    let names = [header::CONTENT_TYPE, http::HeaderName::from_static("x-registry-auth")];
    let known = names.into_iter().filter_map(|n| Some((n.clone(), call.request.headers().get(&n)?.clone())));
    known.collect()
}

/// What is told of a node that takes no part because it does not answer or is drained.
fn absent(engine: &Engine, availability: Availability, doing: &str) -> Option<Value> {
    let error = engine.view().standing.trouble().map_or("not connected yet".to_owned(), |t| t.text.clone());
    let name = Some(engine.name()).filter(|name| !name.is_empty()).unwrap_or_else(|| engine.target.address());
    let why = match availability {
        _ if !engine.is_healthy() => format!("the node does not answer: {error}"),
        Availability::Drained => "the node is drained".to_owned(),
        Availability::Active | Availability::Cordoned => return None,
    };
    Some(json!({"id": name, "status": format!("{doing} : skipped, {why}")}))
}

/// Tells each result once, and the failures at the end, as an engine does. That an image is not for some of the nodes'
/// machines is no failure as long as others took it.
async fn conclude(engines: &[Arc<Engine>], parts: Vec<Part>, sender: &BodySender) {
    let results: BTreeSet<&String> = parts.iter().filter_map(|p| p.as_ref().ok()).flatten().collect();
    for result in results {
        let _ = sender.send(format!("{}\n", json!({ "stream": result }))).await;
    }
    let some_took_it = parts.iter().any(Result::is_ok);
    let is_failure = |error: &Refusal| !some_took_it || platform_mismatch(&error.message).is_none();
    let failed = engines.iter().zip(&parts).filter_map(|(e, p)| Some((e.name(), p.as_ref().err()?)));
    let failed: Vec<(String, &Refusal)> = failed.filter(|(_, error)| is_failure(error)).collect();
    if failed.is_empty() {
        return;
    }
    let refused: Vec<Refused<'_>> = failed.iter().map(|(node, refusal)| refusal.of(node)).collect();
    let message = refusals::words(&refused, failed.len() == parts.len()).join("; ");
    let trailer = json!({"errorDetail": {"code": 1, "message": message}, "error": message});
    let _ = sender.send(format!("{trailer}\n")).await;
}
