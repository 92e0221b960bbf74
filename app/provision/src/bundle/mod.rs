//! Docker for hosts that reach no source of packages: `osier bundle-docker` makes one file of all that they need, and a run with
//! `--offline` installs from it.
//!
//! Must not know how packages are resolved: apt does that, on a host of each system. That host is left as it was.

mod file;
mod offline;

pub(crate) use offline::Offline;

use crate::{
    args::BundleDockerArgs,
    documents, inventory,
    preflight::{self, Report},
    recap::{self, Outcome},
    remote::{self, Remote, on_each},
    settings::{self, NodeSettings},
    site::apt_keys,
};
use anyhow::{Context, Result};
use osier_converge::{Manifest, Package, PackageSet, Target, WantedEngine};
use osier_ssh::{Command, quote};
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{Seek, Write},
    path::Path,
};
use time::OffsetDateTime;

const FETCH: &str = include_str!("fetch.sh");
/// What to do about a bundle that will not do.
pub(crate) const HINT: &str = "'osier bundle-docker -i INVENTORY FILE' makes a bundle for the systems of an inventory's hosts, where these reach their sources";

/// What one host fetches for all of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    target: Target,
    packages: Vec<Package>,
    engine: WantedEngine,
}

/// Makes a bundle of what the inventory's hosts need.
pub async fn run_bundle_docker(args: BundleDockerArgs, ui: &Ui) -> Result<(), Failure> {
    let inventory = inventory::read(&args.hosts.from, ui)?;
    let (_, nodes) = settings::read(&inventory)?;
    let selected = inventory::select(&inventory, args.hosts.limit.as_deref())?;
    let keys = apt_keys(&nodes)?;
    let remotes = remote::remotes(&selected)?;
    let progress = ui.progress();
    let asked = on_each(&remotes, args.hosts.forks, async |remote| {
        progress.doing(&remote.name, "preflight");
        (remote, preflight::ask(remote).await)
    })
    .await;

    let (mut wishes, mut failed): (Vec<(&Remote, Wish)>, Vec<_>) = Default::default();
    for (remote, report) in asked {
        let Some(node) = nodes.iter().find(|node| node.name.as_str() == remote.name) else { continue };
        let key = node.docker.key.as_ref().and_then(|path| keys.get(path)).map(String::as_str);
        match report.and_then(|report| wish(remote, node, key, &report)) {
            Ok(wish) if wishes.iter().any(|(_, other)| *other == wish) => {}
            Ok(wish) => wishes.push((remote, wish)),
            Err(failure) => failed.push((remote.name.clone(), Outcome::Failed(failure))),
        }
    }
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let mut sets = Vec::new();
    // A bundle for some of the hosts would only be found wanting where there is no way back.
    if failed.is_empty() {
        let fetched = on_each(&wishes, args.hosts.forks, async |(remote, wish): &(&Remote, Wish)| {
            progress.doing(&remote.name, "fetch packages");
            let fetched = fetch(remote, wish, folder.path()).await;
            progress.done(&remote.name, if fetched.is_ok() { "ok" } else { "failed" });
            (remote.name.clone(), fetched)
        })
        .await;
        for (host, fetched) in fetched {
            match fetched {
                Ok(set) => sets.push((host, set)),
                Err(failure) => failed.push((host, Outcome::Failed(failure))),
            }
        }
    }
    remote::close(remotes).await;
    drop(progress);
    if !failed.is_empty() {
        failed.iter().for_each(|(_, outcome)| {
            if let Outcome::Failed(failure) = outcome {
                ui.failure(failure);
            }
        });
        ui.note(format_args!("'{}' is not written", args.file.display()));
        return recap::verdict(&failed);
    }
    let hosts: Vec<(String, Target)> = sets.iter().map(|(host, set)| (host.clone(), set.target.clone())).collect();
    let manifest = Manifest::new(sets.into_iter().map(|(_, set)| set));
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
    let written = tokio::task::block_in_place(|| file::write(&args.file, &manifest, folder.path(), now));
    written.with_context(|| format!("write '{}'", args.file.display()))?;
    show(ui, &args.file, &manifest, &hosts);
    Ok(())
}

/// What a host is to fetch for its kind.
fn wish(remote: &Remote, node: &NodeSettings, key: Option<&str>, report: &Report) -> Result<Wish, Failure> {
    let name = &remote.name;
    let packages = documents::packages(&node.docker, &report.os);
    let packages = packages.with_context(|| format!("choose Docker's packages for '{name}'"));
    let packages = packages.map_err(|e| Failure::new(ExitKind::SomeHostsFailed, e))?;
    if report.architecture.is_empty() {
        let text = format!("host '{name}' has no dpkg that says its architecture");
        return Err(Failure::message_only(ExitKind::SomeHostsFailed, text));
    }
    let mut engine = documents::engine(&node.docker, key, &report.os)?;
    // These concern the engine itself, which is not fetched otherwise for them.
    (engine.files, engine.config) = (Vec::new(), None);
    Ok(Wish { target: report.target(), packages, engine })
}

