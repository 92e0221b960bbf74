//! One `ssh` that holds a port of this machine open: its start, the moment from which the port leads somewhere, its end.
//!
//! Must not know whether it is to be started again. It is a connection of its own, whatever the user's configuration says of
//! shared ones, in a process group of its own, so that a terminal's Ctrl-C does not reach it. It stands once its control
//! socket is there: `ssh` makes that after logging in and opening the port.

use crate::{
    Connections, Error, Said, Target, Unreachable,
    connections::Folder,
    error::{is_port_refusal, is_settings_refusal},
    lines::Splitter,
    master::arguments,
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr},
    time::{Instant, sleep, timeout, timeout_at},
};

/// How long a connection may take until it stands, hosts on the way included.
const STAND: Duration = Duration::from_secs(60);
/// How often the control socket is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long `ssh` may take to end when asked to.
const END: Duration = Duration::from_secs(5);
/// How long the last words of an `ssh` that ended are waited for: others may hold its standard error open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Lines that are remembered for the reason of an end.
const REMEMBERED: usize = 20;

/// Which port of 127.0.0.1 is held open, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// A SOCKS proxy (versions 4 and 5): each connection leads where it asks to be led, from the host.
    Socks {
        /// The port.
        port: u16,
    },
    /// To one place, from the host.
    Place {
        /// The port.
        port: u16,
        /// Where it leads.
        to: SocketAddr,
    },
}

/// An `ssh` that holds a port open; it ends with this value.
#[derive(Debug)]
pub struct Forward {
    name: String,
    port: u16,
    child: Child,
    stderr: ChildStderr,
    lines: Splitter,
    said: VecDeque<String>,
    stood: bool,
    socket: PathBuf,
    _folder: Arc<Folder>,
}

impl Forwarding {
    /// The port of this machine.
    pub fn port(self) -> u16 {
        match self {
            Self::Socks { port } | Self::Place { port, .. } => port,
        }
    }

    fn arguments(self) -> [String; 2] {
        match self {
            Self::Socks { port } => ["-D".to_owned(), format!("127.0.0.1:{port}")],
            Self::Place { port, to } => ["-L".to_owned(), format!("127.0.0.1:{port}:{to}")],
        }
    }
}

impl Connections {
    /// Starts to hold a port open by way of the host of this name (the user's word for it) at `target`.
    pub fn forward(&self, name: &str, target: &Target, what: Forwarding) -> Result<Forward, Error> {
        let socket = self.socket();
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.arg("-N").args(["-o", "ExitOnForwardFailure=yes", "-o", "ControlPersist=no", "-o", "LogLevel=INFO"]);
        ssh.args(what.arguments()).args(arguments(target, &socket, "ControlMaster=yes")).arg("--").arg(&target.host);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).env("LC_ALL", "C");
        let mut child = ssh.process_group(0).kill_on_drop(true).spawn().map_err(Error::Program)?;
        let stderr = child.stderr.take();
        let stderr = stderr.ok_or_else(|| Error::Program(std::io::Error::other("a pipe is missing")))?;
        let (name, port, said, _folder) = (name.to_owned(), what.port(), VecDeque::new(), self.kept_by());
        Ok(Forward { name, port, child, stderr, lines: Splitter::default(), said, stood: false, socket, _folder })
    }
}

impl Forward {
    /// Waits until the port leads somewhere. An error says why it never will; then `ssh` has ended.
    pub async fn stands(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + STAND;
        while !self.socket.exists() {
            let mut quiet = |_: &str| {};
            let looked = tokio::select! {
                ended = self.step(&mut quiet) => ended,
                () = sleep(LOOK) => None,
            };
            if let Some(error) = looked {
                return Err(error);
            }
            if Instant::now() >= deadline {
                self.finish().await;
                let said = Said::new(format!("no connection within {} s", STAND.as_secs()).as_bytes());
                return Err(Error::Unreachable { host: self.name.clone(), reason: Unreachable::TimedOut, said });
            }
        }
        self.said.clear();
        self.stood = true;
        Ok(())
    }

    /// Waits for the end of a connection that stands, and says why it came. What `ssh` says until then about single
    /// connections through the port is handed over.
    pub async fn ended(&mut self, mut on_line: impl FnMut(&str)) -> Error {
        loop {
            let ended = self
                .step(&mut |line| {
                    if is_about_one_channel(line) {
                        on_line(line);
                    }
                })
                .await;
            if let Some(error) = ended {
                return error;
            }
        }
    }

