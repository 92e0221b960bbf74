//! A command or a script on all hosts: in batches, with its output as it comes or host by host.
//!
//! Must not know what the command does.

use super::{
    Fleet, Stop,
    args::{BatchArgs, ExecArgs, RestartDockerArgs},
    as_wished,
};
use crate::{
    recap::{self, Outcome},
    remote::{self, Remote, on_each},
};
use osier_fleet::{Start, Turns, batches, goes_on, start};
use osier_ssh::{Command, Stream, quote};
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::json;
use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What is behind a pattern of hosts in Ansible's own words, and hardly behind a program that is called as a group is.
const BEHIND_A_PATTERN: [&str; 7] = ["--", "-a", "--args", "-m", "--module-name", "--become", "--sudo"];
/// How long what a stopped script left may take to be removed.
const TIDY: Duration = Duration::from_secs(10);

/// Runs a command on all hosts.
pub async fn run_exec(args: ExecArgs, ui: &Ui) -> Result<(), Failure> {
    let fleet = Fleet::read(&args.hosts, ui)?;
    let is_limited = args.hosts.hosts.limit.is_some();
    if !is_limited
        && args.script.is_none()
        && let [first, second, ..] = args.command.as_slice()
        && (BEHIND_A_PATTERN.contains(&second.as_str()) || first == "all" && second.starts_with('-'))
        && (fleet.inventory.host(first).is_some() || fleet.inventory.group(first).is_some())
    {
        let message = format!("'{first}' is of the inventory, and would be run as a program on all hosts");
        let hint =
            format!("'osier exec -l {first} -- COMMAND' runs a command there, and '-l all' the program everywhere");
        return Err(Failure::usage(message).hint(hint));
    }
    let script = args.script.as_deref().map(Script::read).transpose()?;
    let job = match (script, args.command.as_slice()) {
        (Some(script), words) => Job::Script(script, words.to_vec()),
        (None, [line]) => Job::Command(Command::shell(line, [""; 0])),
        (None, words) => Job::Command(Command::new(words.iter().cloned())),
    };
    let work = Work { job, root: args.root, batches: args.batches, ordered: args.ordered };
    everywhere(fleet, &work, ui).await
}

/// Restarts Docker on all hosts.
pub async fn run_restart_docker(args: RestartDockerArgs, ui: &Ui) -> Result<(), Failure> {
    let fleet = Fleet::read(&args.hosts, ui)?;
    fleet.ask(args.yes, "Restart Docker, and with it all containers,", ui)?;
    let job = Job::Command(Command::new(["systemctl", "restart", "docker"]));
    let work = Work { job, root: true, batches: args.batches, ordered: false };
    everywhere(fleet, &work, ui).await
}

/// A script of this machine.
struct Script {
    contents: Vec<u8>,
    /// What nobody can have foreseen of its name.
    token: String,
}

impl Script {
    fn read(path: &Path) -> Result<Self, Failure> {
        let contents = std::fs::read(path).map_err(|e| {
            let error = anyhow::Error::new(e).context(format!("read the script '{}'", path.display()));
            Failure::new(ExitKind::Usage, error)
        })?;
        Ok(Self { contents, token: hex::encode(rand::random::<[u8; 16]>()) })
    }

    /// Where it lies on a host while it runs. Several names of an inventory may mean one host.
    fn path(&self, place: usize) -> String {
        format!("/tmp/osier-script-{}-{place}", self.token)
    }

    /// Puts it there for its owner alone, runs it, and takes it away again.
    fn command(&self, place: usize, args: &[String]) -> Command<'_> {
        let interpreter = match start(&self.contents) {
            Start::Interpreter(words) => words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" "),
            Start::Itself => String::new(),
        };
        let text = format!(
            r#"u=$(umask); umask 077; set -C; t=$1; shift
trap 'rm -f -- "$t"' EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
cat >"$t" && chmod 700 "$t" || exit 126
umask "$u"
{interpreter} "$t" "$@" </dev/null"#
        );
        let args = std::iter::once(self.path(place)).chain(args.iter().cloned());
        Command::shell(&text, args).stdin(&self.contents)
    }

    /// Takes away what a script that had to be ended by force leaves.
    fn tidy(&self, place: usize) -> Command<'static> {
        Command::new(["rm", "-f", "--", &self.path(place)])
    }
}

