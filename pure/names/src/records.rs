//! All records of the zone, indexed by name and by address.
//!
//! Must not know liveness: only records of living nodes are put in, and the whole index is made anew when any change.

use osier_model::{Hostname, PeerId};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The length of a shortened container id.
const SHORT_ID: usize = 12;

/// The names of one container, as its node tells them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its address on the overlay.
    pub address: Ipv4Addr,
    /// The node that runs it.
    pub node: PeerId,
    /// Its id.
    pub container: String,
    /// Its names, inside the domain or without it; the first is the one that the address resolves to.
    pub names: Vec<Hostname>,
    /// What it alone calls others.
    pub links: Vec<Link>,
}

/// A name that one container has for another (`docker run --link`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The name as it is asked for, without the domain.
    pub alias: Hostname,
    /// Whom it means: a container's id, or its beginning, or one of its names.
    pub target: String,
}

/// Records by name and by address; a lookup takes logarithmic time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    by_name: BTreeMap<String, Vec<Ipv4Addr>>,
    by_address: BTreeMap<Ipv4Addr, Hostname>,
    by_container: BTreeMap<String, Ipv4Addr>,
    /// What the container at an address calls others.
    links: BTreeMap<Ipv4Addr, Vec<Link>>,
    /// Names that have no address but names below them.
    parents: BTreeSet<String>,
}

impl Records {
    /// Indexes records, in any order. Where two have the same address, the smaller node's name is the address's, on
    /// every node alike.
    pub fn new(mut records: Vec<Record>) -> Self {
        records.sort();
        let mut index = Self::default();
        for Record { address, container, names, links, .. } in records {
            index.by_container.insert(container, address);
            if !links.is_empty() {
                index.links.insert(address, links);
            }
            for name in &names {
                let addresses = index.by_name.entry(name.as_str().to_owned()).or_default();
                // Records are sorted by address, so that an equal one can only be the last.
                if addresses.last() != Some(&address) {
                    addresses.push(address);
                }
                let mut rest = name.as_str();
                while let Some((_, parent)) = rest.split_once('.') {
                    index.parents.insert(parent.to_owned());
                    rest = parent;
                }
            }
            if let Some(first) = names.into_iter().next() {
                index.by_address.entry(address).or_insert(first);
            }
        }
        index
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no name at all.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Addresses of `label.domain`, whether the records say the domain or not, each once.
    pub(crate) fn addresses(&self, label: &str, domain: &Hostname) -> Vec<Ipv4Addr> {
        let full = self.by_name.get(&format!("{label}.{domain}"));
        let says_domain = label.strip_suffix(domain.as_str()).is_some_and(|l| l.is_empty() || l.ends_with('.'));
        let bare = self.by_name.get(label).filter(|_| !says_domain);
        let mut addresses: Vec<Ipv4Addr> = full.into_iter().chain(bare).flatten().copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Addresses of what the container at `asker` calls `label`; none where it calls nothing so, or nothing that runs.
    pub(crate) fn linked(&self, asker: Ipv4Addr, label: &str, domain: &Hostname) -> Vec<Ipv4Addr> {
        let link = self.links.get(&asker).and_then(|links| links.iter().find(|l| l.alias.as_str() == label));
        let Some(target) = link.map(|l| l.target.to_ascii_lowercase()) else { return Vec::new() };
        let by_id = self.by_container.range(target.clone()..).next().filter(|(id, _)| id.starts_with(&target));
        match by_id.filter(|_| target.len() >= SHORT_ID) {
            Some((_, address)) => vec![*address],
            None => self.addresses(&target, domain),
        }
    }

    /// Whether some name lies below `label.domain`.
    pub(crate) fn is_parent(&self, label: &str, domain: &Hostname) -> bool {
        self.parents.contains(label) || self.parents.contains(&format!("{label}.{domain}"))
    }

    /// The name of an address.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<&Hostname> {
        self.by_address.get(&address)
    }
}
