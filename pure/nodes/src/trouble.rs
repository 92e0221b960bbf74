//! What is wrong with an engine, in a word for programs and a sentence for people.

use serde::Serialize;
use std::fmt;

/// The kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its host's name has no address.
    Dns,
    /// Nobody listens at its address.
    Refused,
    /// No way leads to its address.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It and we do not accept each other's certificates, or only one of us speaks TLS.
    Tls,
    /// The connection broke, or it answered with an error.
    Broken,
    /// What answers there is no engine.
    NotAnEngine,
    /// It speaks no version of the API that we speak.
    Version,
    /// One of its labels has no value.
    Label,
    /// Another member has the same id.
    DuplicateId,
    /// Another member has the same name.
    DuplicateName,
}

impl Reason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Broken => "broken",
            Self::NotAnEngine => "not-an-engine",
            Self::Version => "version",
            Self::Label => "label",
            Self::DuplicateId => "duplicate-id",
            Self::DuplicateName => "duplicate-name",
        }
    }

    /// Whether this is what an engine looks like that is started anew on a host that is there.
    pub fn is_brief(self) -> bool {
        matches!(self, Self::Refused | Self::Broken)
    }

    /// Whether the engine answered and is not to be used as it is: asking again soon would change nothing.
    pub fn is_verdict(self) -> bool {
        use Reason::*;
        matches!(self, NotAnEngine | Version | Label | DuplicateId | DuplicateName)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For programs.
    pub reason: Reason,
    /// For people: what was being done and why it failed.
    pub text: String,
}
