//! All containers or images of all hosts, removed: `osier remove-containers` and `osier remove-images`.
//!
//! Must not know what is Osier's own; `osier-fleet` decides. What was removed is counted by asking the engine again.

use super::{
    Fleet, Stop,
    args::{RemoveContainersArgs, RemoveImagesArgs},
};
use crate::{
    recap::{self, Outcome},
    remote::{self, Remote, on_each},
};
use osier_fleet::{Item, Sparing, spare};
use osier_ssh::Command;
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::json;

/// Ids in one command.
const AT_ONCE: usize = 400;

/// What is removed, and with which words.
struct Kind {
    one: &'static str,
    many: &'static str,
    list: &'static [&'static str],
    remove: &'static [&'static str],
}

const CONTAINERS: Kind = Kind {
    one: "container",
    many: "containers",
    list: &["docker", "ps", "-a", "--no-trunc", "--format", "{{.ID}}\t{{.Names}}\t{{.Labels}}"],
    remove: &["docker", "rm", "-f"],
};
const IMAGES: Kind = Kind {
    one: "image",
    many: "images",
    list: &["docker", "images", "--no-trunc", "--format", "{{.ID}}\t{{.Repository}}:{{.Tag}}"],
    remove: &["docker", "rmi", "-f"],
};

/// Removes all containers on all hosts.
pub async fn run_remove_containers(args: RemoveContainersArgs, ui: &Ui) -> Result<(), Failure> {
    let fleet = Fleet::read(&args.hosts, ui)?;
    fleet.ask(args.yes, "Remove all containers, running ones too,", ui)?;
    remove(fleet, &CONTAINERS, ui).await
}

/// Removes all images on all hosts.
pub async fn run_remove_images(args: RemoveImagesArgs, ui: &Ui) -> Result<(), Failure> {
    let fleet = Fleet::read(&args.hosts, ui)?;
    fleet.ask(args.yes, "Remove all images", ui)?;
    remove(fleet, &IMAGES, ui).await
}

/// What became of one host's.
struct Removed {
    removed: usize,
    /// Osier's own.
    spared: usize,
    /// What the engine would not remove, and what it said.
    left: Vec<String>,
    said: String,
}

async fn remove(fleet: Fleet, kind: &Kind, ui: &Ui) -> Result<(), Failure> {
    let (stop, width) = (Stop::listen()?, fleet.width());
    let done = on_each(&fleet.remotes, fleet.forks, async |remote| {
        let done = stop.or(on_one(remote, kind)).await;
        if let (Ok(done), false) = (&done, ui.is_json()) {
            ui.line(format_args!("{:width$} | {}", remote.name, done.sentence(kind)));
        }
        (remote.name.clone(), done)
    })
    .await;
    remote::close(fleet.remotes).await;
    if ui.is_json() {
        let row = |(host, done): &(String, Result<Removed, Failure>)| match done {
            Ok(d) => json!({ "host": host, "removed": d.removed, "spared": d.spared, "left": d.left }),
            Err(f) => json!({ "host": host, "error": f.message(), "causes": f.causes(), "hints": f.hints() }),
        };
        ui.json(&json!({ "hosts": done.iter().map(row).collect::<Vec<_>>() }));
    }
    let outcomes: Vec<(String, Outcome)> = done.into_iter().map(|(host, done)| (host, outcome(done, kind))).collect();
    for (_, outcome) in &outcomes {
        if let Outcome::Failed(failure) = outcome {
            ui.failure(failure);
        }
    }
    recap::verdict(&outcomes)
}

impl Removed {
    fn sentence(&self, kind: &Kind) -> String {
        let count = |n: usize| format!("{n} {}", if n == 1 { kind.one } else { kind.many });
        let spared = if self.spared > 0 { format!(", spared {} of a lab", count(self.spared)) } else { String::new() };
        format!("removed {}{spared}", count(self.removed))
    }
}

fn outcome(done: Result<Removed, Failure>, kind: &Kind) -> Outcome {
    match done {
        Err(failure) => Outcome::Failed(failure),
        Ok(done) if done.left.is_empty() && done.removed == 0 => Outcome::Unchanged,
        Ok(done) if done.left.is_empty() => Outcome::Changed(done.removed),
        Ok(done) => {
            let what = format!("remove {} {}: {}", done.left.len(), kind.many, done.left.join(", "));
            Outcome::Failed(Failure::new(ExitKind::SomeHostsFailed, anyhow::anyhow!(done.said).context(what)))
        }
    }
}

async fn on_one(remote: &Remote, kind: &Kind) -> Result<Removed, Failure> {
    let Sparing { remove, keep } = list(remote, kind).await?;
    let mut said = Vec::new();
    for items in remove.chunks(AT_ONCE) {
        let words = kind.remove.iter().copied().chain(items.iter().map(|i| i.id.as_str()));
        // What it would not remove is seen when it is asked again.
        let output = remote.ssh.run(&Command::new(words).as_root()).await.map_err(remote::failure)?;
        said.extend(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned));
    }
    let left = if remove.is_empty() { Sparing::default() } else { list(remote, kind).await? };
    let is_left = |item: &&Item| left.remove.iter().any(|l| l.id == item.id);
    let left: Vec<String> = remove.iter().filter(is_left).map(|i| i.name.clone()).collect();
    Ok(Removed { removed: remove.len() - left.len(), spared: keep.len(), left, said: said.join("; ") })
}

async fn list(remote: &Remote, kind: &Kind) -> Result<Sparing, Failure> {
    let command = Command::new(kind.list.iter().copied()).as_root();
    let output = remote.ssh.check(&command).await.map_err(remote::failure)?;
    Ok(spare(&String::from_utf8_lossy(&output.stdout)))
}
