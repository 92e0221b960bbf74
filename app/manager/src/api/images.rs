//! Images: one list for all nodes, calls about one image to the nodes that have it, and pulls to all.

use super::{
    Answer, Api, Call,
    fanout::{add, successes, unanimous},
};
use crate::{engine::Engine, refusal::Refusal};
use futures::future::join_all;
use http::{Method, Response, StatusCode};
use osier_dockerapi::{filters::Filters, image};
use osier_engine::json_response;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How long an engine may take to tag or remove an image.
const CHANGE: Duration = Duration::from_secs(60);

impl Api {
    /// `GET /images/json`, from the cache.
    pub(super) fn image_list(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.query.get("filters"))?;
        let lists: Vec<(String, Arc<Vec<Arc<Value>>>)> =
            self.cluster.engines().iter().map(|e| (e.name(), e.view().images.clone())).collect();
        let rows = lists.iter().flat_map(|(node, rows)| rows.iter().map(|row| (node.as_str(), row.as_ref())));
        let list = image::list(rows, call.query.flag("all"), filters)?;
        Ok(json_response(StatusCode::OK, &list))
    }

    /// The engines that answer and have this image.
    pub(super) fn engines_with_image(&self, word: &str) -> Vec<Arc<Engine>> {
        let mut engines = self.cluster.healthy();
        engines.retain(|e| image::find(word, &e.view().images).is_some());
        engines
    }

    /// An engine that has this image.
    pub(super) fn engine_with_image(&self, word: &str) -> Result<Arc<Engine>, Refusal> {
        let found = self.engines_with_image(word).into_iter().next();
        found.ok_or_else(|| Refusal::not_found(format!("No such image: {word}")))
    }

    /// `GET /images/get`: from one engine that has them all.
    pub(super) async fn image_save(&self, call: Call) -> Answer {
        let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
        let mut engines = self.cluster.healthy();
        engines.retain(|e| names.iter().all(|n| image::find(n, &e.view().images).is_some()));
        let missing = || format!("Unable to find a healthy engine containing all images: [{}]", names.join(" "));
        let engine = engines.into_iter().next().ok_or_else(|| Refusal::not_found(missing()))?;
        self.forward(&engine, call, &["images", "get"]).await
    }

    /// `POST /images/{name}/tag`, wherever the image is.
    pub(super) async fn image_tag(&self, call: Call, name: &str) -> Answer {
        self.engine_with_image(name)?;
        let engines = self.engines_with_image(name);
        let answers = self.ask(engines, Method::POST, &["images", name, "tag"], &call.raw_query, None, CHANGE).await;
        let tagged = unanimous(answers)?;
        refresh(tagged.iter().map(|(engine, _)| engine)).await;
        Ok(osier_engine::empty_response(StatusCode::CREATED))
    }

    /// `DELETE /images/{name}`, wherever the image is.
    pub(super) async fn image_remove(&self, call: Call, name: &str) -> Answer {
        self.engine_with_image(name)?;
        let engines = self.engines_with_image(name);
        let answers = self.ask(engines.clone(), Method::DELETE, &["images", name], &call.raw_query, None, CHANGE).await;
        refresh(engines.iter()).await;
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

    /// `GET /system/df`: the engines' answers added up.
    pub(super) async fn disk_usage(&self, call: Call) -> Answer {
        let engines = self.cluster.healthy();
        let asked = self.ask(engines, Method::GET, &["system", "df"], &call.raw_query, None, CHANGE).await;
        let mut total = serde_json::Map::new();
        for (engine, answer) in successes(asked)? {
            let node = engine.name();
            for (key, mut value) in answer.as_object().cloned().unwrap_or_default() {
                qualify(&key, &mut value, &node);
                match total.get_mut(&key) {
                    None => drop(total.insert(key, value)),
                    Some(sum) => add(sum, value),
                }
            }
        }
        Ok(json_response(StatusCode::OK, &total))
    }
}

/// Names of containers carry their node, as in the list of containers.
fn qualify(key: &str, value: &mut Value, node: &str) {
    if key != "Containers" {
        return;
    }
    let names = value.as_array_mut().into_iter().flatten().filter_map(|c| c["Names"].as_array_mut());
    for name in names.flatten() {
        if let Some(text) = name.as_str() {
            *name = format!("/{node}{text}").into();
        }
    }
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
