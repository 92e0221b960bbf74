//! The node's side: observe this host, plan, carry the plan out, and report each step as a JSON line.
//!
//! Must not know about clusters or other hosts: everything wanted is in the document on standard input. A second run
//! on the same host waits for nobody, it is refused.

mod apply;
mod bundle;
mod engine;
mod observe;
mod packages;
mod system;

use crate::args::ConvergeArgs;
use anyhow::Context;
use osier_converge::{Desired, Event, Facts, Journal, Plan, plan};
use osier_model::config::path::STATE;
use osier_ui::{ExitKind, Failure, Ui};
use std::{fs, io::Read};
use system::System;

/// What this host remembers between runs.
const JOURNAL: &str = "/var/lib/osier/journal.json";
/// The same of an engine of ours that was left when all else was taken away, so that it can still be purged.
const LEFT: &str = "/var/lib/osier-engine.json";
/// Held while a run is at work.
const LOCK: &str = "/run/lock/osier-converge.lock";
/// A document larger than this is refused; a large cluster's is below a megabyte.
const LARGEST: u64 = 64 << 20;

/// Makes this host what the document on standard input says; prints one event per line.
pub async fn run_converge(args: ConvergeArgs, ui: &Ui) -> Result<(), Failure> {
    let mut json = Vec::new();
    let read = std::io::stdin().lock().take(LARGEST).read_to_end(&mut json);
    read.context("read the desired state from standard input")?;
    let desired = Desired::parse(&json).map_err(|e| Failure::new(ExitKind::Usage, e))?;
    let system = System::host();
    let _lock = lock(&system)?;
    let facts = observe::observe(&system, &desired).await?;
    let plan = plan(&desired, &facts).map_err(|e| Failure::new(ExitKind::Failed, e))?;
    let emit = |event: &Event| ui.line(event.to_line());
    let steps = plan.steps.iter().map(osier_converge::Step::planned).collect();
    emit(&Event::Plan { steps, warnings: plan.warnings.clone(), bundle: plan.needs_bundle() });
    if args.check {
        return match plan.steps.len() {
            0 => Ok(()),
            n => Err(Failure::message_only(ExitKind::PlanHasChanges, format!("{n} steps would change this host"))),
        };
    }
    match carry_out(&system, &plan, facts, emit).await {
        0 => Ok(()),
        n => Err(Failure::message_only(ExitKind::Failed, format!("{n} steps failed"))),
    }
}

/// Carries out the steps in order and gives back how many failed. After a failure only removals are still tried.
async fn carry_out(system: &System, plan: &Plan, facts: Facts, emit: impl Fn(&Event)) -> usize {
    let mut journal = facts.journal;
    let (mut changed, mut failed, mut skipped) = (0, 0, 0);
    for step in &plan.steps {
        if failed > 0 && !step.is_removal() {
            skipped += 1;
            continue;
        }
        let text = step.to_string();
        emit(&Event::Started { step: text.clone() });
        match apply::apply(system, step, &mut journal).await {
            Ok(()) => {
                changed += 1;
                emit(&Event::Changed { step: text });
            }
            Err(error) => {
                failed += 1;
                emit(&Event::Failed { step: text, causes: error.chain().map(ToString::to_string).collect() });
            }
        }
    }
    emit(&Event::Done { changed, failed, skipped });
    failed
}

fn lock(system: &System) -> Result<fs::File, Failure> {
    let path = system.path(LOCK);
    let doing = || format!("lock '{}'", path.display());
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = opened.with_context(doing)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::message_only(ExitKind::Failed, "another run is changing this host")
                .hint("wait until it is done"))
        }
        Err(fs::TryLockError::Error(e)) => Err(anyhow::Error::new(e).context(doing()).into()),
    }
}

fn read_journal(system: &System) -> anyhow::Result<Journal> {
    let journal = osier_store::read_json(&system.path(JOURNAL))?;
    let left = || osier_store::read_json(&system.path(LEFT));
    Ok(journal.map_or_else(left, |j| Ok(Some(j)))?.unwrap_or_default())
}

/// Nobody else reads it: a digest of a file with a password lets passwords be tried. Where only an engine was left, the journal goes back beside the folder of state, until that is there again.
fn write_journal(system: &System, journal: &Journal) -> anyhow::Result<()> {
    let (path, left) = (system.path(JOURNAL), system.path(LEFT));
    if left.exists() && !system.path(STATE).exists() {
        return write_left(system, journal);
    }
    osier_store::write_json(&path, journal, osier_store::SECRET)?;
    Ok(osier_store::remove(&left)?)
}

