//! Versions of the Docker API: which ones are served, and which one an engine is spoken to in.

use std::{fmt, str::FromStr};

/// A version of the Docker API, such as 1.41.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// The oldest version that clients may speak.
pub const MIN: ApiVersion = ApiVersion { major: 1, minor: 24 };
/// The newest version that clients may speak.
pub const MAX: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// The first version whose create request may attach a container to several networks at once.
pub const SEVERAL_ENDPOINTS: ApiVersion = ApiVersion { major: 1, minor: 44 };
/// The first version whose create request may name a platform.
pub const CREATE_PLATFORM: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The first version that knows no `filter` parameter on the list of images.
pub const NO_LEGACY_FILTER: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The first version that lists an image without a name with empty lists instead of `<none>`.
pub const EMPTY_NAMES: ApiVersion = ApiVersion { major: 1, minor: 43 };
/// The first version whose images have no `VirtualSize`.
pub const NO_VIRTUAL_SIZE: ApiVersion = ApiVersion { major: 1, minor: 44 };

impl ApiVersion {
    /// Version 1.`minor`.
    pub(crate) const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }
}

/// The text is not a version of the form `1.41`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an API version")]
pub struct ParseVersionError(String);

/// The versions that one engine speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The oldest.
    pub min: ApiVersion,
    /// The newest.
    pub max: ApiVersion,
}

impl Range {
    /// The version to speak to this engine on behalf of a client that speaks `client`: the client's own where the
    /// engine knows it, else the engine's nearest.
    pub fn nearest(&self, client: ApiVersion) -> ApiVersion {
        client.min(self.max).max(self.min)
    }
}

impl FromStr for ApiVersion {
    type Err = ParseVersionError;
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let number = |t: &str| {
            let digits = !t.is_empty() && t.len() <= 4 && t.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| t.parse().ok()).flatten()
        };
        let parts = text.split_once('.').and_then(|(a, b)| Some((number(a)?, number(b)?)));
        let (major, minor) = parts.ok_or_else(|| ParseVersionError(text.to_owned()))?;
        Ok(Self { major, minor })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ApiVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        assert!(version("1.9") < version("1.24") && version("1.51") == MAX);
        for bad in ["", "1", "1.", ".1", "1.4a", "1.41.2", "+1.4", "1.99999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_engine_is_spoken_to_within_its_own_range() {
        let engine = Range { min: version("1.44"), max: version("1.47") };
        for (client, spoken) in [("1.24", "1.44"), ("1.45", "1.45"), ("1.51", "1.47")] {
            assert_eq!(engine.nearest(version(client)), version(spoken));
        }
    }
}
