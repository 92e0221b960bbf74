//! What was observed on a host, as far as a desired state asks for it.
//!
//! Must not know how it was observed.

use crate::{AbsPath, Digest, Name, OsRelease, Version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A host as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The operating system, as `/etc/os-release` says.
    pub os: OsRelease,
    /// The Docker engine.
    pub engine: Engine,
    /// The packages that the engine's program belongs to.
    pub owners: BTreeSet<Name>,
    /// How many containers run on the engine.
    pub containers: u64,
    /// Whether they run on while the engine is restarted.
    pub live_restore: bool,
    /// Installed packages among those that the document, the journal and [`crate::System::engine_packages`] name.
    pub packages: BTreeMap<Name, Version>,
    /// What lies at the paths of the document and of the journal; a path that is not in here has nothing.
    pub entries: BTreeMap<AbsPath, Entry>,
    /// The document's units that the host knows.
    pub units: BTreeMap<Name, UnitFact>,
    /// The document's Docker networks that the engine has.
    pub networks: BTreeSet<Name>,
    /// What earlier runs wrote down.
    pub journal: Journal,
}

/// How a Docker engine was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// No engine is installed.
    #[default]
    Missing,
    /// One is installed and does not answer.
    Stopped,
    /// One answers at its socket.
    Running,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// The digest of what it holds.
        sha256: Digest,
        /// Permission bits.
        mode: u32,
        /// Its text, where it was asked for and may be shown.
        text: Option<String>,
    },
    /// A symbolic link and what it points to.
    Link(String),
    /// A folder and its permission bits.
    Folder(u32),
    /// Something else: a socket, a mount, or a file whose contents nobody asked for.
    Other,
}

/// A unit that the host knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitFact {
    /// Whether it is started at boot.
    pub enabled: bool,
    /// Whether it is running or on its way.
    pub active: bool,
    /// Whether it ended badly and was given up.
    pub failed: bool,
}

/// What this program changed on the host and must remember: kept on the host, replaced after every step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Journal {
    /// Packages that it installed, or began to.
    #[serde(default)]
    pub packages: BTreeSet<Name>,
    /// Packages that came along with those as their dependencies.
    #[serde(default)]
    pub dependencies: BTreeSet<Name>,
    /// Packages that it installed and others took the place of; their configuration is still there.
    #[serde(default)]
    pub replaced: BTreeSet<Name>,
    /// For each unit, the digest of what it was last started with ([`crate::Desired::inputs`]).
    #[serde(default)]
    pub units: BTreeMap<Name, Digest>,
    /// The engine's files that it wrote: the digest of what, and while one takes the place of another, of both.
    #[serde(default)]
    pub files: BTreeMap<AbsPath, BTreeSet<Digest>>,
    /// Folders that it made for those.
    #[serde(default)]
    pub folders: BTreeSet<AbsPath>,
}

impl Journal {
    /// Whether it lists what outlives everything else of ours: an engine that we installed, and its files.
    pub fn has_engine(&self) -> bool {
        !(self.packages.is_empty() && self.replaced.is_empty() && self.files.is_empty())
    }

    /// What is left to remember of a host that belongs to no cluster any more.
    #[must_use]
    pub fn of_engine(&self) -> Self {
        let unit = |(name, _): &(&Name, &Digest)| name.as_str() == crate::ENGINE_UNIT;
        let units = self.units.iter().filter(unit).map(|(name, digest)| (name.clone(), *digest)).collect();
        Self { units, ..self.clone() }
    }
}
