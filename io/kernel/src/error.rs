//! The one error of this crate: what was being done to which object, and the kernel's answer.

use nix::errno::Errno;
use std::io;

/// A change or a look at the kernel's configuration failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Error {
    doing: String,
    source: io::Error,
}

impl Error {
    pub(crate) fn new(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { doing: doing.into(), source: source.into() }
    }

    /// What was being done and the kernel's answer, in one line.
    pub(crate) fn with_cause(&self) -> String {
        format!("{}: {}", self.doing, self.source)
    }

    /// Whether the device had vanished meanwhile.
    pub(crate) fn is_vanished(&self) -> bool {
        self.source.raw_os_error() == Some(Errno::ENODEV as i32)
    }
}

/// Names what was being done when a call failed; the text is built on failure only.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T, Error> {
        self.map_err(|e| Error::new(doing(), e))
    }
}
