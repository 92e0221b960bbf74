//! Names a lab's nodes on the host itself, in `/etc/hosts` and in a file for ssh, and takes the names away again.
//!
//! Must not decide what the text is; `hosts` and `texts` do.

use crate::{
    hosts,
    plan::{LabName, Node},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where every program on the host looks names up.
pub(crate) const HOSTS: &str = "/etc/hosts";
/// Files that every `ssh` on the host reads.
pub(crate) const SSH_FOLDER: &str = "/etc/ssh/ssh_config.d";

/// Fails if the host uses one of the nodes' names for something else.
pub(crate) fn check(lab: &LabName, nodes: &[Node]) -> Result<()> {
    hosts::with_block(&read()?, lab, nodes)?;
    Ok(())
}

/// Puts the names in.
pub(crate) fn add(lab: &LabName, nodes: &[Node], ssh_config: &str) -> Result<()> {
    replace(&hosts::with_block(&read()?, lab, nodes)?)?;
    Ok(osier_store::write(&ssh_file(lab), ssh_config.as_bytes(), osier_store::PUBLIC)?)
}

/// Takes the names away; a host without them is left as it is.
pub(crate) fn remove(lab: &LabName) -> Result<()> {
    osier_store::remove(&ssh_file(lab))?;
    let before = read()?;
    let after = hosts::without_block(&before, lab);
    if after == before { Ok(()) } else { replace(&after) }
}

/// The host's own `/etc/hosts`.
pub(crate) fn read() -> Result<String> {
    let bytes = osier_store::read(Path::new(HOSTS))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn ssh_file(lab: &LabName) -> PathBuf {
    Path::new(SSH_FOLDER).join(format!("osier-lab-{lab}.conf"))
}

fn replace(text: &str) -> Result<()> {
    if osier_store::write(Path::new(HOSTS), text.as_bytes(), osier_store::PUBLIC).is_ok() {
        return Ok(());
    }
    // In a container the file is a mount, which can be written but not replaced.
    fs::write(HOSTS, text).with_context(|| format!("write '{HOSTS}'"))
}
