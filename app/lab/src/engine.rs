//! The engine that a lab's nodes run on: the one that answers on the usual socket, or one of our own, started for the
//! first lab and stopped after the last.
//!
//! Must not know what runs on it. Our own engine keeps everything under `/run/osier-lab` and `/var/lib/osier-lab`, has
//! no bridge of its own, touches no firewall, and puts its containers below the control group `/osier-lab`; so what
//! it leaves can be told apart and removed. Its images outlive it, which is why a second lab is quick.

use crate::{
    cgroup,
    command::command,
    docker::{Docker, Kind},
    firewall, wait,
};
use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd::Pid};
use osier_ui::Progress;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

/// Where an engine that the host's owner runs answers.
const USUAL_SOCKET: &str = "/var/run/docker.sock";
/// Where ours answers.
const OUR_SOCKET: &str = "/run/osier-lab/docker.sock";
const RUN_FOLDER: &str = "/run/osier-lab";
/// Also where root file systems are built before they become images.
pub(crate) const DATA_FOLDER: &str = "/var/lib/osier-lab";
const CONFIG: &str = "/run/osier-lab/daemon.json";
const PID_FILE: &str = "/run/osier-lab/docker.pid";
const CONTAINERD_PID_FILE: &str = "/run/osier-lab/exec/containerd/containerd.pid";
const CONTAINERD_CONFIG: &str = "/run/osier-lab/exec/containerd/containerd.toml";
const RECORD: &str = "/run/osier-lab/engine.json";
const LOG: &str = "/var/lib/osier-lab/engine.log";
const CGROUP: &str = "osier-lab";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// How the host was before our engine came.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    forwarding: String,
}

/// The engine for a new lab: the usual one, or ours, started if need be.
pub(crate) async fn for_new_lab(progress: &Progress) -> Result<Docker> {
    if let Some(usual) = usual().await {
        return Ok(usual);
    }
    let ours = Docker::at(Path::new(OUR_SOCKET));
    start(&ours, progress).await.context("start an engine")?;
    Ok(ours)
}

/// The engine that the host's owner runs, if it answers.
pub(crate) async fn usual() -> Option<Docker> {
    let usual = Docker::at(Path::new(USUAL_SOCKET));
    usual.answers().await.then_some(usual)
}

/// The engine a lab was made on, started again if it is ours and gone.
pub(crate) async fn reopen(socket: &Path, progress: &Progress) -> Result<Docker> {
    let docker = Docker::at(socket);
    if is_ours(&docker) {
        start(&docker, progress).await.context("start the lab's engine again")?;
    } else if !docker.answers().await {
        bail!("reach the engine on '{}': it does not answer", socket.display());
    }
    Ok(docker)
}

/// The engines that may hold something of a lab whose record is lost: the usual one if it answers, and ours if there
/// is one, started again if need be.
pub(crate) async fn candidates(progress: &Progress) -> Result<Vec<Docker>> {
    let mut found: Vec<Docker> = usual().await.into_iter().collect();
    if Path::new(RUN_FOLDER).exists() {
        found.push(reopen(Path::new(OUR_SOCKET), progress).await?);
    }
    Ok(found)
}

/// Whether this engine is one that we start and stop.
pub(crate) fn is_ours(docker: &Docker) -> bool {
    docker.socket() == Path::new(OUR_SOCKET)
}

async fn start(docker: &Docker, progress: &Progress) -> Result<()> {
    if docker.answers().await {
        return Ok(());
    }
    if let Some(pid) = running() {
        bail!("reach our engine on '{OUR_SOCKET}': process {pid} runs and does not answer");
    }
    progress.doing("engine", "starting one, as none answers");
    end_former_containerd().await.context("end what a former engine left running")?;
    fs::create_dir_all(RUN_FOLDER).with_context(|| format!("create the folder '{RUN_FOLDER}'"))?;
    fs::create_dir_all(DATA_FOLDER).with_context(|| format!("create the folder '{DATA_FOLDER}'"))?;
    if osier_store::read(Path::new(RECORD))?.is_none() {
        let forwarding = fs::read_to_string(FORWARDING).with_context(|| format!("read '{FORWARDING}'"))?;
        osier_store::write_json(Path::new(RECORD), &Before { forwarding }, osier_store::PUBLIC)?;
    }
    fs::write(FORWARDING, "1").with_context(|| format!("write '{FORWARDING}'"))?;
    osier_store::write_json(Path::new(CONFIG), &config(), osier_store::PUBLIC)?;
    // One left by an engine that was killed may carry the number of a process of today.
    osier_store::remove(Path::new(PID_FILE))?;

    let log = File::create(LOG).with_context(|| format!("create '{LOG}'"))?;
    let mut dockerd = command("setsid");
    dockerd.args(["dockerd", "--config-file", CONFIG, "--pidfile", PID_FILE]);
    // Where a containerd runs already it is shared, and the two engines must not see each other's containers there.
    dockerd.args(["--containerd-namespace", "osier-lab", "--containerd-plugins-namespace", "osier-lab-plugins"]);
    dockerd.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
    let mut child = dockerd.spawn().context("start 'dockerd'")?;
    loop_until_answers(docker, &mut child).await.with_context(|| format!("read '{LOG}' for details"))?;
    progress.done("engine", format!("started on {OUR_SOCKET}"));
    Ok(())
}

