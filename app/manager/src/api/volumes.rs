//! Volumes. They live on their nodes; a name without a node means every node that has, or is to have, that volume.

use super::{
    Answer, Api, Call,
    fanout::{successes, unanimous},
    networks::set_body,
};
use crate::{engine::Engine, refusal::Refusal};
use http::{Method, StatusCode};
use osier_dockerapi::{filters::Filters, query::Query, volume};
use osier_engine::json_response;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// How long an engine may take to list or describe volumes.
const READ: Duration = Duration::from_secs(5);
/// How long it may take to make or remove one; drivers may have to talk to a storage system.
const CHANGE: Duration = Duration::from_secs(60);

impl Api {
    /// `GET /volumes`
    pub(super) async fn volume_list(&self, call: Call) -> Answer {
        let filters = Filters::parse(call.query.get("filters"))?;
        let mut query = Query::default();
        if let Some(dangling) = filters.boolean("dangling")? {
            query.set("filters", &json!({"dangling": [dangling.to_string()]}).to_string());
        }
        let answers = self.ask(self.cluster.healthy(), Method::GET, &["volumes"], &query.to_string(), None, READ).await;
        let lists: Vec<(String, Value)> = successes(answers)?.into_iter().map(|(e, list)| (e.name(), list)).collect();
        let volumes = lists.iter().flat_map(|(node, list)| {
            list["Volumes"].as_array().into_iter().flatten().map(|volume| (node.as_str(), volume))
        });
        Ok(json_response(StatusCode::OK, &volume::list(volumes, filters)?))
    }

    /// The engines that a volume's name may mean, and the name they know it by.
    fn volume_place<'a>(&self, name: &'a str) -> Result<(Vec<Arc<Engine>>, &'a str), Refusal> {
        match name.split_once('/') {
            Some((node, volume)) => match self.cluster.node(node) {
                Some(engine) => Ok((vec![engine], volume)),
                None => Err(Refusal::not_found(format!("No such volume: {name}"))),
            },
            None => Ok((self.cluster.healthy(), name)),
        }
    }

    /// The engines that have this volume, with what they say of it.
    async fn volume_holders(&self, name: &str) -> Result<(Vec<(Arc<Engine>, Value)>, String), Refusal> {
        let (engines, volume) = self.volume_place(name)?;
        let answers = self.ask(engines, Method::GET, &["volumes", volume], "", None, READ).await;
        let missing = |e: &Refusal| e.status == StatusCode::NOT_FOUND;
        match successes(answers) {
            Ok(holders) => Ok((holders, volume.to_owned())),
            Err(refusal) if missing(&refusal) => Err(Refusal::not_found(format!("No such volume: {name}"))),
            Err(refusal) => Err(refusal),
        }
    }

    /// `GET /volumes/{name}`
    pub(super) async fn volume_inspect(&self, _: Call, name: &str) -> Answer {
        let (mut holders, _) = self.volume_holders(name).await?;
        // A volume that is not local is the same everywhere; of several local ones the first node's is shown.
        holders.sort_by_key(|(_, volume)| volume["Driver"] == "local");
        let found = holders.into_iter().next().map(|(_, volume)| volume);
        let found = found.ok_or_else(|| Refusal::not_found(format!("No such volume: {name}")))?;
        Ok(json_response(StatusCode::OK, &found))
    }

    /// `POST /volumes/create`: on the node that the name tells, else on all, so that a container finds it wherever it
    /// goes.
    pub(super) async fn volume_create(&self, mut call: Call) -> Answer {
        let mut body = call.json().await?;
        let wanted = body["Name"].as_str().unwrap_or_default().to_owned();
        let (engines, name) = self.volume_place(&wanted)?;
        let name = if name.is_empty() { random_name() } else { name.to_owned() };
        body["Name"] = name.into();
        if let [engine] = engines.as_slice() {
            set_body(&mut call, &body);
            return self.forward(engine, call, &["volumes", "create"]).await;
        }
        let answers = self.ask(engines, Method::POST, &["volumes", "create"], "", Some(&body), CHANGE).await;
        let (_, volume) =
            unanimous(answers)?.into_iter().next().ok_or_else(|| Refusal::internal("no engine answered"))?;
        Ok(json_response(StatusCode::CREATED, &volume))
    }

    /// `DELETE /volumes/{name}`: wherever it is.
    pub(super) async fn volume_remove(&self, call: Call, name: &str) -> Answer {
        let (holders, volume) = self.volume_holders(name).await?;
        let engines = holders.into_iter().map(|(engine, _)| engine).collect();
        let answers = self.ask(engines, Method::DELETE, &["volumes", &volume], &call.raw_query, None, CHANGE).await;
        unanimous(answers)?;
        Ok(osier_engine::empty_response(StatusCode::NO_CONTENT))
    }
}

/// A name as engines make them: 64 hex digits.
fn random_name() -> String {
    rand::random::<[u8; 32]>().iter().map(|b| format!("{b:02x}")).collect()
}
