//! The cluster's networks besides its own: what one is, which are known, which of those that collide counts, and what a
//! node's engine has to be told.
//!
//! Must not know Docker's JSON, where records come from or how they travel.
//!
//! A network is a record that its maker writes once and nobody edits. Every node that has heard of it says it again, so
//! that it outlives any of them; removing it is a record of its own (*gone*), which is said until no node says the network
//! any more. So a node that was away learns of both, in whatever order.
//!
//! Two sides of a partition may make two networks of one name, one subnet or one VNI. On every node the one that is there
//! already stays; where neither is, the smaller id is made. A network that gave way is removed where nothing is on it, and
//! is told as a problem elsewhere. Nothing ever passes between the two: their ids, and so their segments and address rings,
//! differ.

mod book;
mod draft;
mod wanted;

pub use book::{Book, Changes};
pub use draft::{Draft, DraftError, Taken};
pub use wanted::{Present, Step, wanted};

use ipnet::Ipv4Net;
use osier_model::{NetworkId, PeerId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// A network of the whole cluster, as its maker wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What tells it from every other, also of the same name.
    pub id: NetworkId,
    /// Its name on every engine.
    pub name: String,
    /// The VXLAN network identifier of its segment, 1 to 2^24 - 1.
    pub vni: u32,
    /// The addresses that are on its link.
    pub subnet: Ipv4Net,
    /// The part of the subnet that addresses are given out of by themselves; all of it where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Ipv4Net>,
    /// The gateway that engines are told; nothing listens there unless a container takes the address.
    pub gateway: Ipv4Addr,
    /// Addresses that are never given out (Docker's auxiliary addresses).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, Ipv4Addr>,
    /// The nodes among which the range is shared out at first.
    pub founders: BTreeSet<PeerId>,
    /// Whether its containers have no way out by it.
    #[serde(default)]
    pub internal: bool,
    /// Docker's mark of networks that any container may join; told on, and without meaning here.
    #[serde(default)]
    pub attachable: bool,
    /// The user's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The user's driver options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// The part of the subnet that addresses are given out of.
    pub fn pool(&self) -> Ipv4Net {
        self.range.unwrap_or(self.subnet)
    }

    /// Addresses that no container is ever given.
    pub fn kept(&self) -> BTreeSet<Ipv4Addr> {
        let edges = [self.subnet.network(), self.subnet.broadcast(), self.gateway];
        self.reserved.values().copied().chain(edges).collect()
    }

    /// Whether the two cannot both be on one engine.
    pub fn collides(&self, other: &Self) -> bool {
        self.id != other.id
            && (self.name == other.name || self.vni == other.vni || overlap(&self.subnet, &other.subnet))
    }
}

/// Whether two subnets have an address in common.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}
