//! Entries of the kernel's tables (addresses, routes, forwarding, ARP): read, added and deleted in one manner.
//!
//! Only what an administrator could have set is read: nothing learned from traffic, nothing the kernel keeps for itself.

use crate::{
    device::{Device, Kind},
    error::Error,
    netlink::{Netlink, Request},
    observe::Snapshot,
};
use ipnet::Ipv4Net;
use nix::errno::Errno;
use osier_fabric::{Address, FdbEntry, FdbTarget, Neighbour, Route};
use osier_model::MacAddr;
use rtnetlink::{
    packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage as Message,
        address::{AddressAttribute, AddressMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
};

/// An entry in the plan's words; addresses sort first, since routes need them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    Address(Address),
    Route(Route),
    Fdb(FdbEntry),
    Neighbour(Neighbour),
}

/// An entry that the kernel holds; `None` where no plan could ask for it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) entry: Option<Entry>,
    pub(crate) delete: Message,
}

/// What the kernel answers when the entry vanished by itself, with its device or with another entry.
const GONE: &[Errno] = &[Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENXIO];

/// Makes the entries of a namespace those that are wanted; returns what it did. Entries of links that are not there
/// are left for later.
pub(crate) async fn reconcile(
    netlink: &Netlink,
    wanted: &BTreeSet<Entry>,
    snapshot: Snapshot,
) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    let mut present = BTreeSet::new();
    let mut deletions = Vec::new();
    for Seen { entry, delete } in snapshot.entries {
        match entry {
            Some(entry) if wanted.contains(&entry) => drop(present.insert(entry)),
            entry => {
                let doing =
                    format!("remove {}", entry.map_or("an entry of another kind".to_owned(), |e| e.to_string()));
                done.push(doing.clone());
                deletions.push((doing, Request { message: delete, flags: 0, tolerated: GONE }));
            }
        }
    }
    netlink.request_all(deletions).await?;

    let (mut addresses, mut others) = (Vec::new(), Vec::new());
    for entry in wanted.difference(&present) {
        let Some(device) = snapshot.devices.get(entry.link()) else { continue };
        let doing = format!("add {entry}");
        done.push(doing.clone());
        let list = if matches!(entry, Entry::Address(_)) { &mut addresses } else { &mut others };
        list.push((doing, entry.addition(device.index)));
    }
    netlink.request_all(addresses).await?;
    netlink.request_all(others).await?;
    Ok(done)
}

/// Reads one answer of a dump; `None` for what nobody set by hand and for devices that are not of the fabric's kinds.
pub(crate) fn parse(message: Message, devices: &BTreeMap<u32, &Device>) -> Option<Seen> {
    match message {
        Message::NewAddress(m) => address(m, devices),
        Message::NewRoute(m) => route(m, devices),
        Message::NewNeighbour(m) if m.header.family == AddressFamily::Bridge => fdb(&m, devices),
        Message::NewNeighbour(m) => neighbour(&m, devices),
        _ => None,
    }
}

fn ours<'a>(devices: &BTreeMap<u32, &'a Device>, index: u32) -> Option<&'a Device> {
    devices.get(&index).copied().filter(|d| d.kind != Kind::Other)
}

fn address(message: AddressMessage, devices: &BTreeMap<u32, &Device>) -> Option<Seen> {
    let device = ours(devices, message.header.index)?;
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    })?;
    let address = Ipv4Net::new(local, message.header.prefix_len).ok()?;
    let entry = Entry::Address(Address { link: device.name.clone(), address });
    Some(Seen { entry: Some(entry), delete: Message::DelAddress(message) })
}

fn route(message: RouteMessage, devices: &BTreeMap<u32, &Device>) -> Option<Seen> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let (mut link, mut destination, mut source, mut plain) = (None, None, None, header.scope == RouteScope::Link);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = ours(devices, *index),
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(*ip),
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some(*ip),
            RouteAttribute::Gateway(_) | RouteAttribute::Priority(_) => plain = false,
            _ => {}
        }
    }
    let link = link?.name.clone();
    let destination = destination.and_then(|ip| Ipv4Net::new(ip, header.destination_prefix_length).ok());
    let entry = match (destination, source) {
        (Some(destination), Some(source)) if plain => Some(Entry::Route(Route { link, destination, source })),
        _ => None,
    };
    Some(Seen { entry, delete: Message::DelRoute(message) })
}

