//! A node that leaves the cluster for good: its addresses find an heir, nobody speaks to it any more, and its host may come
//! back as a new node.

use crate::{
    Cluster, eventually, settled,
    tour::{IMAGE, NODES},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

/// The node that is removed.
const LEAVER: &str = "datalyse-2";
/// Where it keeps the certificate that it had before.
const FORMER: &str = "/root/former-pki";
/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(30);

/// All of it. The cluster has three nodes before and after.
pub fn all(cluster: &Cluster) -> Result<()> {
    let cut_off = removed_while_cut_off(cluster)?;
    comes_back(cluster, &cut_off)?;
    a_former_certificate_is_refused(cluster)?;
    let before = status(cluster, LEAVER)?;
    removed_while_there(cluster)?;
    comes_back(cluster, &before)
}

fn status(cluster: &Cluster, node: &str) -> Result<Value> {
    Ok(serde_json::from_str(&cluster.on(node, "osier status -o json")?)?)
}

fn others() -> impl Iterator<Item = &'static str> {
    NODES.into_iter().filter(|node| *node != LEAVER)
}

fn peers(status: &Value) -> Result<BTreeSet<String>> {
    let peers = status["peers"].as_array().context("no peers")?;
    Ok(peers.iter().map(|peer| peer["peer"].to_string()).collect())
}

/// The nodes that stay know each other only, and share all addresses out among themselves.
fn others_are_alone(cluster: &Cluster) -> Result<()> {
    for node in others() {
        eventually(SOON, || {
            let status = status(cluster, node)?;
            let peers = peers(&status)?;
            ensure!(peers.len() == NODES.len() - 1, "{node} knows {peers:?}");
            let owned = status["addresses"]["owned"].as_array().context("no owners")?;
            let stranger = owned.iter().find(|o| o[1] != 0 && !peers.contains(&o[0].to_string()));
            ensure!(stranger.is_none(), "on {node} {stranger:?} still owns addresses");
            ensure!(status["addresses"]["conflict"].is_null(), "{node}: {}", status["addresses"]["conflict"]);
            Ok(())
        })?;
    }
    eventually(SOON, || {
        let info = cluster.sh("docker info 2>&1")?;
        ensure!(info.contains("Nodes: 2") && !info.contains(LEAVER), "the manager still lists {LEAVER}");
        Ok(())
    })
}

/// Out of reach, it keeps its containers, but none of the others is reached by them, and what was theirs can be given out.
fn removed_while_cut_off(cluster: &Cluster) -> Result<Value> {
    // Where agents died under starts, an engine before 27 counts endpoints that are no more until it starts anew, and
    // `destroy` restarts none under a container that runs.
    cluster.on(LEAVER, "systemctl restart docker")?;
    settled(cluster, SOON)?;
    for (name, node) in [("rm-stays", "datalyse-1"), ("rm-goes", LEAVER)] {
        cluster.sh(&format!("docker run -d --name {name} -e constraint:node=={node} {IMAGE} sleep 100000"))?;
    }
    eventually(SOON, || cluster.sh("docker exec rm-stays ping -c 1 rm-goes").map(drop))?;
    let format = "{{.NetworkSettings.Networks.osier.IPAddress}}";
    let address: Ipv4Addr = cluster.sh(&format!("docker inspect -f '{format}' rm-goes"))?.trim().parse()?;
    let before = status(cluster, LEAVER)?;
    cluster.on(LEAVER, &format!("cp -a /etc/osier/pki {FORMER}"))?;
    let rules = |verb: &str| {
        let hosts = others().chain(["$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')"]);
        let rule = |host| format!("iptables {verb} INPUT -s {host} -j DROP; iptables {verb} OUTPUT -d {host} -j DROP");
        hosts.map(rule).collect::<Vec<_>>().join("; ")
    };
    // With its default gateway the operator's own way is cut as well, so the rules must go by themselves.
    let script = format!("sleep 1; {}; touch /run/cut; sleep 60; {}; touch /run/healed", rules("-I"), rules("-D"));
    cluster.on(LEAVER, &format!("nohup sh -c '{}' > /dev/null 2>&1 &", script.replace('\'', "'\\''")))?;
    eventually(SOON, || {
        let info = cluster.sh("docker info 2>&1")?;
        ensure!(info.contains("Status: Unhealthy"), "{LEAVER} is still healthy");
        Ok(())
    })?;
    let inventory = cluster.inventory().display().to_string();
    cluster.osier(&["node", "rm", "-i", &inventory, LEAVER, "--yes"])?;
    others_are_alone(cluster)?;
    let node = "datalyse-1";
    let claim = format!("docker run -d --name rm-heir -e constraint:node=={node} --ip {address} {IMAGE} sleep 100000");
    cluster.sh(&claim)?;
    // It is back in reach and believes that nothing has happened; nobody listens to it.
    eventually(Duration::from_secs(90), || cluster.on(LEAVER, "test -e /run/healed").map(drop))?;
    eventually(SOON, || {
        let ping = cluster.try_on(LEAVER, "docker exec rm-goes ping -c 1 -W 1 rm-stays")?;
        ensure!(!ping.status.success(), "a container of a removed node reaches the others");
        let answer = cluster.try_sh("docker exec rm-stays nslookup rm-goes")?;
        ensure!(!answer.status.success(), "a container of a removed node still has a name");
        Ok(())
    })?;
    cluster.sh("docker exec rm-stays ping -c 2 rm-heir")?;
    cluster.sh("docker rm -f rm-stays rm-heir")?;
    cluster.osier(&["destroy", "-i", &inventory, "-l", LEAVER, "--yes"])?;
    cluster.on(LEAVER, "docker rm -f rm-goes; rm -f /run/cut /run/healed")?;
    Ok(before)
}

