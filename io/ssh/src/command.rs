//! What to run on a host, and what came of it.

use crate::quote;
use std::path::Path;

/// A program with its arguments and input, to be run on a host.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    argv: Vec<String>,
    stdin: Input<'a>,
    root: bool,
}

/// Where a program's input comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

/// What a program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 + n for signal n.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// How `sudo` is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sudo {
    /// Without a password.
    Silent,
    /// With one, which it reads from standard input when it asks.
    Asking,
}

impl<'a> Command<'a> {
    /// A program and its arguments; none of them is read by a shell.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), stdin: Input::Bytes(&[]), root: false }
    }

    /// A script for `sh`, with `$1` and so on.
    pub fn shell<S: Into<String>>(script: &str, args: impl IntoIterator<Item = S>) -> Self {
        let head = ["sh", "-c", script, "sh"].map(str::to_owned);
        Self::new(head.into_iter().chain(args.into_iter().map(Into::into)))
    }

    /// The same with input.
    #[must_use]
    pub fn stdin(self, stdin: &'a [u8]) -> Self {
        Self { stdin: Input::Bytes(stdin), ..self }
    }

    /// The same with a file of this machine as input, which is read piece by piece.
    #[must_use]
    pub fn stdin_file(self, file: &'a Path) -> Self {
        Self { stdin: Input::File(file), ..self }
    }

    /// The same as root: directly where the login is root's, else through `sudo`.
    #[must_use]
    pub fn as_root(self) -> Self {
        Self { root: true, ..self }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.root
    }

    pub(crate) fn input(&self) -> Input<'a> {
        self.stdin
    }

    /// The program's name, for messages.
    pub(crate) fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// The line that the login shell reads.
    pub(crate) fn line(&self) -> String {
        const AS_ROOT: &str =
            r#"if [ "$(id -u)" = 0 ]; then exec "$@"; else LC_ALL=C; export LC_ALL; exec sudo -n -- "$@"; fi"#;
        if self.root { format!("sh -c {} sh {}", quote(AS_ROOT), self.words()) } else { self.words() }
    }

    /// The line that the login shell reads, where the command is to say that it is about to begin and then waits for a
    /// line of input, and `sudo` may ask, both with this token; see [`crate::gate`].
    pub(crate) fn guarded_line(&self, token: &str, sudo: Sudo) -> String {
        const HERE: &str = r#"printf '%s %s\n' "$1" "$$" >&2; shift; read -r _ && exec "$@""#;
        // The process that is told of is the one above `sudo`, so that whoever ends it ends all.
        const AS_ROOT: &str = r#"if [ "$(id -u)" = 0 ]; then printf '%s %s\n' "$1" "$$" >&2; shift; read -r _ && exec "$@"; exit; fi
LC_ALL=C; export LC_ALL
exec sudo FLAGS -- sh -c 'printf "%s %s\n" "$2" "$1" >&2; shift 2; read -r _ && exec "$@"' sh "$$" "$@""#;
        let script = match (self.root, sudo) {
            (false, _) => HERE.to_owned(),
            (true, Sudo::Silent) => AS_ROOT.replace("FLAGS", "-n"),
            (true, Sudo::Asking) => AS_ROOT.replace("FLAGS", r#"-S -p "$1?""#),
        };
        format!("sh -c {} sh {token} {}", quote(&script), self.words())
    }

    fn words(&self) -> String {
        self.argv.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ")
    }
}
