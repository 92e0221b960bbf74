//! Images: one list for all nodes, and calls about one image to the nodes that have it.

use super::{
    Answer, Api, Call,
    fanout::{self, successes, unanimous},
};
use crate::{engine::Engine, refusal::Refusal};
use futures::future::join_all;
use http::{Method, Response, StatusCode};
use osier_dockerapi::{
    filters::Filters,
    image::{self, ListOptions},
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

    /// The engines that answer and are known to have this image.
    pub(super) fn engines_with_image(&self, word: &str) -> Vec<Arc<Engine>> {
        let mut engines = self.cluster.healthy();
        engines.retain(|e| image::find(word, &e.view().images).is_some());
        engines
    }

    /// The engines that answer and have this image. Where none is known to, all are asked: one may have got it a moment
    /// ago, and if not, the refusal is in an engine's own words.
    pub(super) async fn image_holders(&self, word: &str) -> Result<Vec<Arc<Engine>>, Refusal> {
        let known = self.engines_with_image(word);
        if !known.is_empty() {
            return Ok(known);
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

    /// `POST /images/{name}/tag`, wherever the image is.
    pub(super) async fn image_tag(&self, call: Call, name: &str) -> Answer {
        let engines = self.image_holders(name).await?;
        let given = |key: &str| call.query.get(key).unwrap_or_default();
        let target = image::target(given("repo"), given("tag"));
        let before = engines.first().map(|engine| self.before(engine));
        let answers = self.ask(engines, Method::POST, &image_path(name, &["tag"]), &call.raw_query, None, CHANGE).await;
        let tagged = unanimous(answers)?;
        refresh(tagged.iter().map(|(engine, _)| engine)).await;
        if let Some(before) = before {
            before.settle(|name| name == target).await;
        }
        Ok(osier_engine::empty_response(StatusCode::CREATED))
    }

    /// `DELETE /images/{name}`, wherever the image is.
    pub(super) async fn image_remove(&self, call: Call, name: &str) -> Answer {
        let engines = self.image_holders(name).await?;
        let ask = fanout::Ask {
            version: call.version,
            method: Method::DELETE,
            query: &call.raw_query,
            ..fanout::Ask::get(CHANGE)
        };
        let mut answers = self.ask_as(engines.clone(), &image_path(name, &[]), ask).await;
        refresh(engines.iter()).await;
        // Where somebody else was faster, the image is as gone as it was to be.
        if answers.iter().any(|(_, answer)| answer.is_ok()) {
            answers.retain(|(_, answer)| !answer.as_ref().is_err_and(|e| e.status() == Some(StatusCode::NOT_FOUND)));
        }
        let removed = unanimous(answers)?.into_iter();
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
