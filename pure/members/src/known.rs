//! Members that an inventory calls by other names: the same hosts, reached on another way.
//!
//! Must not know how a host is reached, or what it is asked for.

use osier_model::{NodeName, PeerId, config::Member};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// A host of an inventory, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// Its name in the inventory.
    pub name: &'a NodeName,
    /// What it has of a cluster.
    pub state: State,
    /// The address other nodes reach it at, where it has one.
    pub address: Option<Ipv4Addr>,
}

/// What a host has of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Clean,
    /// Something of this one: of this node, where it says of which.
    Ours(Option<PeerId>),
    /// Something of another one.
    Foreign,
}

impl Host<'_> {
    /// Whether a host of a member's name is that member, or was: one of another place may have the same name. Without that
    /// node's state its address tells.
    pub fn is(&self, member: &Member) -> bool {
        match self.state {
            State::Ours(Some(peer)) => peer == member.peer,
            State::Clean | State::Ours(None) => self.address == Some(member.address),
            State::Foreign => false,
        }
    }
}

/// Which hosts are members under other names: the members' names by the hosts'. `listed` are all names of the inventory,
/// `cleared` the members that everything was, or may have been, taken off.
///
/// A host is a member if it has that node's state and its address: a machine that was started with a copy of a member's
/// disk has an address of its own. One that has nothing is the cleared member of its address. A name that is both the
/// inventory's and the cluster's means the same in both, and a member is one host alone, the first.
pub fn known_as<'a>(
    members: &'a [Member],
    cleared: &BTreeSet<NodeName>,
    listed: &BTreeSet<&NodeName>,
    hosts: impl IntoIterator<Item = Host<'a>>,
) -> BTreeMap<&'a NodeName, &'a NodeName> {
    let (mut known, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for host in hosts {
        if members.iter().any(|m| m.name == *host.name) {
            continue;
        }
        let has_state = |m: &Member| match host.state {
            State::Ours(peer) => peer == Some(m.peer),
            State::Clean => cleared.contains(&m.name),
            State::Foreign => false,
        };
        let is_host = |m: &&Member| has_state(m) && host.address == Some(m.address);
        let member = members.iter().filter(|m| !listed.contains(&m.name)).find(is_host);
        if let Some(member) = member.filter(|m| taken.insert(m.peer)) {
            known.insert(host.name, &member.name);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(name: &str, last: u8) -> Member {
        Member { name: name.parse().unwrap(), peer: PeerId([2, 0, 0, 0, 0, last]), address: [10, 0, 0, last].into() }
    }

    /// Hosts by name, whose state and address they have, against the members `a`, `b` and `m`, of which `b` was cleared.
    fn known(hosts: &[(&str, u8, u8)]) -> Vec<(String, String)> {
        let members = [member("a", 1), member("b", 2), member("m", 3)];
        let names: Vec<NodeName> = hosts.iter().map(|(name, ..)| name.parse().unwrap()).collect();
        let seen = names.iter().zip(hosts).map(|(name, (_, state, address))| Host {
            name,
            state: if *state > 0 { State::Ours(Some(PeerId([2, 0, 0, 0, 0, *state]))) } else { State::Clean },
            address: (*address > 0).then_some([10, 0, 0, *address].into()),
        });
        let cleared = BTreeSet::from(["b".parse().unwrap()]);
        let known = known_as(&members, &cleared, &names.iter().collect(), seen);
        known.into_iter().map(|(host, member)| (host.to_string(), member.to_string())).collect()
    }

    #[test]
    fn a_cleared_member_is_known_by_its_address() {
        assert_eq!(known(&[("x", 0, 2), ("y", 0, 1)]), [("x".to_owned(), "b".to_owned())]);
        assert_eq!(known(&[("b", 0, 9), ("x", 0, 2)]), [], "the inventory has it by its own name");
    }

    #[test]
    fn a_host_of_a_members_name_is_it_by_its_state_or_else_by_its_address() {
        let (a, name) = (member("a", 1), "a".parse().unwrap());
        let is = |state, address: u8| Host { name: &name, state, address: Some([10, 0, 0, address].into()) }.is(&a);
        assert!(is(State::Ours(Some(a.peer)), 9) && is(State::Clean, 1) && is(State::Ours(None), 1));
        assert!(!is(State::Ours(Some(PeerId([2; 6]))), 1) && !is(State::Clean, 9) && !is(State::Ours(None), 9));
        assert!(!is(State::Foreign, 1));
    }

    #[test]
    fn a_member_is_known_by_its_state_and_its_address_together() {
        let pair = |host: &str, member: &str| (host.to_owned(), member.to_owned());
        let other = [("10.0.0.3.eolas", 3, 3), ("10.0.0.1.eolas", 1, 1), ("new", 0, 9)];
        assert_eq!(known(&other), [pair("10.0.0.1.eolas", "a"), pair("10.0.0.3.eolas", "m")]);
        assert_eq!(known(&[("copy", 1, 9), ("reused", 0, 1), ("away", 1, 0), ("stranger", 7, 1)]), []);
    }

    #[test]
    fn a_name_of_both_means_the_same_and_a_member_is_one_host() {
        assert_eq!(known(&[("a", 1, 1), ("x", 1, 1)]), [], "the member is listed by its own name");
        assert_eq!(known(&[("a", 2, 2)]), [], "a host that took another's place keeps the inventory's name");
        assert_eq!(known(&[("x", 1, 1), ("y", 1, 1)]), [("x".to_owned(), "a".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_member_is_two_hosts(hosts in prop::collection::vec(("[a-d]|m", 0_u8..5, 0_u8..5), 0..8)) {
            let hosts: Vec<_> = hosts.iter().map(|(name, state, address)| (name.as_str(), *state, *address)).collect();
            let known = known(&hosts);
            let members: BTreeSet<_> = known.iter().map(|(_, member)| member.as_str()).collect();
            prop_assert_eq!(members.len(), known.len());
            prop_assert!(members.iter().all(|member| hosts.iter().all(|(name, ..)| name != member)));
        }
    }
}
