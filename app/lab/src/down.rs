//! `osier lab down`: removes a lab, whole or half made, and the engine with the last one.
//!
//! Must go to the end: what cannot be removed is reported, and the rest is removed all the same. The lab's folder goes
//! last, and only if nothing else failed, so that the command can be given again.

use crate::{
    DownArgs,
    docker::{Docker, Kind},
    engine, firewall, host, image, on_host,
    plan::LabName,
    state::{self, Folder},
};
use anyhow::{Context, Error, Result};
use osier_ui::{ExitKind, Failure, Progress, Ui};

pub(crate) async fn down(args: DownArgs, ui: &Ui) -> Result<(), Failure> {
    host::require_root()?;
    let progress = ui.progress();
    let _lock = state::lock(|| progress.doing("lab", "waiting for another 'osier lab' to finish")).await?;
    let names = if args.all { state::names()? } else { vec![args.name] };
    let mut errors = Vec::new();
    for name in &names {
        let failed = remove(name, &progress).await;
        let result = if failed.is_empty() { "removed" } else { "not wholly removed" };
        progress.done(name.as_str(), result);
        errors.extend(failed);
    }
    errors.extend(engine::stop_if_idle(args.purge, &progress).await);
    if args.purge
        && let Some(docker) = engine::usual().await
    {
        errors.extend(image::remove_all(&docker).await.context("remove the images of nodes").err());
    }
    let Some(last) = errors.pop() else { return Ok(()) };
    let hint = "run the command again once the cause is gone";
    if errors.is_empty() {
        return Err(Failure::from(last).hint(hint));
    }
    let count = errors.len() + 1;
    errors.push(last);
    for error in errors {
        ui.failure(&Failure::from(error));
    }
    Err(Failure::message_only(ExitKind::Failed, format!("take labs down: {count} steps failed")).hint(hint))
}

async fn remove(name: &LabName, progress: &Progress) -> Vec<Error> {
    progress.doing(name.as_str(), "removing");
    let mut errors = Vec::new();
    match engines(name, progress).await {
        Ok(engines) => {
            for docker in engines {
                for (kind, what) in [(Kind::Container, "nodes"), (Kind::Volume, "volumes"), (Kind::Network, "network")]
                {
                    let removed = docker.remove_of_lab(kind, name).await;
                    errors.extend(removed.with_context(|| format!("remove the {what} of lab '{name}'")).err());
                }
            }
        }
        Err(e) => errors.push(e.context(format!("remove the nodes of lab '{name}'"))),
    }
    errors.extend(firewall::close(name).await.with_context(|| format!("close the firewall for lab '{name}'")).err());
    errors.extend(on_host::remove(name).with_context(|| format!("take the names of lab '{name}' off this host")).err());
    if errors.is_empty() {
        errors.extend(Folder::of(name).and_then(|folder| folder.remove()).err());
    }
    errors
}

/// The engine that the record names, or without a record every engine that may hold something of it.
async fn engines(name: &LabName, progress: &Progress) -> Result<Vec<Docker>> {
    match Folder::of(name)?.lab() {
        Ok(Some(lab)) => Ok(vec![engine::reopen(&lab.socket, progress).await?]),
        // A damaged record must not keep a lab alive.
        Ok(None) | Err(_) => engine::candidates(progress).await,
    }
}
