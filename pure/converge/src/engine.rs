//! Planning for the Docker engine: whose it is, its packages, the files that apt and the engine read, and its restart.
//!
//! Must not know where the files' texts come from. An engine that somebody else installed is never touched, only started where
//! it is not running. Of the files, only those that the journal lists are ours: another one is never replaced or removed.

use crate::{
    AbsPath, Change, Digest, ENGINE_UNIT, Engine, Entry, Facts, File, Name, Package, PlanError, Source, Step,
    Unsupported, WantedEngine, plan::is_unit_file,
};
use serde_json::Value;

/// Plans the way to the wanted engine, and says what people must know.
pub(crate) fn plan(
    wanted: &WantedEngine,
    facts: &Facts,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<(), PlanError> {
    let Ok(unit) = ENGINE_UNIT.parse::<Name>() else { return Ok(()) };
    let active = facts.units.get(&unit).is_some_and(|u| u.active);
    let stopped = facts.engine == Engine::Stopped && !active && facts.units.contains_key(&unit);
    if is_anothers(facts) {
        if wanted.packages.iter().any(|p| !fits(p, facts)) || wanted.all_files().next().is_some() {
            warnings.push(
                "Docker was not installed by Osier and stays as it is: packages, proxies and mirrors that are set for it \
                 are not applied"
                    .to_owned(),
            );
        }
        if stopped {
            steps.push(Step::Start(unit, None));
        }
        return Ok(());
    }
    let changes = changes(wanted, facts)?;
    let config = wanted.config.as_ref().filter(|config| gives_way(config, facts, warnings));
    for file in wanted.apt.iter().chain(&wanted.files) {
        own(file, facts, steps)?;
    }
    let mut units_changed = wanted.files.iter().any(|f| is_unit_file(&f.path) && differs(f, facts));
    if let Some(config) = config {
        own(config, facts, steps)?;
    }
    units_changed |= remove_files(facts, |path| wanted.all_files().any(|f| f.path == *path), steps);
    let inputs = inputs(wanted, config, facts);
    let outdated = facts.journal.units.get(&unit).copied().unwrap_or_else(|| Digest::of_all([])) != inputs;
    let replaces = !changes.is_empty();
    let starts = replaces || stopped || (outdated && facts.units.contains_key(&unit));
    // Also where an earlier run was cut short between a file and the reading of it.
    if units_changed || (outdated && starts) {
        steps.push(Step::Reload);
    }
    if replaces {
        let (list, proxies, bundle) = (wanted.source.clone(), wanted.proxies.clone(), wanted.bundle.clone());
        let source = Source { list, proxies, bundle };
        steps.push(Step::Install(changes, source));
    }
    match (starts, active) {
        (false, _) => {}
        (true, true) => {
            steps.push(Step::Restart(unit, inputs));
            warnings.extend(interrupted(facts));
        }
        (true, false) => steps.push(Step::Start(unit, Some(inputs))),
    }
    Ok(())
}

/// Plans the removal of our files that are not to be `kept`; says whether a unit's file is among them.
pub(crate) fn remove_files(facts: &Facts, kept: impl Fn(&AbsPath) -> bool, steps: &mut Vec<Step>) -> bool {
    let mut units_changed = false;
    for path in facts.journal.files.keys().filter(|path| !kept(path)) {
        match facts.entries.get(path) {
            None => {}
            Some(_) if is_as_written(path, facts) => {
                units_changed |= is_unit_file(path);
                steps.push(Step::RemoveOwned(path.clone()));
            }
            Some(_) => steps.push(Step::Disown(path.clone())),
        }
    }
    units_changed
}

/// Whether there is an engine that none of our packages brought.
fn is_anothers(facts: &Facts) -> bool {
    let journal = &facts.journal;
    let ours = |p: &Name| journal.packages.contains(p) || journal.dependencies.contains(p);
    facts.engine != Engine::Missing && !facts.owners.iter().any(ours)
}

fn fits(package: &Package, facts: &Facts) -> bool {
    let installed = facts.packages.get(&package.name);
    installed.is_some_and(|installed| package.version.as_ref().is_none_or(|wanted| wanted == installed))
}

/// The packages to be installed, or to be replaced by another version.
fn changes(wanted: &WantedEngine, facts: &Facts) -> Result<Vec<Change>, Unsupported> {
    let mut packages = wanted.packages.clone();
    if packages.is_empty() {
        // An installation that we began and that was cut short; else what is there is good.
        let ours = &facts.journal.packages;
        let there = ours.iter().filter(|p| facts.packages.contains_key(*p)).count();
        let names: Vec<Name> = if facts.engine == Engine::Missing {
            facts.os.system()?.engine_packages()
        } else if there > 0 {
            ours.iter().cloned().collect()
        } else {
            Vec::new()
        };
        packages.extend(names.into_iter().map(|name| Package { name, version: None }));
    }
    let missing = packages.into_iter().filter(|package| !fits(package, facts));
    Ok(missing.map(|to| Change { from: facts.packages.get(&to.name).cloned(), to }).collect())
}

/// Whether the engine's configuration is ours to write; else a warning says what is missing in it.
fn gives_way(config: &File, facts: &Facts, warnings: &mut Vec<String>) -> bool {
    let text = match facts.entries.get(&config.path) {
        None => return true,
        Some(_) if is_as_written(&config.path, facts) => return true,
        Some(Entry::File { text, .. }) => text.as_deref().unwrap_or_default(),
        Some(_) => "",
    };
    let members = |text: &str| serde_json::from_str(text).ok().and_then(|value: Value| value.as_object().cloned());
    let theirs = members(text).unwrap_or_default();
    let ours = members(config.content.as_str()).unwrap_or_default();
    let missing = ours.iter().filter(|(name, value)| theirs.get(*name) != Some(*value));
    let missing = missing.map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>().join(", ");
    if !missing.is_empty() {
        let path = &config.path;
        warnings
            .push(format!("{path} is not ours and stays as it is: add {missing} to it, then restart {ENGINE_UNIT}"));
    }
    false
}

/// Whether the file at `path` is there as we wrote it.
fn is_as_written(path: &AbsPath, facts: &Facts) -> bool {
    let written = facts.journal.files.get(path);
    let digest = match facts.entries.get(path) {
        Some(Entry::File { sha256, .. }) => sha256,
        _ => return false,
    };
    written.is_some_and(|digests| digests.contains(digest))
}

fn differs(file: &File, facts: &Facts) -> bool {
    !matches!(facts.entries.get(&file.path), Some(Entry::File { sha256, .. }) if *sha256 == file.content.digest())
}

/// Puts one of our files in its place.
fn own(file: &File, facts: &Facts, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let ours = facts.journal.files.contains_key(&file.path);
    match facts.entries.get(&file.path) {
        Some(Entry::File { mode, .. }) if !differs(file, facts) => {
            if ours && *mode != file.mode {
                steps.push(Step::Mode(file.path.clone(), file.mode));
            }
        }
        Some(Entry::File { text, .. }) if ours => steps.push(Step::Own(file.clone(), text.clone())),
        Some(_) => return Err(PlanError::Foreign(file.path.clone())),
        None => steps.push(Step::Own(file.clone(), None)),
    }
    Ok(())
}

/// The digest of everything that the engine must be restarted for. A configuration that was ours and that somebody else changed
/// counts as we wrote it, for what they changed is theirs to bring into force.
fn inputs(wanted: &WantedEngine, config: Option<&File>, facts: &Facts) -> Digest {
    let written = |f: &File| facts.journal.files.get(&f.path).and_then(|digests| digests.last().copied());
    let theirs = wanted.config.as_ref().filter(|_| config.is_none());
    let theirs = theirs.and_then(|f| Some((&f.path, written(f)?)));
    Digest::of_all(wanted.files.iter().chain(config).map(|f| (&f.path, f.content.digest())).chain(theirs))
}

/// What a restart of the engine means to the containers that run.
fn interrupted(facts: &Facts) -> Option<String> {
    let containers = match facts.containers {
        0 => return None,
        1 => "1 running container".to_owned(),
        n => format!("{n} running containers"),
    };
    Some(if facts.live_restore {
        format!("{ENGINE_UNIT} is restarted, {containers} run on (live-restore)")
    } else {
        format!(
            "{ENGINE_UNIT} is restarted under {containers}: they are stopped, and only those with a restart policy start \
             again (\"live-restore\": true in /etc/docker/daemon.json would let them run on)"
        )
    })
}
