//! Carrying out one step. Doing a step twice is doing it once.
//!
//! Must not decide anything: what to do is in the step.

use super::{System, engine, packages, write_journal, write_left};
use anyhow::{Context, Result, bail};
use osier_converge::{AbsPath, Binary, Digest, File, Journal, Name, Step};
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
        Step::Install(changes, source) => packages::install(system, changes, source, journal).await,
        Step::Folder(folder) => make_folder(&at(&folder.path), folder.mode),
        Step::Binary(binary) => install_binary(system, binary),
        Step::Write(file, _) => {
            let written = osier_store::write(&at(&file.path), file.content.as_str().as_bytes(), file.mode);
            written.map_err(anyhow::Error::new)
        }
        Step::Own(file, _) => own(system, file, journal),
        Step::RemoveOwned(path) => remove_owned(system, path, journal),
        Step::Disown(path) => {
            journal.files.remove(path);
            write_journal(system, journal)
        }
        Step::Mode(path, mode) => Ok(fs::set_permissions(at(path), Permissions::from_mode(*mode))?),
        Step::Link(link) => make_link(&at(&link.path), &link.target),
        Step::RemoveFile(path) => Ok(osier_store::remove(&at(path))?),
        Step::RemoveFolder(folder) => {
            if folder.as_str() == path::STATE {
                write_left(system, journal)?;
            }
            ignore_missing(fs::remove_dir_all(at(folder)))
        }
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

/// Writes a file of the engine's. The journal lists it first, so that it is known as ours whenever this is cut short.
fn own(system: &System, file: &File, journal: &mut Journal) -> Result<()> {
    let parents = file.path.as_path().ancestors().skip(1).filter_map(|p| p.to_str()?.parse::<AbsPath>().ok());
    journal.folders.extend(parents.filter(|folder| !system.path(folder.as_str()).exists()));
    let digest = file.content.digest();
    journal.files.entry(file.path.clone()).or_default().insert(digest);
    write_journal(system, journal)?;
    osier_store::write(&system.path(file.path.as_str()), file.content.as_str().as_bytes(), file.mode)?;
    journal.files.insert(file.path.clone(), [digest].into());
    write_journal(system, journal)
}

/// Removes a file of the engine's, and the folders that were made for it where nothing else is in them.
fn remove_owned(system: &System, path: &AbsPath, journal: &mut Journal) -> Result<()> {
    osier_store::remove(&system.path(path.as_str()))?;
    journal.files.remove(path);
    for folder in path.as_path().ancestors().skip(1).filter_map(|p| p.to_str()?.parse::<AbsPath>().ok()) {
        if !journal.folders.contains(&folder) || fs::remove_dir(system.path(folder.as_str())).is_err() {
            break;
        }
        journal.folders.remove(&folder);
    }
    write_journal(system, journal)
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
