//! Containers: the list, and every call that names one.

use super::{Answer, Api, Call, images::json_stream, proxy::read_json};
use crate::{
    engine::{Container, Engine},
    picture::Seen,
    refusal::Refusal,
    stream::until,
};
use futures::future::join_all;
use http::StatusCode;
use osier_dockerapi::{
    convert, image, inspect,
    listing::{ListQuery, Listed},
    query::Query,
    row::Row,
};
use osier_engine::{body::channel, json_response};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;

/// How many bytes of a list are sent at a time.
const CHUNK: usize = 256 << 10;
/// What `ps` says of a container whose engine does not answer.
const HOST_DOWN: &str = "Host Down";
/// How long engines may take to add up the sizes of their containers.
const SIZES: Duration = Duration::from_secs(60);
/// How long engines may take to say whether they have an exec.
const EXEC_SEARCH: Duration = Duration::from_secs(2);

/// One node's containers, newest first.
struct NodeList {
    containers: Arc<[Arc<Container>]>,
    seen: Arc<Seen>,
    /// The node's images that the filter `ancestor` means.
    family: BTreeSet<String>,
}

impl Api {
    /// `GET /containers/json`, from the cache.
    pub(super) async fn container_list(&self, call: Call) -> Answer {
        let query = ListQuery::parse(&call.query)?;
        let lists = if query.size { self.lists_with_sizes(&query).await } else { self.lists(&query) };
        let query = query.bounded(lists.iter().flat_map(NodeList::listed))?;
        let (sender, body) = channel(2);
        let now = OffsetDateTime::now_utc();
        tokio::spawn(async move {
            let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
            out.push(b'[');
            let mut first = true;
            for listed in query.select(lists.iter().map(NodeList::listed).collect()) {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write(&listed, now, &mut out);
                if out.len() >= CHUNK {
                    let full = std::mem::replace(&mut out, Vec::with_capacity(CHUNK + CHUNK / 4));
                    if sender.send(full).await.is_err() {
                        return;
                    }
                }
            }
            out.extend_from_slice(b"]\n");
            // A client that went away needs no end.
            let _ = sender.send(out).await;
        });
        Ok(json_stream(body))
    }

    /// The containers of all nodes, in the order of the nodes' names.
    fn lists(&self, query: &ListQuery) -> Vec<NodeList> {
        let list = |seen: &Arc<Seen>| {
            let (containers, family) = (seen.engine.view().listed(), query.family(&seen.images));
            NodeList { containers, seen: seen.clone(), family }
        };
        let mut lists: Vec<NodeList> = self.cluster.nodes().iter().map(list).collect();
        lists.sort_by(|a, b| a.seen.name.cmp(&b.seen.name));
        lists
    }

    /// Sizes are never cached: the engines that answer are asked, the rows of the others come without.
    async fn lists_with_sizes(&self, query: &ListQuery) -> Vec<NodeList> {
        let engines = self.cluster.healthy();
        let segments = ["containers", "json"];
        let answers = join_all(engines.iter().map(|e| e.get(&segments, "all=1&size=1", SIZES))).await;
        let mut rows = HashMap::new();
        for (engine, answer) in engines.iter().zip(answers) {
            let (Ok(Value::Array(list)), Some(facts)) = (answer, engine.facts()) else { continue };
            let read = list.into_iter().filter_map(|row| Row::read(row, &facts.owner).ok());
            rows.extend(read.map(|row| (row.id.clone(), row)));
        }
        let mut sized = |known: &Arc<Container>| {
            let Some(mut row) = rows.remove(&known.row.id) else { return known.clone() };
            row.created = known.row.created;
            Arc::new(Container { row, state: known.state.clone(), bindings: Vec::new(), ..**known })
        };
        let mut lists = self.lists(query);
        for list in &mut lists {
            list.containers = list.containers.iter().map(&mut sized).collect();
        }
        lists
    }

    /// `GET /containers/{name}/json`, with the node added.
    pub(super) async fn container_inspect(&self, call: Call, name: &str) -> Answer {
        let version = call.version;
        let found = self.forward_container(call, name, &["json"]).await?;
        let Some(facts) = found.engine.facts().filter(|_| found.response.status().is_success()) else {
            return Ok(found.response);
        };
        let mut answer = read_json(&found.engine, found.response).await?;
        inspect::edit(&mut answer, &facts.owner, &facts.node);
        convert::container_inspect(&mut answer, version, facts.api.nearest(version));
        Ok(json_response(StatusCode::OK, &answer))
    }

    /// `DELETE /containers/{name}`
    pub(super) async fn container_remove(&self, call: Call, name: &str) -> Answer {
        let found = self.forward_container(call, name, &[]).await?;
        if found.response.status().is_success() {
            found.engine.forget_container(&found.id);
            return Ok(found.response);
        }
        found.refreshed().await
    }

