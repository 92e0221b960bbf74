//! Ports of containers: made when an endpoint is created, renamed when the container runs, deleted with the endpoint.

use crate::{
    Shared,
    device::{Device, Kind},
    entry::Entry,
    error::{Doing, Error},
    guard::{self, Others},
    link,
    namespace::Namespace,
    netlink::{Netlink, is},
};
use nix::errno::Errno;
use osier_fabric::{FdbEntry, FdbTarget, LocalPort, Route};
use osier_model::MacAddr;
use rtnetlink::packet_route::{RouteNetlinkMessage, link::LinkMessage};
use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// A port to be made.
pub(crate) struct NewPort<'a> {
    pub(crate) port: &'a LocalPort,
    pub(crate) container_end: &'a str,
    pub(crate) bridge: &'a str,
    pub(crate) mtu: u32,
}

pub(crate) async fn create(shared: &Shared, want: &NewPort<'_>) -> Result<(), Error> {
    let NewPort { port, container_end, bridge, mtu } = *want;
    let (host_end, mac, guard) = (port.name.as_str(), port.mac, port.guard());
    let doing = || format!("create the port '{host_end}' for '{container_end}'");
    let (fabric, host) = (&shared.fabric_link, &shared.host_link);
    let bridge = link::find(fabric, bridge).await?;
    let ends = (host_end, container_end);
    let make = || link::create_port(fabric, &shared.host, ends, mac, mtu, &bridge);
    match make().await {
        Err(e) if is(&e, Errno::EEXIST) => {
            delete(fabric, host_end).await?;
            delete(host, container_end).await?;
            make().await.doing(doing)?;
        }
        result => result.doing(doing)?,
    }
    if let Some(guard) = guard {
        // Before it is up. A kernel that cannot is no reason not to make the port.
        let _ = guard::reconcile(&shared.fabric, &[guard], Others::Kept);
    }
    let port = link::find(fabric, host_end).await?;
    link::attach(fabric, &port, &bridge, link::Sender::Member).await?;
    let entry = Entry::Fdb(FdbEntry { link: host_end.to_owned(), mac, target: FdbTarget::Port });
    let addition = entry.addition(port.index);
    fabric.request(addition.message, addition.flags).await.doing(|| format!("add {entry}"))
}

/// Deletes a veth with its other end, wherever that is; none of this name is no error, nor is a device of another kind.
pub(crate) async fn delete(netlink: &Netlink, name: &str) -> Result<(), Error> {
    match netlink.link(name).await?.as_ref().and_then(Device::parse) {
        Some(Device { index, kind: Kind::Veth { .. }, .. }) => netlink.delete_link(index, name).await,
        _ => Ok(()),
    }
}

/// A container's network namespace, open for as long as its interface is awaited.
pub struct Sandbox {
    netlink: Netlink,
    path: PathBuf,
}

impl Sandbox {
    /// Opens the namespace bound to this path; `None` where there is none yet.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        match path.try_exists() {
            Ok(true) => {}
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::new(format!("look for the sandbox '{}'", path.display()), e));
            }
            _ => return Ok(None),
        }
        Ok(Some(Self { netlink: Netlink::open(&Namespace::open(path)?)?, path: path.to_owned() }))
    }

    /// Makes the link with this MAC, whose name begins with the prefix and which is up, answer to `name` as well as to the
    /// name it had. False where it is not there yet; a name that another link has counts as done.
    pub async fn name_interface(&self, interface_prefix: &str, mac: MacAddr, name: &str) -> Result<bool, Error> {
        let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.netlink.dump(query).await.doing(|| format!("list the links of '{}'", self.path.display()))?;
        let devices = Device::parse_all(&links);
        // One that is not up yet is still being set up by whoever moved it here, under the name it knows.
        let ready = |d: &&Device| d.mac == mac && d.name.starts_with(interface_prefix) && d.up;
        let Some(device) = devices.iter().find(ready) else { return Ok(false) };
        link::name(&self.netlink, device, name).await.map(|()| true)
    }

    /// Leads packets for `destination` to the link with this MAC, with `source` as their source. One that leads somewhere
    /// already stays. False where the link is not there.
    pub async fn route(&self, mac: MacAddr, destination: Ipv4Addr, source: Ipv4Addr) -> Result<bool, Error> {
        let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.netlink.dump(query).await.doing(|| format!("list the links of '{}'", self.path.display()))?;
        let devices = Device::parse_all(&links);
        let Some(device) = devices.iter().find(|d| d.mac == mac) else { return Ok(false) };
        let entry = Entry::Route(Route { link: device.name.clone(), destination: destination.into(), source });
        let addition = entry.addition(device.index);
        match self.netlink.request(addition.message, addition.flags).await {
            Err(e) if is(&e, Errno::EEXIST) => Ok(true),
            result => result.doing(|| format!("add {entry}")).map(|()| true),
        }
    }
}
