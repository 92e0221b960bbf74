//! Pruning and disk usage: every engine that answers tells or removes what it has, and the cluster adds up.

use super::{
    Answer, Api, Call,
    fanout::{Ask, successes},
    images::refresh,
    networks::has_network,
};
use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_dockerapi::{
    convert::{VolumePrune, prunes_named_volumes, volume_prune},
    filters::Filters,
    moment,
    network::Local,
    query::Query,
    route::Prunable,
    row::labels,
    totals,
    version::ApiVersion,
};
use osier_engine::{Error as ClientError, json_response};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use time::OffsetDateTime;

/// How long an engine may take to prune.
const PRUNE: Duration = Duration::from_secs(600);
/// How long an engine that prunes already is left alone.
const BUSY: Duration = Duration::from_millis(100);
/// How long it may take to measure its disk usage.
const MEASURE: Duration = Duration::from_secs(120);
/// How long it may take to list or remove one network.
const NETWORK: Duration = Duration::from_secs(30);

impl Api {
    /// `POST /…/prune`
    pub(super) async fn prune(&self, call: Call, what: Prunable) -> Answer {
        match what {
            Prunable::Networks => return self.prune_networks(call).await,
            Prunable::Volumes => return self.prune_volumes(call).await,
            _ => {}
        }
        let segments = [what.segment(), "prune"];
        let engines = self.cluster.healthy();
        let pruned = engines.iter().map(|engine| {
            let (version, query) = (call.version, &call.raw_query);
            async move { (engine.clone(), prune_engine(engine, version, &segments, query).await) }
        });
        let answers = successes(join_all(pruned).await)?;
        // Events tell it too; but whoever asks next is to see it.
        match what {
            Prunable::Images | Prunable::Build => refresh(engines.iter()).await,
            _ => answers.iter().for_each(|(engine, answer)| forget_containers(engine, answer)),
        }
        let answers: Vec<(String, Value)> = answers.into_iter().map(|(e, answer)| (e.name(), answer)).collect();
        let total = totals::pruned(answers.iter().map(|(node, answer)| (node.as_str(), answer.clone())));
        Ok(json_response(StatusCode::OK, &total))
    }

    /// What a client means by it depends on its version, and not every engine can be told so.
    async fn prune_volumes(&self, call: Call) -> Answer {
        let filters = Filters::parse(call.query.get("filters"))?.only(&["all", "label", "label!"])?;
        let pruned = self.cluster.healthy().into_iter().map(|engine| {
            let plan = volume_prune(&call.query, call.version, engine.api().nearest(call.version));
            let (version, filters) = (call.version, &filters);
            async move {
                let answer = match plan {
                    VolumePrune::Ask(query) => {
                        prune_engine(&engine, version, &["volumes", "prune"], &query.to_string()).await
                    }
                    VolumePrune::OneByOne => prune_anonymous(&engine, filters).await,
                };
                (engine, answer)
            }
        });
        let answers = successes(join_all(pruned).await)?;
        let answers: Vec<(String, Value)> = answers.into_iter().map(|(e, answer)| (e.name(), answer)).collect();
        let mut total = totals::pruned(answers.iter().map(|(node, answer)| (node.as_str(), answer.clone())));
        let declared = prunes_named_volumes(&filters, call.version).then_some(&filters);
        self.forget_volumes(&mut total["VolumesDeleted"], declared).await?;
        Ok(json_response(StatusCode::OK, &total))
    }

    /// `GET /system/df`: the engines' answers added up. What is on two nodes takes its space twice.
    pub(super) async fn disk_usage(&self, call: Call) -> Answer {
        let asked: Vec<&str> = call.query.all("type").collect();
        if let Some(unknown) = totals::unknown_part(asked.iter().copied()) {
            return Err(Refusal::bad_request(format!("unknown object type: {unknown}")));
        }
        let ask = Ask { version: call.version, query: &call.raw_query, ..Ask::get(MEASURE) };
        let answers = successes(self.ask_as(self.cluster.healthy(), &["system", "df"], ask).await)?;
        let answers: Vec<(String, Value)> = answers.into_iter().map(|(e, answer)| (e.name(), answer)).collect();
        let total = totals::disk_usage(answers.iter().map(|(node, answer)| (node.as_str(), answer.clone())), &asked);
        Ok(json_response(StatusCode::OK, &total))
    }

