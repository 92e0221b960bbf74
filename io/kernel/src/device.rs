//! Devices as the kernel describes them, reduced to what the fabric sets or shows.

use osier_model::MacAddr;
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{
        BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute,
        LinkFlags, LinkInfo, LinkMessage,
    },
};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC; all zero for one that has none.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Its driver, with what matters of its settings.
    pub kind: Kind,
    /// Its place on a bridge of the same namespace.
    pub port: Option<BridgePort>,
}

/// Drivers that the fabric uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge {
        /// Whether spanning tree runs.
        stp: bool,
        /// Whether multicast goes only where it was asked for.
        multicast_snooping: bool,
    },
    /// A VXLAN device.
    Vxlan {
        /// VXLAN network identifier.
        vni: u32,
        /// Source address of its packets.
        local: Option<Ipv4Addr>,
        /// UDP port.
        port: u16,
        /// Whether it learns from packets.
        learning: bool,
    },
    /// One end of a veth pair.
    Veth {
        /// Index of the other end, in that end's namespace.
        peer: u32,
    },
    /// Any other.
    Other,
}

/// A device's place on a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// The bridge's name.
    pub bridge: String,
    /// Whether the bridge learns MACs behind it.
    pub learning: bool,
    /// Whether ARP requests that the bridge can answer stay out of it.
    pub arp_suppressed: bool,
    /// Whether frames may leave by the port they came from.
    pub hairpin: bool,
    /// Whether only MACs that the bridge's table has behind it may send there; unknown to kernels before 5.18.
    pub locked: Option<bool>,
}

impl Device {
    /// The devices of one namespace; ports get their bridge's name.
    pub(crate) fn parse_all(answers: &[RouteNetlinkMessage]) -> Vec<Self> {
        let links = answers.iter().filter_map(|m| match m {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let mut devices: Vec<(Self, Option<u32>)> =
            links.filter_map(|link| Some((Self::parse(link)?, controller(link)))).collect();
        let names: BTreeMap<u32, String> = devices.iter().map(|(d, _)| (d.index, d.name.clone())).collect();
        for (device, controller) in &mut devices {
            let bridge = controller.and_then(|index| names.get(&index));
            match (&mut device.port, bridge) {
                (Some(port), Some(bridge)) => port.bridge.clone_from(bridge),
                (port, _) => *port = None,
            }
        }
        devices.into_iter().map(|(device, _)| device).collect()
    }

    /// One device, its bridge still without a name.
    pub(crate) fn parse(link: &LinkMessage) -> Option<Self> {
        let mut out = Self {
            index: link.header.index,
            name: String::new(),
            mac: MacAddr::default(),
            mtu: 0,
            up: link.header.flags.contains(LinkFlags::Up),
            kind: Kind::Other,
            port: None,
        };
        let mut peer = 0;
        let mut info: &[LinkInfo] = &[];
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => out.name.clone_from(name),
                LinkAttribute::Address(mac) => out.mac = mac.as_slice().try_into().map(MacAddr).unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => out.mtu = *mtu,
                LinkAttribute::Link(index) => peer = *index,
                LinkAttribute::LinkInfo(list) => info = list,
                _ => {}
            }
        }
        for item in info {
            match item {
                LinkInfo::Kind(InfoKind::Veth) => out.kind = Kind::Veth { peer },
                LinkInfo::Data(InfoData::Bridge(data)) => out.kind = bridge(data),
                LinkInfo::Data(InfoData::Vxlan(data)) => out.kind = vxlan(data),
                LinkInfo::PortData(InfoPortData::BridgePort(data)) => out.port = Some(bridge_port(data)),
                _ => {}
            }
        }
        (!out.name.is_empty()).then_some(out)
    }
}

fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

fn bridge(data: &[InfoBridge]) -> Kind {
    let stp = data.iter().any(|i| matches!(i, InfoBridge::StpState(s) if *s != BridgeStpState::Disabled));
    Kind::Bridge { stp, multicast_snooping: data.contains(&InfoBridge::MulticastSnooping(true)) }
}

fn vxlan(data: &[InfoVxlan]) -> Kind {
    let (mut vni, mut local, mut port) = (0, None, 0);
    for item in data {
        match item {
            InfoVxlan::Id(v) => vni = *v,
            InfoVxlan::Local(v) => local = Some(*v),
            InfoVxlan::Port(v) => port = *v,
            _ => {}
        }
    }
    Kind::Vxlan { vni, local, port, learning: data.contains(&InfoVxlan::Learning(true)) }
}

fn bridge_port(data: &[InfoBridgePort]) -> BridgePort {
    BridgePort {
        bridge: String::new(),
        learning: data.contains(&InfoBridgePort::Learning(true)),
        arp_suppressed: data.contains(&InfoBridgePort::NeighSupress(true)),
        hairpin: data.contains(&InfoBridgePort::HairpinMode(true)),
        locked: data.iter().find_map(|attribute| match attribute {
            InfoBridgePort::Locked(locked) => Some(*locked),
            _ => None,
        }),
    }
}
