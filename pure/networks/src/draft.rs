//! From what a user asked for to a network: chooses what was left open, refuses what cannot be.

use crate::{Network, overlap};
use ipnet::Ipv4Net;
use osier_model::{NetworkId, PeerId};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The length of subnets that are chosen here: as many addresses as the seed's range has.
const CHOSEN_LENGTH: u8 = 24;
/// Where they are chosen from (RFC 1918).
const CHOSEN_FROM: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8);
/// The longest prefix that leaves addresses for containers besides edges and gateway.
const LONGEST_PREFIX: u8 = 29;
/// VNIs have 24 bits (RFC 7348, section 5).
const VNI_BITS: u32 = 24;

/// What a user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// The name, which must not be empty.
    pub name: String,
    /// `--subnet`
    pub subnet: Option<Ipv4Net>,
    /// `--ip-range`
    pub range: Option<Ipv4Net>,
    /// `--gateway`
    pub gateway: Option<Ipv4Addr>,
    /// `--aux-address`
    pub reserved: BTreeMap<String, Ipv4Addr>,
    /// `--internal`
    pub internal: bool,
    /// `--attachable`
    pub attachable: bool,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--opt`
    pub options: BTreeMap<String, String>,
}

/// What is in use already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The networks that are known.
    pub networks: Vec<Network>,
    /// VNIs besides theirs.
    pub vnis: BTreeSet<u32>,
    /// Subnets besides theirs, each with the words that name it: the cluster's own range, and what this node has routes to.
    pub subnets: Vec<(Ipv4Net, String)>,
    /// What other nodes have routes to: none is chosen there as long as there is another, but a user may name one.
    pub reached: Vec<Ipv4Net>,
}

/// The network cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// There is one of this name.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// Too few addresses.
    #[error("subnet {0} is too small: a network needs at least 8 addresses (/29)")]
    TooSmall(Ipv4Net),
    /// Addresses that belong to somebody else.
    #[error("subnet {0} overlaps with {1}, which {2} has")]
    Overlaps(Ipv4Net, Ipv4Net, String),
    /// An address of the network that does not lie in it.
    #[error("{what} {address} is not an address of subnet {subnet} that a host may have")]
    Outside {
        /// Which address.
        what: String,
        /// The address.
        address: Ipv4Addr,
        /// The network's subnet.
        subnet: Ipv4Net,
    },
    /// A range that does not lie in the subnet.
    #[error("range {0} does not lie in subnet {1}")]
    RangeOutside(Ipv4Net, Ipv4Net),
    /// A range without the subnet that it is a part of.
    #[error("a range or gateway needs the subnet that it lies in")]
    NoSubnet,
    /// Nothing is left to choose.
    #[error("no subnet of {CHOSEN_FROM} is free; name one with --subnet")]
    NoneFree,
}

impl Draft {
    /// Makes the network of these wishes. `luck` are random bits: what is chosen follows from them.
    pub fn settle(self, luck: u64, founders: &BTreeSet<PeerId>, taken: &Taken) -> Result<Network, DraftError> {
        if taken.networks.iter().any(|n| n.name == self.name) {
            return Err(DraftError::Exists(self.name));
        }
        let subnet = match self.subnet {
            Some(subnet) => subnet.trunc(),
            None if self.range.is_some() || self.gateway.is_some() => return Err(DraftError::NoSubnet),
            None => choose_subnet(luck, taken).ok_or(DraftError::NoneFree)?,
        };
        if subnet.prefix_len() > LONGEST_PREFIX {
            return Err(DraftError::TooSmall(subnet));
        }
        let theirs = taken.networks.iter().map(|n| (n.subnet, format!("network {}", n.name)));
        if let Some((other, whose)) = theirs.chain(taken.subnets.iter().cloned()).find(|(s, _)| overlap(s, &subnet)) {
            return Err(DraftError::Overlaps(subnet, other, whose));
        }
        if let Some(range) = self.range.filter(|range| !subnet.contains(range)) {
            return Err(DraftError::RangeOutside(range, subnet));
        }
        let gateway = self.gateway.unwrap_or_else(|| Ipv4Addr::from(u32::from(subnet.broadcast()) - 1));
        let named = self.reserved.iter().map(|(name, address)| (format!("auxiliary address {name}"), *address));
        for (what, address) in named.chain([("gateway".to_owned(), gateway)]) {
            if !subnet.contains(&address) || address == subnet.network() || address == subnet.broadcast() {
                return Err(DraftError::Outside { what, address, subnet });
            }
        }
        let ids: BTreeSet<NetworkId> = taken.networks.iter().map(|n| n.id).collect();
        let vnis: BTreeSet<u32> = taken.networks.iter().map(|n| n.vni).chain(taken.vnis.iter().copied()).collect();
        let free = |id: &NetworkId| *id != NetworkId::MAIN && !ids.contains(id) && !vnis.contains(&vni(*id));
        // Ends: the ids run through all VNIs, and fewer are taken than there are.
        let id = (0..).map(|step| NetworkId(luck.wrapping_add(step))).find(free).ok_or(DraftError::NoneFree)?;
        Ok(Network {
            id,
            name: self.name,
            vni: vni(id),
            subnet,
            range: self.range.map(|range| range.trunc()),
            gateway,
            reserved: self.reserved,
            founders: founders.clone(),
            internal: self.internal,
            attachable: self.attachable,
            labels: self.labels,
            options: self.options,
        })
    }
}

/// The VNI of a network: the end of its random id.
fn vni(id: NetworkId) -> u32 {
    ((id.0 as u32) & ((1 << VNI_BITS) - 1)).max(1)
}

/// The first free subnet from a random one on, so that two sides of a partition hardly choose the same.
fn choose_subnet(luck: u64, taken: &Taken) -> Option<Ipv4Net> {
    let count = 1_u64 << (CHOSEN_LENGTH - CHOSEN_FROM.prefix_len());
    let base = u32::from(CHOSEN_FROM.network());
    let nth = |n: u64| {
        let place = ((luck >> VNI_BITS).wrapping_add(n) % count) as u32;
        Ipv4Net::new_assert(Ipv4Addr::from(base + (place << (32 - CHOSEN_LENGTH))), CHOSEN_LENGTH)
    };
    let free = |subnet: &Ipv4Net| {
        !taken.networks.iter().any(|n| overlap(&n.subnet, subnet))
            && !taken.subnets.iter().any(|(s, _)| overlap(s, subnet))
    };
    let clear = |subnet: &Ipv4Net| !taken.reached.iter().any(|r| overlap(r, subnet));
    let mut all = (0..count).map(nth).filter(free);
    all.clone().find(clear).or_else(|| all.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> BTreeSet<PeerId> {
        [PeerId([2, 0, 0, 0, 0, 1]), PeerId([2, 0, 0, 0, 0, 2])].into()
    }

    fn draft(name: &str, subnet: &str) -> Draft {
        Draft { name: name.into(), subnet: subnet.parse().ok(), ..Draft::default() }
    }

    fn settle(draft: Draft, taken: &Taken) -> Result<Network, String> {
        draft.settle(0x1234_5678_9abc_def0, &peers(), taken).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_open_is_chosen_clear_of_everything_else() {
        let mut taken = Taken { subnets: vec![("10.0.0.0/9".parse().unwrap(), "node a".into())], ..Taken::default() };
        for n in 0..50 {
            let network = settle(draft(&format!("n{n}"), ""), &taken).unwrap();
            assert!(CHOSEN_FROM.contains(&network.subnet) && network.subnet.prefix_len() == 24);
            assert_eq!(network.gateway.octets()[3], 254);
            assert!(!taken.networks.iter().any(|other| other.collides(&network)));
            assert!(!overlap(&network.subnet, &taken.subnets[0].0));
            taken.networks.push(network);
        }
        // What other nodes reach is kept clear of, unless that is everything or the user says so.
        taken.reached.push("10.128.0.0/10".parse().unwrap());
        for n in 0..50 {
            let network = settle(draft(&format!("clear{n}"), ""), &taken).unwrap();
            assert!(!overlap(&network.subnet, &taken.reached[0]));
            taken.networks.push(network);
        }
        assert!(settle(draft("named", "10.130.0.0/24"), &taken).is_ok());
        taken.reached.push(CHOSEN_FROM);
        assert!(settle(draft("crowded", ""), &taken).is_ok());
        taken.subnets.push((CHOSEN_FROM, "node b".into()));
        assert_eq!(
            settle(draft("x", ""), &taken).unwrap_err(),
            "no subnet of 10.0.0.0/8 is free; name one with --subnet"
        );
    }

    #[test]
    fn what_the_user_said_stands_or_is_refused_with_the_reason() {
        let own = ("10.1.1.0/24".parse().unwrap(), "the cluster's own network".to_owned());
        let mut taken = Taken { subnets: vec![own], ..Taken::default() };
        let made = settle(draft("a", "10.2.3.4/16"), &taken).unwrap();
        assert_eq!((made.subnet.to_string(), made.pool().to_string()), ("10.2.0.0/16".into(), "10.2.0.0/16".into()));
        taken.networks.push(made);
        let with = |range: &str, gateway: &str| Draft {
            range: range.parse().ok(),
            gateway: gateway.parse().ok(),
            ..draft("b", "10.3.0.0/24")
        };
        for (draft, problem) in [
            (draft("a", ""), "network with name a already exists"),
            (draft("b", "10.3.0.0/30"), "subnet 10.3.0.0/30 is too small: a network needs at least 8 addresses (/29)"),
            (
                draft("b", "10.1.0.0/16"),
                "subnet 10.1.0.0/16 overlaps with 10.1.1.0/24, which the cluster's own network has",
            ),
            (draft("b", "10.2.4.0/24"), "subnet 10.2.4.0/24 overlaps with 10.2.0.0/16, which network a has"),
            (with("10.4.0.0/24", ""), "range 10.4.0.0/24 does not lie in subnet 10.3.0.0/24"),
            (with("10.0.0.0/8", ""), "range 10.0.0.0/8 does not lie in subnet 10.3.0.0/24"),
            (with("", "10.3.0.255"), "gateway 10.3.0.255 is not an address of subnet 10.3.0.0/24 that a host may have"),
            (with("", "10.4.0.1"), "gateway 10.4.0.1 is not an address of subnet 10.3.0.0/24 that a host may have"),
            (Draft { subnet: None, ..with("10.3.0.0/25", "") }, "a range or gateway needs the subnet that it lies in"),
        ] {
            assert_eq!(settle(draft, &taken).unwrap_err(), problem);
        }
        let made = settle(with("10.3.0.128/25", "10.3.0.1"), &taken).unwrap();
        assert_eq!((made.pool().to_string(), made.kept().len()), ("10.3.0.128/25".into(), 3));
    }

    #[test]
    fn ids_and_segments_are_never_given_twice() {
        let mut taken = Taken { vnis: [7].into(), ..Taken::default() };
        let make = |luck: u64, name: &str, taken: &Taken| draft(name, "").settle(luck, &peers(), taken).unwrap();
        let first = make(0, "a", &taken);
        assert_eq!((first.id, first.vni), (NetworkId(1), 1), "no network has the cluster's own id");
        taken.networks.push(first);
        assert_eq!(make(1, "b", &taken).id, NetworkId(2));
        assert_eq!(make(7, "b", &taken).id, NetworkId(8), "a segment that something else has");
        assert_eq!(make(u64::MAX, "b", &taken).vni, (1 << 24) - 1);
    }
}
