//! One idempotent change to a host, and how it reads for people.
//!
//! Must not know how it is carried out.

use crate::{AbsPath, Binary, Digest, File, Folder, Link, Name, PlannedStep, diff::changed_lines};
use std::fmt;

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
    /// Install packages from the distribution.
    Install(Vec<Name>),
    /// Make a folder, or set its mode.
    Folder(Folder),
    /// Put the running program in its place.
    Binary(Binary),
    /// Write a file; the old text is there where it may be shown.
    Write(File, Option<String>),
    /// Set the mode of a file that is otherwise right.
    Mode(AbsPath, u32),
    /// Make or replace a symbolic link.
    Link(Link),
    /// Remove a file or link.
    RemoveFile(AbsPath),
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
        use Step::{Disable, Purge, RemoveFile, RemoveFolder, RemoveNamespace, RemoveNetwork, Stop};
        matches!(
            self,
            RemoveNetwork(_) | Stop(_) | Disable(_) | RemoveNamespace(_) | RemoveFile(_) | RemoveFolder(_) | Purge(_)
        )
    }

    /// The step in words, with the lines that change where they may be shown.
    pub fn planned(&self) -> PlannedStep {
        let diff = match self {
            Self::Write(file, old) if !file.secret => {
                Some(changed_lines(old.as_deref().unwrap_or_default(), file.content.as_str()))
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
            Self::Install(names) => write!(f, "install {}", list(names)),
            Self::Folder(folder) => write!(f, "make folder {} (mode {:04o})", folder.path, folder.mode),
            Self::Binary(binary) => write!(f, "install {}", binary.path),
            Self::Write(file, _) => write!(f, "write {} (mode {:04o})", file.path, file.mode),
            Self::Mode(path, mode) => write!(f, "set the mode of {path} to {mode:04o}"),
            Self::Link(link) => write!(f, "link {} to {}", link.path, link.target),
            Self::RemoveFile(path) => write!(f, "remove {path}"),
            Self::RemoveFolder(path) => write!(f, "remove folder {path}"),
            Self::Reload => f.write_str("reload systemd's unit files"),
            Self::Enable(name) => write!(f, "enable {name}"),
            Self::Start(name, _) => write!(f, "start {name}"),
            Self::Restart(name, _) => write!(f, "restart {name}"),
            Self::Purge(names) => write!(f, "purge {}", list(names)),
        }
    }
}
