//! The Debian releases a node can run, and what about them differs for a lab.
//!
//! Must not know how images are made or run; this is a table.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A Debian release that a node can run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12: Docker Engine 20.10, systemd 252.
    #[default]
    Bookworm,
    /// Debian 13: Docker Engine 26.1, systemd 257.
    Trixie,
    /// Debian 14: Docker Engine 28.5; its systemd has no cgroup v1 left.
    Forky,
}

/// Which kernel interface for control groups the host offers to systemd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The text names no release a lab knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a release a lab can make (bookworm, trixie, forky)")]
pub struct ParseReleaseError(String);

/// The release cannot run on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{release} needs a host with cgroup v2: its systemd has no cgroup v1 left, and this host runs cgroup v1")]
pub(crate) struct UnsupportedRelease {
    release: Release,
}

impl Release {
    /// Every release, oldest first.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Forky];

    /// Debian's name for it.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    /// Says why this release cannot run where the kernel's control groups are of this version.
    pub(crate) fn check(self, host: CgroupVersion) -> Result<(), UnsupportedRelease> {
        match (self, host) {
            (Self::Forky, CgroupVersion::V1) => Err(UnsupportedRelease { release: self }),
            _ => Ok(()),
        }
    }

    /// The kernel command line that systemd must believe in to boot with these control groups, if any: systemd 256
    /// and later refuse cgroup v1 unless told twice.
    pub(crate) fn boot_options(self, host: CgroupVersion) -> Option<&'static str> {
        match (self, host) {
            (Self::Trixie, CgroupVersion::V1) => {
                Some("systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
            }
            _ => None,
        }
    }

    /// The packages that make up Docker Engine and its command line.
    pub(crate) fn engine_packages(self) -> &'static [&'static str] {
        match self {
            Self::Bookworm => &["docker.io"],
            Self::Trixie | Self::Forky => &["docker.io", "docker-cli"],
        }
    }
}

impl FromStr for Release {
    type Err = ParseReleaseError;
    fn from_str(text: &str) -> Result<Self, ParseReleaseError> {
        Self::ALL.into_iter().find(|r| r.codename() == text).ok_or_else(|| ParseReleaseError(text.to_owned()))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.codename())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for release in Release::ALL {
            assert_eq!(release.to_string().parse(), Ok(release));
        }
        assert!("sarge".parse::<Release>().is_err());
    }

    #[test]
    fn only_forky_needs_the_unified_hierarchy() {
        for release in Release::ALL {
            assert!(release.check(CgroupVersion::V2).is_ok() && release.boot_options(CgroupVersion::V2).is_none());
        }
        assert!(Release::Bookworm.check(CgroupVersion::V1).is_ok() && Release::Trixie.check(CgroupVersion::V1).is_ok());
        let refusal = Release::Forky.check(CgroupVersion::V1).unwrap_err().to_string();
        assert!(refusal.contains("forky") && refusal.contains("cgroup v2"), "{refusal}");
    }
}
