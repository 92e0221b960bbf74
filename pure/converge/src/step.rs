//! One idempotent change to a host, and how it reads for people.
//!
//! Must not know how it is carried out.

use crate::{
    AbsPath, Binary, Change, Digest, File, Folder, Link, Name, PlannedStep, Proxies, WantedBundle, diff::changed_lines,
};
use std::fmt;

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// The file of apt's that names it, where it is not one of the distribution's.
    pub list: Option<AbsPath>,
    /// The way to it.
    pub proxies: Proxies,
    /// The only packages there are, where no source is to be asked.
    pub bundle: Option<WantedBundle>,
}

/// One change. Doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take a Docker network away, disconnecting what is on it.
    RemoveNetwork(Name),
    /// Stop a unit.
    Stop(Name),
    /// Let a unit not be started at boot.
    Disable(Name),
    /// Unmount and remove a named network namespace.
    RemoveNamespace(AbsPath),
    /// Install packages, some maybe in place of another version.
    Install(Vec<Change>, Source),
    /// Make a folder, or set its mode.
    Folder(Folder),
    /// Put the running program in its place.
    Binary(Binary),
    /// Write a file; the old text is there where it may be shown.
    Write(File, Option<String>),
    /// Write a file of the engine's, and write down that it is ours; the old text is there where it may be shown.
    Own(File, Option<String>),
    /// Set the mode of a file that is otherwise right.
    Mode(AbsPath, u32),
    /// Make or replace a symbolic link.
    Link(Link),
    /// Remove a file or link.
    RemoveFile(AbsPath),
    /// Remove a file of the engine's that is ours, and its folder if that is ours and empty.
    RemoveOwned(AbsPath),
    /// Forget that a file of the engine's was ours, because somebody else changed it.
    Disown(AbsPath),
    /// Remove a folder with all it holds.
    RemoveFolder(AbsPath),
    /// Let systemd read its unit files again.
    Reload,
    /// Let a unit be started at boot.
    Enable(Name),
    /// Start a unit, and write down what it was started with.
    Start(Name, Option<Digest>),
    /// Restart a unit, and write down what it was started with.
    Restart(Name, Digest),
    /// Remove packages and their configuration.
    Purge(Vec<Name>),
}

impl Step {
    /// Whether it takes something away: then a failure does not keep the steps behind it from being tried.
    pub fn is_removal(&self) -> bool {
        use Step::{
            Disable, Disown, Purge, RemoveFile, RemoveFolder, RemoveNamespace, RemoveNetwork, RemoveOwned, Stop,
        };
        let takes = matches!(self, RemoveNetwork(_) | RemoveNamespace(_) | RemoveFile(_) | RemoveFolder(_) | Purge(_));
        takes || matches!(self, Stop(_) | Disable(_) | RemoveOwned(_) | Disown(_))
    }

    /// The step in words, with the lines that change where they may be shown.
    pub fn planned(&self) -> PlannedStep {
        let diff = match self {
            Self::Write(file, old) | Self::Own(file, old) if !file.secret => {
                Some(changed_lines(old.as_deref().unwrap_or_default(), file.content.as_str()))
            }
            Self::Install(changes, _) if changes.iter().any(|c| c.from.is_some()) => {
                Some(changes.iter().map(Change::diff).collect::<Vec<_>>().join("\n"))
            }
            _ => None,
        };
        PlannedStep { text: self.to_string(), diff }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[Name]| names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ");
        match self {
            Self::RemoveNetwork(name) => write!(f, "remove the docker network {name}"),
            Self::Stop(name) => write!(f, "stop {name}"),
            Self::Disable(name) => write!(f, "disable {name}"),
            Self::RemoveNamespace(path) => write!(f, "remove the network namespace {path}"),
            Self::Install(changes, _) => {
                let new = changes.iter().filter(|c| c.from.is_none()).map(|c| c.to.to_string()).collect::<Vec<_>>();
                let new = (!new.is_empty()).then(|| format!("install {}", new.join(" ")));
                let other = changes.iter().filter(|c| c.from.is_some()).map(ToString::to_string);
                f.write_str(&other.chain(new).collect::<Vec<_>>().join(", "))
            }
            Self::Folder(folder) => write!(f, "make folder {} (mode {:04o})", folder.path, folder.mode),
            Self::Binary(binary) => write!(f, "install {}", binary.path),
            Self::Write(file, _) | Self::Own(file, _) => write!(f, "write {} (mode {:04o})", file.path, file.mode),
            Self::Mode(path, mode) => write!(f, "set the mode of {path} to {mode:04o}"),
            Self::Link(link) => write!(f, "link {} to {}", link.path, link.target),
            Self::RemoveFile(path) | Self::RemoveOwned(path) => write!(f, "remove {path}"),
            Self::Disown(path) => write!(f, "leave {path}, which somebody else changed"),
            Self::RemoveFolder(path) => write!(f, "remove folder {path}"),
            Self::Reload => f.write_str("reload systemd's unit files"),
            Self::Enable(name) => write!(f, "enable {name}"),
            Self::Start(name, _) => write!(f, "start {name}"),
            Self::Restart(name, _) => write!(f, "restart {name}"),
            Self::Purge(names) => write!(f, "purge {}", list(names)),
        }
    }
}
