//! Docker's own Swarm mode on the nodes of a cluster, beside it: the network and the names that Docker's users have without
//! Osier. Its load balancer asks for IPVS, which not every kernel has; the rest works without.

use crate::{
    Row,
    lab::{self, Beside, MASTER, nodes},
    overlay::{SERVE, TURNS, client, received},
    quantile,
};
use anyhow::{Context, Result};
use osier_e2e::Cluster;

/// The network that containers anywhere may be attached to.
pub(crate) const NETWORK: &str = "bench-swarm";

/// Makes one swarm of so many nodes, and [`NETWORK`] on it.
pub(crate) fn over(cluster: &Cluster, count: usize) -> Result<()> {
    let nodes = nodes(count);
    let address = address(cluster, MASTER)?;
    cluster.on(MASTER, &format!("docker swarm init --advertise-addr {address} > /dev/null"))?;
    let token = cluster.on(MASTER, "docker swarm join-token -q worker")?;
    for node in nodes.iter().skip(1) {
        cluster.on(node, &format!("docker swarm join --token {} {address}:2377", token.trim()))?;
    }
    let line = format!("docker network create -d overlay --attachable {NETWORK}");
    cluster.on(MASTER, &line).map(|_| ()).context("make a network of Swarm mode")
}

/// A node's own address.
fn address(cluster: &Cluster, node: &str) -> Result<String> {
    let said = cluster.on(node, "ip -4 -o route get 198.18.0.1 | sed 's/.* src \\([0-9.]*\\).*/\\1/'")?;
    Ok(said.trim().to_owned())
}

/// Throughput between containers on two nodes: over Osier's network, over Swarm mode's, and between the nodes themselves.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(2)?;
    over(&cluster, 2)?;
    let nodes = nodes(2);
    let (from, to) = (nodes[0].as_str(), nodes[1].as_str());
    for node in &nodes {
        lab::install(&cluster, node, "iperf3")?;
    }
    let mut ways = vec![(String::new(), address(&cluster, to)?)];
    cluster.on(to, SERVE)?;
    for network in [NETWORK, "osier"] {
        let [near, far] = [from, to].map(|node| Beside::start(&cluster, node, network));
        let (near, far) = (near?, far?);
        cluster.on(to, &format!("{} {SERVE}", far.inside))?;
        ways.push((near.inside, far.address));
    }
    let (mut to_swarm, mut to_bare) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let rate = |way: usize| -> Result<f64> {
            let (inside, address) = &ways[way];
            received(cluster.on(from, &format!("{inside} {}", client(address)))?.as_bytes())
        };
        let (bare, swarm, osier) = (rate(0)?, rate(1)?, rate(2)?);
        to_swarm.push(osier / swarm);
        to_bare.push(osier / bare);
        println!("swarm, turn {}: {:.2} of Swarm mode's, {:.2} of bare", turn + 1, osier / swarm, osier / bare);
    }
    let ratios = (quantile(&mut to_swarm, 0.5), quantile(&mut to_bare, 0.5));
    Ok(vec![Row {
        what: "overlay TCP throughput, plain, over Swarm mode's on the same nodes",
        result: format!("{:.2} of it, {:.2} of bare", ratios.0, ratios.1),
        promise: "≥ 0.9",
        holds: ratios.0 >= 0.9,
    }])
}
