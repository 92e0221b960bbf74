//! Checked words of the document: paths, names, digests, and file contents that never show in logs.
//!
//! Must not know what a path or name is used for. They are handed to programs as arguments, so none may look like an
//! option or climb out of a folder.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::{fmt, path::Path, str::FromStr};

/// The text cannot be a word of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {kind}")]
pub struct WordError {
    text: String,
    kind: &'static str,
}

impl WordError {
    pub(crate) fn new(text: &str, kind: &'static str) -> Self {
        Self { text: text.to_owned(), kind }
    }
}

/// An absolute path without `.`, `..`, doubled slashes or control characters; not the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsPath(String);

/// The name of a unit, package, network or namespace: a letter or digit, then any of those and `@ . _ + : -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A SHA-256 digest, printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// The text of a file. `Debug` shows only its length, for it may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Content(String);

impl AbsPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of a list of named digests, which changes when any of them does.
    pub fn of_all<'a>(parts: impl IntoIterator<Item = (&'a AbsPath, Digest)>) -> Self {
        let mut hash = sha2::Sha256::new();
        for (path, digest) in parts {
            hash.update(path.as_str());
            hash.update([0]);
            hash.update(digest.0);
        }
        Self(hash.finalize().into())
    }
}

impl Content {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl FromStr for AbsPath {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let part = |p: &str| !matches!(p, "" | "." | "..") && !p.chars().any(char::is_control);
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(part) => Ok(Self(text.to_owned())),
            _ => Err(WordError { text: text.to_owned(), kind: "an absolute path" }),
        }
    }
}

impl FromStr for Name {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"@._+:-".contains(&b);
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= 255 && text.bytes().all(inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError { text: text.to_owned(), kind: "a name" })
        }
    }
}

impl FromStr for Digest {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(WordError { text: text.to_owned(), kind: "a SHA-256 digest" }),
        }
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

macro_rules! text_form {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = $crate::words::WordError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use text_form;
text_form!(AbsPath);
text_form!(Name);
text_form!(Digest);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_and_names_that_could_mislead_a_program_are_refused() {
        for good in ["/etc/osier/agent.json", "/a b/ü"] {
            assert!(good.parse::<AbsPath>().is_ok(), "{good}");
        }
        for bad in ["", "/", "etc", "//etc", "/etc/", "/etc/../x", "/./x", "/a\nb"] {
            assert!(bad.parse::<AbsPath>().is_err(), "{bad}");
        }
        for good in ["docker.io", "osier-agent.service", "getty@tty1.service", "g++"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-rf", "a b", "a/b", ".x"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn contents_do_not_show() {
        assert_eq!(format!("{:?}", Content::from("secret")), "(6 bytes)");
    }

    proptest! {
        #[test]
        fn digests_survive_their_text(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let digest = Digest::of(&bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC*") {
            let _ = (text.parse::<AbsPath>(), text.parse::<Name>(), text.parse::<Digest>());
        }
    }
}
