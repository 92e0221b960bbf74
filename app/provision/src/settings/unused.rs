//! Variables that nothing here asks for: some of the seed's and Ansible's, and slips of the fingers. That is said once, not
//! host by host.
//!
//! Must not complain of other variables: what a user keeps in an inventory besides is theirs.

use osier_inventory::{Host, Inventory, slip};
use std::collections::BTreeSet;

/// Each with the reason, which `docs/seed.md` tells at length for the seed's.
const UNUSED: [(&str, &str); 4] = [
    ("weave_peer_count", "the first master owns all addresses at first, so nobody waits for a number of peers"),
    ("weave_dns", "containers ask their own node for names, at an address that is the same everywhere"),
    ("ansible_password", BY_KEY),
    ("ansible_ssh_pass", BY_KEY),
];
const BY_KEY: &str = "hosts are logged in to by key";
/// What is asked for.
const USED: [&str; 24] = [
    "ansible_become",
    "ansible_become_password",
    "ansible_host",
    "ansible_port",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_private_key_file",
    "ansible_user",
    "docker_apt_key",
    "docker_apt_source",
    "docker_packages",
    "docker_registry_mirrors",
    "docker_version",
    "floating_ip",
    "http_proxy",
    "https_proxy",
    "internal_ip",
    "no_proxy",
    "osier_cluster",
    "osier_domain",
    "swarm_port",
    "swarm_token",
    "weave_ip_pool",
    "weave_proxy_port",
];

/// Names of others that are but a letter away.
const OTHERS: [&str; 6] =
    ["floating_if", "floating_ip6", "floating_ips", "internal_if", "internal_ip6", "internal_ips"];

/// What to say of names that are most likely others, misspelt: those that the host does not have.
pub(crate) fn misspelt(inventory: &Inventory) -> BTreeSet<String> {
    let is_known = |name: &str| USED.contains(&name) || OTHERS.contains(&name);
    let of_host = |host: &Host| {
        let unset = || USED.into_iter().filter(|name| host.var(name).is_none());
        let slips =
            host.vars().keys().filter(|name| !is_known(name)).filter_map(|name| Some((name, slip(name, unset())?)));
        slips.map(|(name, meant)| format!("'{name}' means nothing here; is '{meant}' meant?")).collect::<Vec<_>>()
    };
    inventory.hosts().iter().flat_map(of_host).collect()
}

/// What to say of variables that are set and mean nothing, where there are any.
pub(crate) fn unused(inventory: &Inventory) -> Option<String> {
    let is_set = |name: &str| inventory.hosts().iter().any(|host| host.var(name).is_some_and(|value| !value.is_null()));
    let set: Vec<String> =
        UNUSED.iter().filter(|(name, _)| is_set(name)).map(|(name, why)| format!("{name} ({why})")).collect();
    (!set.is_empty()).then(|| format!("not used of the inventory: {}", set.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_inventory::{Source, SourceKind};

    fn said(text: &str) -> Option<String> {
        let source = Source { path: "inventory".into(), text: text.into(), kind: SourceKind::Hosts };
        unused(&Inventory::parse(&[source]).unwrap())
    }

    #[test]
    fn what_is_not_used_is_said_once_with_the_reason() {
        let said = said("a weave_dns=172.17.42.1\nb weave_dns=172.17.42.1\n[all:vars]\nweave_peer_count=3\n").unwrap();
        assert!(said.starts_with("not used of the inventory: weave_peer_count (the first master"), "{said}");
        assert_eq!((said.matches("weave_dns (").count(), said.lines().count()), (1, 1), "{said}");
    }

    #[test]
    fn slips_are_told_and_other_names_are_not() {
        let source = |text: &str| Source { path: "inventory".into(), text: text.into(), kind: SourceKind::Hosts };
        let said = |text: &str| misspelt(&Inventory::parse(&[source(text)]).unwrap());
        let slips = said(
            "a ansible_usr=root internal_ip=x\nb internal_pi=y\nc internal_pi=y\n[all:vars]\nswarm_prot=1\nweave_ip_pol=x\n",
        );
        let meant = ["ansible_usr", "internal_pi", "swarm_prot", "weave_ip_pol"];
        assert!(slips.iter().zip(meant).all(|(said, name)| said.starts_with(&format!("'{name}'"))), "{slips:?}");
        assert_eq!(slips.len(), meant.len());
        for fine in [
            "a swarm_port=1 swarm_prot=2",
            "a http_proxy=x https_proxy=y",
            "a ansible_become_pass=x ansible_ssh_host=y ansible_ssh_pass=z",
            "a port=1 user=x domain=y external_ip=z internal_if=eth0 ftp_proxy=p",
        ] {
            assert!(said(fine).is_empty(), "{fine}: {:?}", said(fine));
        }
    }

    #[test]
    fn nothing_is_said_of_variables_that_are_used_or_somebody_elses() {
        assert_eq!(
            said("a swarm_port=3376 weave_proxy_port=12375 swarm_manager=yes weave_dns=None\n[all:vars]\nx=1\n"),
            None
        );
    }
}
