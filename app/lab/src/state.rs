//! What is remembered of a lab between commands: one folder per lab with its record, its key and the files that tell
//! others how to reach it.
//!
//! Must not know how anything in it comes about. The folder is `$XDG_STATE_HOME/osier/lab/NAME` (by default under
//! `~/.local/state`), readable by its owner alone. The record is written before the first container is made, so that
//! `down` finds whatever a broken `up` left.

use crate::plan::{LabName, Node};
use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use osier_model::{NodeName, Token};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    time::Duration,
};

/// Serialises the commands that change a host: there is one firewall, one host file, one engine of ours.
const LOCK: &str = "/run/lock/osier-lab";

/// A lab as it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lab {
    pub(crate) name: LabName,
    /// Whether `up` got to its end.
    pub(crate) ready: bool,
    /// The discovery token in its inventory.
    pub(crate) token: Token,
    pub(crate) subnet: Ipv4Net,
    /// The engine's socket.
    pub(crate) socket: PathBuf,
    /// Whether nodes are named on the host (`/etc/hosts`, `/etc/ssh/ssh_config.d`).
    pub(crate) named_on_host: bool,
    pub(crate) nodes: Vec<Node>,
}

/// The folder of one lab.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder this lab has or would have.
    pub(crate) fn of(lab: &LabName) -> Result<Self> {
        Ok(Self(root()?.join(lab.as_str())))
    }

    /// Makes the folder, for its owner alone.
    pub(crate) fn create(&self) -> Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).with_context(|| self.doing("create the folder"))
    }

    /// Removes the folder with all that is in it, and the folder of all labs with the last; one that is not there is no
    /// error.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| self.doing("remove the folder"));
            }
            _ => {}
        }
        // Refused while another lab is in it.
        let _ = self.0.parent().map(fs::remove_dir);
        Ok(())
    }

    /// The lab's record, if it has one.
    pub(crate) fn lab(&self) -> Result<Option<Lab>> {
        Ok(osier_store::read_json(&self.record())?)
    }

    /// Replaces the lab's record.
    pub(crate) fn remember(&self, lab: &Lab) -> Result<()> {
        Ok(osier_store::write_json(&self.record(), lab, osier_store::SECRET)?)
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("id_ed25519")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.0.join("known_hosts")
    }

    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.0.join("ssh_config")
    }

    pub(crate) fn inventory(&self) -> PathBuf {
        self.0.join("inventory")
    }

    /// The node's own resolver configuration, mounted into it.
    pub(crate) fn resolv_conf(&self, node: &NodeName) -> PathBuf {
        self.0.join("nodes").join(node.as_str()).join("resolv.conf")
    }

    /// The host file that `exec` shows to its command.
    pub(crate) fn private_hosts(&self) -> PathBuf {
        self.0.join("exec/hosts")
    }

    /// The folder that `exec` shows in place of `/etc/ssh/ssh_config.d`.
    pub(crate) fn private_ssh(&self) -> PathBuf {
        self.0.join("exec/ssh_config.d")
    }

    fn record(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    fn doing(&self, verb: &str) -> String {
        format!("{verb} '{}'", self.0.display())
    }
}

/// The record of a lab that is up.
pub(crate) fn find(name: &LabName) -> Result<(Folder, Lab)> {
    let folder = Folder::of(name)?;
    match folder.lab()? {
        Some(lab) => Ok((folder, lab)),
        None if folder.0.exists() => bail!("read the record of lab '{name}': there is none"),
        None => bail!("find lab '{name}': there is none ('osier lab list' shows those there are)"),
    }
}

/// The names of all labs that have a folder, sorted.
pub(crate) fn names() -> Result<Vec<LabName>> {
    let root = root()?;
    let entries = match fs::read_dir(&root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read the folder '{}'", root.display()))?,
    };
    let mut names: Vec<LabName> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    Ok(names)
}

/// Where labs are remembered.
fn root() -> Result<PathBuf> {
    root_in(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))
}

/// The path ends up in inventories and ssh options, which have no way to quote it; so it must need none.
fn root_in(state_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    let state_home = state_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || home.map(|home| PathBuf::from(home).join(".local/state"));
    let base = state_home.or_else(home).context("find the state folder: HOME is not set")?;
    let root = base.join("osier/lab");
    match root.to_str() {
        Some(path) if !path.contains([' ', '\t', '\n', '\'', '"', '%', '#']) => Ok(root),
        _ => bail!("use the state folder '{}': blanks and quotes cannot be written into an inventory", root.display()),
    }
}

/// Held while the host is being changed.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Waits until no other command changes the host; `busy` is called once if there is need to wait.
pub(crate) async fn lock(busy: impl FnOnce()) -> Result<Lock> {
    let doing = || format!("lock '{LOCK}'");
    fs::create_dir_all("/run/lock").with_context(doing)?;
    let file = File::create(LOCK).with_context(doing)?;
    let mut busy = Some(busy);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::Error(e)) => return Err(e).with_context(doing),
            Err(TryLockError::WouldBlock) => {
                if let Some(busy) = busy.take() {
                    busy();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, path::Path};

    #[test]
    fn the_state_folder_follows_the_environment() {
        let root = |state: Option<&str>, home: Option<&str>| root_in(state.map(Into::into), home.map(Into::into));
        assert_eq!(root(Some("/s"), Some("/h")).unwrap(), Path::new("/s/osier/lab"));
        for ignored in [None, Some(""), Some("relative")] {
            assert_eq!(root(ignored, Some("/h")).unwrap(), Path::new("/h/.local/state/osier/lab"));
        }
        assert!(root(None, None).is_err() && root(None, Some("/my home")).is_err());
    }

    #[test]
    fn a_labs_folder_is_its_owners_alone_and_goes_with_all_in_it() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder(base.path().join("osier/lab/lab"));
        assert!(folder.lab().unwrap().is_none());
        folder.create().unwrap();
        assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
        let lab = Lab {
            name: "lab".parse().unwrap(),
            ready: false,
            token: Token::from_random([1; 16]),
            subnet: "10.213.0.0/24".parse().unwrap(),
            socket: "/run/docker.sock".into(),
            named_on_host: true,
            nodes: Vec::new(),
        };
        folder.remember(&lab).unwrap();
        assert_eq!(folder.lab().unwrap().unwrap().name, lab.name);
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert!(folder.lab().unwrap().is_none() && !base.path().join("osier/lab").exists());
    }
}