fn fdb(message: &NeighbourMessage, devices: &BTreeMap<u32, &Device>) -> Option<Seen> {
    let (mut mac, mut vtep, mut in_bridge) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddr),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => vtep = Some(*ip),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                vtep = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from);
            }
            NeighbourAttribute::Controller(_) => in_bridge = true,
            // The kernel's own shadow of an entry without VLAN.
            NeighbourAttribute::Vlan(_) => return None,
            _ => {}
        }
    }
    let (mac, device) = (mac?, ours(devices, message.header.ifindex)?);
    let link = device.name.clone();
    if in_bridge {
        let bridge = devices.values().find(|d| device.port.as_ref().is_some_and(|p| p.bridge == d.name))?;
        let learned = matches!(message.header.state, NeighbourState::Reachable | NeighbourState::Stale);
        if learned || mac == device.mac || mac == bridge.mac {
            return None;
        }
        let entry = FdbEntry { link, mac, target: FdbTarget::Port };
        let delete = Message::DelNeighbour(fdb_message(&entry, device.index));
        // Not static means local: the bridge would take the frames for its own.
        let is_static = message.header.state == NeighbourState::Noarp;
        return Some(Seen { entry: is_static.then_some(Entry::Fdb(entry)), delete });
    }
    if !matches!(device.kind, Kind::Vxlan { .. }) {
        return None;
    }
    let entry = FdbEntry { link, mac, target: FdbTarget::Vtep(vtep?) };
    let delete = Message::DelNeighbour(fdb_message(&entry, device.index));
    Some(Seen { entry: Some(Entry::Fdb(entry)), delete })
}

fn neighbour(message: &NeighbourMessage, devices: &BTreeMap<u32, &Device>) -> Option<Seen> {
    let device = ours(devices, message.header.ifindex)?;
    let (mut mac, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddr),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(*ip),
            _ => {}
        }
    }
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let neighbour = Neighbour { link: device.name.clone(), address: address?, mac: mac? };
    let delete = Message::DelNeighbour(neighbour_message(&neighbour, device.index));
    Some(Seen { entry: Some(Entry::Neighbour(neighbour)), delete })
}

impl Entry {
    fn link(&self) -> &str {
        match self {
            Self::Address(a) => &a.link,
            Self::Route(r) => &r.link,
            Self::Fdb(f) => &f.link,
            Self::Neighbour(n) => &n.link,
        }
    }

    /// The request that adds this entry to the device of that index, in place of one that is in its way.
    pub(crate) fn addition(&self, index: u32) -> Request {
        let (message, how) = match self {
            Self::Address(a) => (Message::NewAddress(address_message(a, index)), NLM_F_REPLACE),
            Self::Route(r) => (Message::NewRoute(route_message(r, index)), NLM_F_REPLACE),
            // Only the all-zero entry may lead to several places.
            Self::Fdb(f) if f.mac == MacAddr::default() => (Message::NewNeighbour(fdb_message(f, index)), NLM_F_APPEND),
            Self::Fdb(f) => (Message::NewNeighbour(fdb_message(f, index)), NLM_F_REPLACE),
            Self::Neighbour(n) => (Message::NewNeighbour(neighbour_message(n, index)), NLM_F_REPLACE),
        };
        // A port may end with its container at any moment, and its entries with it.
        Request { message, flags: NLM_F_CREATE | how, tolerated: &[Errno::ENODEV] }
    }
}

fn address_message(address: &Address, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = address.address.prefix_len();
    let ip = IpAddr::V4(address.address.addr());
    message.attributes = vec![AddressAttribute::Address(ip), AddressAttribute::Local(ip)];
    message
}

fn route_message(route: &Route, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: route.destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(route.destination.network())),
        RouteAttribute::Oif(index),
        RouteAttribute::PrefSource(RouteAddress::Inet(route.source)),
    ];
    message
}

fn fdb_message(entry: &FdbEntry, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    match entry.target {
        FdbTarget::Port => {
            message.header.flags = NeighbourFlags::Controller;
            message.header.state = NeighbourState::Noarp;
        }
        FdbTarget::Vtep(ip) => {
            message.header.flags = NeighbourFlags::Own;
            message.header.state = NeighbourState::Permanent;
            message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)));
        }
    }
    message
}

fn neighbour_message(neighbour: &Neighbour, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(neighbour.address)),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()),
    ];
    message
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(a) => write!(f, "address {} on '{}'", a.address, a.link),
            Self::Route(r) => write!(f, "route to {} from {} through '{}'", r.destination, r.source, r.link),
            Self::Fdb(FdbEntry { link, mac, target: FdbTarget::Port }) => {
                write!(f, "forwarding entry {mac} behind '{link}'")
            }
            Self::Fdb(FdbEntry { link, mac, target: FdbTarget::Vtep(ip) }) => {
                write!(f, "forwarding entry {mac} to {ip} through '{link}'")
            }
            Self::Neighbour(n) => write!(f, "ARP entry {} is {} on '{}'", n.address, n.mac, n.link),
        }
    }
}