    /// `POST /containers/{name}/rename`, unless the new name is another container's anywhere.
    pub(super) async fn container_rename(&self, mut call: Call, name: &str) -> Answer {
        let (engine, container) = self.cluster.reachable(name).await?;
        let wanted = call.query.get("name").unwrap_or_default().trim_start_matches('/').to_owned();
        let new = wanted.strip_prefix(&format!("{}/", engine.name())).unwrap_or(&wanted).to_owned();
        // No name, its own or one that cannot be is the engine's to refuse, in its own words.
        let name_is_new = !container.row.names.contains(&new);
        let held = name_is_new.then(|| self.cluster.hold_container_name(&new)).transpose();
        let _held = held.map_err(|clash| Refusal {
            message: format!("Error when allocating new name: {}", clash.message),
            ..clash
        })?;
        call.query.set("name", &new);
        call.raw_query = call.query.to_string();
        self.forward_container(call, name, &["rename"]).await?.refreshed().await
    }

    /// `start`, `stop`, `kill` and their like.
    pub(super) async fn container_change(&self, call: Call, name: &str, rest: &[&str]) -> Answer {
        self.forward_container(call, name, rest).await?.refreshed().await
    }

    /// Everything that leaves the container as it is, and what this program does not know.
    pub(super) async fn container_other(&self, call: Call, name: &str, rest: &[&str]) -> Answer {
        let endless = is_endless(&call.query, rest);
        let found = self.forward_container(call, name, rest).await?;
        if rest == ["wait"] {
            return Ok(found.waited());
        }
        if !endless || !found.response.status().is_success() {
            return Ok(found.response);
        }
        let hub = self.cluster.hub.clone();
        Ok(found.response.map(|body| until(body, async move { hub.closed().await })))
    }

    /// `POST /commit`
    pub(super) async fn commit(&self, mut call: Call) -> Answer {
        let name = call.query.get("container").unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Refusal::bad_request("invalid name or ID supplied: \"\""));
        }
        let (engine, container) = self.cluster.reachable(&name).await?;
        let given = |key: &str| call.query.get(key).unwrap_or_default();
        let target = image::target(given("repo"), given("tag"));
        call.query.set("container", &container.row.id);
        call.raw_query = call.query.to_string();
        let before = self.before(&engine);
        let response = self.forward(&engine, call, &["commit"]).await?;
        before.settle(|name| name == target).await;
        Ok(response)
    }

    /// `POST /containers/{name}/exec`: the answer's id is remembered with its engine.
    pub(super) async fn exec_create(&self, call: Call, name: &str) -> Answer {
        let found = self.forward_container(call, name, &["exec"]).await?;
        if !found.response.status().is_success() {
            return Ok(found.response);
        }
        let status = found.response.status();
        let answer = read_json(&found.engine, found.response).await?;
        if let Some(id) = answer["Id"].as_str() {
            self.cluster.remember_exec(id, &found.engine);
        }
        Ok(json_response(status, &answer))
    }

    /// Everything that names an exec.
    pub(super) async fn exec(&self, call: Call, id: &str, rest: &[&str]) -> Answer {
        let engine = match self.cluster.exec(id) {
            Some(engine) => engine,
            None => self.find_exec(id).await?,
        };
        let mut segments = vec!["exec", id];
        segments.extend(rest);
        self.forward(&engine, call, &segments).await
    }

    /// Asks all engines for an exec that was not made here: another manager made it, or this one before it restarted.
    async fn find_exec(&self, id: &str) -> Result<Arc<Engine>, Refusal> {
        let engines = self.cluster.healthy();
        let segments = ["exec", id, "json"];
        let answers = join_all(engines.iter().map(|e| e.get(&segments, "", EXEC_SEARCH))).await;
        let found = engines.into_iter().zip(answers).find(|(_, answer)| answer.is_ok());
        let (engine, _) = found.ok_or_else(|| Refusal::not_found(format!("No such exec instance: {id}")))?;
        self.cluster.remember_exec(id, &engine);
        Ok(engine)
    }
}

/// Whether the answer goes on for as long as the container does. (What is attached may be about to end, and has its time.)
fn is_endless(query: &Query, call: &[&str]) -> bool {
    match call {
        ["logs"] => query.flag("follow"),
        ["stats"] => query.get("stream").is_none() || query.flag("stream"),
        _ => false,
    }
}

impl NodeList {
    fn listed(&self) -> impl Iterator<Item = Listed<'_>> + Clone {
        self.containers.iter().map(|c| Listed {
            row: &c.row,
            state: c.state.as_ref(),
            node: &self.seen.name,
            healthy: self.seen.healthy,
            family: &self.family,
        })
    }
}

fn write(listed: &Listed<'_>, now: OffsetDateTime, out: &mut Vec<u8>) {
    match listed.state {
        _ if !listed.healthy => listed.row.write(HOST_DOWN, out),
        Some(state) => listed.row.write(&state.sentence(now), out),
        None => listed.row.write(&listed.row.status, out),
    }
}
