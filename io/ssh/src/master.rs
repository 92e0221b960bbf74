//! The master connection of one host: found, made, made again where the other side takes no more at once, and asked.
//!
//! Must not know what is run over it.

use crate::{Error, Host, Target, connections::answers, error::is_turned_away};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// Seconds to wait for a host that does not answer.
const CONNECT_TIMEOUT: u32 = 10;
/// How long the master connection may take to say that it stands.
const CHECK: Duration = Duration::from_secs(5);
/// How long to wait, about, before a host that turned a connection away is asked again; the double each further time.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// The longest of these waits.
const LAST_WAIT: Duration = Duration::from_millis(2400);
/// How often it is asked again.
const TRIES: u32 = 6;

/// What is known of the connection that somebody else left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: it may be dead.
    Untried,
    /// A command began over it.
    Alive,
    /// No command did.
    Dead,
}

/// The connection that a command is to run over.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) socket: PathBuf,
    /// It may be dead, and nobody has noticed yet.
    pub(crate) is_doubtful: bool,
}

impl Host {
    /// The master connection: this process's own, else one that was found, else a new one.
    pub(crate) async fn connect(&self) -> Result<Link, Error> {
        let found = self.found.lock().await;
        let own = Link { socket: self.place.own.clone(), is_doubtful: false };
        if own.socket.exists() {
            return Ok(own);
        }
        let shared = self.shared.get_or_init(|| self.find_shared()).await.as_ref();
        if let Some(shared) = shared.filter(|shared| *found != Found::Dead && answers(shared)) {
            return Ok(Link { socket: shared.clone(), is_doubtful: *found == Found::Untried });
        }
        let (mut wait, mut tries) = (FIRST_WAIT, 0);
        while let Err(mut stderr) = self.make_master().await? {
            if tries == 0 && is_turned_away(&stderr) {
                stderr = self.ask_plainly().await?.unwrap_or(stderr);
            }
            if tries == TRIES || !is_turned_away(&stderr) {
                return Err(self.unreachable(&stderr));
            }
            tracing::debug!(host = self.name, "turned away before a word was said; trying again");
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.5))).await;
            (wait, tries) = (LAST_WAIT.min(wait * 2), tries + 1);
        }
        if let Some(shared) = shared
            && let Err(error) = self.place.share(shared)
        {
            tracing::debug!(host = self.name, %error, "the connection cannot be kept for others");
        }
        drop(found);
        Ok(own)
    }

    /// Makes this process's own; where that fails, what `ssh` said.
    async fn make_master(&self) -> Result<Result<(), Vec<u8>>, Error> {
        // A file, not a pipe: the master goes on in the background, and old versions keep their standard error open.
        let log = self.place.own.with_extension("log");
        let file = std::fs::File::create(&log).map_err(Error::Folder)?;
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-N", "-f", "-o"]).arg(format!("ControlPersist={}", self.place.persist));
        ssh.args(arguments(&self.target, &self.place.own, "ControlMaster=yes")).arg("--").arg(&self.target.host);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).env("LC_ALL", "C").kill_on_drop(true);
        let status = ssh.status().await.map_err(Error::Program)?;
        let stderr = std::fs::read(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        Ok(if status.success() { Ok(()) } else { Err(stderr) })
    }

    /// What `ssh` says when it is to log in and no more; nothing where it can. A master keeps to itself what a host on the way
    /// said, and then a refusal there looks as if somebody had too much to do.
    async fn ask_plainly(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-o", "ControlPersist=no"]).args(arguments(&self.target, Path::new("none"), "ControlMaster=no"));
        ssh.arg("--").arg(&self.target.host).arg("true");
        ssh.stdin(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
        let output = ssh.output().await.map_err(Error::Program)?;
        Ok((!output.status.success()).then_some(output.stderr))
    }

    /// Where others leave their connection to whatever `ssh` takes this target for; nowhere where it does not say.
    async fn find_shared(&self) -> Option<PathBuf> {
        if !self.place.is_kept() {
            return None;
        }
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.arg("-G")
            .args(arguments(&self.target, Path::new("none"), "ControlMaster=no"))
            .arg("--")
            .arg(&self.target.host);
        ssh.stdin(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
        let described = ssh.output().await.ok().filter(|output| output.status.success())?;
        self.place.shared(&described.stdout)
    }

    /// Takes note of whether a command began over a connection that was found.
    pub(crate) async fn note_found(&self, alive: bool) {
        *self.found.lock().await = if alive { Found::Alive } else { Found::Dead };
    }

    /// Whether the master connection stands. A master that is about to end is waited for: it answers no more.
    pub(crate) async fn has_master(&self) -> bool {
        let own = &self.place.own;
        let shared = self.shared.get().and_then(Option::as_ref);
        let socket = shared.filter(|_| !own.exists()).unwrap_or(own);
        let mut check = tokio::process::Command::from(self.master_command(socket, "check"));
        let asked = tokio::time::timeout(CHECK, check.kill_on_drop(true).status()).await;
        matches!(asked, Ok(Ok(status)) if status.success())
    }

    /// Says something to the master connection.
    pub(crate) fn master_command(&self, socket: &Path, what: &str) -> std::process::Command {
        let mut ssh = std::process::Command::new("ssh");
        ssh.arg("-S").arg(socket).args(["-O", what, "--"]).arg(&self.target.host);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ssh
    }
}

/// The arguments of every call of `ssh`, up to the host's name. The first value of an option wins, so ours that must hold
/// come before the user's, and those that are only defaults come after.
pub(crate) fn arguments(target: &Target, socket: &Path, master: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let option = |args: &mut Vec<OsString>, text: &str| args.extend(["-o".into(), text.into()]);
    args.extend(["-S".into(), socket.into(), "-T".into()]);
    option(&mut args, master);
    option(&mut args, "BatchMode=yes");
    if let Some(user) = &target.user {
        args.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = target.port {
        args.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(key) = &target.key {
        args.extend(["-i".into(), key.into()]);
    }
    args.extend(target.args.iter().map(Into::into));
    option(&mut args, &format!("ConnectTimeout={CONNECT_TIMEOUT}"));
    option(&mut args, "ServerAliveInterval=15");
    args
}
