//! Images: one list for all nodes, and calls about one image to the nodes that have it.

use super::{
    Answer, Api, Call,
    fanout::{self, complete, successes},
    supersede::{Before, platform},
};
use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
};
use futures::future::join_all;
use http::{Method, Response, StatusCode};
use osier_dockerapi::{
    filters::Filters,
    image::{self, ListOptions, Reference},
    query::Query,
};
use osier_engine::json_response;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;

/// How long an engine may take to say whether it has an image.
const READ: Duration = Duration::from_secs(5);
/// How long it may take to measure all images.
const MEASURE: Duration = Duration::from_secs(120);
/// How long it may take to tag or remove an image.
const CHANGE: Duration = Duration::from_secs(60);
/// What of a list's query only engines can answer.
const MEASURED: [&str; 2] = ["shared-size", "manifests"];

impl Api {
    /// `GET /images/json`: from the cache, unless the client wants what engines have to measure.
    pub(super) async fn image_list(&self, call: Call) -> Answer {
        let options = ListOptions {
            all: call.query.flag("all"),
            version: call.version,
            legacy_filter: call.query.get("filter").map(str::to_owned),
            filters: Filters::parse(call.query.get("filters"))?,
            now: OffsetDateTime::now_utc().unix_timestamp_nanos(),
        };
        let mut query = Query::default();
        for key in MEASURED.into_iter().filter(|key| call.query.flag(key)) {
            query.set(key, "1");
        }
        let lists: Vec<(String, Arc<Vec<Arc<Value>>>)> = if query == Query::default() {
            self.cluster.engines().iter().map(|e| (e.name(), e.view().images.clone())).collect()
        } else {
            query.set("all", "1");
            let ask = fanout::Ask { version: call.version, query: &query.to_string(), ..fanout::Ask::get(MEASURE) };
            let answers = successes(self.ask_as(self.cluster.healthy(), &["images", "json"], ask).await)?;
            let rows = |list: Value| serde_json::from_value::<Vec<Value>>(list).unwrap_or_default();
            let shared = |list| Arc::new(rows(list).into_iter().map(Arc::new).collect());
            answers.into_iter().map(|(engine, list)| (engine.name(), shared(list))).collect()
        };
        let rows = lists.iter().flat_map(|(node, rows)| rows.iter().map(|row| (node.as_str(), row.as_ref())));
        Ok(json_response(StatusCode::OK, &image::list(rows, options)?))
    }

    /// The engines that answer and are known to have the image that a word means in the cluster.
    pub(super) fn engines_with_image(&self, word: &str) -> Vec<Arc<Engine>> {
        let engines = self.cluster.healthy();
        let images: Vec<_> = engines.iter().map(|e| e.view().images.clone()).collect();
        let lists: Vec<&[Arc<Value>]> = images.iter().map(|list| list.as_slice()).collect();
        let found = image::find_on(word, &lists);
        engines.into_iter().zip(found).filter_map(|(engine, found)| found.map(|_| engine)).collect()
    }

    /// The engines that answer and have this image. Where none is known to, all are asked: one may have got it a moment
    /// ago, and if not, the refusal is in an engine's own words.
    pub(super) async fn image_holders(&self, word: &str) -> Result<Vec<Arc<Engine>>, Refusal> {
        let known = self.engines_with_image(word);
        if !known.is_empty() {
            return Ok(known);
        }
        if self.cluster.healthy().iter().any(|e| image::find(word, &e.view().images).is_some()) {
            // Each of them would take the beginning of an id for another image: together they mean none.
            return Err(Refusal::not_found(format!("No such image: {}", Reference::parse(word).familiar())));
        }
        let asked = self.ask(self.cluster.healthy(), Method::GET, &image_path(word, &["json"]), "", None, READ).await;
        match successes(asked) {
            Ok(found) => {
                let engines: Vec<Arc<Engine>> = found.into_iter().map(|(engine, _)| engine).collect();
                refresh(engines.iter()).await;
                Ok(engines)
            }
            Err(mut refusal) => {
                let away = self.cluster.engines().into_iter().filter(|e| !e.is_healthy());
                let away = away.filter(|e| image::find(word, &e.view().images).is_some());
                let away: Vec<String> = away.map(|e| e.name()).collect();
                if !away.is_empty() {
                    refusal.message =
                        format!("{} (only unhealthy nodes have it: {})", refusal.message, away.join(", "));
                }
                Err(refusal)
            }
        }
    }

    /// A call about one image that any engine with it can answer.
    pub(super) async fn image_other(&self, call: Call, name: &str, segments: &[&str]) -> Answer {
        let holders = self.image_holders(name).await?;
        let first = holders.first().ok_or_else(|| Refusal::not_found(format!("No such image: {name}")))?;
        self.forward(first, call, segments).await
    }

    /// `GET /images/get`: from one engine that has them all.
    pub(super) async fn image_save(&self, call: Call) -> Answer {
        let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
        let mut places: Vec<Vec<Arc<Engine>>> = Vec::with_capacity(names.len());
        for name in &names {
            places.push(self.image_holders(name).await?);
        }
        let has_all = |engine: &Arc<Engine>| places.iter().all(|p| p.iter().any(|e| Arc::ptr_eq(e, engine)));
        let Some(engine) = self.cluster.healthy().into_iter().find(has_all) else {
            let told = names.iter().zip(&places).map(|(name, engines)| {
                let nodes: Vec<String> = engines.iter().map(|e| e.name()).collect();
                format!("{name} is on {}", nodes.join(", "))
            });
            return Err(Refusal::not_found(format!(
                "Unable to find a healthy engine containing all images: [{}] ({})",
                names.join(" "),
                told.collect::<Vec<_>>().join("; ")
            )));
        };
        self.forward(&engine, call, &["images", "get"]).await
    }

