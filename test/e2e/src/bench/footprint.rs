//! What an agent uses on an idle cluster of three nodes, next to the engine of its node.

use crate::{
    Row,
    lab::{self, nodes},
    usage::{busy, resident},
};
use anyhow::{Context, Result};
use osier_e2e::Cluster;
use std::{thread::sleep, time::Duration};

/// How many nodes there are.
const NODES: usize = 3;
/// How long the cluster is left alone before it is watched: what follows provisioning is not idle.
const CALM: Duration = Duration::from_secs(20);
/// How long it is watched.
const WATCH: Duration = Duration::from_secs(60);
/// The agent's unit and the engine's.
const UNITS: [&str; 2] = ["osier-agent", "docker"];

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(NODES)?;
    sleep(CALM);
    let before = every_node(&cluster)?;
    sleep(WATCH);
    let after = every_node(&cluster)?;
    // The busiest and the largest of the nodes, of the agents and of the engines.
    let [agent, engine] = [0, 1].map(|unit| {
        let spent = before.iter().zip(&after).map(|(b, a)| a[unit].busy - b[unit].busy).fold(0.0, f64::max);
        (spent / WATCH.as_secs_f64() * 100.0, after.iter().map(|node| node[unit].resident).max().unwrap_or(u64::MAX))
    });
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let row = |what, result, promise, holds| Row { what, result, promise, holds };
    Ok(vec![
        row(
            "idle agent of 3 nodes, of one core",
            format!("{:.2} %, the engine {:.2} %", agent.0, engine.0),
            "≤ 0.5 %",
            agent.0 <= 0.5,
        ),
        row(
            "idle agent of 3 nodes, resident",
            format!("{:.0} MB, the engine {:.0} MB", megabytes(agent.1), megabytes(engine.1)),
            "≤ 40 MB",
            agent.1 <= 40_000_000,
        ),
    ])
}

/// What a process has used.
struct Used {
    busy: f64,
    resident: u64,
}

/// The main processes of [`UNITS`] on all nodes.
fn every_node(cluster: &Cluster) -> Result<Vec<[Used; 2]>> {
    let node = |node: &String| {
        let used = |unit: &str| {
            let proc = format!("/proc/$(systemctl show -P MainPID {unit})");
            let said = cluster.on(node, &format!("cat {proc}/stat {proc}/status"))?;
            let (stat, status) = said.split_once('\n').with_context(|| format!("'{unit}' does not run on {node}"))?;
            anyhow::Ok(Used { busy: busy(stat)?, resident: resident(status)? })
        };
        Ok([used(UNITS[0])?, used(UNITS[1])?])
    };
    nodes(NODES).iter().map(node).collect()
}
