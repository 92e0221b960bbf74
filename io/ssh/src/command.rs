//! What to run on a host, and what came of it.

use crate::quote;

/// A program with its arguments and input, to be run on a host.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    argv: Vec<String>,
    stdin: &'a [u8],
    root: bool,
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

impl<'a> Command<'a> {
    /// A program and its arguments; none of them is read by a shell.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), stdin: &[], root: false }
    }

    /// A script for `sh`, with `$1` and so on.
    pub fn shell<S: Into<String>>(script: &str, args: impl IntoIterator<Item = S>) -> Self {
        let head = ["sh", "-c", script, "sh"].map(str::to_owned);
        Self::new(head.into_iter().chain(args.into_iter().map(Into::into)))
    }

    /// The same with input.
    #[must_use]
    pub fn stdin(self, stdin: &'a [u8]) -> Self {
        Self { stdin, ..self }
    }

    /// The same as root: directly where the login is root's, else through `sudo -n`.
    #[must_use]
    pub fn as_root(self) -> Self {
        Self { root: true, ..self }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.root
    }

    pub(crate) fn input(&self) -> &'a [u8] {
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
        let words = self.argv.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
        if self.root { format!("sh -c {} sh {words}", quote(AS_ROOT)) } else { words }
    }
}
