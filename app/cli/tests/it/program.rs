//! Runs the binary under any of its names, with an empty environment, and asks managers over their unix sockets.

use crate::wait::{self, PATIENCE, until};
use http::{Method, Request, StatusCode};
use osier_engine::{Client, body::collect, empty};
use serde_json::Value;
use std::{
    ffi::OsStr,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// A folder with the binary under its names.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A running program; it is killed when this is dropped.
pub(crate) struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("osier-cli-").tempdir().unwrap();
        for name in ["osier", "swarm", "docker-swarm", "weave"] {
            symlink(env!("CARGO_BIN_EXE_osier"), folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, line: &str, environment: &[(&str, &str)]) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(self.path(words.next().unwrap()));
        command.args(words).env_clear().env("HOME", self.folder.path()).stdin(Stdio::null());
        command.envs(environment.iter().copied()).current_dir(self.folder.path());
        command
    }

    /// Runs a command line to its end.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_with(line, &[])
    }

    /// As [`Self::run`], with variables.
    pub(crate) fn run_with(&self, line: &str, environment: &[(&str, &str)]) -> Said {
        let output = self.command(line, environment).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// As [`Self::run`], with words that may have blanks in them.
    pub(crate) fn run_words(&self, words: &[&str]) -> Said {
        let output = self.command("osier", &[]).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Starts a command line that runs until it is stopped.
    pub(crate) fn start(&self, line: &str) -> Daemon {
        static STARTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = self.path(&format!("log-{number}"));
        let file = std::fs::File::create(&log).unwrap();
        let streams = (file.try_clone().unwrap(), file);
        let process = self.command(line, &[]).stdout(streams.0).stderr(streams.1).spawn().unwrap();
        Daemon { process, log }
    }

    /// Starts a manager with a unix socket, once it answers.
    pub(crate) async fn manager(&self, socket: &str, line: &str) -> (Daemon, Client) {
        let path = self.path(socket);
        let daemon = self.start(&format!("{line} -H unix://{}", path.display()));
        let client = Client::unix(&path);
        until(&format!("the manager answers: {}", daemon.log()), async || {
            ask(&client, Method::GET, "/_ping").await.is_some()
        })
        .await;
        (daemon, client)
    }
}

impl Daemon {
    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let ended = wait::end(&mut self.process, PATIENCE);
        ended.unwrap_or_else(|| panic!("it does not end: {}", self.log()))
    }

    /// Asks it to stop and waits until it has; it must do so by itself.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let status = self.end();
        assert!(status.success(), "{status:?}, signal {:?}: {}", status.signal(), self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes one request; `None` while nobody answers.
pub(crate) async fn ask(client: &Client, method: Method, path: &str) -> Option<(StatusCode, http::HeaderMap, Vec<u8>)> {
    let request = Request::builder().method(method).uri(path).body(empty()).unwrap();
    let response = client.send(request).await.ok()?;
    let (parts, body) = response.into_parts();
    Some((parts.status, parts.headers, collect(body, 1 << 20).await.ok()?.to_vec()))
}

/// The rows that `docker info` shows, without the tree that is drawn before them.
pub(crate) async fn rows(client: &Client) -> Vec<(String, String)> {
    let (_, _, body) = ask(client, Method::GET, "/info").await.unwrap();
    let info: Value = serde_json::from_slice(&body).unwrap();
    let rows: Vec<(String, String)> = serde_json::from_value(info["SystemStatus"].clone()).unwrap();
    rows.into_iter().map(|(key, value)| (key.trim_start_matches([' ', '└']).to_owned(), value)).collect()
}

/// The value of one row of `docker info`.
pub(crate) async fn row(client: &Client, key: &str) -> Option<String> {
    rows(client).await.into_iter().find(|(k, _)| k == key).map(|(_, value)| value)
}

/// An address of this machine at which nobody listens.
pub(crate) fn free_address() -> String {
    format!("127.0.0.1:{}", osier_ports::free())
}

/// Writes a file and gives its path as text.
pub(crate) fn file(folder: &Path, name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, contents).unwrap();
    OsStr::to_str(path.as_os_str()).unwrap().to_owned()
}
