//! Node names and DNS host names, checked once and then carried as types.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The name of one node, as the inventory, the certificates and `node/container` spell it: 1 to 63 of
/// `A-Z a-z 0-9 . _ -`, beginning and ending with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A DNS name without its trailing dot, lower-cased: labels of 1 to 63 of `a-z 0-9 _ -`, at most 253 in all
/// (RFC 1035 2.3.4, with the underscore that container names have).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

/// The text cannot be a name of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {kind}")]
pub struct ParseNameError {
    text: String,
    kind: &'static str,
}

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Hostname {
    /// The zone of container names unless the operator chose another: `weave.local`.
    pub fn default_domain() -> Self {
        Self(crate::DOMAIN.to_owned())
    }

    /// The name as text, lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with `.domain` behind it, unless it already lies in that domain.
    pub fn qualified(&self, domain: &Hostname) -> Hostname {
        if self.is_in(domain) { self.clone() } else { Hostname(format!("{}.{}", self.0, domain.0)) }
    }

    /// Whether this name is `domain` itself or lies below it.
    pub fn is_in(&self, domain: &Hostname) -> bool {
        self.0 == domain.0 || self.0.strip_suffix(&domain.0).is_some_and(|head| head.ends_with('.'))
    }
}

impl FromStr for NodeName {
    type Err = ParseNameError;
    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let edges = [text.bytes().next(), text.bytes().last()];
        let ends = edges.iter().all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()));
        if inner && ends && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNameError { text: text.to_owned(), kind: "node name" })
        }
    }
}

impl FromStr for Hostname {
    type Err = ParseNameError;
    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |l: &str| {
            (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        if name.len() <= 253 && name.split('.').all(label) {
            Ok(Self(name))
        } else {
            Err(ParseNameError { text: text.to_owned(), kind: "host name" })
        }
    }
}

macro_rules! text_form {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = ParseNameError;
            fn try_from(text: String) -> Result<Self, ParseNameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
text_form!(NodeName);
text_form!(Hostname);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_follow_the_rule() {
        for good in ["datalyse-master", "a", "n_1.lab", &"x".repeat(63)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a/b", "a b", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_fold_case_and_know_their_domain() {
        let domain: Hostname = "weave.local.".parse().unwrap();
        let name: Hostname = "B.Weave.Local".parse().unwrap();
        assert!(name.is_in(&domain) && !"xweave.local".parse::<Hostname>().unwrap().is_in(&domain));
        assert_eq!("b".parse::<Hostname>().unwrap().qualified(&domain), name);
        assert_eq!(name.qualified(&domain), name);
        for bad in ["", ".", "a..b", "a b", &"x".repeat(64), &["abcdefgh"; 30].join(".")] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }
}