    /// `POST /images/{name}/tag`, wherever that image is. Where nodes that can run the same have different images of the
    /// name, the image of the first of them is meant, which `docker inspect` shows.
    pub(super) async fn image_tag(&self, call: Call, name: &str) -> Answer {
        let meant = one_image(name, self.image_holders(name).await?);
        let given = |key: &str| call.query.get(key).unwrap_or_default();
        let target = image::target(given("repo"), given("tag"));
        let tag = async |(id, engines): (String, Vec<Arc<Engine>>)| {
            let before: Vec<Before> = engines.iter().map(|engine| self.before(engine)).collect();
            let path = image_path(&id, &["tag"]);
            let answers = self.ask(engines, Method::POST, &path, &call.raw_query, None, CHANGE).await;
            refresh(answers.iter().map(|(engine, _)| engine)).await;
            // Also where some refuse: there, too, the name must not go on meaning what it meant.
            let tagged = answers.iter().zip(before).find(|((_, answer), _)| answer.is_ok());
            if let Some((_, before)) = tagged {
                before.settle(|name| name == target).await;
            }
            answers
        };
        complete(join_all(meant.into_iter().map(tag)).await.into_iter().flatten().collect(), "tagged", Vec::new())?;
        Ok(osier_engine::empty_response(StatusCode::CREATED))
    }

    /// `DELETE /images/{name}`, wherever the image is. The nodes that are known to use it are asked first, and where one
    /// of them refuses, the others keep it.
    pub(super) async fn image_remove(&self, call: Call, name: &str) -> Answer {
        let (engines, force) = (self.image_holders(name).await?, call.query.flag("force"));
        let (refusing, others): (Vec<_>, Vec<_>) = engines.into_iter().partition(|e| is_in_use(name, e, force));
        let remove = async |engines: Vec<Arc<Engine>>| {
            let (version, query) = (call.version, call.raw_query.as_str());
            let ask = fanout::Ask { version, method: Method::DELETE, query, ..fanout::Ask::get(CHANGE) };
            let answers = self.ask_as(engines, &image_path(name, &[]), ask).await;
            refresh(answers.iter().map(|(engine, _)| engine)).await;
            answers
        };
        let mut answers = remove(refusing).await;
        let left = match answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(|e| !is_missing(e))) {
            true => others.iter().map(|e| e.name()).collect(),
            false => {
                answers.extend(remove(others).await);
                Vec::new()
            }
        };
        // Where somebody else was faster, the image is as gone as it was to be.
        if answers.iter().any(|(_, answer)| answer.is_ok()) {
            answers.retain(|(_, answer)| !answer.as_ref().is_err_and(is_missing));
        }
        answers.sort_by_cached_key(|(engine, _)| engine.name());
        let removed = complete(answers, "removed", left)?.into_iter();
        let all: Vec<Value> = removed.filter_map(|(_, answer)| Some(answer.as_array()?.clone())).flatten().collect();
        let mut once: Vec<Value> = Vec::with_capacity(all.len());
        for entry in all {
            if !once.contains(&entry) {
                once.push(entry);
            }
        }
        Ok(json_response(StatusCode::OK, &once))
    }
}

/// Which of these engines have the image that a word means, by its id: for each kind of nodes that can run the same, the
/// image of the first.
fn one_image(word: &str, engines: Vec<Arc<Engine>>) -> Vec<(String, Vec<Arc<Engine>>)> {
    let mut kinds = Vec::new();
    let mut meant: Vec<(String, Vec<Arc<Engine>>)> = Vec::new();
    for engine in engines {
        // One that has it since a moment ago knows it by the same word.
        let own = image::find(word, &engine.view().images).map_or(word, image::id).to_owned();
        let kind = platform(&engine);
        match kinds.iter().position(|known| *known == kind) {
            Some(at) if meant[at].0 == own => meant[at].1.push(engine),
            Some(_) => {}
            None => {
                kinds.push(kind);
                meant.push((own, vec![engine]));
            }
        }
    }
    meant
}

/// Whether an engine has this image from a registry, or has put it into one, so that other nodes can pull it.
pub(super) fn is_pullable(word: &str, engine: &Engine) -> bool {
    image::find(word, &engine.view().images).is_some_and(image::is_from_registry)
}

/// Whether an engine would refuse to remove this image, as far as is known.
fn is_in_use(word: &str, engine: &Engine, force: bool) -> bool {
    let view = engine.view();
    let Some(row) = image::find(word, &view.images) else { return false };
    let (id, mut used) = (image::id(row), image::Use::default());
    for container in view.containers().filter(|c| c.row.image_id == id) {
        match container.row.state.as_str() {
            "running" | "paused" | "restarting" => used.running = true,
            _ => used.stopped = true,
        }
    }
    used.parent = view.images.iter().any(|image| image["ParentId"] == id);
    image::is_refused(word, row, used, force)
}

fn is_missing(error: &CallError) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}

/// The segments of a call about one image; the parts of its name are segments of their own, as clients write them.
pub(super) fn image_path<'a>(name: &'a str, call: &[&'a str]) -> Vec<&'a str> {
    ["images"].into_iter().chain(name.split('/')).chain(call.iter().copied()).collect()
}

/// Has the cache know what these engines' images are now. A failure is no failure of the call: events tell it again.
pub(super) async fn refresh<'a>(engines: impl Iterator<Item = &'a Arc<Engine>>) {
    join_all(engines.map(|e| e.sync_images())).await;
}

/// An answer that streams JSON, one value to a line.
pub(super) fn json_stream(body: osier_engine::Body) -> Response<osier_engine::Body> {
    let mut response = Response::new(body);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
