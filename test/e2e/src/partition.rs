//! A network that falls in two: both sides go on, and once it is whole again nothing contradicts.

use crate::{
    Cluster, eventually, settled,
    tour::{IMAGE, NODES},
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::Stdio,
    time::{Duration, Instant},
};

/// The node that is cut off from the others.
const ALONE: &str = "datalyse-2";
/// How many containers start on each side.
const EACH: usize = 4;
/// How long after the healing all names must be right.
const HEALED: Duration = Duration::from_secs(5);
/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(30);

/// Cuts one node off for as long as told, with containers started on both sides, on the cluster's own network and on one
/// that a user made.
pub fn heals(cluster: &Cluster, length: Duration) -> Result<()> {
    cluster.sh("docker network create -d osier net-p")?;
    for (place, node) in NODES.iter().enumerate() {
        let name = format!("part-{place}");
        cluster.sh(&format!("docker run -d --name {name} -e constraint:node=={node} {IMAGE} sleep 100000"))?;
    }
    let count = length.as_secs() * 5 + 25;
    eventually(SOON, || cluster.sh("docker exec part-0 ping -c 1 part-2").map(drop))?;
    let line = format!("ssh datalyse-1 docker exec part-0 ping -i 0.2 -c {count} part-2");
    let mut ping = cluster.shell(&line)?.stdout(Stdio::piped()).spawn()?;

    let others = addresses_of(cluster, NODES.iter().filter(|node| **node != ALONE))?;
    let rules = |verb: &str| {
        let rule =
            |a: &String| format!("iptables {verb} INPUT -s {a} -j DROP && iptables {verb} OUTPUT -d {a} -j DROP");
        others.iter().map(rule).collect::<Vec<_>>().join(" && ")
    };
    cluster.on(ALONE, &rules("-I"))?;
    let cut = Instant::now();
    let started = both_sides_start(cluster);
    // Not a wait for something to happen: this is how long the network is to be cut.
    std::thread::sleep(length.saturating_sub(cut.elapsed()));
    cluster.on(ALONE, &rules("-D"))?;
    let healed = Instant::now();
    let started = started?;

    all_names_are_right(cluster, &started, healed)?;
    nothing_is_held_twice(cluster)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut ping.stdout.take().context("no output")?, &mut text)?;
    ping.wait()?;
    let summary = format!("{count} packets transmitted, {count} packets received, 0% packet loss");
    let last = text.lines().rev().nth(1).unwrap_or_default();
    ensure!(text.contains(&summary), "packets within one side were lost: {last}");
    settled(cluster, SOON)?;
    let names: Vec<&str> = started.keys().map(String::as_str).collect();
    cluster.sh(&format!("docker rm -f part-0 part-1 part-2 {}", names.join(" ")))?;
    cluster.sh("docker network rm net-p").map(drop)
}

fn addresses_of<'a>(cluster: &Cluster, nodes: impl Iterator<Item = &'a &'a str>) -> Result<Vec<String>> {
    let address = |node| {
        let found = cluster.sh(&format!("getent ahostsv4 {node}"))?;
        found.split_whitespace().next().map(str::to_owned).with_context(|| format!("{node} has no address"))
    };
    nodes.map(address).collect()
}

/// Starts containers on each side, through that side's own nodes, and gives their addresses by name. They find each other
/// within their side meanwhile.
fn both_sides_start(cluster: &Cluster) -> Result<BTreeMap<String, Ipv4Addr>> {
    let mut started = BTreeMap::new();
    for (side, node) in [("left", "datalyse-1"), ("right", ALONE)] {
        let here = addresses_of(cluster, [node].iter())?.remove(0);
        let docker = format!("env DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/etc/osier/pki docker -H tcp://{here}:12375");
        for place in 0..EACH {
            let (name, network) = (format!("{side}-{place}"), if place % 2 == 0 { "osier" } else { "net-p" });
            cluster.on(node, &format!("{docker} run -d --name {name} --network {network} {IMAGE} sleep 100000"))?;
            let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
            let address = cluster.on(node, &format!("docker inspect -f '{format}' {name}"))?;
            started.insert(name, address.trim().parse().with_context(|| format!("'{address}' is no address"))?);
        }
        for (from, to) in [(0, 2), (1, 3)] {
            let line = format!("docker exec {side}-{from} ping -c 1 {side}-{to}");
            eventually(SOON, || cluster.on(node, &line).map(drop))?;
        }
    }
    Ok(started)
}

/// Each side finds what the other started.
fn all_names_are_right(cluster: &Cluster, started: &BTreeMap<String, Ipv4Addr>, healed: Instant) -> Result<()> {
    for (node, from) in [("datalyse-1", "left"), (ALONE, "right")] {
        for (name, address) in started {
            let asker = if name.ends_with(['0', '2']) { 0 } else { 1 };
            let line = format!("docker exec {from}-{asker} nslookup {name}");
            eventually(HEALED.saturating_sub(healed.elapsed()), || {
                let answer = cluster.on(node, &line)?;
                ensure!(answer.contains(&format!("{address}\n")), "{name} is not {address} for {from}:\n{answer}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// No address is two containers', and no node says that the ring contradicts itself.
fn nothing_is_held_twice(cluster: &Cluster) -> Result<()> {
    let mut seen = BTreeSet::new();
    for node in NODES {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let line = format!("docker ps -q | xargs docker inspect -f '{format}'");
        for address in cluster.on(node, &line)?.split_whitespace() {
            ensure!(seen.insert(address.to_owned()), "{address} is held twice");
        }
        let status: serde_json::Value = serde_json::from_str(&cluster.on(node, "osier status -o json")?)?;
        ensure!(status["addresses"]["conflict"].is_null(), "{node}: {}", status["addresses"]["conflict"]);
    }
    Ok(())
}
