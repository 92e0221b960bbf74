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
use std::time::Instant;

/// How many containers are created through each.
const CREATES: usize = 300;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let runtime = fakes::runtime()?;
    let engines = runtime.block_on(fakes::engines(ENGINES))?;
    let managers = [Manager::start(&engines[..1])?, Manager::start(&engines)?];
    let clients = managers.each_ref().map(|m| Client::tcp(m.address()));
    let mut times = [Vec::new(), Vec::new()];
    runtime.block_on(async {
        for turn in 0..CREATES {
            for (client, times) in clients.iter().zip(&mut times) {
                times.push(create(client, turn).await?);
            }
        }
        anyhow::Ok(())
    })?;
    let [one, all] = times.each_mut().map(|t| quantile(t, 0.5) * 1e3);
    let more = all - one;
    Ok(vec![Row {
        what: "choosing one of 1,000 nodes with 30,000 containers",
        result: format!("{more:+.2} ms, a create {:.1} × one node's", all / one),
        promise: "≤ 1 ms",
        holds: more <= 1.0,
    }])
}

async fn create(client: &Client, turn: usize) -> Result<f64> {
    let body = serde_json::json!({ "Image": "busybox", "HostConfig": { "Memory": 64 << 20 } });
    let path = format!("/v1.44/containers/create?name=bench-{turn}");
    let started = Instant::now();
    let answer = client.call(Method::POST, &path, Some(&body)).await?;
    ensure!(answer.status() == StatusCode::CREATED, "the create was answered with {}", answer.status());
    osier_engine::body::collect(answer.into_body(), 1 << 20).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(started.elapsed().as_secs_f64())
}
