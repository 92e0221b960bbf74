//! From the kernel's state to the desired one, in steps that never take away what is right.
//!
//! Order matters: guards before what they guard, switches that new devices inherit, deletions (a stale tunnel may hold a
//! VNI), bridges, tunnels, the host's link, ports, the switches of bridges, and last the tables, read anew if any device
//! changed.

use crate::{
    Shared,
    device::{Device, Kind},
    entry::{self, Entry},
    error::Error,
    guard::{self, Others},
    link::{self, Sender},
    observe::Snapshot,
    sysctl::{self, Switch},
};
use osier_fabric::{Address, Desired, Guard, HostLink, Route};
use std::collections::{BTreeMap, BTreeSet};

/// What an application of the plan did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Each change, as a phrase like "create the bridge 'osier0'".
    pub made: Vec<String>,
    /// Ports of the plan that do not exist. They cannot be made without the container's end: the endpoint is gone, or
    /// has yet to be created.
    pub missing_ports: Vec<String>,
    /// Why this kernel guards no ports, where it does not: containers may then send from any address. All else has been
    /// done.
    pub unguarded: Option<String>,
}

impl Changes {
    /// Whether everything was right already.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    fn add(&mut self, change: impl IntoIterator<Item = String>) {
        self.made.extend(change);
    }
}

/// Applies a plan. Ports in `unplanned` are spared until a plan has named them once.
pub(crate) async fn apply(
    shared: &Shared,
    desired: &Desired,
    unplanned: &mut BTreeMap<String, Option<Guard>>,
) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    unplanned.retain(|name, _| !desired.ports.iter().any(|p| p.name == *name));
    match guard::reconcile(&shared.fabric, &guard::with_unplanned(&desired.guards, unplanned), Others::Removed) {
        Ok(made) => changes.add(made),
        Err(e) => changes.unguarded = Some(e.with_cause()),
    }
    changes.add(sysctl::ensure(&shared.fabric, &namespace_switches())?);

    let mut snapshot = Snapshot::of_fabric(&shared.fabric_link).await?;
    let before = changes.made.len();
    devices(shared, desired, unplanned, &mut snapshot, &mut changes).await?;
    if changes.made.len() > before {
        snapshot = Snapshot::of_fabric(&shared.fabric_link).await?;
    }
    let switches: Vec<Switch> = desired.bridges.iter().flat_map(|b| bridge_switches(&b.name)).collect();
    changes.add(sysctl::ensure(&shared.fabric, &switches)?);
    changes.add(entry::reconcile(&shared.fabric_link, &entries(desired), snapshot).await?);
    if let Some(host) = &desired.host {
        let snapshot = Snapshot::of_link(&shared.host_link, &host.name).await?;
        changes.add(entry::reconcile(&shared.host_link, &host_entries(host), snapshot).await?);
    }
    Ok(changes)
}

async fn devices(
    shared: &Shared,
    desired: &Desired,
    unplanned: &BTreeMap<String, Option<Guard>>,
    snapshot: &mut Snapshot,
    changes: &mut Changes,
) -> Result<(), Error> {
    let (fabric, seen) = (&shared.fabric_link, &mut snapshot.devices);
    let host_device = match &desired.host {
        Some(want) => shared.host_link.link(&want.name).await?.as_ref().and_then(Device::parse),
        None => None,
    };
    let joined = |want: &HostLink, port: &Device| {
        host_device.as_ref().is_some_and(|d| d.mac == want.mac && link::are_pair(d, port))
    };
    let stale = |device: &Device| match &device.kind {
        Kind::Bridge { .. } => !desired.bridges.iter().any(|b| b.name == device.name),
        Kind::Vxlan { .. } => !desired.vxlans.iter().any(|v| v.name == device.name && link::is_vxlan(device, v)),
        Kind::Veth { .. } => match &desired.host {
            Some(want) if want.port == device.name => !joined(want, device),
            _ => !unplanned.contains_key(&device.name) && !desired.ports.iter().any(|p| p.name == device.name),
        },
        Kind::Other => false,
    };
    for device in seen.values().filter(|d| stale(d)) {
        fabric.delete_link(device.index, &device.name).await?;
        changes.add([format!("delete '{}'", device.name)]);
    }
    seen.retain(|_, device| !stale(device));

    if let Some(loopback) = seen.get("lo") {
        changes.add(link::up(fabric, loopback).await?);
    }
    for want in &desired.bridges {
        let change = link::bridge(fabric, want, seen.get(&want.name)).await?;
        if change.is_some() {
            seen.insert(want.name.clone(), link::find(fabric, &want.name).await?);
        }
        changes.add(change);
    }
    for want in &desired.vxlans {
        if !seen.contains_key(&want.name) {
            changes.add([link::create_vxlan(&shared.host_link, &shared.fabric, want).await?]);
            seen.insert(want.name.clone(), link::find(fabric, &want.name).await?);
        }
        if let (Some(device), Some(bridge)) = (seen.get(&want.name), seen.get(&want.bridge)) {
            changes.add(link::mtu(fabric, device, want.mtu).await?);
            changes.add(link::attach(fabric, device, bridge, Sender::Tunnel).await?);
        }
    }
    if let Some(want) = &desired.host {
        join_host(shared, want, host_device, snapshot, changes).await?;
    }
    let seen = &snapshot.devices;
    for want in &desired.ports {
        match (seen.get(&want.name), seen.get(&want.bridge)) {
            (Some(device), Some(bridge)) => match link::attach(fabric, device, bridge, Sender::Member).await {
                Err(e) if e.is_vanished() => changes.missing_ports.push(want.name.clone()),
                result => changes.add(result?),
            },
            (None, _) => changes.missing_ports.push(want.name.clone()),
            (Some(_), None) => {}
        }
    }
    Ok(())
}

