//! All records of the zone, indexed by name and by address.
//!
//! Must not know liveness: only records of living nodes are put in, and the whole index is made anew when any change.

use ipnet::Ipv4Net;
use osier_model::{Hostname, NetworkId, PeerId};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The length of a shortened container id.
const SHORT_ID: usize = 12;

/// The names of one container on one network, as its node tells them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its address there.
    pub address: Ipv4Addr,
    /// The network, whose names are for those who are on it, too; for everybody where there is none.
    pub network: Option<NetworkId>,
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
    by_name: BTreeMap<String, Vec<Place>>,
    by_address: BTreeMap<Ipv4Addr, (Hostname, Option<NetworkId>)>,
    by_container: BTreeMap<String, Vec<Place>>,
    /// Which container an address is.
    containers: BTreeMap<Ipv4Addr, String>,
    /// The subnets of the networks besides the cluster's own.
    subnets: Vec<(NetworkId, Ipv4Net)>,
    /// What the container at an address calls others.
    links: BTreeMap<Ipv4Addr, Vec<Link>>,
    /// Names that have no address but names below them.
    parents: BTreeSet<String>,
}

/// An address and whose network it is on.
type Place = (Ipv4Addr, Option<NetworkId>);

/// Which networks' names somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight(Option<BTreeSet<NetworkId>>);

impl Sight {
    fn has(&self, network: Option<NetworkId>) -> bool {
        let (Some(sees), Some(network)) = (&self.0, network) else { return true };
        sees.contains(&network)
    }
}

impl Records {
    /// Indexes records, in any order. Where two have the same address, the smaller node's name is the address's, on
    /// every node alike. `subnets` are those of the networks besides the cluster's own.
    pub fn new(mut records: Vec<Record>, subnets: Vec<(NetworkId, Ipv4Net)>) -> Self {
        records.sort();
        let mut index = Self { subnets, ..Self::default() };
        for Record { address, network, container, names, links, .. } in records {
            index.by_container.entry(container.clone()).or_default().push((address, network));
            index.containers.entry(address).or_insert(container);
            if !links.is_empty() {
                index.links.insert(address, links);
            }
            for name in &names {
                let addresses = index.by_name.entry(name.as_str().to_owned()).or_default();
                // Records are sorted by address and network, so that an equal one can only be the last.
                if addresses.last() != Some(&(address, network)) {
                    addresses.push((address, network));
                }
                let mut rest = name.as_str();
                while let Some((_, parent)) = rest.split_once('.') {
                    index.parents.insert(parent.to_owned());
                    rest = parent;
                }
            }
            if let Some(first) = names.into_iter().next() {
                index.by_address.entry(address).or_insert((first, network));
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

    /// What somebody sees: all names where nobody is named; else those of the networks that the asker's container is on.
    pub(crate) fn sight(&self, asker: Option<Ipv4Addr>) -> Sight {
        let Some(asker) = asker else { return Sight(None) };
        let container = self.containers.get(&asker).and_then(|c| self.by_container.get(c)).into_iter().flatten();
        let mut networks: BTreeSet<NetworkId> = container.filter_map(|(_, network)| *network).collect();
        // One whose names are not known yet is on the network whose address it has.
        networks.extend(self.subnet_of(asker).map(|(network, _)| network));
        if networks.is_empty() {
            networks.insert(NetworkId::MAIN);
        }
        Sight(Some(networks))
    }

    /// The network besides the cluster's own that an address lies in.
    pub(crate) fn subnet_of(&self, address: Ipv4Addr) -> Option<(NetworkId, Ipv4Net)> {
        self.subnets.iter().copied().find(|(_, subnet)| subnet.contains(&address))
    }

    /// Addresses of `label.domain`, whether the records say the domain or not, each once.
    pub(crate) fn addresses(&self, label: &str, domain: &Hostname, sight: &Sight) -> Vec<Ipv4Addr> {
        let full = self.by_name.get(&format!("{label}.{domain}"));
        let says_domain = label.strip_suffix(domain.as_str()).is_some_and(|l| l.is_empty() || l.ends_with('.'));
        let bare = self.by_name.get(label).filter(|_| !says_domain);
        let seen = full.into_iter().chain(bare).flatten().filter(|(_, network)| sight.has(*network));
        let mut addresses: Vec<Ipv4Addr> = seen.map(|(address, _)| *address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Addresses of what the container at `asker` calls `label`; none where it calls nothing so, or nothing that runs.
    pub(crate) fn linked(&self, asker: Ipv4Addr, label: &str, domain: &Hostname, sight: &Sight) -> Vec<Ipv4Addr> {
        let link = self.links.get(&asker).and_then(|links| links.iter().find(|l| l.alias.as_str() == label));
        let Some(target) = link.map(|l| l.target.to_ascii_lowercase()) else { return Vec::new() };
        let by_id = self.by_container.range(target.clone()..).next().filter(|(id, _)| id.starts_with(&target));
        match by_id.filter(|_| target.len() >= SHORT_ID) {
            Some((_, places)) => places.iter().filter(|(_, network)| sight.has(*network)).map(|(a, _)| *a).collect(),
            None => self.addresses(&target, domain, sight),
        }
    }

    /// Whether some name lies below `label.domain`.
    pub(crate) fn is_parent(&self, label: &str, domain: &Hostname) -> bool {
        self.parents.contains(label) || self.parents.contains(&format!("{label}.{domain}"))
    }

    /// The name of an address.
    pub(crate) fn name(&self, address: Ipv4Addr, sight: &Sight) -> Option<&Hostname> {
        self.by_address.get(&address).filter(|(_, network)| sight.has(*network)).map(|(name, _)| name)
    }
}
