//! Requests that make devices what they should be, one device at a time; each checks first and changes only what differs.
//!
//! Must not know the plan as a whole, nor what else exists.

use crate::{
    device::{Device, Kind},
    error::{Doing, Error},
    namespace::Namespace,
    netlink::{Netlink, is},
};
use nix::errno::Errno;
use osier_fabric::{Bridge, HostLink, Vxlan};
use osier_model::MacAddr;
use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, LinkVxlan,
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage as Message,
        link::{BridgeStpState, InfoData, InfoVeth, LinkAttribute, LinkMessage, Prop},
    },
};
use std::io;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
const CHANGE: u16 = 0;

async fn send(netlink: &Netlink, message: LinkMessage, flags: u16) -> io::Result<()> {
    netlink.request(Message::NewLink(message), flags).await
}

/// The device of this name, which has to be there.
pub(crate) async fn find(netlink: &Netlink, name: &str) -> Result<Device, Error> {
    let found = netlink.link(name).await?.as_ref().and_then(Device::parse);
    found.ok_or_else(|| Error::new(format!("look up '{name}'"), Errno::ENODEV))
}

/// Creates or corrects a bridge; says what it did.
pub(crate) async fn bridge(netlink: &Netlink, want: &Bridge, seen: Option<&Device>) -> Result<Option<String>, Error> {
    let right = Kind::Bridge { stp: false, multicast_snooping: false };
    if seen.is_some_and(|d| (d.mac, d.mtu, d.up) == (want.mac, want.mtu, true) && d.kind == right) {
        return Ok(None);
    }
    let message = LinkBridge::new(&want.name)
        .stp_state(BridgeStpState::Disabled)
        .mcast_snooping(false)
        // Else the kernel keeps every forwarding entry twice, once for VLAN 1.
        .vlan_default_pvid(0)
        .address(want.mac.0.to_vec())
        .mtu(want.mtu)
        .up()
        .build();
    let (verb, flags) = if seen.is_some() { ("correct", CHANGE) } else { ("create", NEW) };
    let doing = format!("{verb} the bridge '{}'", want.name);
    send(netlink, message, flags).await.doing(|| &doing)?;
    Ok(Some(doing))
}

/// Whether a device is this tunnel, apart from what can be changed while it runs.
pub(crate) fn is_vxlan(device: &Device, want: &Vxlan) -> bool {
    device.kind == Kind::Vxlan { vni: want.vni, local: Some(want.local), port: want.port, learning: false }
}

/// Creates a tunnel device in `fabric`, with its socket in the namespace of `host`; it is down and on no bridge.
pub(crate) async fn create_vxlan(host: &Netlink, fabric: &Namespace, want: &Vxlan) -> Result<String, Error> {
    let message = LinkVxlan::new(&want.name, want.vni)
        .local(want.local)
        .port(want.port)
        .learning(false)
        .mtu(want.mtu)
        .setns_by_fd(fabric.fd())
        .build();
    let doing = format!("create the tunnel '{}' from {}", want.name, want.local);
    send(host, message, NEW).await.doing(|| &doing)?;
    Ok(doing)
}

/// Sets a device's MTU where it is another.
pub(crate) async fn mtu(netlink: &Netlink, device: &Device, mtu: u32) -> Result<Option<String>, Error> {
    if device.mtu == mtu {
        return Ok(None);
    }
    let doing = format!("set the MTU of '{}' to {mtu}", device.name);
    let message = LinkUnspec::new_with_index(device.index).mtu(mtu).build();
    send(netlink, message, CHANGE).await.doing(|| &doing)?;
    Ok(Some(doing))
}

/// Sets a device up where it is not.
pub(crate) async fn up(netlink: &Netlink, device: &Device) -> Result<Option<String>, Error> {
    if device.up {
        return Ok(None);
    }
    let doing = format!("set '{}' up", device.name);
    let message = LinkUnspec::new_with_index(device.index).up().build();
    send(netlink, message, CHANGE).await.doing(|| &doing)?;
    Ok(Some(doing))
}

/// What sends through a port of a bridge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Other nodes: any MAC, and no ARP requests that the bridge can answer.
    Tunnel,
    /// A container, or the host: the MAC that the bridge's table has for it, and no other.
    Member,
}