/// What to do on a host.
enum Job {
    Command(Command<'static>),
    Script(Script, Vec<String>),
}

/// What to do on the hosts, and how.
struct Work {
    job: Job,
    root: bool,
    batches: BatchArgs,
    ordered: bool,
}

/// Lines that are kept.
type Lines = Vec<(Stream, String)>;

/// What a command did on one host.
struct Ran {
    result: Result<i32, Failure>,
    lines: Lines,
}

async fn everywhere(fleet: Fleet, work: &Work, ui: &Ui) -> Result<(), Failure> {
    let (stop, width, hosts) = (Stop::listen()?, fleet.width(), fleet.remotes.len());
    let mut ran: Vec<Ran> = Vec::new();
    for batch in batches(work.batches.serial.as_ref(), hosts) {
        let remotes = &fleet.remotes[batch.clone()];
        let shown = Shown::new(ui, remotes, width, work.ordered);
        let of_batch = on_each(remotes.iter().enumerate(), fleet.forks, async |(at, remote): (usize, &Remote)| {
            let one =
                on_one((batch.start + at, remote), work, &stop, |stream, line| shown.line(at, stream, line)).await;
            shown.end(at);
            one
        })
        .await;
        let failed = of_batch.iter().filter(|result| !matches!(result, Ok(0))).count();
        ran.extend(of_batch.into_iter().zip(shown.lines()).map(|(result, lines)| Ran { result, lines }));
        if stop.has_come() || !goes_on(batch.len(), failed) {
            break;
        }
    }
    let names: Vec<String> = fleet.remotes.iter().map(|r| r.name.clone()).collect();
    remote::close(fleet.remotes).await;
    report(ui, &names, ran)
}

/// Runs it on one host, to its end or until it is stopped.
async fn on_one(
    (place, remote): (usize, &Remote),
    work: &Work,
    stop: &Stop,
    on_line: impl FnMut(Stream, &str),
) -> Result<i32, Failure> {
    if stop.has_come() {
        return Err(Stop::failure());
    }
    // The command's time begins when there is a way to the host.
    stop.or(async { remote.ssh.reach().await.map_err(remote::failure) }).await?;
    let late = async {
        match work.batches.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let end = async {
        tokio::select! { () = stop.wait() => {}, () = late => {} }
    };
    let command = match &work.job {
        Job::Command(command) => command.clone(),
        Job::Script(script, args) => script.command(place, args),
    };
    let command = as_wished(command, work.root, remote);
    if let Some(code) = remote.ssh.stream_until(&command, end, on_line).await.map_err(remote::failure)? {
        return Ok(code);
    }
    if let Job::Script(script, _) = &work.job {
        let tidy = as_wished(script.tidy(place), work.root, remote);
        let _ = tokio::time::timeout(TIDY, remote.ssh.run(&tidy)).await;
    }
    if stop.has_come() {
        return Err(Stop::failure());
    }
    let seconds = work.batches.timeout.unwrap_or_default().as_secs();
    let text = format!("the command was ended on '{}' after {seconds} s", remote.name);
    Err(Failure::message_only(ExitKind::SomeHostsFailed, text).hint("'--timeout' says how long it may take"))
}

/// The output of the hosts of one batch on its way to the terminal.
struct Shown<'a> {
    ui: &'a Ui,
    remotes: &'a [Remote],
    width: usize,
    ordered: bool,
    state: Mutex<(Turns, Vec<Lines>)>,
}

impl<'a> Shown<'a> {
    fn new(ui: &'a Ui, remotes: &'a [Remote], width: usize, ordered: bool) -> Self {
        let state = Mutex::new((Turns::new(remotes.len()), vec![Vec::new(); remotes.len()]));
        Self { ui, remotes, width, ordered, state }
    }

    fn line(&self, at: usize, stream: Stream, line: &str) {
        if self.ordered || self.ui.is_json() {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.1[at].push((stream, line.to_owned()));
        } else {
            self.print(at, stream, line);
        }
    }

    /// A host has nothing more to say.
    fn end(&self, at: usize) {
        if !self.ordered || self.ui.is_json() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for turn in state.0.end(at) {
            for (stream, line) in std::mem::take(&mut state.1[turn]) {
                self.print(turn, stream, &line);
            }
        }
    }

    fn print(&self, at: usize, stream: Stream, line: &str) {
        let (name, width) = (&self.remotes[at].name, self.width);
        match stream {
            Stream::Out => self.ui.line(format_args!("{name:width$} | {line}")),
            Stream::Err => self.ui.note(format_args!("{name:width$} ! {line}")),
        }
    }

    /// What was kept of each host.
    fn lines(self) -> Vec<Lines> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).1
    }
}

fn report(ui: &Ui, names: &[String], ran: Vec<Ran>) -> Result<(), Failure> {
    if ui.is_json() {
        let row = |(at, host): (usize, &String)| match ran.get(at) {
            None => json!({ "host": host, "skipped": true }),
            Some(Ran { result: Ok(code), lines }) => {
                let of = |wanted| lines.iter().filter(|(s, _)| *s == wanted).map(|(_, l)| l).collect::<Vec<_>>();
                json!({ "host": host, "code": code, "stdout": of(Stream::Out), "stderr": of(Stream::Err) })
            }
            Some(Ran { result: Err(f), .. }) => {
                json!({ "host": host, "error": f.message(), "causes": f.causes(), "hints": f.hints() })
            }
        };
        ui.json(&json!({ "hosts": names.iter().enumerate().map(row).collect::<Vec<_>>() }));
    }
    for (name, ran) in names.iter().zip(&ran) {
        match &ran.result {
            Ok(code) if *code != 0 && !ui.is_json() => ui.note(format_args!("{name}: {}", ended(*code))),
            Ok(_) => {}
            Err(failure) => ui.failure(failure),
        }
    }
    let mut ran = ran.into_iter();
    let outcome = |name: &String| (name.clone(), ran.next().map_or(Outcome::Skipped, |r| outcome(r.result)));
    recap::verdict(&names.iter().map(outcome).collect::<Vec<_>>())
}

/// How a command ended, in words.
fn ended(code: i32) -> String {
    format!("the command ended with code {code}")
}

fn outcome(result: Result<i32, Failure>) -> Outcome {
    match result {
        Ok(0) => Outcome::Changed(1),
        Ok(code) => Outcome::Failed(Failure::message_only(ExitKind::SomeHostsFailed, ended(code))),
        Err(failure) => Outcome::Failed(failure),
    }
}
