//! The identity of a network of the cluster.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Tells a network from every other that the cluster ever had, also of the same name: 64 bits, drawn when it is made, and
/// zero for the cluster's own. As text, 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkId(pub u64);

/// The text is not 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a network's id (16 hex digits)")]
pub struct ParseNetworkIdError(String);

impl NetworkId {
    /// The network that every cluster has.
    pub const MAIN: Self = Self(0);
}

impl FromStr for NetworkId {
    type Err = ParseNetworkIdError;
    fn from_str(text: &str) -> Result<Self, ParseNetworkIdError> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| ParseNetworkIdError(text.to_owned()))
    }
}

impl TryFrom<String> for NetworkId {
    type Error = ParseNetworkIdError;
    fn try_from(text: String) -> Result<Self, ParseNetworkIdError> {
        text.parse()
    }
}

impl From<NetworkId> for String {
    fn from(id: NetworkId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for id in [NetworkId::MAIN, NetworkId(0xab), NetworkId(u64::MAX)] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "+000000000000001", "00000000000000ab0", "x"] {
            assert!(bad.parse::<NetworkId>().is_err(), "{bad}");
        }
    }
}
