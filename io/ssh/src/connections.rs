//! The place where master connections meet: a folder for this process alone, or one that is kept, where the next finds
//! them.
//!
//! Must not know what is run over them. In a kept folder each master has a private name, which its own process uses, and is
//! then linked under a name made of what `ssh` takes its target for, which others look for. The newest takes the name; whoever uses an
//! older one is not disturbed, and a master that died leaves a name where nobody answers.

use crate::{Error, Host, Target};
use nix::unistd::geteuid;
use std::{
    collections::hash_map::RandomState,
    fs::{self, Permissions},
    hash::{BuildHasher, DefaultHasher, Hash, Hasher},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// The longest folder for control sockets: `ssh` needs 25 bytes of a socket's 108 for itself, and a name has 8.
const LONGEST_FOLDER: usize = 70;
/// Seconds that a master without sessions stays, should this process die without closing it.
const PERSIST: u16 = 60;
/// The longest that a connection is kept, in seconds.
pub const LONGEST_KEPT: u16 = 3600;

/// Where master connections meet.
#[derive(Debug)]
pub struct Connections {
    folder: Arc<Folder>,
    /// Seconds that a master without sessions stays.
    persist: u16,
}

/// A private folder (mode 0700).
#[derive(Debug)]
pub(crate) enum Folder {
    /// It goes in the end.
    Passing(TempDir),
    /// It stays, and the connections in it for a while.
    Kept(PathBuf),
}

/// Where the control sockets of one host are.
#[derive(Debug)]
pub(crate) struct Place {
    /// Of the master that this process makes.
    pub(crate) own: PathBuf,
    /// Seconds that a master without sessions stays.
    pub(crate) persist: u16,
    folder: Arc<Folder>,
}

impl Connections {
    /// Makes a folder for this process, in the temporary folder or, where that is too long a path, in `/tmp`. It goes with
    /// this value and all its hosts, and so do the connections.
    pub fn new() -> Result<Self, Error> {
        let usual = std::env::temp_dir();
        let parent = if usual.as_os_str().len() > LONGEST_FOLDER { PathBuf::from("/tmp") } else { usual };
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("osier-").permissions(private).tempdir_in(parent);
        let folder = Folder::Passing(folder.map_err(Error::Folder)?);
        Ok(Self { folder: Arc::new(folder), persist: PERSIST })
    }

    /// Uses a folder that stays, and makes it where it is not there: connections that an earlier process left are used
    /// again, and those made now stay open for so many seconds ([`LONGEST_KEPT`] at most) after their last command. It must be
    /// this user's alone, and on a file system with sockets and hard links.
    pub fn kept(folder: &Path, seconds: u16) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Folder(io::Error::other(format!("'{}' {why}", folder.display())));
        if folder.as_os_str().len() > LONGEST_FOLDER {
            return Err(refuse("is too long a path for control sockets"));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::Folder)?;
        let found = fs::symlink_metadata(folder).map_err(Error::Folder)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
            return Err(refuse("is not this user's alone (mode 0700)"));
        }
        sweep(folder).map_err(Error::Folder)?;
        let this = Self { folder: Arc::new(Folder::Kept(folder.to_owned())), persist: seconds.min(LONGEST_KEPT) };
        holds_sockets(&this.socket()).map_err(Error::Folder)?;
        Ok(this)
    }

    /// The private folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The host of this name (the user's word for it) at `target`. Nothing is connected yet.
    pub fn host(&self, name: impl Into<String>, target: Target) -> Host {
        let place = Place { own: self.socket(), persist: self.persist, folder: self.kept_by() };
        Host::new(name.into(), target, place)
    }

    /// A place for a control socket that nobody else gets.
    pub(crate) fn socket(&self) -> PathBuf {
        // No secret, only unforeseen: the hash keys are the system's random numbers.
        let word = RandomState::new().build_hasher().finish();
        self.folder().join(format!("{:08x}", word >> 32))
    }

    /// What keeps the places of control sockets there.
    pub(crate) fn kept_by(&self) -> Arc<Folder> {
        Arc::clone(&self.folder)
    }
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Passing(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

impl Place {
    /// Whether connections stay for others.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(*self.folder, Folder::Kept(_))
    }

    /// Where whoever made the last connection to a host that `ssh -G` describes so has left it, where it is kept.
    pub(crate) fn shared(&self, described: &[u8]) -> Option<PathBuf> {
        let Folder::Kept(folder) = &*self.folder else { return None };
        Some(folder.join(shared_name(described)))
    }

    /// Gives the own master's socket the name that others look for, in the place of any that has it.
    pub(crate) fn share(&self, shared: &Path) -> io::Result<()> {
        let step = self.own.with_extension("link");
        fs::hard_link(&self.own, &step)?;
        fs::rename(&step, shared)
    }
}

/// Tries what `ssh` and [`Place::share`] do with a socket: not every file system can.
fn holds_sockets(socket: &Path) -> io::Result<()> {
    let link = socket.with_extension("link");
    let tried = UnixListener::bind(socket).and_then(|_| fs::hard_link(socket, &link));
    let removed = [socket, &link].map(fs::remove_file);
    tried.and(removed.into_iter().collect())
}

/// Whether a master listens there.
pub(crate) fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// The name under which connections are found: whatever the words of a target mean depends on the user's configuration, of
/// which the description tells, and on where this process is.
fn shared_name(described: &[u8]) -> String {
    let here = (std::env::current_dir().ok(), fs::read_link("/proc/self/ns/net").ok());
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, described, &here).hash(&mut hasher);
        hasher.finish()
    };
    format!("to-{:016x}{:016x}", half(0), half(1))
}

/// Removes sockets of masters that are gone.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Somebody else may have removed it meanwhile.
        let Ok(found) = entry.metadata() else { continue };
        // A new one may be about to listen; and asking one that is in use counts as using it.
        let is_old = found.modified()?.elapsed().is_ok_and(|age| age.as_secs() > LONGEST_KEPT.into());
        let refused =
            || matches!(UnixStream::connect(entry.path()), Err(e) if e.kind() == ErrorKind::ConnectionRefused);
        if found.file_type().is_socket() && is_old && refused() {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
