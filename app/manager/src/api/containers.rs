//! Containers: the list, and every call that names one.

use super::{Answer, Api, Call};
use crate::{
    engine::{Container, Engine},
    refusal::Refusal,
};
use futures::future::join_all;
use http::{HeaderValue, Response, StatusCode, header};
use osier_dockerapi::{
    inspect,
    listing::{ListQuery, Listed},
    row::Row,
};
use osier_engine::{
    Body,
    body::{channel, collect},
    json_response,
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;

/// How many bytes of a list are sent at a time.
const CHUNK: usize = 256 << 10;
/// What `ps` says of a container whose engine does not answer.
const HOST_DOWN: &str = "Host Down";
/// How long engines may take to add up the sizes of their containers.
const SIZES: Duration = Duration::from_secs(60);
/// How long engines may take to say whether they have an exec.
const EXEC_SEARCH: Duration = Duration::from_secs(2);

/// A container with what its answer needs of its engine.
struct Entry {
    container: Arc<Container>,
    node: Arc<str>,
    healthy: bool,
}

impl Api {
    /// `GET /containers/json`, from the cache.
    pub(super) async fn container_list(&self, call: Call) -> Answer {
        let query = ListQuery::parse(&call.query)?;
        let entries = if query.size { self.entries_with_sizes().await } else { self.entries() };
        let listed = entries.iter().enumerate().map(|(key, e)| Listed {
            key,
            row: &e.container.row,
            state: e.container.state.as_ref(),
            node: &e.node,
            healthy: e.healthy,
        });
        let chosen: Vec<usize> = query.select(listed.collect())?.iter().map(|l| l.key).collect();
        let (sender, body) = channel(2);
        let now = OffsetDateTime::now_utc();
        tokio::spawn(async move {
            let mut out = vec![b'['];
            for (i, key) in chosen.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                entries[*key].write(now, &mut out);
                if out.len() >= CHUNK && sender.send(std::mem::take(&mut out)).await.is_err() {
                    return;
                }
            }
            out.extend_from_slice(b"]\n");
            // A client that went away needs no end.
            let _ = sender.send(out).await;
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for engine in self.cluster.engines() {
            let (node, healthy): (Arc<str>, bool) = (engine.name().into(), engine.is_healthy());
            let view = engine.view();
            entries.extend(view.containers().map(|c| Entry { container: c.clone(), node: node.clone(), healthy }));
        }
        entries
    }

    /// Sizes are never cached: the engines that answer are asked, the rows of the others come without.
    async fn entries_with_sizes(&self) -> Vec<Entry> {
        let mut entries = self.entries();
        let engines = self.cluster.healthy();
        let answers = engines.iter().map(|e| e.get(&["containers", "json"], "all=1&size=1", SIZES));
        let mut rows = std::collections::HashMap::new();
        for (engine, answer) in engines.iter().zip(join_all(answers).await) {
            let (Ok(serde_json::Value::Array(list)), Some(facts)) = (answer, engine.facts()) else { continue };
            let read = list.into_iter().filter_map(|row| Row::read(row, &facts.owner).ok());
            rows.extend(read.map(|row| (row.id.clone(), row)));
        }
        for entry in &mut entries {
            if let Some(row) = rows.remove(&entry.container.row.id) {
                let Container { state, load, .. } = &*entry.container;
                entry.container = Arc::new(Container { row, state: state.clone(), load: *load });
            }
        }
        entries
    }

    /// `GET /containers/{name}/json`, with the node added.
    pub(super) async fn container_inspect(&self, call: Call, name: &str) -> Answer {
        let found = self.forward_container(call, name, &["json"]).await?;
        let Some(facts) = found.engine.facts().filter(|_| found.response.status().is_success()) else {
            return Ok(found.response);
        };
        let mut answer = read_json(found.response).await?;
        inspect::edit(&mut answer, &facts.owner, &facts.node);
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

    /// `POST /containers/{name}/rename`, unless the new name is in use anywhere.
    pub(super) async fn container_rename(&self, mut call: Call, name: &str) -> Answer {
        let (engine, _) = self.cluster.reachable(name)?;
        let wanted = call.query.get("name").unwrap_or_default().trim_start_matches('/').to_owned();
        let new = wanted.strip_prefix(&format!("{}/", engine.name())).unwrap_or(&wanted).to_owned();
        self.cluster.check_name(&new)?;
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
        Ok(self.forward_container(call, name, rest).await?.response)
    }

    /// `POST /commit`
    pub(super) async fn commit(&self, mut call: Call) -> Answer {
        let name = call.query.get("container").unwrap_or_default().to_owned();
        let (engine, container) = self.cluster.reachable(&name)?;
        call.query.set("container", &container.row.id);
        call.raw_query = call.query.to_string();
        let response = self.forward(&engine, call, &["commit"]).await?;
        // What the images are now is also told by an event; a failure here is no failure of the commit.
        let _ = engine.sync_images().await;
        Ok(response)
    }

    /// `POST /containers/{name}/exec`: the answer's id is remembered with its engine.
    pub(super) async fn exec_create(&self, call: Call, name: &str) -> Answer {
        let found = self.forward_container(call, name, &["exec"]).await?;
        if !found.response.status().is_success() {
            return Ok(found.response);
        }
        let status = found.response.status();
        let answer = read_json(found.response).await?;
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

impl Entry {
    fn write(&self, now: OffsetDateTime, out: &mut Vec<u8>) {
        let Container { row, state, .. } = &*self.container;
        match state {
            _ if !self.healthy => row.write(HOST_DOWN, out),
            Some(state) => row.write(&state.sentence(now), out),
            None => row.write(&row.status, out),
        }
    }
}

/// An engine's JSON answer, whole.
async fn read_json(response: Response<Body>) -> Result<serde_json::Value, Refusal> {
    let bad =
        |e: &dyn std::fmt::Display| Refusal::new(StatusCode::BAD_GATEWAY, format!("read the engine's answer: {e}"));
    let bytes = collect(response.into_body(), super::JSON_LIMIT).await.map_err(|e| bad(&e))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(&e))
}
