//! Variables of the seed's inventories that nothing here asks for: that is said once, not host by host.
//!
//! Must not complain of other variables: what a user keeps in an inventory besides is theirs.

use osier_inventory::Inventory;

/// Each with the reason, which `docs/seed.md` tells at length.
const UNUSED: [(&str, &str); 2] = [
    ("weave_peer_count", "the first master owns all addresses at first, so nobody waits for a number of peers"),
    ("weave_dns", "containers ask their own node for names, at an address that is the same everywhere"),
];

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
    fn nothing_is_said_of_variables_that_are_used_or_somebody_elses() {
        assert_eq!(
            said("a swarm_port=3376 weave_proxy_port=12375 swarm_manager=yes weave_dns=None\n[all:vars]\nx=1\n"),
            None
        );
    }
}
