//! Other programs as clients of a host: Docker's command line, compose, Python.

use crate::{
    failure::{Failure, holds},
    target::Target,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program with the host in its environment and a home of its own.
pub(crate) struct Program {
    path: PathBuf,
    environment: Vec<(&'static str, String)>,
    home: tempfile::TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The first program of this name on the path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file())
}

impl Program {
    /// A program pointed at the target's host.
    pub(crate) fn new(target: &Target, path: PathBuf) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("osier-conformance-").tempdir();
        let home = home.map_err(|e| Failure::broken("make a folder for a client", e))?;
        Ok(Self { path, environment: target.host().environment(), home })
    }

    /// As [`Self::new`], of the first one on the path.
    pub(crate) fn named(target: &Target, name: &str) -> Result<Self, Failure> {
        Self::new(target, find(name).ok_or_else(|| Failure::Absent(name.to_owned()))?)
    }

    /// A folder that goes away with the scenario.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into that folder and gives its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<String, Failure> {
        let path = self.home().join(name);
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(&path, content)
        };
        write().map_err(|e| Failure::broken(format_args!("write '{}'", path.display()), e))?;
        Ok(path.display().to_string())
    }

    /// Sets a variable for the commands that follow.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    /// Runs a command that must succeed and gives what it printed.
    pub(crate) async fn ok(&self, args: &[&str]) -> Result<String, Failure> {
        let said = self.say(args, b"").await?;
        holds(format_args!("{} succeeds", said.command), said.code == 0, &said)?;
        Ok(said.out.trim_end().to_owned())
    }

    /// Runs a command with this input, however it ends.
    pub(crate) async fn say(&self, args: &[&str], input: &[u8]) -> Result<Said, Failure> {
        let mut command = Command::new(&self.path);
        command.args(args);
        self.finish(command, args, input).await
    }

    /// Runs a command on a terminal.
    pub(crate) async fn on_terminal(&self, args: &[&str]) -> Result<Said, Failure> {
        let script = find("script").ok_or_else(|| Failure::Absent("script".to_owned()))?;
        let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
        let words: Vec<String> = args.iter().map(|a| quoted(a)).collect();
        let mut command = Command::new(script);
        command.args(["-qec", &format!("{} {}", self.path.display(), words.join(" ")), "/dev/null"]);
        self.finish(command, args, b"").await
    }

    async fn finish(&self, mut command: Command, args: &[&str], input: &[u8]) -> Result<Said, Failure> {
        let shown = format!("{} {}", self.path.display(), args.join(" "));
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"] {
            command.env_remove(name);
        }
        command.env("DOCKER_CONFIG", self.home().join("docker")).env("HOME", self.home()).current_dir(self.home());
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let running = async {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A command that reads nothing may be gone already.
                let _ = stdin.write_all(input).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(PATIENCE, running).await;
        let output =
            output.map_err(|_| Failure::Late { what: format!("the end of {shown}"), seconds: PATIENCE.as_secs() })?;
        let output = output.map_err(|e| Failure::broken(format_args!("run {shown}"), e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
        let code = output.status.code().unwrap_or(-1);
        Ok(Said { command: shown, code, out: text(&output.stdout), err: text(&output.stderr) })
    }
}
