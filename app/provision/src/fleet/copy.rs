//! `osier copy`: files and folders to all hosts. Each host is asked what it has, and gets what differs.
//!
//! Must not know what the files are. A host first has all that is sent in a private folder beside its place, and then
//! moves each file into it; so a file is replaced at once or not at all, also where the connection breaks.

use super::{
    Fleet, Stop,
    args::CopyArgs,
    as_wished, fetch,
    local::{self, Local},
};
use crate::{
    recap::{self, Outcome},
    remote::{self, Remote, on_each},
};
use osier_fleet::{Change, Found, Owner, changes, found};
use osier_ssh::Command;
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tempfile::NamedTempFile;
use tokio::sync::Mutex;

/// Says what there is of the paths on standard input, which have a NUL behind each; of links, what they lead to, where
/// OSIER_FOLLOW is set. The words of `stat` depend on the language.
pub(super) const ASK: &str = r#"xargs -0 -r sh -c '
LC_ALL=C; export LC_ALL
stat ${OSIER_FOLLOW:+-L} --printf "%F\t%a\t%U\t%u\t%G\t%g\t%n\0" -- "$@" 2>/dev/null
n=$#
while [ "$n" -gt 0 ]; do
    p=$1; shift; n=$((n - 1))
    if [ -f "$p" ] && { [ -n "$OSIER_FOLLOW" ] || [ ! -L "$p" ]; }; then set -- "$@" "$p"; fi
done
[ $# -eq 0 ] || sha256sum -z -- "$@" 2>/dev/null
:' sh"#;

/// Puts in place what an archive on standard input carries: `$1` is the folder to do it in, `$2` the owner.
const PUT: &str = r#"umask 022; base=$1 owner=$2
own() { [ -z "$owner" ] || chown -h -- "$owner" "$1"; }
mkdir -p -- "$base" && t=$(mktemp -d -- "$base/.osier-copy-XXXXXXXX") || exit 1
trap 'rm -rf -- "$t"' EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
tar -xmf - -C "$t" --no-same-owner || exit 1
while IFS=/ read -r number mode path; do
    case $number in
    folder) mkdir -p -- "$path" && own "$path" && chmod "$mode" -- "$path" ;;
    same) own "$path" && chmod "$mode" -- "$path" ;;
    *) own "$t/$number" && chmod "$mode" -- "$t/$number" && mv -fT -- "$t/$number" "$path" ;;
    esac || exit 1
done <"$t/list""#;

/// Copies to all hosts, or from them.
pub async fn run_copy(args: CopyArgs, ui: &Ui) -> Result<(), Failure> {
    let Some((dest, sources)) = args.paths.split_last() else { return Err(Failure::usage("nothing is to be copied")) };
    if args.fetch {
        return fetch::run(&args, sources, dest, ui).await;
    }
    let (all, base) = local::collect(sources, dest, args.mode)?;
    let fleet = Fleet::read(&args.hosts, ui)?;
    let (stop, width) = (Stop::listen()?, fleet.width());
    let job = Job { all, base, owner: args.owner, check: args.check, archives: Mutex::default() };
    let done = on_each(&fleet.remotes, fleet.forks, async |remote| {
        let done = stop.or(job.on_one(remote, args.root)).await;
        if let (Ok(done), false) = (&done, ui.is_json()) {
            tell(ui, &format!("{:width$}", remote.name), done, args.check);
        }
        (remote.name.clone(), done)
    })
    .await;
    remote::close(fleet.remotes).await;
    report(ui, done, args.check)
}