/// Remembers what is left where there is no folder of state: an engine of ours, or nothing.
fn write_left(system: &System, journal: &Journal) -> anyhow::Result<()> {
    let left = system.path(LEFT);
    if journal.has_engine() {
        return Ok(osier_store::write_json(&left, &journal.of_engine(), osier_store::SECRET)?);
    }
    Ok(osier_store::remove(&left)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_converge::{Absent, Binary, Content, Digest, Entry, File, Folder, Link, Step};
    use std::{cell::RefCell, os::unix::fs::PermissionsExt, path::Path};

    fn document(text: &str) -> Desired {
        let path = |p: &str| p.parse().unwrap();
        let file = |p, mode, secret| File { path: path(p), mode, secret, content: Content::from(text) };
        Desired {
            binary: Some(Binary { path: path("/usr/local/bin/osier"), sha256: Digest::of(b"program") }),
            folders: vec![
                Folder { path: path("/etc/osier"), mode: 0o755 },
                Folder { path: path("/etc/osier/pki"), mode: 0o700 },
            ],
            files: vec![file("/etc/osier/agent.json", 0o644, false), file("/etc/osier/pki/key.pem", 0o600, true)],
            links: vec![Link { path: path("/usr/local/bin/weave"), target: "osier".into() }],
            ..Desired::default()
        }
    }

    /// Observes, plans and carries out in a folder; gives back the steps.
    async fn converge(system: &System, desired: &Desired) -> Vec<String> {
        let facts = observe::observe(system, desired).await.unwrap();
        let plan = plan(desired, &facts).unwrap();
        let events = RefCell::new(Vec::new());
        carry_out(system, &plan, facts, |e| events.borrow_mut().push(e.clone())).await;
        let done = Event::Done { changed: plan.steps.len(), failed: 0, skipped: 0 };
        let events = events.into_inner();
        assert_eq!(events.last(), Some(&done), "{events:?}");
        plan.steps.iter().map(ToString::to_string).collect()
    }

    fn host(root: &Path) -> System {
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::write(root.join("proc/self/exe"), "program").unwrap();
        System::at(root)
    }

    #[tokio::test]
    async fn files_converge_and_then_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let system = host(dir.path());
        assert_eq!(converge(&system, &document("one")).await.len(), 6);
        assert_eq!(converge(&system, &document("one")).await, [""; 0]);

        let key = dir.path().join("etc/osier/pki/key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_link(dir.path().join("usr/local/bin/weave")).unwrap(), Path::new("osier"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(converge(&system, &document("one")).await, ["set the mode of /etc/osier/pki/key.pem to 0600"]);
        assert_eq!(converge(&system, &document("two")).await.len(), 2);

        let absent = Absent {
            files: vec!["/usr/local/bin/weave".parse().unwrap(), "/usr/local/bin/osier".parse().unwrap()],
            folders: vec!["/etc/osier".parse().unwrap()],
            ..Absent::default()
        };
        assert_eq!(converge(&system, &Desired { absent, ..Desired::default() }).await.len(), 3);
        assert!(!dir.path().join("etc/osier").exists() && !dir.path().join("usr/local/bin/osier").exists());
    }

    #[tokio::test]
    async fn files_of_the_engine_are_journaled_before_they_are_written_and_go_with_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let system = host(dir.path());
        let path: osier_converge::AbsPath = "/etc/docker/daemon.json".parse().unwrap();
        let file = |text: &str| File { path: path.clone(), mode: 0o644, secret: false, content: Content::from(text) };
        let mut journal = Journal { packages: ["docker.io".parse().unwrap()].into(), ..Journal::default() };
        apply::apply(&system, &Step::Own(file("1"), None), &mut journal).await.unwrap();
        apply::apply(&system, &Step::Own(file("2"), None), &mut journal).await.unwrap();
        assert_eq!(read_journal(&system).unwrap(), journal);
        assert_eq!(journal.files[&path], [Digest::of(b"2")].into());
        assert_eq!(journal.folders.iter().map(ToString::to_string).collect::<Vec<_>>(), ["/etc", "/etc/docker"]);

        // All else goes: what is left of the engine is remembered, and may go later.
        apply::apply(&system, &Step::RemoveFolder(STATE.parse().unwrap()), &mut journal).await.unwrap();
        assert!(!dir.path().join("var/lib/osier").exists());
        let mut journal = read_journal(&system).unwrap();
        assert!(journal.files.contains_key(&path));
        fs::write(dir.path().join("etc/other"), "").unwrap();
        apply::apply(&system, &Step::RemoveOwned(path), &mut journal).await.unwrap();
        assert!(!dir.path().join("etc/docker").exists() && dir.path().join("etc/other").exists());
        journal.packages.clear();
        write_journal(&system, &journal).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("var/lib")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_secret_is_not_read_for_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let system = host(dir.path());
        converge(&system, &document("one")).await;
        let facts = observe::observe(&system, &document("two")).await.unwrap();
        let text = |p: &str| match &facts.entries[&p.parse().unwrap()] {
            Entry::File { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((text("/etc/osier/pki/key.pem"), text("/etc/osier/agent.json")), (None, Some("one".into())));
    }

    #[tokio::test]
    async fn a_failure_is_reported_with_its_causes_and_stops_what_depends_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let system = host(dir.path());
        fs::write(dir.path().join("proc/self/exe"), "another program").unwrap();
        let mut desired = document("one");
        desired.absent.files.push("/gone".parse().unwrap());
        fs::write(dir.path().join("gone"), "").unwrap();
        let facts = observe::observe(&system, &desired).await.unwrap();
        let plan = plan(&desired, &facts).unwrap();
        let events = RefCell::new(Vec::new());
        assert_eq!(carry_out(&system, &plan, facts, |e| events.borrow_mut().push(e.clone())).await, 1);
        let failed = |e: &&Event| matches!(e, Event::Failed { step, causes } if step.contains("bin/osier") && !causes.is_empty());
        assert_eq!(events.borrow().iter().filter(failed).count(), 1);
        assert_eq!(events.borrow().last(), Some(&Event::Done { changed: 3, failed: 1, skipped: 3 }));
        assert!(!dir.path().join("gone").exists(), "removals are tried all the same");
    }
}
