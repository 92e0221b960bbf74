//! Pruning: every engine that answers removes what it does not need, and the cluster adds up.

use super::{
    Answer, Api, Call,
    fanout::{add, successes},
    images::refresh,
};
use crate::{engine::Engine, refusal::Refusal};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_dockerapi::{filters::Filters, network::Local, query::Query, route::Prunable};
use osier_engine::json_response;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// How long an engine may take to prune.
const PRUNE: Duration = Duration::from_secs(600);
/// How long it may take to list or remove one network.
const NETWORK: Duration = Duration::from_secs(30);

impl Api {
    /// `POST /…/prune`
    pub(super) async fn prune(&self, call: Call, what: Prunable) -> Answer {
        if what == Prunable::Networks {
            return self.prune_networks(call).await;
        }
        let segments = [what.segment(), "prune"];
        let engines = self.cluster.healthy();
        let answers = self.ask(engines.clone(), Method::POST, &segments, &call.raw_query, None, PRUNE).await;
        if what == Prunable::Images {
            refresh(engines.iter()).await;
        }
        let mut total = Map::new();
        for (_, answer) in successes(answers)? {
            for (key, value) in answer.as_object().cloned().unwrap_or_default() {
                add(total.entry(key).or_insert(Value::Null), value);
            }
        }
        Ok(json_response(StatusCode::OK, &total))
    }

    /// Engines would also prune the cluster's networks wherever no container uses them just now; so unused networks are
    /// listed here, and only those of one node are removed.
    async fn prune_networks(&self, call: Call) -> Answer {
        let filters = Filters::parse(call.query.get("filters"))?.only(&["label", "label!"])?;
        let mut wanted = json!({"dangling": ["true"], "type": ["custom"]});
        for key in ["label", "label!"].into_iter().filter(|key| filters.has(key)) {
            wanted[key] = filters.get(key).collect();
        }
        let mut query = Query::default();
        query.set("filters", &wanted.to_string());
        let query = query.to_string();
        let removed = self.cluster.healthy().into_iter().map(|engine| prune_local(engine, &query));
        let removed: Vec<String> = join_all(removed).await.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        Ok(json_response(StatusCode::OK, &json!({ "NetworksDeleted": removed })))
    }
}

async fn prune_local(engine: Arc<Engine>, query: &str) -> Result<Vec<String>, Refusal> {
    let node = engine.name();
    let unused = engine.get(&["networks"], query, NETWORK).await?;
    let unused: Vec<Local<'_>> =
        unused.as_array().into_iter().flatten().map(|network| Local { node: &node, network }).collect();
    let mut removed = Vec::new();
    for network in unused.iter().filter(|n| !n.is_cluster_wide()) {
        // One that came into use in the meantime is refused by its engine, and stays.
        if engine.json(Method::DELETE, &["networks", network.id()], "", None, NETWORK).await.is_ok() {
            removed.push(format!("{node}/{}", network.name()));
        }
    }
    // Events tell it again; a failure here is no failure of the call.
    let _ = engine.sync_networks().await;
    Ok(removed)
}
