//! Errors as the user sees them: a kind that picks the exit code, a message, the causes, and what to do next.

/// What the process exits with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ExitKind {
    /// 1: the work failed.
    Failed = 1,
    /// 2: the command line or a file the user wrote is wrong; nothing was done.
    Usage = 2,
    /// 3: some hosts failed, the others are done.
    SomeHostsFailed = 3,
    /// 4: some hosts could not be reached, the others are done.
    SomeHostsUnreachable = 4,
    /// 5: the plan has changes (`--check`).
    PlanHasChanges = 5,
}

/// A failure to show: what was being done, why it failed, and hints that name the next command.
#[derive(Debug)]
pub struct Failure {
    kind: ExitKind,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    /// A failure of this kind that says what was being done.
    pub fn new(kind: ExitKind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: error.into(), hints: Vec::new() }
    }

    /// A failure of this kind with a message and no deeper cause.
    pub fn message_only(kind: ExitKind, message: impl std::fmt::Display) -> Self {
        Self::new(kind, anyhow::anyhow!("{message}"))
    }

    /// A mistake in what the user wrote.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::message_only(ExitKind::Usage, message)
    }

    /// The same failure with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.kind as u8
    }

    /// What was being done.
    pub fn message(&self) -> String {
        self.error.to_string()
    }

    /// Why it failed, outermost cause first.
    pub fn causes(&self) -> Vec<String> {
        self.error.chain().skip(1).map(ToString::to_string).collect()
    }

    /// Both in one line.
    pub fn whole(&self) -> String {
        format!("{:#}", self.error)
    }

    /// What to do next.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ExitKind::Failed, error)
    }
}

/// Turns any error into a [`Failure`] with a kind or a hint.
pub trait FailureExt<T> {
    /// Keeps the error under this kind.
    fn kind(self, kind: ExitKind) -> Result<T, Failure>;
    /// Adds a hint.
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> FailureExt<T> for Result<T, E> {
    fn kind(self, kind: ExitKind) -> Result<T, Failure> {
        self.map_err(|e| Failure { kind, ..e.into() })
    }

    fn hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|e| e.into().hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_chain_and_the_hints_survive() {
        let low: Result<(), _> = Err(std::io::Error::other("disk on fire"));
        let failure = low.context("write 'x'").hint("run 'osier doctor'").kind(ExitKind::SomeHostsFailed).unwrap_err();
        assert_eq!((failure.code(), failure.message().as_str()), (3, "write 'x'"));
        assert_eq!(
            (failure.causes(), failure.hints()),
            (vec!["disk on fire".into()], &["run 'osier doctor'".into()][..])
        );
    }
}
