//! From the return of `docker run` until every node's containers can resolve the new name: through the manager over three
//! nodes, against Swarm mode's own discovery over the same nodes.
//!
//! A container on each node asks its resolver over and over. The nodes of a lab have one clock.

use crate::{
    MANAGER, Row,
    lab::{self, Beside, MASTER, PROGRAM, nodes},
    quantile, swarm,
};
use anyhow::{Context, Result, ensure};
use osier_e2e::{Cluster, eventually, tour::IMAGE};
use std::{thread, time::Duration};

/// How many nodes there are.
const NODES: usize = 3;
/// How many containers are run, one after the other.
const TURNS: usize = 30;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(NODES)?;
    lab::bring_program(&cluster)?;
    swarm::over(&cluster, NODES)?;
    let osier =
        Side { label: "osier", network: "osier", docker: MANAGER, server: "169.254.53.53:53", suffix: ".weave.local" };
    let swarm = Side { label: "swarm", network: swarm::NETWORK, docker: "docker", server: "127.0.0.11:53", suffix: "" };
    let [(median, most), (their_median, their_most)] = [osier.waits(&cluster)?, swarm.waits(&cluster)?]
        .map(|mut waits| (quantile(&mut waits, 0.5), quantile(&mut waits, 1.0)));
    Ok(vec![Row {
        what: "a new name on all of 3 nodes, after docker run has returned",
        result: format!("{median:.0} to {most:.0} ms, Swarm {their_median:.0} to {their_most:.0}"),
        promise: "≤ 200 ms",
        holds: most <= 200.0,
    }])
}

/// One way to run containers that have names.
struct Side {
    label: &'static str,
    network: &'static str,
    docker: &'static str,
    /// Where containers ask.
    server: &'static str,
    /// What follows a container's name.
    suffix: &'static str,
}

impl Side {
    /// How long each name took to be on the last node, in milliseconds.
    fn waits(&self, cluster: &Cluster) -> Result<Vec<f64>> {
        let Self { label, network, docker, server, suffix } = self;
        let watch = |node: &String| {
            let Beside { inside, .. } = Beside::start(cluster, node, network)?;
            let names = format!("{label}-{{}}{suffix}");
            anyhow::Ok(format!("{inside} {PROGRAM} watch {server} '{names}' {TURNS} {}", self.ready()))
        };
        let nodes = nodes(NODES);
        let watches = nodes.iter().map(watch).collect::<Result<Vec<_>>>()?;
        thread::scope(|scope| {
            let watchers: Vec<_> =
                nodes.iter().zip(&watches).map(|(node, line)| scope.spawn(|| times(cluster, node, line))).collect();
            for node in &nodes {
                eventually(Duration::from_secs(20), || cluster.on(node, &format!("test -e {}", self.ready())))?;
            }
            // A pause between them, since a node waits for one name at a time.
            let line = format!(
                "for i in $(seq 0 {}); do {docker} run -d --name {label}-$i --hostname {label}-$i{suffix} --network {network} \
                 {IMAGE} sleep 86400 > /dev/null && date +%s%N; sleep 0.5; done",
                TURNS - 1
            );
            let returned = times(cluster, MASTER, &line)?;
            let mut waits = vec![0.0_f64; TURNS];
            for watcher in watchers {
                let seen = watcher.join().ok().context("a watcher panicked")??;
                for (wait, (seen, returned)) in waits.iter_mut().zip(seen.iter().zip(&returned)) {
                    *wait = wait.max((seen - returned) / 1e6);
                }
            }
            Ok(waits)
        })
    }

    fn ready(&self) -> String {
        format!("/run/osier-bench-{}", self.label)
    }
}

/// What a command on a node prints: one time for each turn, in nanoseconds.
fn times(cluster: &Cluster, node: &str, line: &str) -> Result<Vec<f64>> {
    let said = cluster.on(node, line)?;
    let times: Vec<f64> = said.lines().map(str::parse).collect::<Result<_, _>>().context("read times")?;
    ensure!(times.len() == TURNS, "{node} has {} times of {TURNS}", times.len());
    Ok(times)
}
