//! The plan's form: kernel objects keyed by interface name, each list sorted and without repetition.
//!
//! All names are of the fabric's namespace, except where [`HostLink`] says otherwise.

use ipnet::Ipv4Net;
use osier_model::MacAddr;
use std::net::Ipv4Addr;

/// The whole configuration; what is of these kinds in the fabric's namespace and not listed is to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Bridges.
    pub bridges: Vec<Bridge>,
    /// Tunnel devices, one per bridge.
    pub vxlans: Vec<Vxlan>,
    /// Further ports of the bridges: one per container of this node, and the host's.
    pub ports: Vec<Port>,
    /// IPv4 addresses of bridges.
    pub addresses: Vec<Address>,
    /// IPv4 routes through bridges.
    pub routes: Vec<Route>,
    /// Where frames go.
    pub fdb: Vec<FdbEntry>,
    /// Permanent ARP entries on bridges.
    pub neighbours: Vec<Neighbour>,
    /// What containers may send; at most one for a port.
    pub guards: Vec<Guard>,
    /// The veth that joins the host.
    pub host: Option<HostLink>,
}

/// A bridge without spanning tree and without multicast snooping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its MAC, another on every node.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// A VXLAN device that learns nothing, as a bridge port with ARP suppression. Its UDP socket is the host namespace's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vxlan {
    /// Its name.
    pub name: String,
    /// The bridge it is a port of.
    pub bridge: String,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The address that its packets come from.
    pub local: Ipv4Addr,
    /// UDP port, here and at the peers.
    pub port: u16,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// A port that learns nothing, since every MAC behind it is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The bridge it belongs to.
    pub bridge: String,
}

/// An address of a link; a prefix length of 32 brings no route with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The link.
    pub link: String,
    /// The address and its prefix length.
    pub address: Ipv4Net,
}

/// A route to directly attached addresses (scope link, table main).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The link it leads to.
    pub link: String,
    /// Its destination.
    pub destination: Ipv4Net,
    /// The source address that packets get.
    pub source: Ipv4Addr,
}

/// One forwarding entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The port, or the tunnel device whose own table holds the entry.
    pub link: String,
    /// The destination MAC; all zero for "everything unknown, broadcast and multicast".
    pub mac: MacAddr,
    /// Whose table, and where to.
    pub target: FdbTarget,
}

/// The table that a forwarding entry stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FdbTarget {
    /// The bridge's table: the MAC is behind the port `link` (static, flag "master").
    Port,
    /// The tunnel's table: the MAC is at this peer (permanent, flag "self").
    Vtep(Ipv4Addr),
}

/// A permanent ARP entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The bridge.
    pub link: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Its MAC.
    pub mac: MacAddr,
}

/// Who a port's container is: IPv4 from any other address and ARP in any other name is dropped as it enters the port. A
/// port without a guard is only held to its MAC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard {
    /// The port.
    pub port: String,
    /// The container's MAC.
    pub mac: MacAddr,
    /// The container's address on the port's network.
    pub address: Ipv4Addr,
}

/// The veth between the host's namespace and a bridge. The bridge's end is among [`Desired::ports`] too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostLink {
    /// The name of the end in the host's namespace.
    pub name: String,
    /// The name of the end in the fabric's namespace.
    pub port: String,
    /// MAC of the host's end.
    pub mac: MacAddr,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// Address of the host's end, prefix length 32.
    pub address: Ipv4Addr,
    /// What the host reaches through it, with `address` as the source.
    pub subnet: Ipv4Net,
}