/// Makes a device a port of the bridge: no learning, no hairpin, up. Its settings are right before it forwards.
pub(crate) async fn attach(
    netlink: &Netlink,
    device: &Device,
    bridge: &Device,
    sender: Sender,
) -> Result<Option<String>, Error> {
    let doing = format!("attach '{}' to the bridge '{}'", device.name, bridge.name);
    let (tunnel, member) = (sender == Sender::Tunnel, sender == Sender::Member);
    let settings = device.port.as_ref().map(|p| (p.learning, p.hairpin, p.arp_suppressed, p.locked.unwrap_or(member)));
    let on_bridge = device.port.as_ref().is_some_and(|p| p.bridge == bridge.name);
    if on_bridge && device.up && settings == Some((false, false, tunnel, member)) {
        return Ok(None);
    }
    if !on_bridge {
        let message = LinkUnspec::new_with_index(device.index).controller(bridge.index).build();
        send(netlink, message, CHANGE).await.doing(|| &doing)?;
    }
    let port = LinkBridgePort::new(device.index).learning(false).hairpin(false).neigh_suppress(tunnel).locked(member);
    send(netlink, port.up().build(), CHANGE).await.doing(|| &doing)?;
    Ok(Some(doing))
}

/// Whether two devices, seen in their two namespaces, are the two ends of one veth.
pub(crate) fn are_pair(a: &Device, b: &Device) -> bool {
    a.kind == Kind::Veth { peer: b.index } && b.kind == Kind::Veth { peer: a.index }
}

/// Creates the veth that joins the host, both ends down.
pub(crate) async fn create_host_link(host: &Netlink, fabric: &Namespace, want: &HostLink) -> Result<String, Error> {
    let peer = LinkUnspec::new_with_name(&want.port).mtu(want.mtu).setns_by_fd(fabric.fd()).build();
    let message = LinkVeth::new(&want.name, &want.port)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .address(want.mac.0.to_vec())
        .mtu(want.mtu)
        .build();
    let doing = format!("create the host's link '{}'", want.name);
    send(host, message, NEW).await.doing(|| &doing)?;
    Ok(doing)
}

/// Creates a container's veth: `fabric_end` in the namespace of `fabric`, down, already on the bridge;
/// `container_end` in `host`. The answer EEXIST is left to the caller.
pub(crate) async fn create_port(
    fabric: &Netlink,
    host: &Namespace,
    ends: (&str, &str),
    mac: MacAddr,
    mtu: u32,
    bridge: &Device,
) -> io::Result<()> {
    let (fabric_end, container_end) = ends;
    let peer = LinkUnspec::new_with_name(container_end).address(mac.0.to_vec()).mtu(mtu).setns_by_fd(host.fd()).build();
    let message = LinkVeth::new(fabric_end, container_end)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(mtu)
        .controller(bridge.index)
        .build();
    send(fabric, message, NEW).await
}

/// Makes a device that is up answer to `name`: renames it, with its old name as the alternative, where the kernel lets a
/// device be renamed while it is up (Linux 6.2 and later); elsewhere `name` becomes the alternative. A name that another
/// device has is left where it is.
pub(crate) async fn name(netlink: &Netlink, device: &Device, name: &str) -> Result<(), Error> {
    if device.name == name {
        return Ok(());
    }
    let mut message = LinkMessage::default();
    message.header.index = device.index;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match netlink.request(Message::SetLink(message), CHANGE).await {
        Ok(()) => altname(netlink, device, &device.name).await,
        Err(e) if is(&e, Errno::EBUSY) || is(&e, Errno::EEXIST) => altname(netlink, device, name).await,
        result => result.doing(|| format!("name '{}' '{name}'", device.name)),
    }
}

async fn altname(netlink: &Netlink, device: &Device, altname: &str) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = device.index;
    message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(altname.to_owned())]));
    match netlink.request(Message::NewLinkProp(message), NEW).await {
        Err(e) if is(&e, Errno::EEXIST) => Ok(()),
        result => result.doing(|| format!("give '{}' the alternative name '{altname}'", device.name)),
    }
}
