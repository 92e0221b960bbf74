//! Network namespaces: made persistent as iproute2 does it (`ip netns`), and entered on threads of their own.
//!
//! Must not know what lies inside one. No thread of the async runtime ever changes its namespace: work that has to run
//! inside gets a fresh thread, which ends with it. Sockets stay in the namespace they were made in.

use crate::error::{Doing, Error};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use std::{
    fs::{File, OpenOptions, create_dir_all},
    io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    thread,
};

const CURRENT: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    name: String,
}

impl Namespace {
    /// The namespace that the file is, or is bound to.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let file = File::open(path).doing(|| format!("open the network namespace '{name}'"))?;
        Ok(Self { file, name })
    }

    /// The namespace of the calling thread.
    pub(crate) fn current() -> Result<Self, Error> {
        Self::open(Path::new(CURRENT))
    }

    /// The namespace bound to `path`; where there is none, a new one that lives until somebody unmounts it.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, Error> {
        if !is_namespace(path) {
            create(path).doing(|| format!("create the network namespace '{}'", path.display()))?;
        }
        Self::open(path)
    }

    /// Runs `f` inside, on a fresh thread that has the caller's async runtime at hand, and waits for it.
    pub(crate) fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let runtime = tokio::runtime::Handle::try_current().ok();
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            let _guard = runtime.as_ref().map(|r| r.enter());
            Ok(f())
        };
        on_fresh_thread(inside).doing(|| format!("enter the network namespace '{}'", self.name))
    }

    /// For netlink requests that name a namespace; valid as long as `self`.
    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn on_fresh_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, f)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

fn create(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    create_dir_all(folder)?;
    // iproute2 takes the same lock: two that share the folder at once would hide one another's mounts.
    let _lock = Flock::lock(File::open(folder)?, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    share(folder)?;
    if is_namespace(path) {
        return Ok(());
    }
    OpenOptions::new().create(true).append(true).open(path)?;
    on_fresh_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let no_data: Option<&str> = None;
        Ok(mount(Some(CURRENT), path, no_data, MsFlags::MS_BIND, no_data)?)
    })
}

/// Makes the folder a shared mount, so that mounts in it are seen from, and can be released in, every mount namespace.
fn share(folder: &Path) -> nix::Result<()> {
    let none: Option<&str> = None;
    let make_shared = || mount(none, folder, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match make_shared() {
        Err(Errno::EINVAL) => {
            mount(Some(folder), folder, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            make_shared()
        }
        other => other,
    }
}