    /// Ends it, and the programs that `ssh` started to get there.
    pub async fn stop(mut self) {
        self.finish().await;
    }

    async fn finish(&mut self) {
        self.signal(Signal::SIGTERM);
        if timeout(END, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
    }

    /// Sends a signal to the whole group, unless `ssh` has been waited for: its number may be another's by now.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    /// Reads some of what `ssh` says, or its end. Nothing is lost when the future is dropped.
    async fn step(&mut self, on_line: &mut impl FnMut(&str)) -> Option<Error> {
        let mut bytes = [0; 4096];
        tokio::select! {
            biased;
            read = self.stderr.read(&mut bytes) => match read {
                Ok(n @ 1..) => {
                    self.hear(&bytes[..n], on_line);
                    None
                }
                _ => Some(self.wait(on_line).await),
            },
            status = self.child.wait() => {
                let deadline = Instant::now() + LAST_WORDS;
                while let Ok(Ok(n @ 1..)) = timeout_at(deadline, self.stderr.read(&mut bytes)).await {
                    self.hear(&bytes[..n], on_line);
                }
                Some(self.error(status, on_line))
            }
        }
    }

    async fn wait(&mut self, on_line: &mut impl FnMut(&str)) -> Error {
        let status = self.child.wait().await;
        self.error(status, on_line)
    }

    fn hear(&mut self, bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        let (lines, said) = (&mut self.lines, &mut self.said);
        lines.push(bytes, &mut |line| remember(said, line, on_line));
    }

    /// Why `ssh` ended, from what it said.
    fn error(&mut self, status: std::io::Result<ExitStatus>, on_line: &mut impl FnMut(&str)) -> Error {
        let (lines, said) = (&mut self.lines, &mut self.said);
        lines.finish(&mut |line| remember(said, line, on_line));
        let status = match status {
            Ok(status) => status,
            Err(e) => return Error::Program(e),
        };
        if let Some(signal) = status.signal() {
            said.push_back(format!("ssh was ended by signal {signal}"));
        }
        // A single connection's failure is none of this one's, unless this one is such a connection of a host on the way.
        if self.stood {
            said.retain(|line| !is_about_one_channel(line));
        }
        let text = said.make_contiguous().join("\n");
        let (host, said) = (self.name.clone(), Said::new(text.as_bytes()));
        match text.as_bytes() {
            text if is_port_refusal(text) => Error::Port { port: self.port, said },
            text if is_settings_refusal(text) => Error::Settings { host, said },
            text => Error::Unreachable { host, reason: Unreachable::from_stderr(text), said },
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn remember(said: &mut VecDeque<String>, line: &str, on_line: &mut impl FnMut(&str)) {
    tracing::debug!(line, "ssh says");
    on_line(line);
    if said.len() == REMEMBERED {
        said.pop_front();
    }
    said.push_back(line.to_owned());
}

/// Whether `ssh` speaks of one connection through the port: `channel 3: open failed: connect failed: Connection refused`.
fn is_about_one_channel(line: &str) -> bool {
    let number = line.strip_prefix("channel ").and_then(|rest| rest.split_once(':')).map(|(number, _)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connections_failure_is_told_from_that_of_all() {
        assert!(is_about_one_channel("channel 3: open failed: connect failed: Connection refused"));
        for line in ["channel_setup_fwd_listener_tcpip: cannot listen to port: 1", "channel x: y", "Connection closed"]
        {
            assert!(!is_about_one_channel(line), "{line}");
        }
    }

    #[test]
    fn only_the_loopback_address_is_listened_on() {
        let place = Forwarding::Place { port: 3376, to: "10.0.0.1:3376".parse().unwrap() };
        assert_eq!(place.arguments(), ["-L", "127.0.0.1:3376:10.0.0.1:3376"]);
        assert_eq!(Forwarding::Socks { port: 8888 }.arguments(), ["-D", "127.0.0.1:8888"]);
        let six = Forwarding::Place { port: 1, to: "[2001:db8::1]:2".parse().unwrap() };
        assert_eq!((six.arguments()[1].as_str(), six.port()), ("127.0.0.1:1:[2001:db8::1]:2", 1));
    }
}
