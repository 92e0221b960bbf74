//! Which operating system a host runs, whether it is supported, and what its packages are called.
//!
//! Must not know where the text came from (os-release(5)).

use crate::Name;
use std::fmt;

/// The values of `/etc/os-release` that matter here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsRelease {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12` or `24.04`; empty on Debian's testing and unstable.
    pub version: String,
    /// `PRETTY_NAME`, for messages.
    pub pretty: String,
}

/// A supported operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Debian; the number is missing on testing and unstable, which are newer than any that has one.
    Debian(Option<u32>),
    /// Ubuntu, by year and month.
    Ubuntu(u32, u32),
}

/// The operating system is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system is {0}; supported are Debian 12 and newer, and Ubuntu 22.04 and newer")]
pub struct Unsupported(String);

impl OsRelease {
    /// Reads the text of `/etc/os-release`. Lines that are not assignments are ignored, as the format wants.
    pub fn parse(text: &str) -> Self {
        let mut os = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.trim().split_once('=') else { continue };
            let field = match name {
                "ID" => &mut os.id,
                "VERSION_ID" => &mut os.version,
                "PRETTY_NAME" => &mut os.pretty,
                _ => continue,
            };
            *field = unquote(value);
        }
        os
    }

    /// Whether the system is supported.
    pub fn system(&self) -> Result<System, Unsupported> {
        let unsupported = || Unsupported(if self.to_string().is_empty() { "unknown".into() } else { self.to_string() });
        match self.id.as_str() {
            "debian" if self.version.is_empty() => Ok(System::Debian(None)),
            "debian" => match self.version.parse() {
                Ok(version) if version >= 12 => Ok(System::Debian(Some(version))),
                _ => Err(unsupported()),
            },
            "ubuntu" => {
                let (year, month) = self.version.split_once('.').ok_or_else(unsupported)?;
                match (year.parse(), month.parse()) {
                    (Ok(year), Ok(month)) if (year, month) >= (22, 4) => Ok(System::Ubuntu(year, month)),
                    _ => Err(unsupported()),
                }
            }
            _ => Err(unsupported()),
        }
    }
}

impl fmt::Display for OsRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.pretty.is_empty() { &self.id } else { &self.pretty })
    }
}

impl System {
    /// The packages of the distribution that make a Docker engine with its command line.
    pub fn engine_packages(self) -> Vec<Name> {
        // Debian 13 took the command line out of docker.io.
        let split = matches!(self, Self::Debian(version) if version.is_none_or(|v| v >= 13));
        let names = ["docker.io", "docker-cli"].into_iter().take(if split { 2 } else { 1 });
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

/// A shell-like value: quotes around it, and backslashes before what they protect, are taken off.
fn unquote(value: &str) -> String {
    let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
    let Some(inner) = quoted('"').or_else(|| quoted('\'')) else { return value.to_owned() };
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn os(text: &str) -> OsRelease {
        OsRelease::parse(text)
    }

    #[test]
    fn supported_systems_are_known_by_their_release_files() {
        let bookworm = os("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n");
        assert_eq!(bookworm.system().unwrap(), System::Debian(Some(12)));
        assert_eq!(bookworm.system().unwrap().engine_packages().len(), 1);
        let testing = os("PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nID=debian\nVERSION_CODENAME=forky\n");
        assert_eq!(testing.system().unwrap().engine_packages().len(), 2);
        assert_eq!(os("ID=ubuntu\nVERSION_ID='24.04'").system().unwrap(), System::Ubuntu(24, 4));
    }

    #[test]
    fn others_are_refused_by_name() {
        for text in
            ["ID=debian\nVERSION_ID=11", "ID=ubuntu\nVERSION_ID=20.04", "ID=ubuntu", "ID=alpine\nVERSION_ID=3.20", ""]
        {
            assert!(os(text).system().is_err(), "{text}");
        }
        let error = os("ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.20\"").system().unwrap_err();
        assert!(error.to_string().starts_with("the system is Alpine Linux v3.20; supported are"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(ID|VERSION_ID|PRETTY_NAME|\\PC{0,4})[=\"'\\\\ a-z0-9.\n]{0,30}") {
            let _ = os(&text).system();
        }
    }
}