async fn loop_until_answers(docker: &Docker, child: &mut tokio::process::Child) -> Result<()> {
    let child = tokio::sync::Mutex::new(child);
    let ended = wait::until("the engine to answer", Duration::from_secs(60), || async {
        if let Ok(Some(status)) = child.lock().await.try_wait() {
            return Ok(Some(status));
        }
        if docker.answers().await { Ok(None) } else { Err(format!("nothing answers on {OUR_SOCKET}")) }
    });
    match ended.await? {
        None => Ok(()),
        Some(status) => {
            let log = fs::read_to_string(LOG).unwrap_or_default();
            bail!("dockerd ended ({status}): {}", log.lines().next_back().unwrap_or("it said nothing"))
        }
    }
}

fn config() -> serde_json::Value {
    serde_json::json!({
        "hosts": [format!("unix://{OUR_SOCKET}")],
        "data-root": format!("{DATA_FOLDER}/docker"),
        "exec-root": format!("{RUN_FOLDER}/exec"),
        "bridge": "none",
        "iptables": false,
        "ip6tables": false,
        "ip-forward": false,
        "cgroup-parent": format!("/{CGROUP}"),
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    })
}

/// Stops our engine if no lab is left on it, and removes what it leaves; with `purge` its images too.
///
/// Goes to the end whatever happens, and returns every error.
pub(crate) async fn stop_if_idle(purge: bool, progress: &Progress) -> Vec<anyhow::Error> {
    let docker = Docker::at(Path::new(OUR_SOCKET));
    let mut errors = Vec::new();
    let images = Path::new(DATA_FOLDER).join("docker");
    if Path::new(RUN_FOLDER).exists() || (purge && images.exists()) {
        // One that died may have left nodes running; only an engine can find and end them.
        match start(&docker, progress).await.context("look for labs on our engine") {
            Err(e) if running().is_some() => return vec![e],
            Err(e) => errors.push(e),
            Ok(()) => match is_idle(&docker).await.context("ask our engine for its labs") {
                Ok(true) => {}
                Ok(false) => return errors,
                Err(e) => return vec![e],
            },
        }
        progress.doing("engine", "stopping ours, as no lab is left");
        let steps = [
            stop().await.context("stop our engine"),
            unmount_below(RUN_FOLDER),
            unmount_below(DATA_FOLDER),
            cgroup::remove(CGROUP).await.context("remove the control groups of our engine"),
            restore_forwarding().context("restore IP forwarding"),
            fs::remove_dir_all(RUN_FOLDER).with_context(|| format!("remove the folder '{RUN_FOLDER}'")),
        ];
        errors.extend(steps.into_iter().filter_map(Result::err));
        firewall::sweep().await;
        progress.done("engine", "stopped");
    }
    if purge
        && let Err(e) = fs::remove_dir_all(DATA_FOLDER)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        errors.push(anyhow::Error::new(e).context(format!("remove the folder '{DATA_FOLDER}'")));
    }
    errors
}

async fn is_idle(docker: &Docker) -> Result<bool> {
    for kind in [Kind::Container, Kind::Volume, Kind::Network] {
        if !docker.of_lab(kind, None).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn stop() -> Result<()> {
    let Some(pid) = running() else { return Ok(()) };
    nix::sys::signal::kill(pid, Signal::SIGTERM).with_context(|| format!("end process {pid}"))?;
    ended("dockerd", Duration::from_secs(30), running).await
}

/// An engine that was killed takes its containerd along, but not at once; a new one would trust the dying, and even
/// the dead that nobody has waited for.
async fn end_former_containerd() -> Result<()> {
    ended("containerd", Duration::from_secs(5), || process(CONTAINERD_PID_FILE, CONTAINERD_CONFIG)).await?;
    Ok(osier_store::remove(Path::new(CONTAINERD_PID_FILE))?)
}

/// Waits until the process is gone, and kills it if it does not go.
async fn ended(what: &str, limit: Duration, find: impl Fn() -> Option<Pid>) -> Result<()> {
    let gone = || async { find().map_or(Ok(()), |pid| Err(format!("process {pid} still runs"))) };
    if wait::until(format!("{what} to end"), limit, gone).await.is_err()
        && let Some(pid) = find()
    {
        nix::sys::signal::kill(pid, Signal::SIGKILL).with_context(|| format!("kill process {pid}"))?;
        wait::until(format!("{what} to end when killed"), Duration::from_secs(10), gone).await?;
    }
    Ok(())
}

/// The process of our engine.
fn running() -> Option<Pid> {
    process(PID_FILE, CONFIG)
}

/// The process whose number is in `pid_file`, if it is the one with `word` on its command line, which no other has.
fn process(pid_file: &str, word: &str) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = command_line.split(|byte| *byte == 0).any(|given| given == word.as_bytes());
    (pid > 1 && ours).then(|| Pid::from_raw(pid))
}

fn unmount_below(folder: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read '/proc/self/mounts'")?;
    let inside = |path: &&str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    for path in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(inside) {
        let lazily = nix::mount::MntFlags::MNT_DETACH;
        nix::mount::umount2(path, lazily).with_context(|| format!("unmount '{path}'"))?;
    }
    Ok(())
}

/// Gives forwarding its old value, unless another engine on this host has come to rely on it.
fn restore_forwarding() -> Result<()> {
    let before: Option<Before> = osier_store::read_json(Path::new(RECORD))?;
    match before {
        Some(before) if !another_engine_runs() => {
            fs::write(FORWARDING, before.forwarding).with_context(|| format!("write '{FORWARDING}'"))
        }
        _ => Ok(()),
    }
}

fn another_engine_runs() -> bool {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let processes =
        fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let here = network("self");
    processes
        .filter(|process| process.bytes().all(|b| b.is_ascii_digit()))
        .filter(|process| {
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim() == "dockerd")
        })
        .any(|process| network(&process) == here)
}
