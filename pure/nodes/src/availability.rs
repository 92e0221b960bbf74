//! What the operator lets a node do.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Whether a node takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It does.
    #[default]
    Active,
    /// Nothing new is placed there; what is there stays and can be used.
    Cordoned,
    /// As cordoned, and what ran there was stopped, to be started again when the node is active.
    Drained,
}

/// The text is no availability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no availability; there are active, cordoned and drained")]
pub struct ParseAvailabilityError(String);

impl Availability {
    const ALL: [Self; 3] = [Self::Active, Self::Cordoned, Self::Drained];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Availability {
    type Err = ParseAvailabilityError;
    fn from_str(text: &str) -> Result<Self, ParseAvailabilityError> {
        let found = Self::ALL.into_iter().find(|a| a.as_str() == text);
        found.ok_or_else(|| ParseAvailabilityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_word_is_read_back() {
        for availability in Availability::ALL {
            assert_eq!(availability.to_string().parse(), Ok(availability));
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_understood(text in ".*") {
            prop_assert_eq!(text.parse::<Availability>().is_ok(), Availability::ALL.iter().any(|a| a.as_str() == text));
        }
    }
}
