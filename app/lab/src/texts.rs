//! The files that tell others how to reach a lab: inventory, ssh configuration, known hosts and host-file lines.
//!
//! Must not write any of them; this is text out of values.

use crate::plan::{LabName, Node};
use std::{fmt::Write, path::Path};

/// The pool containers of a cluster get addresses from (the seed's `weave_ip_pool`).
const CONTAINER_POOL: &str = "10.1.1.0/24";

/// The inventory in the seed's shape: the first node is the master, the others are slaves.
pub(crate) fn inventory(lab: &LabName, nodes: &[Node], token: &str, key: &Path, known_hosts: &Path) -> String {
    let mut text = String::from("[masters]\n");
    for (index, node) in nodes.iter().enumerate() {
        if index == 1 {
            text.push_str("\n[slaves]\n");
        }
        let _ = writeln!(text, "{} ansible_ssh_host={}", node.name, node.address);
    }
    let _ = write!(
        text,
        "\n[all:vars]\nansible_ssh_user=root\nansible_ssh_private_key_file={}\n\
         ansible_ssh_common_args='-o UserKnownHostsFile={} -o StrictHostKeyChecking=yes'\n\
         osier_cluster={lab}\nswarm_token={token}\nweave_ip_pool={CONTAINER_POOL}\n",
        key.display(),
        known_hosts.display(),
    );
    text
}

/// One `Host` block per node for ssh_config(5). The nodes' real keys are known, so checking them is not relaxed.
pub(crate) fn ssh_config(lab: &LabName, nodes: &[Node], key: &Path, known_hosts: &Path) -> String {
    let mut text = format!("# osier lab {lab}\n");
    for node in nodes {
        let _ = write!(
            text,
            "Host {}\n  HostName {}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
             StrictHostKeyChecking yes\n",
            node.name,
            node.address,
            key.display(),
            known_hosts.display(),
        );
    }
    text
}

/// The known-hosts lines of one node out of the public keys that it printed, under its name and its address.
pub(crate) fn known_hosts(node: &Node, public_keys: &str) -> String {
    let keys = public_keys.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(format!("{},{} {} {}\n", node.name, node.address, words.next()?, words.next()?))
    });
    keys.collect()
}

/// The resolver configuration for nodes: the host's name servers that a node can reach, or `None` where the host only
/// has a resolver on its loopback address.
pub(crate) fn resolv_conf(host: &str) -> Option<String> {
    let loopback = |line: &str| {
        let address = line.strip_prefix("nameserver").map(str::trim);
        address.is_some_and(|a| a.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()))
    };
    let kept: Vec<&str> = host.lines().filter(|line| !loopback(line)).collect();
    let usable = kept.iter().any(|line| line.starts_with("nameserver"));
    usable.then(|| kept.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn lab() -> (LabName, Vec<Node>) {
        let name: LabName = "lab".parse().unwrap();
        let subnet = "10.213.0.0/24".parse().unwrap();
        let nodes = plan::nodes(&name, &"datalyse".parse().unwrap(), 3, &[], subnet).unwrap();
        (name, nodes)
    }

    #[test]
    fn the_inventory_has_the_seeds_shape() {
        let (name, nodes) = lab();
        let text = inventory(&name, &nodes, &"ab".repeat(16), Path::new("/s/id_ed25519"), Path::new("/s/known_hosts"));
        let expected = "\
[masters]
datalyse-master ansible_ssh_host=10.213.0.10

[slaves]
datalyse-1 ansible_ssh_host=10.213.0.11
datalyse-2 ansible_ssh_host=10.213.0.12

[all:vars]
ansible_ssh_user=root
ansible_ssh_private_key_file=/s/id_ed25519
ansible_ssh_common_args='-o UserKnownHostsFile=/s/known_hosts -o StrictHostKeyChecking=yes'
osier_cluster=lab
swarm_token=abababababababababababababababab
weave_ip_pool=10.1.1.0/24
";
        assert_eq!(text, expected);
    }

    #[test]
    fn ssh_knows_every_node_by_its_real_key() {
        let (name, nodes) = lab();
        let config = ssh_config(&name, &nodes, Path::new("/s/id"), Path::new("/s/known_hosts"));
        assert_eq!(config.matches("StrictHostKeyChecking yes").count(), 3);
        assert!(config.contains("Host datalyse-1\n  HostName 10.213.0.11\n"));
        assert_eq!(
            known_hosts(&nodes[1], "ssh-ed25519 AAAA root@x\n\necdsa-sha2-nistp256 BBBB root@x\n"),
            "datalyse-1,10.213.0.11 ssh-ed25519 AAAA\ndatalyse-1,10.213.0.11 ecdsa-sha2-nistp256 BBBB\n"
        );
    }

    #[test]
    fn loopback_resolvers_are_no_use_to_a_node() {
        assert_eq!(resolv_conf("nameserver 127.0.0.53\noptions edns0\n"), None);
        assert_eq!(resolv_conf(""), None);
        let mixed = "search corp.example\nnameserver ::1\nnameserver 192.0.2.53\n";
        assert_eq!(resolv_conf(mixed).as_deref(), Some("search corp.example\nnameserver 192.0.2.53\n"));
    }
}
