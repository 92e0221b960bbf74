//! What the kernel holds: devices and entries of the fabric's namespace, and the host's end of the joining veth.
//!
//! Must not know what is desired. Reading changes nothing.

use crate::{
    device::{Device, Kind},
    entry::{self, Entry, Seen},
    error::{Doing, Error},
    netlink::Netlink,
};
use osier_fabric::{Address, FdbEntry, Guard, Neighbour, Route};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage as Message, address::AddressMessage, link::LinkMessage,
    neighbour::NeighbourMessage, route::RouteAttribute, route::RouteMessage,
};
use std::collections::BTreeMap;

/// The fabric's namespace as it is, in the same words as the plan ([`osier_fabric::Desired`]).
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// All devices of the namespace.
    pub devices: Vec<Device>,
    /// Addresses of its bridges and ports.
    pub addresses: Vec<Address>,
    /// Routes through them that the plan could have made.
    pub routes: Vec<Route>,
    /// Static forwarding entries, without the devices' own MACs.
    pub fdb: Vec<FdbEntry>,
    /// Permanent ARP entries.
    pub neighbours: Vec<Neighbour>,
    /// Guards of ports; none where the rules that make them count are not there.
    pub guards: Vec<Guard>,
}

impl Observed {
    /// The bridges.
    pub fn bridges(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|d| matches!(d.kind, Kind::Bridge { .. }))
    }

    /// The tunnel devices.
    pub fn vxlans(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|d| matches!(d.kind, Kind::Vxlan { .. }))
    }

    /// The ports of containers and of the host: veths, on a bridge or not.
    pub fn ports(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|d| matches!(d.kind, Kind::Veth { .. }))
    }
}

/// Devices by name, and every entry that could be ours together with the request that deletes it.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) devices: BTreeMap<String, Device>,
    pub(crate) entries: Vec<Seen>,
}

impl Snapshot {
    /// Reads a namespace that is the fabric's alone.
    pub(crate) async fn of_fabric(netlink: &Netlink) -> Result<Self, Error> {
        let links = dump(netlink, "links", Message::GetLink(LinkMessage::default())).await?;
        let mut out = Self { devices: by_name(Device::parse_all(&links)), entries: Vec::new() };
        let mut answers = dump(netlink, "addresses", Message::GetAddress(ipv4_addresses())).await?;
        answers.extend(dump(netlink, "routes", Message::GetRoute(ipv4_routes(None))).await?);
        for family in [AddressFamily::Bridge, AddressFamily::Inet] {
            let mut query = NeighbourMessage::default();
            query.header.family = family;
            answers.extend(dump(netlink, "forwarding entries", Message::GetNeighbour(query)).await?);
        }
        out.keep(answers);
        Ok(out)
    }

    /// Reads one link of a namespace that holds others' links too.
    pub(crate) async fn of_link(netlink: &Netlink, name: &str) -> Result<Self, Error> {
        let Some(device) = netlink.link(name).await?.as_ref().and_then(Device::parse) else {
            return Ok(Self::default());
        };
        let mut answers = dump(netlink, "addresses", Message::GetAddress(ipv4_addresses())).await?;
        answers.extend(dump(netlink, "routes", Message::GetRoute(ipv4_routes(Some(device.index)))).await?);
        let mut out = Self { devices: by_name(vec![device]), entries: Vec::new() };
        out.keep(answers);
        Ok(out)
    }

    fn keep(&mut self, answers: Vec<Message>) {
        let by_index: BTreeMap<u32, &Device> = self.devices.values().map(|d| (d.index, d)).collect();
        self.entries = answers.into_iter().filter_map(|m| entry::parse(m, &by_index)).collect();
    }

    pub(crate) fn into_observed(self) -> Observed {
        let mut out = Observed { devices: self.devices.into_values().collect(), ..Observed::default() };
        for seen in self.entries {
            match seen.entry {
                Some(Entry::Address(a)) => out.addresses.push(a),
                Some(Entry::Route(r)) => out.routes.push(r),
                Some(Entry::Fdb(f)) => out.fdb.push(f),
                Some(Entry::Neighbour(n)) => out.neighbours.push(n),
                None => {}
            }
        }
        out.addresses.sort();
        out.routes.sort();
        out.fdb.sort();
        out.neighbours.sort();
        out
    }
}

fn by_name(devices: Vec<Device>) -> BTreeMap<String, Device> {
    devices.into_iter().map(|d| (d.name.clone(), d)).collect()
}

fn ipv4_addresses() -> AddressMessage {
    let mut query = AddressMessage::default();
    query.header.family = AddressFamily::Inet;
    query
}

fn ipv4_routes(through: Option<u32>) -> RouteMessage {
    let mut query = RouteMessage::default();
    query.header.address_family = AddressFamily::Inet;
    query.attributes.extend(through.map(RouteAttribute::Oif));
    query
}

async fn dump(netlink: &Netlink, what: &str, query: Message) -> Result<Vec<Message>, Error> {
    netlink.dump(query).await.doing(|| format!("list the {what}"))
}
