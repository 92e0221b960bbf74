//! Carrying out one step. Doing a step twice is doing it once.
//!
//! Must not decide anything: what to do is in the step.

use super::{System, engine, packages, write_journal};
use anyhow::{Context, Result, bail};
use osier_converge::{AbsPath, Binary, Digest, Journal, Name, Step};
use osier_model::config::path;
use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

/// Carries out one step, and writes down what must be remembered.
pub(super) async fn apply(system: &System, step: &Step, journal: &mut Journal) -> Result<()> {
    let at = |path: &AbsPath| system.path(path.as_str());
    match step {
        Step::RemoveNetwork(name) => {
            // The agent must be there to be asked by the engine, and would make the network again.
            osier_store::write(&system.path(path::LEAVING), b"", osier_store::PUBLIC)?;
            engine::remove_network(system, name).await
        }
        Step::Stop(name) => stop(system, name, journal).await,
        Step::Disable(name) => systemctl(system, "disable", name).await,
        Step::RemoveNamespace(path) => remove_namespace(&at(path)),
        Step::Install(names) => packages::install(system, names, journal).await,
        Step::Folder(folder) => make_folder(&at(&folder.path), folder.mode),
        Step::Binary(binary) => install_binary(system, binary),
        Step::Write(file, _) => {
            let written = osier_store::write(&at(&file.path), file.content.as_str().as_bytes(), file.mode);
            written.map_err(anyhow::Error::new)
        }
        Step::Mode(path, mode) => Ok(fs::set_permissions(at(path), Permissions::from_mode(*mode))?),
        Step::Link(link) => make_link(&at(&link.path), &link.target),
        Step::RemoveFile(path) => Ok(osier_store::remove(&at(path))?),
        Step::RemoveFolder(path) => ignore_missing(fs::remove_dir_all(at(path))),
        Step::Reload => system.run("systemctl", &["daemon-reload"]).await.map(drop),
        Step::Enable(name) => systemctl(system, "enable", name).await,
        Step::Start(name, inputs) => {
            systemctl(system, "start", name).await?;
            inputs.map_or(Ok(()), |inputs| started(system, name, inputs, journal))
        }
        Step::Restart(name, inputs) => {
            systemctl(system, "restart", name).await?;
            started(system, name, *inputs, journal)
        }
        Step::Purge(names) => packages::purge(system, names, journal).await,
    }
}

async fn stop(system: &System, name: &Name, journal: &mut Journal) -> Result<()> {
    systemctl(system, "stop", name).await?;
    // A unit that failed stays listed otherwise, even when its file is gone; one that did not fail has nothing to reset.
    let _ = system.run("systemctl", &["reset-failed", "--", name.as_str()]).await;
    if journal.units.remove(name).is_some() {
        write_journal(system, journal)?;
    }
    Ok(())
}

fn started(system: &System, name: &Name, inputs: Digest, journal: &mut Journal) -> Result<()> {
    journal.units.insert(name.clone(), inputs);
    write_journal(system, journal)
}

async fn systemctl(system: &System, verb: &str, name: &Name) -> Result<()> {
    let done = system.run("systemctl", &["--quiet", verb, "--", name.as_str()]).await;
    let Err(error) = done else { return Ok(()) };
    if !matches!(verb, "start" | "restart") {
        return Err(error);
    }
    // What systemctl says about a failed start is where to look, so look.
    let log = system.run("journalctl", &["--no-pager", "-q", "-o", "cat", "-n", "5", "-u", name.as_str()]).await;
    let log = log.unwrap_or_default().lines().collect::<Vec<_>>().join("; ");
    Err(error.context(format!("{verb} '{name}'; its last words: {log}")))
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

/// The running program is the one to install: the operator's side put it on this host and started it.
fn install_binary(system: &System, binary: &Binary) -> Result<()> {
    let running = fs::read(system.path("/proc/self/exe")).context("read the running program")?;
    if Digest::of(&running) != binary.sha256 {
        bail!("the running program is not the one to be installed (its SHA-256 is another)");
    }
    Ok(osier_store::write(&system.path(binary.path.as_str()), &running, 0o755)?)
}

fn make_link(path: &Path, target: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("osier-new");
    osier_store::remove(&new)?;
    symlink(target, &new)?;
    Ok(fs::rename(&new, path)?)
}

/// As `ip netns delete`: the name is a mount on a file.
fn remove_namespace(path: &Path) -> Result<()> {
    use nix::{
        errno::Errno,
        mount::{MntFlags, umount2},
    };
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(e) => return Err(e).context("unmount it"),
    }
    ignore_missing(fs::remove_file(path))
}

fn ignore_missing(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}
