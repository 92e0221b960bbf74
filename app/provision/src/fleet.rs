//! Commands on all hosts at once: exec, restart-docker, remove-containers, remove-images.
//!
//! Must not know what a command does. Output comes line by line behind the host's name while the commands run.

use crate::{
    args::{ExecArgs, HostArgs, RemoveContainersArgs, RemoveImagesArgs, RestartDockerArgs},
    inventory,
    recap::{self, Outcome},
    remote::{self, on_each},
};
use osier_ssh::{Command, Stream};
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::json;

/// Runs a command on all hosts.
pub async fn run_exec(args: ExecArgs, ui: &Ui) -> Result<(), Failure> {
    let command = match args.command.as_slice() {
        [line] => Command::shell(line, [""; 0]),
        words => Command::new(words.iter().cloned()),
    };
    everywhere(&args.hosts, if args.root { command.as_root() } else { command }, ui).await
}

/// Restarts Docker on all hosts.
pub async fn run_restart_docker(args: RestartDockerArgs, ui: &Ui) -> Result<(), Failure> {
    ask(&args.hosts, args.yes, "Restart Docker, and with it all containers,", ui)?;
    everywhere(&args.hosts, Command::new(["systemctl", "restart", "docker"]).as_root(), ui).await
}

/// Removes all containers on all hosts.
pub async fn run_remove_containers(args: RemoveContainersArgs, ui: &Ui) -> Result<(), Failure> {
    ask(&args.hosts, args.yes, "Remove all containers, running ones too,", ui)?;
    let script = "docker ps -qa | xargs -r docker rm -f";
    everywhere(&args.hosts, Command::shell(script, [""; 0]).as_root(), ui).await
}

/// Removes all images on all hosts.
pub async fn run_remove_images(args: RemoveImagesArgs, ui: &Ui) -> Result<(), Failure> {
    ask(&args.hosts, args.yes, "Remove all images", ui)?;
    let script = "docker images -qa | sort -u | xargs -r docker rmi -f";
    everywhere(&args.hosts, Command::shell(script, [""; 0]).as_root(), ui).await
}

fn ask(args: &HostArgs, yes: bool, what: &str, ui: &Ui) -> Result<(), Failure> {
    let inventory = inventory::read(&args.from, ui)?;
    let hosts = inventory::select(&inventory, args.limit.as_deref())?;
    let names = hosts.iter().map(|h| h.name()).collect::<Vec<_>>().join(", ");
    if yes || ui.confirm(&format!("{what} on {names}?")) {
        return Ok(());
    }
    Err(Failure::usage("do nothing without a yes").hint("'--yes' says so beforehand"))
}

/// What a command did on one host.
struct Ran {
    host: String,
    result: Result<i32, Failure>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

async fn everywhere(args: &HostArgs, command: Command<'_>, ui: &Ui) -> Result<(), Failure> {
    let inventory = inventory::read(&args.from, ui)?;
    let hosts = inventory::select(&inventory, args.limit.as_deref())?;
    let remotes = remote::remotes(&hosts)?;
    let width = remotes.iter().map(|r| r.name.len()).max().unwrap_or(0);
    let ran = on_each(&remotes, args.forks, async |remote| {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let on_line = |stream: Stream, line: &str| match (ui.is_json(), stream) {
            (true, Stream::Out) => stdout.push(line.to_owned()),
            (true, Stream::Err) => stderr.push(line.to_owned()),
            (false, Stream::Out) => ui.line(format_args!("{:width$} | {line}", remote.name)),
            (false, Stream::Err) => ui.note(format_args!("{:width$} ! {line}", remote.name)),
        };
        let result = remote.ssh.stream(&command, on_line).await.map_err(remote::failure);
        Ran { host: remote.name.clone(), result, stdout, stderr }
    })
    .await;
    remote::close(remotes).await;
    report(ui, ran)
}

fn report(ui: &Ui, ran: Vec<Ran>) -> Result<(), Failure> {
    if ui.is_json() {
        let row = |r: &Ran| match &r.result {
            Ok(code) => json!({ "host": r.host, "code": code, "stdout": r.stdout, "stderr": r.stderr }),
            Err(f) => json!({ "host": r.host, "error": f.message(), "causes": f.causes(), "hints": f.hints() }),
        };
        ui.json(&json!({ "hosts": ran.iter().map(row).collect::<Vec<_>>() }));
    }
    for failure in ran.iter().filter_map(|r| r.result.as_ref().err()) {
        ui.failure(failure);
    }
    let outcomes: Vec<(String, Outcome)> = ran.into_iter().map(|r| (r.host, outcome(r.result))).collect();
    recap::verdict(&outcomes)
}

fn outcome(result: Result<i32, Failure>) -> Outcome {
    match result {
        Ok(0) => Outcome::Changed(1),
        Ok(code) => Outcome::Failed(Failure::message_only(
            ExitKind::SomeHostsFailed,
            format!("the command ended with code {code}"),
        )),
        Err(failure) => Outcome::Failed(failure),
    }
}
