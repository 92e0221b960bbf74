//! Planning: the steps that lead from a host's facts to its desired state, in an order that is safe.
//!
//! Must not know how steps are carried out. Order: what is unwanted stops first (the network while its driver still
//! answers), then the engine comes (`engine.rs`), folders, the program, files and links come, then units start, then leftovers go. A plan cut
//! short and made again ends in the same state: a unit's restart is owed until the journal says that it happened.

use crate::{AbsPath, Desired, Digest, Entry, Facts, Name, Step, Unit, Unsupported, engine};

/// The unit that runs the distribution's Docker engine.
pub const ENGINE_UNIT: &str = "docker.service";
/// How every folder ends in which systemd looks for the units of a host.
const UNIT_FOLDER: &str = "/systemd/system/";

/// Ordered steps. None means that the host is as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// What people must know besides.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether packages come from a bundle, which then must lie on the host before the plan is carried out.
    pub fn needs_bundle(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Install(_, source) if source.bundle.is_some()))
    }
}

/// There is no way from a host's facts to its desired state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An engine must be installed on a system whose packages are not known.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// At the place of one of the engine's files lies something that is not ours.
    #[error("'{0}' is there and is not ours; move it away")]
    Foreign(AbsPath),
}

/// Plans the way from `facts` to `desired`.
pub fn plan(desired: &Desired, facts: &Facts) -> Result<Plan, PlanError> {
    let mut steps = Vec::new();
    let mut warnings = Vec::new();
    stop_unwanted(desired, facts, &mut steps);
    if let Some(wanted) = &desired.engine {
        engine::plan(wanted, facts, &mut steps, &mut warnings)?;
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
    Ok(Plan { steps, warnings })
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
    if absent.packages {
        units_changed |= engine::remove_files(facts, |_| false, steps);
    }
    if units_changed {
        steps.push(Step::Reload);
    }
    if absent.packages {
        let installed = facts.journal.packages.iter().filter(|p| facts.packages.contains_key(*p));
        // One that others took the place of and that is there again was installed by somebody else.
        let replaced = facts.journal.replaced.iter().filter(|p| !facts.packages.contains_key(*p));
        let ours: Vec<Name> = installed.chain(replaced).cloned().collect();
        if !ours.is_empty() {
            steps.push(Step::Purge(ours));
        }
    }
    steps.extend(absent.folders.iter().filter(there).cloned().map(Step::RemoveFolder));
}

pub(crate) fn is_unit_file(path: &AbsPath) -> bool {
    path.as_str().contains(UNIT_FOLDER)
}
