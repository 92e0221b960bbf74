//! Packages of Debian and Ubuntu: what is installed, installing, and taking away again.
//!
//! Must not know what the packages are for. The lists of a source of its own are read before, those of the distribution only
//! where an installation fails without, and none where packages come from a bundle; a lock held by another run of apt is waited
//! for.

use super::{System, bundle, write_journal};
use anyhow::{Context, Result};
use osier_converge::{AbsPath, Change, Journal, Name, Source, Version};
use std::collections::{BTreeMap, BTreeSet};

/// Options for every change: never ask, keep the administrator's configuration, wait for the lock (seconds).
const APT: [&str; 6] = [
    "-y",
    "-q",
    "-oDPkg::Lock::Timeout=300",
    "-oDpkg::Use-Pty=0",
    "-oDpkg::Options::=--force-confold",
    "-oAPT::Get::Always-Include-Phased-Updates=true",
];

/// Which of these packages are installed, and in which version.
pub(super) async fn installed(system: &System, names: &BTreeSet<Name>) -> Result<BTreeMap<Name, Version>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut all = all_installed(system).await?;
    all.retain(|name, _| names.contains(name));
    Ok(all)
}

/// Forgets packages of ours where dpkg has none of them any more, not even in part: what is there now is somebody else's.
pub(super) async fn forget_gone(system: &System, journal: &mut Journal) -> Result<()> {
    if journal.packages.is_empty() {
        return Ok(());
    }
    let present = present(system).await?;
    if !journal.packages.iter().any(|n| present.contains(n)) {
        journal.packages.clear();
    }
    Ok(())
}

/// Installs packages, and writes down first which, then what came along and what had to go.
pub(super) async fn install(system: &System, changes: &[Change], source: &Source, journal: &mut Journal) -> Result<()> {
    let before = all_installed(system).await?;
    let done = try_install(system, changes, source, &before, journal).await;
    if done.is_err() {
        // What did not come is not ours, should somebody else install it; what came along is.
        let present = present(system).await?;
        journal.packages.retain(|n| present.contains(n));
        note_dependencies(&before, &all_installed(system).await?, journal);
        write_journal(system, journal)?;
    }
    done
}

/// Writes down what came along with our packages.
fn note_dependencies(before: &BTreeMap<Name, Version>, after: &BTreeMap<Name, Version>, journal: &mut Journal) {
    let came = after.keys().filter(|n| !before.contains_key(*n) && !journal.packages.contains(*n));
    journal.dependencies.extend(came.cloned().collect::<Vec<_>>());
}

async fn try_install(
    system: &System,
    changes: &[Change],
    source: &Source,
    before: &BTreeMap<Name, Version>,
    journal: &mut Journal,
) -> Result<()> {
    let new = changes.iter().map(|c| &c.to.name).filter(|n| !before.contains_key(*n));
    journal.packages.extend(new.cloned());
    write_journal(system, journal)?;
    let mut wanted: Vec<String> = changes.iter().map(|c| c.to.argument()).collect();
    // The engine refuses to start containers where the kernel has AppArmor and its parser is missing.
    if std::fs::read_to_string(system.path("/sys/module/apparmor/parameters/enabled")).is_ok_and(|t| t.starts_with('Y'))
    {
        wanted.push("apparmor".to_owned());
    }
    let run = async |args: &[&str]| system.run_through("apt-get", args, &source.proxies).await;
    if let Some(list) = &source.list {
        let only = only(list);
        let update: Vec<&str> = UPDATE.into_iter().chain(only.iter().map(String::as_str)).collect();
        run(&update).await.with_context(|| format!("read the source of {list} (docker_apt_source, docker_apt_key)"))?;
    }
    let alone = source.bundle.as_ref().map(|b| bundle::prepare(system, b)).transpose()?.unwrap_or_default();
    if !alone.is_empty() {
        let update: Vec<&str> = UPDATE.into_iter().chain(alone.iter().map(String::as_str)).collect();
        run(&update).await.context("read the bundle's packages")?;
    }
    let downgrades = changes.iter().any(Change::is_downgrade).then_some("--allow-downgrades");
    let install = ["install", "--no-install-recommends"].into_iter().chain(downgrades).chain(APT);
    let install: Vec<&str> = install.chain(alone.iter().chain(&wanted).map(String::as_str)).collect();
    let mut done = run(&install).await;
    if let (Err(first), true) = (&done, alone.is_empty()) {
        tracing::debug!(%first, "read the package lists and try again");
        run(&UPDATE[..3]).await?;
        done = run(&install).await;
    }
    if let Err(error) = done {
        return Err(match missing(system, changes, &alone).await {
            Some(missing) => error.context(missing),
            None => error,
        });
    }
    let after = all_installed(system).await?;
    note_dependencies(before, &after, journal);
    let (there, gone) = std::mem::take(&mut journal.packages).into_iter().partition(|n| after.contains_key(n));
    journal.packages = there;
    journal.replaced.extend(gone);
    journal.replaced.retain(|n| !after.contains_key(n));
    write_journal(system, journal)?;
    source.bundle.as_ref().map_or(Ok(()), |b| bundle::remove(system, b))
}

/// Reading the lists; the options behind the third make what is not to be had a failure.
const UPDATE: [&str; 4] = ["update", "-q", "-oDPkg::Lock::Timeout=300", "-oAPT::Update::Error-Mode=any"];

/// Options with which apt reads the lists of one source only, and keeps those of the others.
fn only(list: &AbsPath) -> [String; 3] {
    let list = format!("-oDir::Etc::sourcelist={list}");
    [list, "-oDir::Etc::sourceparts=-".to_owned(), "-oAPT::Get::List-Cleanup=0".to_owned()]
}

