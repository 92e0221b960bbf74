//! The one place that writes to the terminal: plain lines, tables, progress and errors with causes and hints.
//!
//! Must not know what any command does. Results go to standard output, everything else to standard error; with
//! `-o json` standard output carries JSON and nothing else.
#![expect(clippy::print_stderr, reason = "this crate is the program's mouth")]

mod failure;
mod merge;
mod password;
mod progress;
mod table;

pub use failure::{ExitKind, Failure, FailureExt};
pub use merge::{Said, merged};
pub use progress::Progress;
pub use table::Table;

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use serde::Serialize;
use std::{
    io::{IsTerminal, Write},
    os::fd::{AsFd, BorrowedFd},
};
use tokio::sync::oneshot;

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Output {
    /// Tables and sentences for people.
    #[default]
    Text,
    /// One JSON document on standard output.
    Json,
}

/// The user's terminal (or the pipe in its place).
#[derive(Clone, Debug)]
pub struct Ui {
    output: Output,
    interactive: bool,
    color: bool,
}

impl Ui {
    /// Looks at the standard streams: progress is drawn only on a terminal, colour only there and without `NO_COLOR`
    /// (`no_color`: whether that variable is set and not empty).
    pub fn new(output: Output, no_color: bool) -> Self {
        let interactive = std::io::stderr().is_terminal();
        Self { output, interactive, color: interactive && !no_color }
    }

    /// Whether results are to be JSON.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether somebody is there to read progress and answer questions.
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Prints one line of result to standard output. A closed pipe is the reader's business, not an error.
    pub fn line(&self, text: impl std::fmt::Display) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Waits until nobody can read standard output any more: the program behind its pipe has ended. Never where it is no pipe.
    pub async fn reader_leaves(&self) {
        let (tell, told) = oneshot::channel();
        // A thread that waits in the kernel, which nothing else wakes: it ends with the process.
        std::thread::spawn(move || {
            if watch(std::io::stdout().as_fd()) {
                let _ = tell.send(());
            }
        });
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Prints result text to standard output as it stands.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints a value as the JSON result.
    pub fn json<T: Serialize>(&self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(e) => self.note(format_args!("cannot print the result as JSON: {e}")),
        }
    }

    /// Prints one line for people to standard error.
    pub fn note(&self, text: impl std::fmt::Display) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints a warning to standard error.
    pub fn warn(&self, text: impl std::fmt::Display) {
        self.note(format_args!("{}: {text}", self.paint("33", "warning")));
    }

    /// Prints a failure with its causes and hints to standard error.
    pub fn failure(&self, failure: &Failure) {
        self.note(format_args!("{}: {}", self.paint("31", "error"), failure.message()));
        for cause in failure.causes() {
            self.note(format_args!("  because: {cause}"));
        }
        for hint in failure.hints() {
            self.note(format_args!("{}: {hint}", self.paint("36", "hint")));
        }
    }

    /// Opens progress lines, one per item; see [`Progress`].
    pub fn progress(&self) -> Progress {
        Progress::new(self.interactive)
    }

    /// Asks a yes/no question. Without a terminal the answer is no.
    pub fn confirm(&self, question: &str) -> bool {
        if !(self.interactive && std::io::stdin().is_terminal()) {
            return false;
        }
        eprint!("{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Asks for a password on the terminal, which does not show it.
    pub fn password(&self, question: &str) -> Result<String, Failure> {
        password::ask(question).map_err(|e| {
            let error = anyhow::Error::new(e).context("ask for a password");
            Failure::new(ExitKind::Usage, error).hint("without a terminal, passwords come from files")
        })
    }

    /// `text` in the given ANSI style where colour is wanted.
    pub fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Waits until a pipe has lost its reader: then it is in error, whether anything is written or not (poll(2)). False where that
/// cannot be waited for.
fn watch(out: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(out, PollFlags::empty())];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Ok(1..) => return fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLERR)),
            _ => return false,
        }
    }
}
