//! Docker on hosts that reach no source of packages: a bundle is made where there are sources, and installed from where there are
//! none; bundles that will not do are refused before any host is touched.

use crate::{Cluster, tour};
use anyhow::{Context, Result, ensure};
use std::path::Path;

const NODES: [&str; 2] = ["datalyse-master", "datalyse-1"];
/// Everything that apt and dpkg know on a node.
const KNOWN: &str = "dpkg-query -W | sha256sum; find /var/lib/apt /var/cache/apt /etc/apt /var/tmp -path '*systemd-private*' -prune -o -type f -exec sha256sum {} + | sort | sha256sum";
const TAKE_SOURCES: &str = "rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/* && : > /etc/apt/sources.list && ! apt-get -s install docker.io";
/// Nothing of ours is on a node.
const UNTOUCHED: &str =
    "! command -v dockerd && ! ls -d /usr/local/bin/osier /usr/local/bin/.osier-* /etc/osier /var/lib/osier*";

/// On two hosts of one release that have no engine yet, and sources of packages.
pub fn installs_from_a_bundle(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("docker.tar");
    let known = |node: &str| cluster.on(node, KNOWN);
    let before = known(NODES[0])?;
    let text = path(&file)?;
    let said = run(cluster, &["bundle-docker", "-l", NODES[0], text], 0)?;
    ensure!(said.contains("debian 13"), "{said}");
    cluster.on(NODES[0], UNTOUCHED)?;
    ensure!(known(NODES[0])? == before, "something is left of making the bundle");

    for node in NODES {
        cluster.on(node, TAKE_SOURCES)?;
    }
    let installed = |node: &str| cluster.on(node, "dpkg-query -W");
    let before = [installed(NODES[0])?, installed(NODES[1])?];
    unfit_bundles_are_refused(cluster, &file)?;

    let site = |more: &[&str], code: i32| run(cluster, &[&["site", "--offline", text], more].concat(), code);
    let planned = site(&["--check"], 5)?;
    ensure!(planned.contains("install docker.io docker-cli") && !planned.contains("copy the packages"), "{planned}");
    for node in NODES {
        cluster.on(node, UNTOUCHED)?;
    }
    let said = site(&[], 0)?;
    ensure!(said.contains("copy the packages"), "{said}");
    for node in NODES {
        cluster.on(node, "systemctl is-active docker && ! ls -d /var/lib/osier/bundle /etc/apt/*/osier-docker.*")?;
    }
    tour::load_image(cluster)?;
    for node in NODES {
        cluster.sh(&format!("docker run --rm -e constraint:node=={node} osier/tour true"))?;
    }
    let again = site(&[], 0)?;
    ensure!(!again.contains("changed") && !again.contains("copy the packages"), "{again}");

    run(cluster, &["destroy", "--yes", "--purge"], 0)?;
    for (node, before) in NODES.into_iter().zip(before) {
        cluster.on(node, UNTOUCHED)?;
        ensure!(installed(node)? == before, "other packages than before on {node}");
    }
    Ok(())
}

/// A bundle that was altered, cut, made for another release or without what is wanted.
fn unfit_bundles_are_refused(cluster: &Cluster, file: &Path) -> Result<()> {
    let good = std::fs::read(file)?;
    let other = file.with_file_name("other.tar");
    let refused = |bytes: &[u8], more: &[&str], code: i32, why: &str| {
        std::fs::write(&other, bytes)?;
        let said = run(cluster, &[&["site", "--offline", path(&other)?], more].concat(), code)?;
        ensure!(said.contains(why) && said.contains("bundle-docker"), "no '{why}' in: {said}");
        NODES.iter().try_for_each(|node| cluster.on(node, UNTOUCHED).map(drop))
    };
    let mut altered = good.clone();
    altered[good.len() / 2] ^= 1;
    refused(&altered, &[], 2, "(debian 13 amd64) is not what the manifest says: it was altered")?;
    refused(&good[..good.len() / 2], &[], 2, "it ends too early")?;
    let release = b"\"release\": \"13\"";
    let at = good.windows(release.len()).position(|w| w == release).context("the manifest names no release")?;
    let mut older = good.clone();
    older[at + release.len() - 2] = b'2';
    refused(&older, &[], 3, "the bundle has nothing for debian 13 amd64, only for debian 12 amd64")?;
    refused(&good, &["-e", "docker_version=0.1-1"], 3, "lacks docker.io=0.1-1, docker-cli=0.1-1")
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

/// Runs the program over the inventory; gives all that it said.
pub(crate) fn run(cluster: &Cluster, args: &[&str], code: i32) -> Result<String> {
    let inventory = cluster.inventory().display().to_string();
    let output = cluster.try_osier(&[args, &["-i", &inventory]].concat())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.code() == Some(code), "it ended with {}: {said}", output.status);
    Ok(said)
}
