//! A user at a terminal: a command under `script`, typed at and read from, for what needs a TTY.

use anyhow::{Context, Result, bail};
use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

/// A running command with a terminal.
pub struct Terminal {
    child: Child,
    seen: String,
    read_to: usize,
    chunks: Receiver<Vec<u8>>,
}

/// Wraps a shell line so that it runs with a terminal.
pub fn with_terminal(line: &str) -> String {
    format!("TERM=dumb script --quiet --return --command '{}' /dev/null", line.replace('\'', "'\\''"))
}

impl Terminal {
    /// Starts a command that was made from a line of [`with_terminal`].
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("start a command with a terminal")?;
        let mut stdout = child.stdout.take().context("the command has no output")?;
        let (send, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, seen: String::new(), read_to: 0, chunks })
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("the terminal is closed")?;
        stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()).context("type at the terminal")
    }

    /// Waits until this text comes after what was expected before, and gives everything up to its end.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen[self.read_to..].find(text) {
                let (from, to) = (self.read_to, self.read_to + at + text.len());
                self.read_to = to;
                return Ok(self.seen[from..to].to_owned());
            }
            match self.chunks.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout) => bail!("'{text}' did not appear in:\n{}", self.seen),
                Err(RecvTimeoutError::Disconnected) => bail!("the command ended without '{text}':\n{}", self.seen),
            }
        }
    }

    /// Waits for the command's end and gives all it printed.
    pub fn finish(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("wait for the command")?;
        while let Ok(chunk) = self.chunks.recv() {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        if !status.success() {
            bail!("the command failed: {status}\n{}", self.seen);
        }
        Ok(std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
