//! The discovery token: 32 lower-case hex digits that name a cluster and authorise nothing.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A cluster's discovery token (classic Swarm's format: 128 bits as 32 lower-case hex digits).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

/// The text is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a token (32 hex digits, as 'osier create' prints them)")]
pub struct ParseTokenError(String);

impl Token {
    /// The token that these random bytes spell.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;
    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(ParseTokenError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Token {
    type Error = ParseTokenError;
    fn try_from(text: String) -> Result<Self, ParseTokenError> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(value: Token) -> Self {
        value.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_token_is_one_and_others_are_not() {
        assert!("feba5683f4a1645b68365f562f81694f".parse::<Token>().is_ok());
        assert_eq!(Token::from_random([0xab; 16]).as_str(), "ab".repeat(16));
        for bad in ["", "feba", "zeba5683f4a1645b68365f562f81694f", "feba5683f4a1645b68365f562f81694f0"] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
