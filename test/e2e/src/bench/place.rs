//! What it costs to choose a node out of 1,000 that run 30,000 containers: a create through a manager over all of them
//! against the same create through a manager over one. Everything else is equal, so the difference is the picture of
//! the cluster, the search for the name, and the decision.

use crate::{
    Row,
    fakes::{self, ENGINES, Manager},
    quantile,
};
use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use osier_engine::Client;
use serde_json::{Value, json};
use std::time::Instant;

/// How many containers of each kind are created through each.
const CREATES: usize = 300;
/// A wish that every container has to be asked about.
const NEAR: &str = "affinity:com.example.some.label.number.3==a value*";
/// The same, about names.
const APART: &str = "affinity:container!=rival-*";

pub(crate) fn measure() -> Result<Vec<Row>> {
    let runtime = fakes::runtime()?;
    let engines = runtime.block_on(fakes::engines(ENGINES))?;
    let managers = [Manager::start(&engines[..1])?, Manager::start(&engines)?];
    let clients = managers.each_ref().map(|m| Client::tcp(m.address()));
    let kinds: [(&str, &[&str]); 3] = [
        ("choosing one of 1,000 nodes with 30,000 containers", &[]),
        ("the same, next to a container by its label", &[NEAR]),
        ("the same, apart from containers by their names", &[APART]),
    ];
    let rows = kinds.iter().enumerate().map(|(kind, (what, wishes))| {
        let body = json!({ "Image": "busybox", "Env": wishes, "HostConfig": { "Memory": 64 << 20 } });
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..CREATES {
            for (client, times) in clients.iter().zip(&mut times) {
                times.push(runtime.block_on(create(client, &format!("bench-{kind}-{turn}"), &body))?);
            }
        }
        let [one, all] = times.each_mut().map(|t| quantile(t, 0.5) * 1e3);
        let more = all - one;
        Ok(Row {
            what,
            result: format!("{more:+.2} ms, a create {:.1} × one node's", all / one),
            promise: "≤ 1 ms",
            holds: more <= 1.0,
        })
    });
    rows.collect()
}

async fn create(client: &Client, name: &str, body: &Value) -> Result<f64> {
    let path = format!("/v1.44/containers/create?name={name}");
    let started = Instant::now();
    let answer = client.call(Method::POST, &path, Some(body)).await?;
    ensure!(answer.status() == StatusCode::CREATED, "the create was answered with {}", answer.status());
    osier_engine::body::collect(answer.into_body(), 1 << 20).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(started.elapsed().as_secs_f64())
}
