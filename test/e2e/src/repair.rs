//! Provisioning that fails on one host: the run says so, the others are done or not started, and the next run repairs.

use crate::{Cluster, tour::NODES};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

/// A file that all hosts have, and a link that they can do without for a moment.
const FILE: &str = "/etc/osier/agent.json";
const LINK: &str = "/usr/local/bin/weave";
/// The exit code of a run in which hosts failed.
const FAILED: i32 = 3;

/// On a cluster that is as its inventory says. The inventory's first host has a file that differs and cannot be replaced, the others lack
/// a link.
pub fn a_host_fails(cluster: &Cluster) -> Result<()> {
    let [others @ .., first] = NODES;
    cluster.on(first, &format!("echo >> {FILE}; mount --bind {FILE} {FILE}"))?;
    for node in others {
        cluster.on(node, &format!("rm {LINK}"))?;
    }
    let ran = run(cluster, &["--serial", "1"], FAILED)?;
    ensure!(ran[first].starts_with("failed"), "{first}: {ran:?}");
    ensure!(others.iter().all(|node| ran[*node] == "not started"), "after a batch that failed wholly: {ran:?}");

    let ran = run(cluster, &[], FAILED)?;
    ensure!(ran[first].starts_with("failed"), "{first}: {ran:?}");
    ensure!(others.iter().all(|node| ran[*node].starts_with("changed")), "beside a host that fails: {ran:?}");

    cluster.on(first, &format!("umount {FILE}"))?;
    let ran = run(cluster, &["--serial", "1,50%"], 0)?;
    ensure!(ran[first].starts_with("changed") && others.iter().all(|node| ran[*node] == "ok"), "repaired: {ran:?}");
    let ran = run(cluster, &[], 0)?;
    ensure!(ran.values().all(|result| result == "ok"), "a second time: {ran:?}");
    Ok(())
}

/// What `osier site` says of each host.
fn run(cluster: &Cluster, more: &[&str], code: i32) -> Result<BTreeMap<String, String>> {
    let inventory = cluster.inventory().display().to_string();
    let args = [&["site", "-i", &inventory], more].concat();
    let output = cluster.try_osier(&args)?;
    let (text, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(code), "'osier site' ended with {}: {text}{err}", output.status);
    ensure!(code == 0 || err.contains(FILE), "the error does not name '{FILE}': {err}");
    let rows =
        text.lines().skip_while(|line| !line.starts_with("HOST ")).skip(1).filter_map(|line| line.split_once("  "));
    Ok(rows.map(|(host, result)| (host.to_owned(), result.trim().to_owned())).collect())
}