/// What is wanted and apt, with these options, does not have, with the versions that it has.
async fn missing(system: &System, changes: &[Change], options: &[String]) -> Option<String> {
    let mut lines = Vec::new();
    for change in changes {
        let name = change.to.name.as_str();
        let args: Vec<&str> = options.iter().map(String::as_str).chain(["madison", "--", name]).collect();
        let known = parse_madison(&system.run("apt-cache", &args).await.ok()?);
        match &change.to.version {
            _ if known.is_empty() => {
                lines.push(format!("no source of apt has the package {name} (docker_packages, docker_apt_source)"));
            }
            Some(version) if !known.contains(version) => {
                let known = known.iter().map(Version::as_str).collect::<Vec<_>>().join(", ");
                lines.push(format!("no source of apt has {name} {version} (docker_version), they have {known}"));
            }
            _ => {}
        }
    }
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// The versions in lines `NAME | VERSION | SOURCE`, each once.
fn parse_madison(text: &str) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    for version in text.lines().filter_map(|l| l.split('|').nth(1)?.trim().parse().ok()) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

/// Removes packages with their configuration, and of what came along with them what nothing needs any more.
pub(super) async fn purge(system: &System, names: &[Name], journal: &mut Journal) -> Result<()> {
    // Of those that others took the place of, somebody may have purged some since.
    let known = system.run("dpkg-query", &["-W", "-f", "${db:Status-Status} ${Package}\\n"]).await?;
    let known: BTreeSet<&str> = known
        .lines()
        .filter_map(|l| l.split_once(' '))
        .filter(|(s, _)| *s != "not-installed")
        .map(|(_, n)| n)
        .collect();
    let names: Vec<&str> = names.iter().map(Name::as_str).filter(|n| known.contains(n)).collect();
    let purge: Vec<&str> = ["purge"].into_iter().chain(APT).chain(names.iter().copied()).collect();
    system.run("apt-get", &purge).await?;
    let idle = parse_removals(&system.run("apt-get", &["autoremove", "-s"]).await?);
    let idle: Vec<&str> = idle.intersection(&journal.dependencies).map(Name::as_str).collect();
    if !idle.is_empty() {
        let purge: Vec<&str> = ["purge"].into_iter().chain(APT).chain(idle.iter().copied()).collect();
        system.run("apt-get", &purge).await?;
    }
    journal.packages.retain(|n| !names.contains(&n.as_str()));
    journal.replaced.clear();
    journal.dependencies.clear();
    // The engine's own files kept these from going with ours.
    for folder in std::mem::take(&mut journal.folders).iter().rev() {
        let _ = std::fs::remove_dir(system.path(folder.as_str()));
    }
    write_journal(system, journal)
}

async fn all_installed(system: &System) -> Result<BTreeMap<Name, Version>> {
    let list = system.run("dpkg-query", &["-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"]).await;
    Ok(parse_installed(&list.context("list the installed packages")?))
}

/// The packages of which dpkg has more than their configuration.
async fn present(system: &System) -> Result<BTreeSet<Name>> {
    let list = system.run("dpkg-query", &["-W", "-f", "${db:Status-Status} ${Package}\\n"]).await;
    Ok(parse_present(&list.context("list the packages")?))
}

fn parse_present(text: &str) -> BTreeSet<Name> {
    let lines = text.lines().filter_map(|l| l.split_once(' '));
    lines.filter(|(s, _)| !matches!(*s, "not-installed" | "config-files")).filter_map(|(_, n)| n.parse().ok()).collect()
}

fn parse_installed(text: &str) -> BTreeMap<Name, Version> {
    let package = |line: &str| {
        let (name, version) = line.strip_prefix("installed ")?.split_once(' ')?;
        Some((name.parse().ok()?, version.parse().ok()?))
    };
    text.lines().filter_map(package).collect()
}

/// The packages that a simulated run of apt would remove: lines `Remv NAME [VERSION]`.
fn parse_removals(text: &str) -> BTreeSet<Name> {
    let name = |line: &str| line.strip_prefix("Remv ")?.split_whitespace().next()?.parse().ok();
    text.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_as_the_programs_print_them() {
        let names = |set: BTreeSet<Name>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
        let installed = parse_installed("installed docker.io 26.1.5+dfsg1-9\nconfig-files runc 1\ninstalled libc6 2\n");
        let installed: Vec<_> = installed.iter().map(|(n, v)| format!("{n} {v}")).collect();
        assert_eq!(installed, ["docker.io 26.1.5+dfsg1-9", "libc6 2"]);
        let present = parse_present("installed a\nunpacked b\nconfig-files c\nnot-installed d\n");
        assert_eq!(names(present), ["a", "b"]);
        let madison =
            " docker.io | 28.5-1 | http://x forky/main Packages\n docker.io | 26.1-9 | http://x ./ Packages\n";
        let versions = parse_madison(&format!("{madison}{madison}"));
        assert_eq!(versions.iter().map(Version::as_str).collect::<Vec<_>>(), ["28.5-1", "26.1-9"]);
        let text = "Reading package lists...\nRemv runc [1.1.5+ds1-1+b1]\nRemv tini [0.19.0-1]\n";
        assert_eq!(names(parse_removals(text)), ["runc", "tini"]);
    }

    proptest! {
        #[test]
        fn any_output_is_taken(text in "((installed|Remv) ?\\PC{0,6}\n){0,4}") {
            let _ = (parse_installed(&text), parse_removals(&text), parse_madison(&text));
        }
    }
}