/// Has a host fetch its packages; they come into `folder`.
async fn fetch(remote: &Remote, wish: &Wish, folder: &Path) -> Result<PackageSet, Failure> {
    let local = |e: anyhow::Error| Failure::new(ExitKind::SomeHostsFailed, e);
    let files = apt_files(&wish.engine).map_err(local)?;
    let command = Command::shell(FETCH, wish.packages.iter().map(Package::argument)).as_root().stdin(&files);
    let mut archive = tempfile::tempfile().context("make a temporary file").map_err(local)?;
    let mut written = Ok(());
    let on_bytes = |bytes: &[u8]| {
        if written.is_ok() {
            written = archive.write_all(bytes);
        }
    };
    let received = remote.ssh.receive(&command, on_bytes).await;
    received.map_err(|e| failure(remote, wish, e))?;
    written.context("keep what a host sends").map_err(local)?;
    let packages = tokio::task::block_in_place(|| {
        archive.rewind()?;
        file::take_in(&archive, folder)
    });
    let packages = packages.with_context(|| format!("take what '{}' fetched", remote.name)).map_err(local)?;
    Ok(PackageSet { target: wish.target.clone(), packages })
}

/// What a host said, without the passwords of its proxies.
fn failure(remote: &Remote, wish: &Wish, error: osier_ssh::Error) -> Failure {
    let osier_ssh::Error::Failed { said, .. } = &error else { return remote::failure(error) };
    let said = anyhow::anyhow!(wish.engine.proxies.scrub(&said.to_string()));
    let doing = format!("fetch packages for {} on '{}'", wish.target, remote.name);
    Failure::new(ExitKind::SomeHostsFailed, said.context(doing))
        .hint("does the host reach its sources, and are docker_packages, docker_version and docker_apt_source right?")
}

/// The files that apt is to read besides the host's own, and its proxies as lines for a shell, as an archive.
fn apt_files(engine: &WantedEngine) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, text.as_bytes()).with_context(|| format!("put '{name}' together"))
    };
    for file in &engine.apt {
        let path = file.path.as_str();
        add(path.strip_prefix("/etc/apt/").unwrap_or(path), file.content.as_str())?;
    }
    let proxies = engine.proxies.variables().map(|(name, value)| format!("export {name}={}\n", quote(value)));
    add("proxies", &proxies.collect::<String>())?;
    archive.into_inner().context("put apt's files together")
}

fn show(ui: &Ui, file: &Path, manifest: &Manifest, hosts: &[(String, Target)]) {
    let mut rows = Vec::new();
    for set in &manifest.sets {
        let from: Vec<&str> = hosts.iter().filter(|(_, t)| *t == set.target).map(|(host, _)| host.as_str()).collect();
        let bytes: u64 = set.packages.iter().map(|p| p.size).sum();
        rows.push((set, from.join(", "), bytes));
    }
    if ui.is_json() {
        let row = |(set, from, bytes): &(&PackageSet, String, u64)| {
            let packages: BTreeMap<_, _> =
                set.packages.iter().map(|p| (p.name.to_string(), p.version.to_string())).collect();
            json!({ "system": set.target, "host": from, "bytes": bytes, "packages": packages })
        };
        return ui.json(&json!({ "file": file, "sets": rows.iter().map(row).collect::<Vec<_>>() }));
    }
    let mut table = osier_ui::Table::new(&["SYSTEM", "PACKAGES", "MIB", "FETCHED BY"]);
    for (set, from, bytes) in &rows {
        table.row([set.target.to_string(), set.packages.len().to_string(), (bytes >> 20).to_string(), from.clone()]);
    }
    ui.line(table);
    ui.note(format_args!("'osier site --offline {}' installs Docker from it", file.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_converge::{File, Proxies};

    #[test]
    fn apt_gets_its_files_and_proxies_by_names_that_the_script_knows() {
        let file =
            |at: &str, text: &str| File { path: at.parse().unwrap(), mode: 0o644, secret: false, content: text.into() };
        let engine = WantedEngine {
            apt: vec![
                file("/etc/apt/keyrings/osier-docker.asc", "KEY"),
                file("/etc/apt/sources.list.d/osier-docker.list", "deb x"),
            ],
            proxies: Proxies { http: Some("http://me:a'b@p".into()), ..Proxies::default() },
            ..WantedEngine::default()
        };
        let files = apt_files(&engine).unwrap();
        let mut archive = tar::Archive::new(files.as_slice());
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            (name, std::io::read_to_string(&mut entry).unwrap())
        };
        let read: Vec<_> = archive.entries().unwrap().map(read).collect();
        let names: Vec<_> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["keyrings/osier-docker.asc", "sources.list.d/osier-docker.list", "proxies"]);
        let shell =
            std::process::Command::new("sh").args(["-c", &format!("{}echo \"$http_proxy\"", read[2].1)]).output();
        assert_eq!(shell.unwrap().stdout, b"http://me:a'b@p\n");
        for name in &names[..2] {
            let stem = name.rsplit_once('.').unwrap().0;
            assert!(FETCH.contains(stem), "{stem}");
        }
    }
}