/// What was done, or would be, on a host: paths and why.
pub(crate) type Done = Vec<(String, &'static str)>;

fn tell(ui: &Ui, name: &str, done: &Done, check: bool) {
    for (path, why) in done {
        ui.line(format_args!("{name} | {} {path} ({why})", if check { "would change" } else { "changed" }));
    }
    if done.is_empty() {
        ui.line(format_args!("{name} | ok"));
    }
}

pub(super) fn report(ui: &Ui, all: Vec<(String, Result<Done, Failure>)>, check: bool) -> Result<(), Failure> {
    if ui.is_json() {
        let file = |(path, why): &(String, &str)| json!({ "path": path, "why": why });
        let row = |(host, done): &(String, Result<Done, Failure>)| -> Value {
            match done {
                Ok(done) => {
                    let result = if done.is_empty() {
                        "ok"
                    } else if check {
                        "planned"
                    } else {
                        "changed"
                    };
                    let changed = if check { 0 } else { done.len() };
                    let files: Vec<Value> = done.iter().map(file).collect();
                    json!({ "host": host, "result": result, "changed": changed, "files": files })
                }
                Err(f) => json!({ "host": host, "error": f.message(), "causes": f.causes(), "hints": f.hints() }),
            }
        };
        ui.json(&json!({ "hosts": all.iter().map(row).collect::<Vec<_>>() }));
    }
    let outcome = |done: Result<Done, Failure>| match done {
        Err(failure) => {
            ui.failure(&failure);
            Outcome::Failed(failure)
        }
        Ok(done) if done.is_empty() => Outcome::Unchanged,
        Ok(done) if check => Outcome::Planned(done.into_iter().map(|(path, _)| path).collect()),
        Ok(done) => Outcome::Changed(done.len()),
    };
    let outcomes: Vec<_> = all.into_iter().map(|(host, done)| (host, outcome(done))).collect();
    recap::verdict(&outcomes)
}

/// Archives by what is in them; most hosts need the same.
type Archives = BTreeMap<Vec<usize>, Arc<NamedTempFile>>;

/// What is to be put on hosts, each of which gets what it lacks.
pub(crate) struct Job {
    all: Vec<Local>,
    base: String,
    owner: Option<Owner>,
    check: bool,
    archives: Mutex<Archives>,
}

impl Job {
    /// Files of this machine for a folder that is made where there is none.
    pub(crate) fn new(sources: &[String], folder: &str) -> Result<Self, Failure> {
        let (all, base) = local::collect(sources, &format!("{folder}/"), Some(0o644))?;
        Ok(Self { all, base, owner: None, check: false, archives: Mutex::default() })
    }

    /// Has one host get what it lacks.
    pub(crate) async fn on_one(&self, remote: &Remote, root: bool) -> Result<Done, Failure> {
        let paths: Vec<&str> = self.all.iter().map(|l| l.wanted.path.as_str()).collect();
        let there = ask(remote, &paths, root).await?;
        let wanted: Vec<_> = self.all.iter().map(|l| l.wanted.clone()).collect();
        let changes = changes(&wanted, &there, self.owner.as_ref()).map_err(|path| {
            let text =
                format!("copy to '{path}' of '{}': a folder is there, or what is there is no folder", remote.name);
            Failure::message_only(ExitKind::SomeHostsFailed, text)
                .hint("a DEST that ends with '/' is a folder that things are put into")
        })?;
        if !(self.check || changes.is_empty()) {
            let archive = self.archive(&changes).await?;
            let owner = self.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            let command = Command::shell(PUT, [self.base.clone(), owner]).stdin_file(archive.path());
            remote.ssh.check(&as_wished(command, root, remote)).await.map_err(remote::failure)?;
        }
        Ok(changes.iter().map(|c| (wanted[c.wanted].path.clone(), c.why.word())).collect())
    }

    async fn archive(&self, changes: &[Change]) -> Result<Arc<NamedTempFile>, Failure> {
        let key = changes.iter().map(|c| c.wanted * 2 + usize::from(c.why.sends())).collect();
        let mut archives = self.archives.lock().await;
        if let Some(archive) = archives.get(&key) {
            return Ok(Arc::clone(archive));
        }
        let archive = tokio::task::block_in_place(|| local::archive(&self.all, changes));
        let archive = Arc::new(archive.map_err(|e| {
            Failure::new(ExitKind::SomeHostsFailed, anyhow::Error::new(e).context("put together what is sent"))
        })?);
        archives.insert(key, Arc::clone(&archive));
        Ok(archive)
    }
}

/// What a host has at these paths.
async fn ask(remote: &Remote, paths: &[&str], root: bool) -> Result<BTreeMap<String, Found>, Failure> {
    let list: String = paths.iter().flat_map(|path| [path, "\0"]).collect();
    let command = Command::shell(ASK, [""; 0]).stdin(list.as_bytes());
    let output = remote.ssh.check(&as_wished(command, root, remote)).await.map_err(remote::failure)?;
    Ok(found(&output.stdout))
}
