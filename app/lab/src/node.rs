//! One node: a container that is a host, with systemd as its first process, its own control groups and its own Docker
//! data.
//!
//! Must not know how many nodes there are besides the names and addresses it is given. The container has every
//! capability except `SYS_RESOURCE`, which the host itself may lack, and sees no seccomp, AppArmor or masked paths. Its
//! control groups are a namespace of their own, so that what an engine inside makes of them ends with the container.

use crate::{
    command::{CommandError, run},
    docker::{Docker, LABEL},
    plan::{LabName, Node},
    release::CgroupVersion,
    texts, wait,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Runs before systemd does: the engine mounts control groups read-only and private, where systemd and an engine need
/// to make groups, and bind mounts need to spread. Host keys are made once; `ssh-keygen -A` leaves existing ones.
const BOOT: &str = "while read -r _ at kind _; do case $kind in cgroup|cgroup2) mount -o remount,bind,rw \"$at\";; \
                    esac; done </proc/mounts; mount --make-rshared /; ssh-keygen -A >/dev/null; exec /sbin/init";
/// Puts the lab's key in, and prints the host's own.
const KEYS: &str = "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys; cat /etc/ssh/ssh_host_*_key.pub";
/// Devices that a host has and a container does not, given to nodes where the host has them.
const DEVICES: [&str; 2] = ["/dev/net/tun", "/dev/fuse"];
/// How long systemd may take to come up; a first boot on two busy cores takes 5 s.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const SSH_LIMIT: Duration = Duration::from_secs(60);

/// What the host gives to every node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ground {
    pub(crate) cgroups: CgroupVersion,
    /// Devices to pass on.
    pub(crate) devices: Vec<&'static str>,
    /// The host's kernel modules, if it has any.
    pub(crate) modules: Option<PathBuf>,
}

impl Ground {
    /// Looks at this host.
    pub(crate) fn of_host(cgroups: CgroupVersion) -> Self {
        let modules = Path::new("/lib/modules");
        Self {
            cgroups,
            devices: DEVICES.into_iter().filter(|device| Path::new(device).exists()).collect(),
            modules: modules.exists().then(|| modules.to_owned()),
        }
    }
}

/// The arguments of `docker run` that make this node.
pub(crate) fn run_arguments(
    lab: &LabName,
    node: &Node,
    all: &[Node],
    image: &str,
    ground: &Ground,
    resolv_conf: Option<&Path>,
) -> Vec<String> {
    let label = format!("{LABEL}={lab}");
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|w| (*w).to_owned()));
    add(&["run", "--detach", "--name", &node.container, "--hostname", node.name.as_str(), "--label", &label]);
    add(&["--network", &lab.network(), "--ip", &node.address.to_string()]);
    add(&["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"]);
    for protection in ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"] {
        add(&["--security-opt", protection]);
    }
    add(&["--cgroupns", "private", "--tmpfs", "/run:exec,mode=755", "--stop-signal", "SIGRTMIN+3"]);
    add(&["--stop-timeout", "30", "--env", "container=docker"]);
    if let Some(options) = node.release.boot_options(ground.cgroups) {
        add(&["--env", &format!("SYSTEMD_PROC_CMDLINE={options}")]);
    }
    for folder in ["docker", "containerd"] {
        add(&["--volume", &format!("{}:/var/lib/{folder}", volume(node, folder))]);
    }
    for device in &ground.devices {
        add(&["--device", device]);
    }
    if let Some(modules) = &ground.modules {
        add(&["--volume", &format!("{0}:{0}:ro", modules.display())]);
    }
    if let Some(resolv_conf) = resolv_conf {
        add(&["--volume", &format!("{}:/etc/resolv.conf", resolv_conf.display())]);
    }
    for other in all.iter().filter(|other| other.name != node.name) {
        add(&["--add-host", &format!("{}:{}", other.name, other.address)]);
    }
    add(&[image, "/bin/sh", "-c", BOOT]);
    arguments
}

