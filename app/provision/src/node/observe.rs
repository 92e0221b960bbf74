//! Observing: the facts that a document asks for.
//!
//! Must not change anything on the host, nor read a secret's text.

use super::{System, engine, packages, read_journal};
use anyhow::{Context, Result};
use osier_converge::{AbsPath, Desired, Digest, ENGINE_UNIT, Entry, Facts, Name, OsRelease, UnitFact};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
};

/// Files up to this size are compared line by line.
const LARGEST_TEXT: usize = 1 << 20;

/// Looks at everything that `desired` speaks of.
pub(super) async fn observe(system: &System, desired: &Desired) -> Result<Facts> {
    let mut journal = read_journal(system)?;
    let os = OsRelease::parse(&fs::read_to_string(system.path("/etc/os-release")).unwrap_or_default());
    let may_show: BTreeSet<&AbsPath> = desired.all_files().filter(|f| !f.secret).map(|f| &f.path).collect();
    let mut entries = BTreeMap::new();
    let wanted: BTreeSet<&AbsPath> = desired.present().chain(journal.files.keys()).collect();
    let paths: BTreeSet<&AbsPath> = desired.paths().chain(journal.files.keys()).collect();
    for path in paths {
        if let Some(entry) = look(system, path, wanted.contains(path), may_show.contains(path))? {
            entries.insert(path.clone(), entry);
        }
    }
    packages::forget_gone(system, &mut journal).await?;
    // Somebody removed it, or it was never written.
    journal.files.retain(|path, _| entries.contains_key(path));
    let lists = [&journal.packages, &journal.dependencies, &journal.replaced];
    let mut asked: BTreeSet<Name> = lists.into_iter().flatten().cloned().collect();
    if let Some(engine) = &desired.engine {
        asked.extend(engine.packages.iter().map(|p| p.name.clone()));
        asked.extend(os.system().into_iter().flat_map(|s| s.engine_packages()));
    }
    let mut units: Vec<&str> = desired.unit_names().map(Name::as_str).collect();
    units.extend(desired.engine.is_some().then_some(ENGINE_UNIT));
    let units = observe_units(system, &units).await?;
    let (mut state, mut owners, mut containers) = Default::default();
    if desired.engine.is_some() {
        (state, owners) = (engine::state(system).await, engine::owners(system).await);
        if state == osier_converge::Engine::Running {
            containers = engine::containers(system).await?;
        }
    }
    let packages = packages::installed(system, &asked).await?;
    // One that others took the place of, and that is there again, is somebody else's.
    journal.replaced.retain(|name| !packages.contains_key(name));
    Ok(Facts {
        os,
        engine: state,
        owners,
        containers: containers.0,
        live_restore: containers.1,
        packages,
        entries,
        units,
        networks: engine::networks(system, &desired.absent.networks).await?,
        journal,
    })
}

/// What lies at a path. Only a file that is `wanted` is read: one that shall go may be a mount that cannot be.
fn look(system: &System, path: &AbsPath, wanted: bool, may_show: bool) -> Result<Option<Entry>> {
    let real = system.path(path.as_str());
    let doing = || format!("look at '{path}'");
    let meta = match fs::symlink_metadata(&real) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e).with_context(doing),
    };
    let mode = meta.permissions().mode() & 0o7777;
    Ok(Some(if meta.is_symlink() {
        Entry::Link(fs::read_link(&real).with_context(doing)?.to_string_lossy().into_owned())
    } else if meta.is_dir() {
        Entry::Folder(mode)
    } else if meta.is_file() && wanted {
        let bytes = fs::read(&real).with_context(doing)?;
        let sha256 = Digest::of(&bytes);
        let text = (may_show && bytes.len() <= LARGEST_TEXT).then(|| String::from_utf8(bytes).ok()).flatten();
        Entry::File { sha256, mode, text }
    } else {
        Entry::Other
    }))
}

async fn observe_units(system: &System, names: &[&str]) -> Result<BTreeMap<Name, UnitFact>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let args: Vec<&str> = ["show", "--property=Id,LoadState,ActiveState,UnitFileState", "--"]
        .into_iter()
        .chain(names.iter().copied())
        .collect();
    Ok(parse_units(&system.run("systemctl", &args).await?))
}

/// Reads the output of `systemctl show`: blocks of `Name=value`, an empty line between units. Unknown units are left
/// out.
fn parse_units(text: &str) -> BTreeMap<Name, UnitFact> {
    let unit = |block: &str| {
        let value = |name| block.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        let known = !matches!(value("LoadState"), "not-found" | "");
        let fact = UnitFact {
            enabled: matches!(value("UnitFileState"), "enabled" | "enabled-runtime" | "static" | "alias" | "indirect"),
            active: matches!(value("ActiveState"), "active" | "activating" | "reloading"),
            failed: value("ActiveState") == "failed",
        };
        // A unit that still runs after its file went is no longer loaded from one, and must be stopped all the same.
        (known || fact.active || fact.failed).then_some((value("Id").parse().ok()?, fact))
    };
    text.split("\n\n").filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_as_systemctl_shows_them() {
        let text = "Id=a.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n\
            Id=b.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n\n\
            Id=c.socket\nLoadState=loaded\nActiveState=failed\nUnitFileState=disabled\n";
        let units = parse_units(text);
        let fact = |name: &str| units.get(&name.parse::<Name>().unwrap()).copied();
        assert_eq!(fact("a.service"), Some(UnitFact { enabled: true, active: true, failed: false }));
        assert_eq!(fact("b.service"), None);
        assert_eq!(fact("c.socket"), Some(UnitFact { enabled: false, active: false, failed: true }));
    }

    proptest! {
        #[test]
        fn any_output_is_taken(text in "((Id|ActiveState|LoadState)=[a-z.=]{0,8}\n{0,2}|\\PC{0,5}){0,6}") {
            parse_units(&text);
        }
    }
}
