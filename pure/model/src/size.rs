//! Amounts of memory and CPU, and how they are printed for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of memory in bytes; prints in binary units with four significant digits (`8.188 GiB`, `0 B`), as
/// classic Swarm's `info` did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Bytes(pub u64);

/// An amount of CPU in billionths of one core, as the Docker API's `NanoCpus`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Cpus(pub u64);

/// The text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an amount of this kind")]
pub struct ParseSizeError(String);

impl Cpus {
    /// This many whole cores.
    pub fn whole(cores: u64) -> Self {
        Self(cores.saturating_mul(1_000_000_000))
    }
}

impl std::str::FromStr for Cpus {
    type Err = ParseSizeError;
    /// Reads a decimal number of cores, such as `1.5`; at most nine decimals count.
    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let bad = || ParseSizeError(text.to_owned());
        let cores: f64 = text.parse().map_err(|_| bad())?;
        if (0.0..=1e9).contains(&cores) { Ok(Self((cores * 1e9).round() as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = 0;
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        while value >= 1024.0 && unit < UNITS.len() - 1 {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{} {}", four_digits(value), UNITS[unit])
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{part:09}").trim_end_matches('0'))
    }
}

/// A number with four significant digits and no trailing zeros (Go's `%.4g` for numbers below 10000).
fn four_digits(value: f64) -> String {
    let before = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", 4_usize.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_prints_as_the_classic_did() {
        for (bytes, text) in
            [(0, "0 B"), (2 << 20, "2 MiB"), (8_791_798_054, "8.188 GiB"), (1023, "1023 B"), (4_509_715_661, "4.2 GiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn cores_keep_their_fraction() {
        assert_eq!("1.5".parse::<Cpus>().unwrap(), Cpus(1_500_000_000));
        assert_eq!(Cpus(1_500_000_000).to_string(), "1.5");
        assert_eq!(Cpus::whole(4).to_string(), "4");
        assert!("-1".parse::<Cpus>().is_err() && "NaN".parse::<Cpus>().is_err());
    }
}
