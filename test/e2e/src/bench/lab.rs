//! Real clusters to measure on, and what the measurements bring along.

use anyhow::{Context, Result, ensure};
use osier_e2e::{
    Cluster, eventually,
    tour::{IMAGE, load_image},
};
use std::{fs::Permissions, os::unix::fs::PermissionsExt, time::Duration};

/// Where this program is on nodes, once [`bring_program`] has put it there.
pub(crate) const PROGRAM: &str = "/root/osier-bench";
/// The node that the manager runs on.
pub(crate) const MASTER: &str = "datalyse-master";

/// How long the manager may take to know all nodes.
const SOON: Duration = Duration::from_secs(30);

/// A cluster of so many nodes, each of which has [`IMAGE`].
pub(crate) fn cluster(nodes: usize) -> Result<Cluster> {
    let cluster = Cluster::make(nodes, &[])?;
    site(&cluster)?;
    // What is loaded goes to the nodes that the manager knows by then.
    eventually(SOON, || {
        let info = cluster.sh("docker info 2>&1")?;
        ensure!(info.matches("Status: Healthy").count() == nodes, "not all nodes are healthy");
        Ok(())
    })?;
    load_image(&cluster)?;
    Ok(cluster)
}

/// Provisions the cluster.
pub(crate) fn site(cluster: &Cluster) -> Result<()> {
    cluster.osier(&["site", "-i", &cluster.inventory().display().to_string()]).map(|_| ())
}

/// The names of so many nodes, the master's first.
pub(crate) fn nodes(count: usize) -> Vec<String> {
    std::iter::once(MASTER.to_owned()).chain((1..count).map(|n| format!("datalyse-{n}"))).collect()
}

/// Installs Debian packages on a node.
pub(crate) fn install(cluster: &Cluster, node: &str, packages: &str) -> Result<()> {
    let line =
        format!("apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y {packages} > /dev/null");
    cluster.on(node, &line).map(|_| ())
}

/// Puts this program onto all nodes, where it does what [`crate::tool`] knows.
pub(crate) fn bring_program(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("osier-bench");
    std::fs::copy(std::env::current_exe()?, &program).context("copy this program")?;
    std::fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let (inventory, program) = (cluster.inventory().display().to_string(), program.display().to_string());
    cluster.osier(&["copy", "-i", &inventory, &program, PROGRAM]).map(|_| ())
}

/// A container that waits while others run in its network.
pub(crate) struct Beside {
    /// What runs a command in its network.
    pub(crate) inside: String,
    /// Its address there.
    pub(crate) address: String,
}

impl Beside {
    /// Starts it on a node, on a network, by the node's own engine.
    pub(crate) fn start(cluster: &Cluster, node: &str, network: &str) -> Result<Self> {
        let line = format!(
            "id=$(docker run -d --network {network} {IMAGE} sleep 86400) && docker inspect -f \
             '{{{{.State.Pid}}}} {{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}' $id"
        );
        let said = cluster.on(node, &line)?;
        let (pid, address) = said.trim().split_once(' ').with_context(|| format!("no container runs: {said}"))?;
        Ok(Self { inside: format!("nsenter --net=/proc/{pid}/ns/net"), address: address.to_owned() })
    }
}