/// With the next provisioning the host is a new node, and takes work.
fn comes_back(cluster: &Cluster, before: &Value) -> Result<()> {
    cluster.osier(&["site", "-i", &cluster.inventory().display().to_string()])?;
    for node in NODES {
        eventually(SOON, || {
            let status = status(cluster, node)?;
            let peers = status["peers"].as_array().context("no peers")?;
            ensure!(peers.len() == NODES.len() && peers.iter().all(|p| p["alive"] == true), "{node} has {peers:?}");
            Ok(())
        })?;
    }
    let after = status(cluster, LEAVER)?;
    ensure!(after["me"] != before["me"], "a node that was removed came back under its old identity");
    settled(cluster, SOON)?;
    crate::tour::load_image(cluster)?;
    for (name, node) in [("rm-a", "datalyse-1"), ("rm-b", LEAVER)] {
        cluster.sh(&format!("docker run -d --name {name} -e constraint:node=={node} {IMAGE} sleep 100000"))?;
    }
    cluster.sh("docker exec rm-b ping -c 1 rm-a")?;
    cluster.sh("docker rm -f rm-a rm-b").map(drop)
}

/// What the node had before opens nothing any more, although its name is a member's again.
fn a_former_certificate_is_refused(cluster: &Cluster) -> Result<()> {
    for address in ["datalyse-master:3376", "datalyse-1:12375"] {
        let docker = |pki| format!("DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={pki} docker -H tcp://{address} version");
        cluster.on(LEAVER, &docker("/etc/osier/pki"))?;
        let refused = cluster.try_on(LEAVER, &docker(FORMER))?;
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success() && told.contains("revoked"), "{address} takes a former certificate: {told}");
    }
    cluster.on(LEAVER, &format!("rm -r {FORMER}")).map(drop)
}

/// A node that answers is cleared in passing. One of the others is away and is not told by the operator: until it is back,
/// and has heard of it from its peer, the addresses are frozen.
fn removed_while_there(cluster: &Cluster) -> Result<()> {
    let (heir, away) = ("datalyse-master", "datalyse-1");
    cluster.on(away, "systemctl stop osier-plugin.socket osier-agent")?;
    let inventory = cluster.inventory().display().to_string();
    let limit = format!("{heir}:{LEAVER}");
    cluster.osier(&["node", "rm", "-i", &inventory, LEAVER, "--heir", heir, "-l", &limit, "--yes"])?;
    eventually(SOON, || {
        let addresses = &status(cluster, heir)?["addresses"];
        let waits = addresses["frozen_until"] == serde_json::json!([away]) && addresses["frozen"] != 0;
        ensure!(waits, "{heir} does not wait for {away}: {addresses}");
        Ok(())
    })?;
    cluster.on(away, "systemctl start osier-plugin.socket osier-agent")?;
    others_are_alone(cluster)?;
    ensure!(status(cluster, heir)?["addresses"]["frozen"] == 0, "addresses are still frozen");
    let left = cluster.try_on(LEAVER, "systemctl is-active osier-agent; ls /var/lib/osier /usr/local/bin/osier")?;
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    ensure!(!left.contains("osier") && !left.lines().any(|l| l == "active"), "Osier is still on {LEAVER}: {left}");
    Ok(())
}
