//! The kernel's network configuration: observed, and made what the fabric's planner wants, over rtnetlink and nfnetlink.
//!
//! Must not know containers, engines, peers or how a plan came about. Every call is level-triggered: it looks first
//! and changes only what differs, so repeating one does nothing, and an agent that starts anew takes nothing away from
//! running containers.
//!
//! Two namespaces are at work. The *host's* is the one the process runs in: tunnels keep their UDP sockets there, and
//! Docker takes the container's end of each port from there. The *fabric's* is ours alone: whatever bridges, tunnels and
//! veths are in it and not in the plan are deleted. It outlives the process.

mod apply;
mod device;
mod entry;
mod error;
mod guard;
mod link;
mod namespace;
mod netlink;
mod nfnetlink;
mod nftables;
mod observe;
mod port;
mod sysctl;
mod watch;

pub use apply::Changes;
pub use device::{BridgePort, Device, Kind};
pub use error::Error;
pub use observe::Observed;
pub use port::Sandbox;

use futures::Stream;
use namespace::Namespace;
use netlink::Netlink;
use observe::Snapshot;
use osier_fabric::{Desired, Guard, LocalPort};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Mutex;

/// Where iproute2 keeps named network namespaces.
const NAMESPACES: &str = "/run/netns";

/// The kernel, as the fabric of one host sees it. Clones share one state; calls on them take turns.
#[derive(Clone)]
pub struct Kernel(Arc<Shared>);

struct Shared {
    host: Namespace,
    fabric: Namespace,
    host_link: Netlink,
    fabric_link: Netlink,
    /// Ports made by this process that no plan has named yet, with their guards: a plan older than the port must not delete
    /// either.
    unplanned: Mutex<BTreeMap<String, Option<Guard>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    changes: AtomicU64,
    repairs: AtomicU64,
    failures: AtomicU64,
    /// The plan that was carried out last.
    last: Mutex<Option<Desired>>,
}

/// What applying plans came to since the kernel was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes made.
    pub changes: u64,
    /// Of these, those that the plan before had made as well: somebody else had undone them.
    pub repairs: u64,
    /// Plans that could not be carried out.
    pub failures: u64,
}

impl Kernel {
    /// Opens the fabric's namespace `/run/netns/<name>`, creating it if need be; the host's namespace is the calling
    /// thread's.
    pub async fn open(name: &str) -> Result<Self, Error> {
        Self::with_host(Namespace::current()?, &Path::new(NAMESPACES).join(name))
    }

    /// Opens the fabric's namespace at a path, creating it if need be, with the host's namespace at another.
    pub async fn open_in(host: &Path, fabric: &Path) -> Result<Self, Error> {
        Self::with_host(Namespace::open(host)?, fabric)
    }

    fn with_host(host: Namespace, fabric: &Path) -> Result<Self, Error> {
        let fabric = Namespace::open_or_create(fabric)?;
        let (host_link, fabric_link) = (Netlink::open(&host)?, Netlink::open(&fabric)?);
        let (unplanned, counters) = (Mutex::default(), Counters::default());
        Ok(Self(Arc::new(Shared { host, fabric, host_link, fabric_link, unplanned, counters })))
    }

    /// Makes the kernel's configuration the desired one. What is right stays untouched, so traffic goes on.
    pub async fn apply(&self, desired: &Desired) -> Result<Changes, Error> {
        let mut unplanned = self.0.unplanned.lock().await;
        let result = apply::apply(&self.0, desired, &mut unplanned).await;
        let counters = &self.0.counters;
        let mut last = counters.last.lock().await;
        match &result {
            Ok(changes) => {
                let made = changes.made.len().try_into().unwrap_or(u64::MAX);
                counters.changes.fetch_add(made, Ordering::Relaxed);
                if last.as_ref() == Some(desired) {
                    counters.repairs.fetch_add(made, Ordering::Relaxed);
                }
                *last = Some(desired.clone());
            }
            Err(_) => drop(counters.failures.fetch_add(1, Ordering::Relaxed)),
        }
        result
    }

    /// What applying plans has come to so far.
    pub fn counts(&self) -> Counts {
        let Counters { changes, repairs, failures, .. } = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { changes: read(changes), repairs: read(repairs), failures: read(failures) }
    }

    /// Reads the fabric's namespace.
    pub async fn observe(&self) -> Result<Observed, Error> {
        let _turn = self.0.unplanned.lock().await;
        let guards = guard::observe(&self.0.fabric)?;
        Ok(Observed { guards, ..Snapshot::of_fabric(&self.0.fabric_link).await?.into_observed() })
    }

    /// Creates a container's veth: `container_end`, with the container's MAC, in the host's namespace for Docker to
    /// move; the port in the fabric's, up, on the bridge, known to it by that MAC, and guarded if the address is known and
    /// the kernel can. Leftovers of either name are replaced. Names have at most 15 bytes, MTUs are in bytes.
    ///
    /// The bridge must exist: [`Self::apply`] comes first, and says if the kernel cannot guard.
    pub async fn create_port(
        &self,
        port: &LocalPort,
        container_end: &str,
        bridge: &str,
        mtu: u32,
    ) -> Result<(), Error> {
        let mut unplanned = self.0.unplanned.lock().await;
        unplanned.insert(port.name.clone(), port.guard());
        let made = port::create(&self.0, &port::NewPort { port, container_end, bridge, mtu }).await;
        if made.is_err() {
            unplanned.remove(&port.name);
        }
        made
    }

    /// Deletes a container's veth, both ends; one that is not there is no error.
    pub async fn delete_port(&self, host_end: &str) -> Result<(), Error> {
        let mut unplanned = self.0.unplanned.lock().await;
        port::delete(&self.0.fabric_link, host_end).await?;
        unplanned.remove(host_end);
        Ok(())
    }

    /// Runs `f` on a thread of its own inside the fabric's namespace and waits for it, as for binding sockets there: a
    /// socket stays where it was made. The caller's async runtime is at hand inside.
    pub fn in_namespace<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.0.fabric.enter(f)
    }

    /// A stream with one item per change in the fabric's namespace that the plan may want undone; also after our own.
    pub async fn watch(&self) -> Result<impl Stream<Item = ()> + Send + use<>, Error> {
        watch::watch(&self.0.fabric)
    }
}