    /// Engines would also prune the cluster's networks wherever no container uses them just now; so unused networks are
    /// listed here: those of one node are removed there, and those of the cluster where no node uses them.
    async fn prune_networks(&self, call: Call) -> Answer {
        let filters = Filters::parse(call.query.get("filters"))?.only(&["label", "label!", "until"])?;
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let until = filters.get("until").next().map(|text| {
            moment::parse(text, now).ok_or_else(|| Refusal::bad_request(format!("invalid filter 'until={text}'")))
        });
        let until = until.transpose()?;
        let mut wanted = json!({"dangling": ["true"], "type": ["custom"]});
        for key in ["label", "label!"].into_iter().filter(|key| filters.has(key)) {
            wanted[key] = filters.get(key).collect();
        }
        let mut query = Query::default();
        query.set("filters", &wanted.to_string());
        let query = query.to_string();
        let removed = self.cluster.healthy().into_iter().map(|engine| prune_local(engine, &query, until));
        let pruned: Vec<Pruned> = join_all(removed).await.into_iter().collect::<Result<_, _>>()?;
        let (mut removed, mut unused) = (Vec::new(), BTreeMap::<String, usize>::new());
        for Pruned { local, cluster_wide } in pruned {
            removed.extend(local);
            cluster_wide.into_iter().for_each(|name| *unused.entry(name).or_default() += 1);
        }
        // A node that does not answer may have containers on any of them.
        let everybody = self.cluster.engines().iter().all(|engine| engine.is_healthy());
        for (name, nodes) in unused.into_iter().filter(|_| everybody) {
            let engines: Vec<Arc<Engine>> = self.cluster.healthy();
            let with = engines.into_iter().filter(|engine| has_network(engine, &name)).collect::<Vec<_>>();
            // One that came into use in the meantime is refused by its agent, and stays.
            if with.len() == nodes && self.remove_everywhere(&name, with).await.is_ok() {
                removed.push(name);
            }
        }
        Ok(json_response(StatusCode::OK, &json!({ "NetworksDeleted": removed })))
    }
}

/// Has one engine prune. It prunes one thing of a kind at a time and refuses whoever else comes meanwhile; that is waited
/// for, or a cluster whose engines are busy in turn would prune by half and not say so.
async fn prune_engine(
    engine: &Engine,
    version: ApiVersion,
    segments: &[&str],
    query: &str,
) -> Result<Value, CallError> {
    let pruned = async {
        loop {
            let answer = engine.json_as(version, Method::POST, segments, query, None, PRUNE).await;
            if !answer.as_ref().is_err_and(is_pruning) {
                return answer;
            }
            tokio::time::sleep(BUSY).await;
        }
    };
    let pruned = async { tokio::time::timeout(PRUNE, pruned).await.map_err(|_| CallError::Deadline(PRUNE))? };
    engine.while_healthy(pruned).await
}

fn is_pruning(error: &CallError) -> bool {
    matches!(error, CallError::Client(ClientError::Engine { status: StatusCode::CONFLICT, message })
        if message.contains("prune operation is already running"))
}

fn forget_containers(engine: &Engine, answer: &Value) {
    let ids = answer["ContainersDeleted"].as_array().into_iter().flatten();
    ids.filter_map(Value::as_str).for_each(|id| engine.forget_container(id));
}

/// Removes the unused volumes that nobody named, on an engine that would take all.
async fn prune_anonymous(engine: &Engine, filters: &Filters) -> Result<Value, CallError> {
    let mut query = Query::default();
    query.set("filters", &json!({"dangling": ["true"], "driver": ["local"]}).to_string());
    let unused = engine.get(&["volumes"], &query.to_string(), NETWORK).await?;
    let wanted = |volume: &&Value| {
        let labels = labels(volume.get("Labels"));
        filters.labels("label", |name| labels.get(name).map(String::as_str))
    };
    let unused = unused["Volumes"].as_array().into_iter().flatten().filter(wanted);
    let names = unused.filter_map(|v| v["Name"].as_str());
    let mut removed = Vec::new();
    for name in names.filter(|name| is_anonymous(name)) {
        // One that came into use in the meantime is refused by its engine, and stays.
        if engine.json(Method::DELETE, &["volumes", name], "", None, NETWORK).await.is_ok() {
            removed.push(name.to_owned());
        }
    }
    // These engines do not tell what it freed.
    Ok(json!({"VolumesDeleted": removed, "SpaceReclaimed": 0}))
}

/// Engines before API 1.42 mark volumes that nobody named by their names alone: 64 hex digits.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What [`prune_local`] did, and found.
struct Pruned {
    /// The networks of this node that were removed.
    local: Vec<String>,
    /// The networks of the cluster that this node does not use.
    cluster_wide: Vec<String>,
}

async fn prune_local(engine: Arc<Engine>, query: &str, until: Option<i128>) -> Result<Pruned, Refusal> {
    let node = engine.name();
    let unused = engine.get(&["networks"], query, NETWORK).await?;
    let unused: Vec<Local<'_>> =
        unused.as_array().into_iter().flatten().map(|network| Local { node: &node, network }).collect();
    let mut removed = Vec::new();
    let made = |network: &Value| moment::parse(network["Created"].as_str().unwrap_or_default(), 0);
    let old = |n: &&Local<'_>| until.is_none_or(|until| made(n.network).is_some_and(|made| made < until));
    let (cluster_wide, local): (Vec<&Local<'_>>, Vec<_>) =
        unused.iter().filter(old).partition(|network| network.is_cluster_wide());
    for network in local {
        // One that came into use in the meantime is refused by its engine, and stays.
        if engine.json(Method::DELETE, &["networks", network.id()], "", None, NETWORK).await.is_ok() {
            removed.push(format!("{node}/{}", network.name()));
        }
    }
    // Events tell it again; a failure here is no failure of the call.
    let _ = engine.sync_networks().await;
    let users = cluster_wide.iter().map(|n| n.name().to_owned()).filter(|name| name != osier_model::NETWORK);
    Ok(Pruned { local: removed, cluster_wide: users.collect() })
}
