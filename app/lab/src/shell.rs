//! `osier lab ssh` and `osier lab exec`: commands that find the nodes by name, with nothing of the host changed.
//!
//! Must not outlive the command: both replace this process by it, so that its exit code, its signals and its terminal
//! are its own. `exec` gives it a mount namespace in which `/etc/hosts` and `/etc/ssh/ssh_config.d` are the lab's.

use crate::{
    ExecArgs, SshArgs, host, hosts, on_host,
    state::{self, Folder, Lab},
    texts,
};
use anyhow::{Context, Result};
use osier_ui::{ExitKind, Failure};
use std::{convert::Infallible, os::unix::process::CommandExt, process::Command};

/// Shows the lab's files in place of the host's, then becomes the command.
const ENTER: &str = "mount --bind \"$1\" \"$2\" && mount --bind \"$3\" \"$4\" && shift 4 && exec \"$@\"";

/// Becomes `ssh` to one node. Returns only if it cannot.
pub(crate) fn ssh(args: &SshArgs) -> Result<Infallible, Failure> {
    let (folder, lab) = state::find(&args.lab)?;
    if !lab.nodes.iter().any(|node| node.name.as_str() == args.node) {
        let known: Vec<&str> = lab.nodes.iter().map(|node| node.name.as_str()).collect();
        let error = format!("reach '{}': lab '{}' has no such node (it has {})", args.node, lab.name, known.join(", "));
        return Err(Failure::message_only(ExitKind::Usage, error));
    }
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(folder.ssh_config()).arg(&args.node).args((!args.command.is_empty()).then_some("--"));
    Err(anyhow::Error::new(ssh.args(&args.command).exec()).context("start 'ssh'").into())
}

/// Becomes the command, in the lab's view of the host. Returns only if it cannot.
pub(crate) fn exec(args: &ExecArgs) -> Result<Infallible, Failure> {
    host::require_root()?;
    let (folder, lab) = state::find(&args.name)?;
    write_view(&folder, &lab).with_context(|| format!("prepare the view of lab '{}'", lab.name))?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "/bin/sh", "-c", ENTER, "osier-lab-exec"]);
    unshare.arg(folder.private_hosts()).arg(on_host::HOSTS).arg(folder.private_ssh()).arg(on_host::SSH_FOLDER);
    Err(anyhow::Error::new(unshare.args(&args.command).exec()).context("start 'unshare'").into())
}

fn write_view(folder: &Folder, lab: &Lab) -> Result<()> {
    let view = hosts::private_view(&on_host::read()?, &lab.name, &lab.nodes);
    osier_store::write(&folder.private_hosts(), view.as_bytes(), osier_store::PUBLIC)?;
    let ssh_config = texts::ssh_config(&lab.name, &lab.nodes, &folder.key(), &folder.known_hosts());
    let path = folder.private_ssh().join("osier-lab.conf");
    Ok(osier_store::write(&path, ssh_config.as_bytes(), osier_store::PUBLIC)?)
}
