//! Planning: the steps that lead from a host's facts to its desired state, in an order that is safe.
//!
//! Must not know how steps are carried out. Order: what is unwanted stops first (the network while its driver still
//! answers), then packages, folders, the program, files and links come, then units start, then leftovers go. A plan cut
//! short and made again ends in the same state: a unit's restart is owed until the journal says that it happened.

use crate::{AbsPath, Desired, Digest, Engine, Entry, Facts, Name, Step, Unit, Unsupported};

/// The unit that runs the distribution's Docker engine.
pub const ENGINE_UNIT: &str = "docker.service";
/// How every folder ends in which systemd looks for the units of a host.
const UNIT_FOLDER: &str = "/systemd/system/";

/// Ordered steps. None means that the host is as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// Plans the way from `facts` to `desired`. Fails only where an engine must be installed on a system whose packages
/// are not known.
pub fn plan(desired: &Desired, facts: &Facts) -> Result<Plan, Unsupported> {
    let mut steps = Vec::new();
    stop_unwanted(desired, facts, &mut steps);
    if desired.engine {
        engine(facts, &mut steps)?;
    }
    let mut units_changed = place(desired, facts, &mut steps);
    if units_changed && !desired.units.is_empty() {
        steps.push(Step::Reload);
        units_changed = false;
    }
    for unit in &desired.units {
        run(desired, unit, facts, &mut steps);
    }
    remove_unwanted(desired, facts, units_changed, &mut steps);
    Ok(Plan { steps })
}

fn stop_unwanted(desired: &Desired, facts: &Facts, steps: &mut Vec<Step>) {
    let absent = &desired.absent;
    steps.extend(absent.networks.iter().filter(|n| facts.networks.contains(*n)).cloned().map(Step::RemoveNetwork));
    for name in &absent.units {
        let fact = facts.units.get(name).copied().unwrap_or_default();
        if fact.active || fact.failed {
            steps.push(Step::Stop(name.clone()));
        }
        if fact.enabled {
            steps.push(Step::Disable(name.clone()));
        }
    }
    let there = |path: &&AbsPath| facts.entries.contains_key(*path);
    steps.extend(absent.namespaces.iter().filter(there).cloned().map(Step::RemoveNamespace));
}

/// An engine that somebody else installed is never touched, only started where it is not running.
fn engine(facts: &Facts, steps: &mut Vec<Step>) -> Result<(), Unsupported> {
    let Ok(unit) = ENGINE_UNIT.parse::<Name>() else { return Ok(()) };
    let ours = |p: &Name| facts.journal.packages.contains(p);
    // An installation that we began and that was cut short; where none of ours is left, the engine is somebody else's.
    let began = facts.packages.iter().any(ours) && facts.journal.packages.iter().any(|p| !facts.packages.contains(p));
    if facts.engine == Engine::Missing || began {
        let wanted = facts.os.system()?.engine_packages();
        let missing: Vec<Name> = wanted.into_iter().filter(|p| !facts.packages.contains(p)).collect();
        if !missing.is_empty() {
            steps.push(Step::Install(missing));
            steps.push(Step::Start(unit, None));
            return Ok(());
        }
    }
    if facts.engine == Engine::Stopped && facts.units.get(&unit).is_some_and(|u| !u.active) {
        steps.push(Step::Start(unit, None));
    }
    Ok(())
}

/// Puts folders, the program, files and links in their places; says whether a unit file is among them.
fn place(desired: &Desired, facts: &Facts, steps: &mut Vec<Step>) -> bool {
    for folder in &desired.folders {
        if facts.entries.get(&folder.path) != Some(&Entry::Folder(folder.mode)) {
            steps.push(Step::Folder(folder.clone()));
        }
    }
    if let Some(binary) = &desired.binary {
        let right = |e: &Entry| matches!(e, Entry::File { sha256, mode: 0o755, .. } if *sha256 == binary.sha256);
        if !facts.entries.get(&binary.path).is_some_and(right) {
            steps.push(Step::Binary(binary.clone()));
        }
    }
    let mut units_changed = false;
    for file in &desired.files {
        let digest = file.content.digest();
        let old = match facts.entries.get(&file.path) {
            Some(Entry::File { sha256, mode, .. }) if *sha256 == digest => {
                if *mode != file.mode {
                    steps.push(Step::Mode(file.path.clone(), file.mode));
                }
                continue;
            }
            Some(Entry::File { text, .. }) => text.clone(),
            _ => None,
        };
        units_changed |= is_unit_file(&file.path);
        steps.push(Step::Write(file.clone(), old));
    }
    for link in &desired.links {
        if facts.entries.get(&link.path) != Some(&Entry::Link(link.target.clone())) {
            steps.push(Step::Link(link.clone()));
        }
    }
    units_changed
}

fn run(desired: &Desired, unit: &Unit, facts: &Facts, steps: &mut Vec<Step>) {
    let fact = facts.units.get(&unit.name).copied().unwrap_or_default();
    let inputs: Digest = desired.inputs(unit);
    if !fact.enabled {
        steps.push(Step::Enable(unit.name.clone()));
    }
    if !fact.active {
        steps.push(Step::Start(unit.name.clone(), Some(inputs)));
    } else if facts.journal.units.get(&unit.name) != Some(&inputs) {
        steps.push(Step::Restart(unit.name.clone(), inputs));
    }
}

fn remove_unwanted(desired: &Desired, facts: &Facts, mut units_changed: bool, steps: &mut Vec<Step>) {
    let absent = &desired.absent;
    let there = |path: &&AbsPath| facts.entries.contains_key(*path);
    for path in absent.files.iter().filter(there) {
        units_changed |= is_unit_file(path);
        steps.push(Step::RemoveFile(path.clone()));
    }
    if units_changed {
        steps.push(Step::Reload);
    }
    if absent.packages {
        let ours: Vec<Name> = facts.journal.packages.intersection(&facts.packages).cloned().collect();
        if !ours.is_empty() {
            steps.push(Step::Purge(ours));
        }
    }
    steps.extend(absent.folders.iter().filter(there).cloned().map(Step::RemoveFolder));
}

fn is_unit_file(path: &AbsPath) -> bool {
    path.as_str().contains(UNIT_FOLDER)
}
