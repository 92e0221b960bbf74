//! Packages of Debian and Ubuntu: what is installed, installing, and taking away again.
//!
//! Must not know what the packages are for. The package lists are read anew only where an installation fails without;
//! a lock held by another run of apt is waited for.

use super::{System, write_journal};
use anyhow::{Context, Result};
use osier_converge::{Journal, Name};
use std::collections::BTreeSet;

/// Options for every change: never ask, keep the administrator's configuration, wait for the lock (seconds).
const APT: [&str; 6] = [
    "-y",
    "-q",
    "-oDPkg::Lock::Timeout=300",
    "-oDpkg::Use-Pty=0",
    "-oDpkg::Options::=--force-confold",
    "-oAPT::Get::Always-Include-Phased-Updates=true",
];

/// Which of these packages are installed.
pub(super) async fn installed(system: &System, names: &BTreeSet<Name>) -> Result<BTreeSet<Name>> {
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    Ok(all_installed(system).await?.intersection(names).cloned().collect())
}

/// Installs packages, and writes down first which, then what came along.
pub(super) async fn install(system: &System, names: &[Name], journal: &mut Journal) -> Result<()> {
    let before = all_installed(system).await?;
    journal.packages.extend(names.iter().filter(|n| !before.contains(*n)).cloned());
    write_journal(system, journal)?;
    let mut wanted: Vec<&str> = names.iter().map(Name::as_str).collect();
    // The engine refuses to start containers where the kernel has AppArmor and its parser is missing.
    if std::fs::read_to_string(system.path("/sys/module/apparmor/parameters/enabled")).is_ok_and(|t| t.starts_with('Y'))
    {
        wanted.push("apparmor");
    }
    let install: Vec<&str> = ["install", "--no-install-recommends"].into_iter().chain(APT).chain(wanted).collect();
    if let Err(first) = system.run("apt-get", &install).await {
        tracing::debug!(%first, "read the package lists and try again");
        system.run("apt-get", &["update", "-q", "-oDPkg::Lock::Timeout=300"]).await?;
        system.run("apt-get", &install).await?;
    }
    let after = all_installed(system).await?;
    journal.dependencies.extend(after.difference(&before).filter(|n| !journal.packages.contains(*n)).cloned());
    write_journal(system, journal)
}

/// Removes packages with their configuration, and of what came along with them what nothing needs any more.
pub(super) async fn purge(system: &System, names: &[Name], journal: &mut Journal) -> Result<()> {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let purge: Vec<&str> = ["purge"].into_iter().chain(APT).chain(names.iter().copied()).collect();
    system.run("apt-get", &purge).await?;
    let idle = parse_removals(&system.run("apt-get", &["autoremove", "-s"]).await?);
    let idle: Vec<&str> = idle.intersection(&journal.dependencies).map(Name::as_str).collect();
    if !idle.is_empty() {
        let purge: Vec<&str> = ["purge"].into_iter().chain(APT).chain(idle.iter().copied()).collect();
        system.run("apt-get", &purge).await?;
    }
    journal.packages.retain(|n| !names.contains(&n.as_str()));
    journal.dependencies.clear();
    write_journal(system, journal)
}

async fn all_installed(system: &System) -> Result<BTreeSet<Name>> {
    let list = system.run("dpkg-query", &["-W", "-f", "${db:Status-Status} ${Package}\\n"]).await;
    Ok(parse_installed(&list.context("list the installed packages")?))
}

fn parse_installed(text: &str) -> BTreeSet<Name> {
    text.lines().filter_map(|l| l.strip_prefix("installed ")?.parse().ok()).collect()
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
        assert_eq!(
            names(parse_installed("installed docker.io\nconfig-files runc\ninstalled libc6\n")),
            ["docker.io", "libc6"]
        );
        let text = "Reading package lists...\nRemv runc [1.1.5+ds1-1+b1]\nRemv tini [0.19.0-1]\n";
        assert_eq!(names(parse_removals(text)), ["runc", "tini"]);
    }

    proptest! {
        #[test]
        fn any_output_is_taken(text in "((installed|Remv) ?\\PC{0,6}\n){0,4}") {
            let _ = (parse_installed(&text), parse_removals(&text));
        }
    }
}
