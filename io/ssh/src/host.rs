//! One host: its master connection, and the commands that run over it.

use crate::{
    Command, Error, Output, Said, Secret, Stream, Target, Unreachable, connections::Place, error::is_sudo_refusal,
    lines::Splitter, master::Found,
};
use std::{path::PathBuf, pin::Pin};
use tokio::sync::{Mutex, OnceCell, Semaphore};

/// Commands that run on one host at a time; further ones wait.
pub const SESSIONS: usize = 8;

/// One host and its master connection, which ends with this value unless it is kept for others.
#[derive(Debug)]
pub struct Host {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) password: Option<Secret>,
    pub(crate) place: Place,
    /// Where others leave their connection to this host; found out when it is first needed.
    pub(crate) shared: OnceCell<Option<PathBuf>>,
    pub(crate) found: Mutex<Found>,
    pub(crate) sessions: Semaphore,
}

/// What a call waits for that may end its command early.
pub(crate) type Stop<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl Host {
    pub(crate) fn new(name: String, target: Target, place: Place) -> Self {
        let (found, sessions) = (Mutex::new(Found::Untried), Semaphore::new(SESSIONS));
        Self { name, target, password: None, place, shared: OnceCell::new(), found, sessions }
    }

    /// The same with a password for `sudo`. It goes over the connection when `sudo` asks for it, and nowhere else.
    #[must_use]
    pub fn sudo_password(mut self, password: Option<Secret>) -> Self {
        self.password = password;
        self
    }

    /// The user's word for this host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a command to its end; a failing command is no error here.
    pub async fn run(&self, command: &Command<'_>) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let on_bytes = |stream, bytes: &[u8]| match stream {
            Stream::Out => stdout.extend_from_slice(bytes),
            Stream::Err => stderr.extend_from_slice(bytes),
        };
        let code = self.session(command, None, on_bytes).await?.unwrap_or_default();
        self.judge(command, code, &stderr).await?;
        Ok(Output { code, stdout, stderr })
    }

    /// Runs a command that must succeed.
    pub async fn check(&self, command: &Command<'_>) -> Result<Output, Error> {
        let output = self.run(command).await?;
        if output.code == 0 { Ok(output) } else { Err(self.failed(command, output.code, &output.stderr)) }
    }

    /// Runs a command that must succeed, and hands over its standard output piece by piece instead of keeping it.
    pub async fn receive(&self, command: &Command<'_>, mut on_bytes: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut stderr = Vec::new();
        let on_any = |stream, bytes: &[u8]| match stream {
            Stream::Out => on_bytes(bytes),
            Stream::Err => stderr.extend_from_slice(bytes),
        };
        let code = self.session(command, None, on_any).await?.unwrap_or_default();
        self.judge(command, code, &stderr).await?;
        if code == 0 { Ok(()) } else { Err(self.failed(command, code, &stderr)) }
    }

    /// Runs a command and hands over each line of its outputs as it comes; gives back the exit code.
    pub async fn stream(&self, command: &Command<'_>, on_line: impl FnMut(Stream, &str)) -> Result<i32, Error> {
        Ok(self.lines(command, None, on_line).await?.unwrap_or_default())
    }

    /// As [`Self::stream`], until `stop` is ready: then the command and all that it started are ended on the host, and
    /// there is no exit code.
    pub async fn stream_until(
        &self,
        command: &Command<'_>,
        stop: impl Future<Output = ()> + Send,
        on_line: impl FnMut(Stream, &str),
    ) -> Result<Option<i32>, Error> {
        self.lines(command, Some(std::pin::pin!(stop)), on_line).await
    }

    async fn lines(
        &self,
        command: &Command<'_>,
        stop: Option<Stop<'_>>,
        mut on_line: impl FnMut(Stream, &str),
    ) -> Result<Option<i32>, Error> {
        let (mut out, mut err, mut last) = (Splitter::default(), Splitter::default(), String::new());
        let on_bytes = |stream, bytes: &[u8]| match stream {
            Stream::Out => out.push(bytes, &mut |line| on_line(Stream::Out, line)),
            Stream::Err => err.push(bytes, &mut |line| {
                line.clone_into(&mut last);
                on_line(Stream::Err, line);
            }),
        };
        let code = self.session(command, stop, on_bytes).await?;
        out.finish(&mut |line| on_line(Stream::Out, line));
        err.finish(&mut |line| {
            line.clone_into(&mut last);
            on_line(Stream::Err, line);
        });
        if let Some(code) = code {
            self.judge(command, code, last.as_bytes()).await?;
        }
        Ok(code)
    }

    /// Puts a file there as root, replacing `path` at once or not at all; its folder must exist.
    pub async fn push(&self, contents: &[u8], path: &str, mode: u32) -> Result<(), Error> {
        let script = r#"umask 077; t="$1.$$.new"; cat >"$t" && chmod "$2" "$t" && mv -f -- "$t" "$1" || { rm -f -- "$t"; exit 1; }"#;
        let command = Command::shell(script, [path.to_owned(), format!("{mode:o}")]).as_root().stdin(contents);
        self.check(&command).await.map(|_| ())
    }

    /// Ends the master connection, unless it is kept.
    pub async fn close(self) {
        if self.must_close() {
            let _ = tokio::process::Command::from(self.master_command(&self.place.own, "exit")).status().await;
        }
    }

    fn must_close(&self) -> bool {
        !self.place.is_kept() && self.place.own.exists()
    }

    /// Has the connection stand.
    pub async fn reach(&self) -> Result<(), Error> {
        self.connect().await.map(drop)
    }

    /// Tells failures of the connection and of `sudo` from those of the program.
    async fn judge(&self, command: &Command<'_>, code: i32, stderr: &[u8]) -> Result<(), Error> {
        // `ssh` ends with 255 when the connection breaks, and then its master is gone or going; a program may end so, too.
        if code == 255 && !self.has_master().await {
            return Err(self.unreachable(stderr));
        }
        if command.is_root() && is_sudo_refusal(code, stderr) {
            return Err(Error::NoSudo { host: self.name.clone(), said: Said::new(stderr) });
        }
        Ok(())
    }

    pub(crate) fn unreachable(&self, stderr: &[u8]) -> Error {
        let reason = Unreachable::from_stderr(stderr);
        Error::Unreachable { host: self.name.clone(), reason, said: Said::new(stderr) }
    }

    fn failed(&self, command: &Command<'_>, code: i32, stderr: &[u8]) -> Error {
        let (host, command) = (self.name.clone(), command.program().to_owned());
        Error::Failed { host, command, code, said: Said::new(stderr) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.must_close() {
            let _ = self.master_command(&self.place.own, "exit").status();
        }
    }
}
