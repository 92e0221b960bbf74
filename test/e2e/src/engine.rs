//! Docker from a source of packages with its own key: exact versions both ways, proxies, mirrors, and all of it gone again.
//!
//! The source lies on the node itself (`repository.sh`): the distribution's engine once more, under another version.

use crate::{Cluster, eventually, offline, tour};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const NODE: &str = "datalyse-master";
const REPOSITORY: &str = include_str!("repository.sh");
/// What the repository appends to a version.
const SUFFIX: &str = "+test1";
const PASSWORD: &str = "s3cr%65t";
/// The hosts of the node's own sources of packages, which are not reached through the proxy: nobody listens there.
const MIRRORS: &str = r"cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | grep -v '^#' \
    | grep -oE 'https?://[^/ ]+' | sed 's#.*[/@]##; s/:.*//' | sort -u";
/// Everything of the engine's that we write on the node.
const FILES: &str = "/etc/apt/sources.list.d/osier-docker.list /etc/apt/keyrings/osier-docker.asc \
    /etc/apt/preferences.d/osier-docker.pref /etc/systemd/system/docker.service.d /etc/docker/daemon.json";

/// On one host that has no engine yet.
pub fn comes_from_a_source(cluster: &Cluster) -> Result<()> {
    let version =
        cluster.on(NODE, REPOSITORY)?.lines().last().context("the repository has no version")?.trim().to_owned();
    let folder = tempfile::tempdir()?;
    let (key, vars) = (folder.path().join("key.gpg"), folder.path().join("vars.yml"));
    cluster.sh(&format!("ssh {NODE} cat /srv/repository/key.gpg > '{}'", key.display()))?;
    let mirrors = cluster.on(NODE, MIRRORS)?.lines().collect::<Vec<_>>().join(",");
    let text = format!(
        "docker_apt_source: 'deb file:/srv/repository ./'\ndocker_apt_key: {}\nhttp_proxy: 'http://me:{PASSWORD}@127.0.0.1:9'\n\
         no_proxy: '{mirrors},localhost'\ndocker_registry_mirrors: [https://mirror.example.org]\n",
        key.display()
    );
    std::fs::write(&vars, text)?;
    let vars = format!("@{}", vars.display());
    let site = |version: &str, more: &[&str], code: i32| {
        let version = format!("docker_version={version}");
        run(cluster, &[&["site", "-e", &vars, "-e", &version], more].concat(), code)
    };

    let said = site("0.1-1", &[], 3)?;
    ensure!(
        said.contains(&format!("no source of apt has docker.io 0.1-1 (docker_version), they have {version}")),
        "{said}"
    );
    cluster.on(NODE, "! command -v dockerd && ! ls /usr/local/bin/osier /etc/osier")?;
    run(cluster, &["destroy", "--yes", "--purge"], 0)?;
    gone(cluster)?;

    site(&version, &[], 0)?;
    site(&version, &["--check"], 0)?;
    ensure!(installed(cluster)? == version, "another version than {version}");
    let info = cluster.on(NODE, "docker info; stat -c 'mode %a' /etc/systemd/system/docker.service.d/*.env")?;
    let direct = format!("No Proxy: {mirrors},localhost");
    for part in ["HTTP Proxy: http://xxxxx:xxxxx@127.0.0.1:9", &direct, "mode 600"] {
        ensure!(info.contains(part), "no '{part}' in:\n{info}");
    }
    ensure!(info.contains("https://mirror.example.org/"), "no mirror in:\n{info}");

    tour::load_image(cluster)?;
    cluster.sh("docker run -d --restart always --name kept osier/tour sleep 6000")?;
    let other = version.strip_suffix(SUFFIX).context("the repository's version is the distribution's")?;
    let planned = site(other, &["--check", "--diff"], 5)?;
    for part in [&format!("downgrade docker.io from {version} to {other}"), &format!("-docker.io {version}")] {
        ensure!(planned.contains(part.as_str()), "no '{part}' in:\n{planned}");
    }
    ensure!(planned.contains("restarted under 1 running container: they are stopped"), "no warning in:\n{planned}");
    site(other, &[], 0)?;
    ensure!(installed(cluster)? == other, "another version than {other}");
    eventually(Duration::from_secs(60), || cluster.on(NODE, "docker exec kept true").map(drop))?;
    cluster.sh("docker run --rm osier/tour true")?;

    // A configuration that somebody else changed stays, and so do the containers.
    let started = "docker inspect -f '{{.State.StartedAt}}' kept";
    let before = cluster.on(NODE, started)?;
    cluster.on(NODE, r#"echo '{"live-restore": true}' > /etc/docker/daemon.json"#)?;
    let said = site(other, &[], 0)?;
    ensure!(said.contains(r#"daemon.json is not ours and stays as it is: add "registry-mirrors""#), "{said}");
    ensure!(cluster.on(NODE, started)? == before, "the engine was restarted");
    cluster.on(NODE, "rm /etc/docker/daemon.json")?;

    run(cluster, &["destroy", "--yes"], 0)?;
    cluster.on(NODE, "command -v dockerd && ls /etc/apt/sources.list.d/osier-docker.list && ! ls -d /var/lib/osier")?;
    run(cluster, &["destroy", "--yes", "--purge"], 0)?;
    gone(cluster)
}

/// Nothing of the engine's is left on the node.
fn gone(cluster: &Cluster) -> Result<()> {
    let line = format!("! command -v dockerd && for f in {FILES} /var/lib/osier*; do ! ls -d $f || exit 1; done");
    cluster.on(NODE, &line).map(drop)
}

/// The engine's package on the node.
fn installed(cluster: &Cluster) -> Result<String> {
    Ok(cluster.on(NODE, "dpkg-query -W -f '${Version}' docker.io")?.trim().to_owned())
}

/// Runs the program over the inventory; gives all that it said, in which no password may be.
fn run(cluster: &Cluster, args: &[&str], code: i32) -> Result<String> {
    let said = offline::run(cluster, args, code)?;
    ensure!(!said.contains(PASSWORD) && !said.contains("s3cret"), "a password shows: {said}");
    Ok(said)
}
