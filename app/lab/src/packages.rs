//! The Debian packages a lab needs on its host: which are missing, and how they get there.
//!
//! Must not install anything without having said what.

use crate::{
    command::{CommandError, command, run},
    host,
};
use anyhow::{Context, Result};
use osier_ui::{ExitKind, Failure, Progress};
use std::{collections::BTreeSet, path::Path};

/// A package, and a program that serves as well, wherever it comes from.
struct Need {
    package: &'static str,
    or_program: Option<&'static str>,
}

const fn need(package: &'static str, or_program: Option<&'static str>) -> Need {
    Need { package, or_program }
}

/// What a lab and the images people try in it are made with.
const NEEDS: [Need; 7] = [
    need("docker.io", Some("dockerd")),
    need("debootstrap", Some("debootstrap")),
    need("openssh-client", Some("ssh")),
    need("iproute2", Some("ip")),
    need("iptables", Some("iptables")),
    need("nftables", Some("nft")),
    need("busybox-static", None),
];
/// Since Debian 13 the command line is a package of its own.
const COMMAND_LINE: Need = need("docker-cli", Some("docker"));

/// Finds what is missing and installs it; with `install` false refuses instead, and says how to.
pub(crate) async fn prepare(install: bool, progress: &Progress) -> Result<(), Failure> {
    let missing = missing().await.context("find out which packages are missing")?;
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !install {
        let error = format!("make a lab: packages are missing on this host ({})", missing.join(", "));
        return Err(Failure::message_only(ExitKind::Failed, error).hint(format!("run 'apt-get update && {line}'")));
    }
    progress.doing("packages", format!("installing {}", missing.join(", ")));
    if apt_get_install(&missing).await.is_err() {
        // The lists may be missing or too old to know where the packages are now.
        let doing = "install the missing packages";
        run(command("apt-get").args(["update", "--quiet"]))
            .await
            .context("refresh the package lists")
            .context(doing)?;
        apt_get_install(&missing).await.context(doing)?;
    }
    progress.done("packages", format!("installed {}", missing.join(", ")));
    Ok(())
}

async fn apt_get_install(packages: &[&str]) -> Result<String, CommandError> {
    let mut apt = command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "--yes", "--no-install-recommends", "--option", "DPkg::Lock::Timeout=120"]).args(packages);
    run(&mut apt).await
}

async fn missing() -> Result<Vec<&'static str>> {
    let version = host::os_release().remove("VERSION_ID").and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    // Releases under way have no number yet; they are newer than any that has one.
    let split = version.is_none_or(|number| number >= 13);
    let needs = NEEDS.iter().chain(split.then_some(&COMMAND_LINE));
    let wanted: Vec<&Need> = needs.filter(|need| !need.or_program.is_some_and(is_there)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = command("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\\n"]).args(wanted.iter().map(|n| n.package));
    // It fails when it has never heard of one of them, and still prints the others.
    let output = query.output().await.context("start 'dpkg-query'")?;
    let known = installed(&String::from_utf8_lossy(&output.stdout));
    Ok(wanted.iter().map(|need| need.package).filter(|package| !known.contains(*package)).collect())
}

fn installed(listed: &str) -> BTreeSet<String> {
    let rows = listed.lines().filter_map(|line| line.split_once(' '));
    rows.filter(|(_, status)| *status == "installed").map(|(package, _)| package.to_owned()).collect()
}

/// Whether a program of this name is on the search path, or where root's programs are.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).collect::<Vec<_>>();
    folders
        .iter()
        .map(std::path::PathBuf::as_path)
        .chain(["/usr/sbin", "/sbin"].map(Path::new))
        .any(|f| f.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_packages_with_leftover_configuration_are_not_installed() {
        let known = installed("docker.io config-files\niproute2 installed\n");
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["iproute2"]);
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(is_there("sh") && !is_there("no-such-program-anywhere"));
    }
}
