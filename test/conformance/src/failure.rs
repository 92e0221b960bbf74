//! Why a scenario is not green.

use osier_engine::BoxError;
use std::fmt::{Debug, Display};

/// Why a scenario is not green.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is not an engine's.
    #[error("{what}: wanted {wanted}, got {got}")]
    Unexpected {
        /// What was asked or looked at.
        what: String,
        /// What an engine says.
        wanted: String,
        /// What was said.
        got: String,
    },
    /// There was no answer to judge.
    #[error("{doing}")]
    Broken {
        /// What was tried.
        doing: String,
        /// Why it did not work.
        #[source]
        source: BoxError,
    },
    /// The answer, or the state that was waited for, did not come.
    #[error("waited {seconds} s in vain: {what}")]
    Late {
        /// What was waited for, and how it stood last.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// What the scenario drives is not on this machine. Such a row is neither green nor red.
    #[error("there is no {0} here")]
    Absent(String),
}

impl Failure {
    /// Wraps an error.
    pub(crate) fn broken(doing: impl Display, source: impl Into<BoxError>) -> Self {
        Self::Broken { doing: doing.to_string(), source: source.into() }
    }

    /// The failure with all its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Fails unless the two are equal.
pub(crate) fn same<T: PartialEq<U> + Debug, U: Debug>(what: impl Display, got: T, wanted: U) -> Result<(), Failure> {
    if got == wanted {
        return Ok(());
    }
    Err(Failure::Unexpected { what: what.to_string(), wanted: format!("{wanted:?}"), got: format!("{got:?}") })
}

/// Fails unless the condition holds, and shows what it was judged by.
pub(crate) fn holds(what: impl Display, condition: bool, got: impl Debug) -> Result<(), Failure> {
    if condition {
        return Ok(());
    }
    Err(Failure::Unexpected { what: what.to_string(), wanted: "it to hold".to_owned(), got: format!("{got:?}") })
}