/// The names of the node's volumes: an overlay cannot lie on the container's own, so these are on the host's disk.
fn volume(node: &Node, folder: &str) -> String {
    format!("{}-{folder}", node.container)
}

/// Makes the node's volumes and its container.
pub(crate) async fn make(
    docker: &Docker,
    lab: &LabName,
    node: &Node,
    arguments: &[String],
) -> Result<(), CommandError> {
    for folder in ["docker", "containerd"] {
        docker.run(["volume", "create", "--label", &format!("{LABEL}={lab}"), &volume(node, folder)]).await?;
    }
    docker.run(arguments).await?;
    Ok(())
}

/// Waits until the node's systemd has come up, with or without failed units.
pub(crate) async fn booted(docker: &Docker, node: &Node) -> Result<(), wait::Timeout> {
    let probe = || async {
        let ask = docker.script(&node.container, "systemctl is-system-running || :", b"").await;
        match ask.as_deref().map(str::trim) {
            Ok("running" | "degraded") => Ok(()),
            Ok(state) => Err(format!("systemd is {state}")),
            Err(e) => Err(e.to_string()),
        }
    };
    wait::until(format!("{} to boot", node.name), BOOT_LIMIT, probe).await
}

/// Lets this key in as root, and returns the node's known-hosts lines.
pub(crate) async fn exchange_keys(docker: &Docker, node: &Node, public_key: &[u8]) -> Result<String, CommandError> {
    let host_keys = docker.script(&node.container, KEYS, public_key).await?;
    Ok(texts::known_hosts(node, &host_keys))
}

/// Waits until `ssh NODE` works with the lab's configuration, the check of the host key included.
pub(crate) async fn reachable(ssh_config: &Path, node: &Node) -> Result<(), wait::Timeout> {
    let probe = || async {
        let mut ssh = crate::command::command("ssh");
        ssh.arg("-F").arg(ssh_config).args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]);
        run(ssh.args([node.name.as_str(), "true"])).await.map(drop).map_err(|e| e.to_string())
    };
    wait::until(format!("ssh to {}", node.name), SSH_LIMIT, probe).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn arguments(release: &str, cgroups: CgroupVersion) -> String {
        let lab: LabName = "lab".parse().unwrap();
        let releases = [release.parse().unwrap()];
        let subnet = "10.213.0.0/24".parse().unwrap();
        let nodes = plan::nodes(&lab, &"n".parse().unwrap(), 2, &releases, subnet).unwrap();
        let ground = Ground { cgroups, devices: vec!["/dev/net/tun"], modules: None };
        run_arguments(&lab, &nodes[0], &nodes, "image:tag", &ground, Some(Path::new("/s/resolv.conf"))).join(" ")
    }

    #[test]
    fn a_node_has_what_a_host_has_and_knows_the_others() {
        let line = arguments("bookworm", CgroupVersion::V1);
        for part in [
            "--hostname n-master --label osier.lab=lab",
            "--network osier-lab-lab --ip 10.213.0.10",
            "--cap-add ALL --cap-drop SYS_RESOURCE",
            "--cgroupns private",
            "--volume osier-lab-lab-n-master-docker:/var/lib/docker",
            "--device /dev/net/tun",
            "--volume /s/resolv.conf:/etc/resolv.conf",
            "--add-host n-1:10.213.0.11 image:tag /bin/sh -c",
        ] {
            assert!(line.contains(part), "'{part}' is not in: {line}");
        }
        assert!(!line.contains("--privileged") && !line.contains("--add-host n-master"), "{line}");
    }

    #[test]
    fn only_a_newer_systemd_on_the_older_control_groups_needs_telling() {
        assert!(arguments("trixie", CgroupVersion::V1).contains("SYSTEMD_PROC_CMDLINE=systemd.unified"));
        assert!(!arguments("trixie", CgroupVersion::V2).contains("SYSTEMD_PROC_CMDLINE"));
        assert!(!arguments("bookworm", CgroupVersion::V1).contains("SYSTEMD_PROC_CMDLINE"));
    }
}
