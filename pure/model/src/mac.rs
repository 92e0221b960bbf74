//! Link-layer addresses, and the 48-bit identity of a node that is printed like one.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A 48-bit IEEE 802 address, printed as six lower-case hex pairs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// A node's random identity, made when it joins; printed like a MAC, as Weave Net's peer names were.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerId(pub [u8; 6]);

/// The text is not six hex pairs separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address (six hex pairs separated by colons)")]
pub struct ParseMacError(String);

impl MacAddr {
    /// Makes random bytes a valid unicast, locally administered address (IEEE 802, bits 0 and 1 of the first octet).
    pub fn local(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] & 0xfe) | 0x02;
        Self(bytes)
    }
}

impl PeerId {
    /// Makes random bytes a peer id; it is a valid unicast, locally administered MAC.
    pub fn from_random(bytes: [u8; 6]) -> Self {
        Self(MacAddr::local(bytes).0)
    }
}

fn parse(text: &str) -> Result<[u8; 6], ParseMacError> {
    let mut out = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut out {
        let pair = pairs.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = pair.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(|| ParseMacError(text.to_owned()))?;
    }
    if pairs.next().is_some() { Err(ParseMacError(text.to_owned())) } else { Ok(out) }
}

fn print(bytes: &[u8; 6], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [a, b, c, d, e, g] = bytes;
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}

macro_rules! text_form {
    ($type:ident) => {
        impl FromStr for $type {
            type Err = ParseMacError;
            fn from_str(text: &str) -> Result<Self, ParseMacError> {
                parse(text).map(Self)
            }
        }
        impl TryFrom<String> for $type {
            type Error = ParseMacError;
            fn try_from(text: String) -> Result<Self, ParseMacError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(&self.0, f)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(&self.0, f)
            }
        }
    };
}
text_form!(MacAddr);
text_form!(PeerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let mac: MacAddr = "7e:BA:e9:71:fb:a9".parse().unwrap();
        assert_eq!(mac.to_string(), "7e:ba:e9:71:fb:a9");
        for bad in ["", "7e:ba:e9:71:fb", "7e:ba:e9:71:fb:a9:00", "+e:ba:e9:71:fb:a9", "7eba.e971.fba9"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_identities_are_unicast_and_local() {
        assert_eq!(PeerId::from_random([0xff; 6]).0[0] & 0x03, 0x02);
    }
}