/// Makes the veth to the host; its end in the fabric becomes a port like others.
async fn join_host(
    shared: &Shared,
    want: &HostLink,
    seen_in_host: Option<Device>,
    snapshot: &mut Snapshot,
    changes: &mut Changes,
) -> Result<(), Error> {
    let (host, fabric) = (&shared.host_link, &shared.fabric_link);
    let device = match seen_in_host {
        Some(device) if snapshot.devices.contains_key(&want.port) => device,
        leftover => {
            if let Some(Device { index, kind: Kind::Veth { .. }, .. }) = leftover {
                host.delete_link(index, &want.name).await?;
            }
            changes.add([link::create_host_link(host, &shared.fabric, want).await?]);
            snapshot.devices.insert(want.port.clone(), link::find(fabric, &want.port).await?);
            link::find(host, &want.name).await?
        }
    };
    // Before it is up: a container must not be able to advertise itself to the host as an IPv6 router.
    let switch = (format!("ipv6/conf/{}/disable_ipv6", want.name), "1");
    changes.add(sysctl::ensure(&shared.host, &[switch])?);
    changes.add(link::mtu(host, &device, want.mtu).await?);
    if let Some(port) = snapshot.devices.get(&want.port) {
        changes.add(link::mtu(fabric, port, want.mtu).await?);
    }
    changes.add(link::up(host, &device).await?);
    Ok(())
}

fn entries(desired: &Desired) -> BTreeSet<Entry> {
    let mut out = BTreeSet::new();
    out.extend(desired.addresses.iter().cloned().map(Entry::Address));
    out.extend(desired.routes.iter().cloned().map(Entry::Route));
    out.extend(desired.fdb.iter().cloned().map(Entry::Fdb));
    out.extend(desired.neighbours.iter().cloned().map(Entry::Neighbour));
    out
}

fn host_entries(host: &HostLink) -> BTreeSet<Entry> {
    let link = host.name.clone();
    BTreeSet::from([
        Entry::Address(Address { link: link.clone(), address: host.address.into() }),
        Entry::Route(Route { link, destination: host.subnet, source: host.address }),
    ])
}

/// The namespace switches frames and answers DNS; it routes nothing, takes part in no IPv6 network, and its frames
/// pass no firewall but the guards.
fn namespace_switches() -> Vec<Switch> {
    let off = |path: &str| (path.to_owned(), "0");
    let on = |path: &str| (path.to_owned(), "1");
    vec![
        off("ipv4/ip_forward"),
        on("ipv6/conf/all/disable_ipv6"),
        on("ipv6/conf/default/disable_ipv6"),
        off("ipv6/conf/default/accept_ra"),
        // Frames to the addresses that bridges keep for themselves (01:80:c2:00:00:0x) meet no guard. What they carry is for
        // no socket here.
        on("ipv4/conf/all/drop_unicast_in_l2_multicast"),
        off("bridge/bridge-nf-call-iptables"),
        off("bridge/bridge-nf-call-ip6tables"),
        off("bridge/bridge-nf-call-arptables"),
    ]
}

fn bridge_switches(bridge: &str) -> [Switch; 2] {
    [
        // Loose: several networks may reach one asker.
        (format!("ipv4/conf/{bridge}/rp_filter"), "2"),
        // The bridge never asks who has an address. Its question would carry the address that all nodes' bridges share,
        // and teach containers of other nodes that it is here. It knows its askers: from the plan, or since they asked
        // for its address first.
        (format!("ipv4/neigh/{bridge}/mcast_solicit"), "0"),
    ]
}
