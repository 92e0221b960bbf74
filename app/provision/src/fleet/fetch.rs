//! `osier copy --fetch`: files and folders of all hosts, each host's below a folder of its name.
//!
//! Must not trust hosts: what they send lands below their own folder or nowhere, and only what was asked for.

use super::{
    Fleet, Stop,
    args::CopyArgs,
    as_wished,
    copy::{ASK, Done, report},
    local,
};
use crate::remote::{self, Remote, on_each};
use anyhow::Context;
use osier_fleet::{Why, found};
use osier_ssh::Command;
use osier_ui::{ExitKind, Failure, Ui};
use std::{
    collections::BTreeMap,
    fs,
    io::{Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

/// Names all files below the paths that are given, with a NUL behind each, and passes them on to what asks. A path that is a
/// link stands for what it leads to; a folder that cannot be looked into is an error, not left out.
const LIST: &str = r#"for path; do
    [ -e "$path" ] || { printf "there is no '%s'\n" "$path" >&2; exit 1; }
done
closed=$(find -H "$@" -type d ! \( -readable -executable \) -print -quit 2>/dev/null)
[ -z "$closed" ] || { printf "the folder '%s' cannot be read\n" "$closed" >&2; exit 1; }
export OSIER_FOLLOW=1
find -H "$@" -type f -print0 | "#;
/// An archive of the files that standard input names.
const SEND: &str = "tar --dereference --hard-dereference --null --verbatim-files-from -cPf - -T -";

pub(super) async fn run(args: &CopyArgs, sources: &[String], dest: &str, ui: &Ui) -> Result<(), Failure> {
    if let Some(wrong) = sources.iter().find(|s| s.starts_with('-') || s.starts_with('~')) {
        return Err(
            Failure::usage(format!("'{wrong}' is no path on a host")).hint("'./NAME' begins in the login's home")
        );
    }
    let fleet = Fleet::read(&args.hosts, ui)?;
    let (stop, width) = (Stop::listen()?, fleet.width());
    let done = on_each(&fleet.remotes, fleet.forks, async |remote| {
        let done = stop.or(on_one(remote, args, sources, Path::new(dest))).await;
        if let (Ok(done), false) = (&done, ui.is_json()) {
            let verb = if args.check { "would fetch" } else { "fetched" };
            done.iter().for_each(|(path, why)| ui.line(format_args!("{:width$} | {verb} {path} ({why})", remote.name)));
            if done.is_empty() {
                ui.line(format_args!("{:width$} | ok", remote.name));
            }
        }
        (remote.name.clone(), done)
    })
    .await;
    remote::close(fleet.remotes).await;
    report(ui, done, args.check)
}

async fn on_one(remote: &Remote, args: &CopyArgs, sources: &[String], dest: &Path) -> Result<Done, Failure> {
    let folder = below(dest, &remote.name).filter(|f| f.parent() == Some(dest));
    let folder = folder.ok_or_else(|| failed(format!("'{}' is no name of a folder", remote.name)))?;
    let command = Command::shell(&format!("{LIST}{ASK}"), sources.iter().cloned());
    let output = remote.ssh.check(&as_wished(command, args.root, remote)).await.map_err(remote::failure)?;
    let (mut wanted, mut done) = (BTreeMap::new(), Vec::new());
    for (path, there) in found(&output.stdout) {
        let Some(place) = below(&folder, &path) else {
            return Err(failed(format!("'{path}' of '{}' leads out of its folder", remote.name)));
        };
        let why = match (there.digest(), local::digest(&place).ok()) {
            (None, _) => return Err(failed(format!("'{path}' of '{}' cannot be read", remote.name))),
            (Some(there), Some(here)) if there == here => continue,
            (_, Some(_)) => Why::Contents,
            (_, None) => Why::New,
        };
        done.push((path.clone(), why.word()));
        wanted.insert(path, place);
    }
    if !(args.check || wanted.is_empty()) {
        receive(remote, args.root, wanted).await?;
    }
    Ok(done)
}

/// Where a path of a host lies below a folder; nowhere if it leads out of it.
fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut place = folder.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (place != folder).then_some(place)
}

async fn receive(remote: &Remote, root: bool, mut wanted: BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    let mut archive = tempfile::tempfile().context("make a temporary file").map_err(local_failure)?;
    let list: String = wanted.keys().flat_map(|path| [path, "\0"]).collect();
    let command = as_wished(Command::shell(SEND, [""; 0]).stdin(list.as_bytes()), root, remote);
    let mut written = Ok(());
    let on_bytes = |bytes: &[u8]| {
        if written.is_ok() {
            written = archive.write_all(bytes);
        }
    };
    remote.ssh.receive(&command, on_bytes).await.map_err(remote::failure)?;
    written.context("keep what a host sends").map_err(local_failure)?;
    tokio::task::block_in_place(|| {
        archive.rewind()?;
        for entry in tar::Archive::new(&archive).entries()? {
            let mut entry = entry?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            // Each once, and nothing that was not asked for.
            if let (true, Some(place)) = (entry.header().entry_type().is_file(), wanted.remove(&path)) {
                let folder = place.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(folder)?;
                let mut file = tempfile::NamedTempFile::new_in(folder)?;
                std::io::copy(&mut entry, &mut file)?;
                let mode = entry.header().mode()? & 0o777;
                file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
                file.persist(place)?;
            }
        }
        anyhow::Ok(())
    })
    .context(format!("write the files of '{}'", remote.name))
    .map_err(local_failure)?;
    match wanted.keys().next() {
        None => Ok(()),
        Some(path) => Err(failed(format!("'{}' did not send '{path}'", remote.name))),
    }
}

fn failed(text: String) -> Failure {
    Failure::message_only(ExitKind::SomeHostsFailed, text)
}

fn local_failure(error: anyhow::Error) -> Failure {
    Failure::new(ExitKind::SomeHostsFailed, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_names_stays_in_its_folder() {
        let place = |path: &str| below(Path::new("d/h"), path).map(|p| p.display().to_string());
        assert_eq!(place("/etc/x").as_deref(), Some("d/h/etc/x"));
        assert_eq!(place("./x//y").as_deref(), Some("d/h/x/y"));
        for wrong in ["..", "/etc/../x", "a/..", "", "/", "."] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
