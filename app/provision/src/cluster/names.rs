//! What nodes' certificates are for: every name that a node is called and every address that it is reached at.

use super::{Cluster, NodeIdentity, RENEW};
use osier_model::NodeName;
use osier_pki::{Issued, Subject, days_left};
use osier_ui::Failure;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::IpAddr};
use time::OffsetDateTime;

/// A node's certificate, and what it is for.
pub(super) struct NodeCertificate {
    pub(super) issued: Issued,
    pub(super) names: Names,
}

/// The names a node's certificate is for; kept beside it, so that a change is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) dns: BTreeSet<String>,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// What a node is called and where it is reached, as far as one run knows.
    pub(super) fn of(node: &NodeIdentity) -> Self {
        let mut names = Self::shared();
        names.dns.insert(node.name.to_string());
        names.dns.extend(node.dns.iter().cloned());
        names.addresses.extend([IpAddr::from(node.address), node.outside.into()]);
        names.addresses.extend(&node.addresses);
        names
    }

    /// What every node is called on itself.
    fn shared() -> Self {
        Self { dns: ["localhost".to_owned()].into(), addresses: [IpAddr::from([127, 0, 0, 1])].into() }
    }

    fn without(&mut self, others: &Self) {
        self.dns.retain(|name| !others.dns.contains(name));
        self.addresses.retain(|address| !others.addresses.contains(address));
    }

    /// Takes in what is called so earlier, but for what others are called now.
    fn keep(&mut self, earlier: &Self, others: &Self) {
        self.dns.extend(earlier.dns.difference(&others.dns).cloned());
        self.addresses.extend(earlier.addresses.difference(&others.addresses));
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.dns.extend(more.dns);
        self.addresses.extend(more.addresses);
    }
}

impl Cluster {
    /// Takes what nodes are called from now on from all others, which get other certificates.
    pub(super) fn take_names(
        &mut self,
        taken: &Names,
        nodes: &[NodeIdentity],
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let others = self.nodes.keys().filter(|name| !nodes.iter().any(|n| n.name == **name));
        for name in others.cloned().collect::<Vec<_>>() {
            let Some(node) = self.nodes.get(&name) else { continue };
            let mut names = node.names.clone();
            names.without(taken);
            if names != node.names {
                self.issue(name, names, now)?;
            }
        }
        Ok(())
    }

    /// Issues what a node has no certificate for yet. The names of one that still lasts stay, so that inventories which
    /// lead to the node on several ways do not undo each other's; a node that moved has those of its new place only. Gives the
    /// names that it had in no certificate before.
    pub(super) fn certify(
        &mut self,
        node: &NodeIdentity,
        moved: bool,
        others: &Names,
        now: OffsetDateTime,
    ) -> Result<Names, Failure> {
        let mut names = Names::of(node);
        let mut new = names.clone();
        new.without(self.nodes.get(&node.name).map_or(&Names::shared(), |kept| &kept.names));
        if let Some(kept) = self.nodes.get(&node.name).filter(|_| !moved)
            && days_left(&kept.issued.cert_pem, now).map_err(anyhow::Error::new)? >= RENEW
        {
            names.keep(&kept.names, others);
            if kept.names == names {
                return Ok(new);
            }
        }
        self.issue(node.name.clone(), names, now)?;
        Ok(new)
    }

    fn issue(&mut self, name: NodeName, names: Names, now: OffsetDateTime) -> Result<(), Failure> {
        let Names { dns, addresses } = names.clone();
        let (dns, addresses) = (dns.into_iter().collect(), addresses.into_iter().collect());
        let subject = Subject { name: name.to_string(), dns, addresses };
        let issued = self.authority.issue(&subject, now).map_err(anyhow::Error::new)?;
        self.nodes.insert(name, NodeCertificate { issued, names });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::tests::{node, settings},
        home::Home,
    };

    #[test]
    fn what_a_node_is_called_on_several_ways_is_all_in_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let mut cluster = Cluster::open(&Home::at(dir.path()), &settings(None), true, now).unwrap();
        let (here, other) = (node("a", 2), NodeIdentity { outside: [192, 0, 2, 77].into(), ..node("a", 2) });
        let behind = NodeIdentity { outside: [10, 0, 0, 2].into(), dns: vec!["a.eolas".to_owned()], ..node("a", 2) };
        let mut certified = |nodes: &[&NodeIdentity]| {
            let nodes: Vec<_> = nodes.iter().copied().cloned().collect();
            cluster.admit(&nodes, 3376, now).unwrap();
            let a = &cluster.nodes[&"a".parse().unwrap()];
            (a.issued.cert_pem.clone(), a.names.clone())
        };
        let first = certified(&[&node("m", 1), &here]);
        let all = certified(&[&other, &behind]);
        let is_for = |names: &Names, last: u8| names.addresses.contains(&IpAddr::from([192, 0, 2, last]));
        assert!(is_for(&all.1, 2) && is_for(&all.1, 77) && all.1.dns.contains("a.eolas") && first.0 != all.0);
        for again in [&here, &other, &behind] {
            assert_eq!(certified(&[again]).0, all.0, "a second run changes nothing");
        }
        let another = NodeIdentity { outside: [192, 0, 2, 77].into(), dns: vec!["a.eolas".to_owned()], ..node("b", 3) };
        let (_, names) = certified(&[&here, &another]);
        assert!(is_for(&names, 2) && !is_for(&names, 77) && !names.dns.contains("a.eolas"), "they are b's now");
        let last = NodeIdentity { outside: [192, 0, 2, 2].into(), ..node("b", 3) };
        let former = certified(&[&here]).0;
        let (certificate, names) = certified(&[&last]);
        assert!(!is_for(&names, 2) && certificate != former, "b's at last, in a run without a");
        // Two that are reached at one address, as behind NAT, do not take it from each other for ever.
        let both = certified(&[&here, &last]).0;
        assert_eq!((certified(&[&last]).0, certified(&[&here]).0), (both.clone(), both));
        let (_, names) = certified(&[&NodeIdentity { outside: [192, 0, 2, 5].into(), ..node("a", 4) }]);
        assert!(is_for(&names, 5) && !is_for(&names, 2), "it moved");
        assert!(!names.addresses.contains(&IpAddr::from([10, 0, 0, 2])));
    }
}
