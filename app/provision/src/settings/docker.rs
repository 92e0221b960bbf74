//! What an inventory's variables say about Docker on a host: packages, their source, proxies and mirrors, checked words all.
//!
//! Must not read a file. What may hold a password shows neither in `Debug` nor in a mistake.

use osier_converge::{Content, Package, Proxies, Version};
use std::{fmt, path::PathBuf, str::FromStr};

/// Docker on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DockerSettings {
    /// `docker_packages`: what is installed; the distribution's where empty.
    pub(crate) packages: Vec<Package>,
    /// `docker_version`: the version of those packages that name none.
    pub(crate) version: Option<Version>,
    /// `docker_apt_source`: where they come from.
    pub(crate) source: Option<AptSource>,
    /// `docker_apt_key`: a file with the keys that sign the source.
    pub(crate) key: Option<PathBuf>,
    /// `http_proxy`, `https_proxy`, `no_proxy`.
    pub(crate) proxies: Proxies,
    /// `docker_registry_mirrors`.
    pub(crate) mirrors: Vec<Mirror>,
}

/// One line of a file below `/etc/apt/sources.list.d` (sources.list(5)), of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AptSource {
    /// What stands in brackets, without `signed-by`.
    options: Vec<String>,
    /// The keyring that the line itself names.
    signed_by: Option<String>,
    /// Address, suite and components.
    rest: Vec<String>,
}

/// The URL of a proxy, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProxyUrl(String);

/// A host, address, range or domain that is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Direct(String);

/// The URL of a registry's mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror(String);

/// Why a text is none of these words; it never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WordError(&'static str);

impl AptSource {
    /// The line, with the keyring that its packages must be signed by.
    pub(crate) fn line(&self, keyring: Option<&str>) -> String {
        let signed = keyring.or(self.signed_by.as_deref()).map(|keyring| format!("signed-by={keyring}"));
        let options: Vec<&str> = self.options.iter().map(String::as_str).chain(signed.as_deref()).collect();
        let brackets = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
        format!("deb {brackets}{}\n", self.rest.join(" "))
    }

    /// Whether the line itself names a keyring.
    pub(crate) fn names_keyring(&self) -> bool {
        self.signed_by.is_some()
    }
}

impl Mirror {
    /// The URL.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProxyUrl {
    /// The URL, which does not show any more.
    pub(crate) fn into_content(self) -> Content {
        Content::from(self.0)
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AptSource {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        const SHAPE: WordError = WordError("it must be one line 'deb [OPTION=VALUE …] URL SUITE COMPONENT …'");
        let line = text.trim().strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']));
        let line = line.filter(|line| !line.chars().any(|c| c.is_control() && c != '\t') && !line.contains('#'));
        let line = line.ok_or(SHAPE)?.trim();
        let (options, rest) = match line.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or(SHAPE)?,
            None => ("", line),
        };
        let (signed, options): (Vec<_>, Vec<_>) =
            options.split_whitespace().map(str::to_owned).partition(|option| option.starts_with("signed-by="));
        let rest: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        let [url, suite, components @ ..] = rest.as_slice() else { return Err(SHAPE) };
        let (scheme, address) = url.split_once(':').ok_or(SHAPE)?;
        if scheme.is_empty() || address.is_empty() || !options.iter().all(|o| o.contains('=')) || signed.len() > 1 {
            return Err(SHAPE);
        }
        if suite.ends_with('/') != components.is_empty() {
            return Err(WordError("a suite needs components, and a path that ends in '/' has none"));
        }
        if has_user(url) {
            return Err(WordError("user and password do not belong there; apt reads them from /etc/apt/auth.conf.d"));
        }
        let signed_by = signed.first().and_then(|s| s.strip_prefix("signed-by=")).map(str::to_owned);
        Ok(Self { options, signed_by, rest })
    }
}

impl FromStr for ProxyUrl {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = WordError(
            "it must be a URL such as http://proxy:3128 or http://USER:PASSWORD@proxy:3128, special characters as %XX",
        );
        if is_http_url(text) { Ok(Self(text.to_owned())) } else { Err(wrong) }
    }
}

impl FromStr for Mirror {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        if is_http_url(text) && !has_user(text) && !text.contains(['?', '#']) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError("a mirror must be a URL such as https://mirror.example.org, without user and password"))
        }
    }
}

impl FromStr for Direct {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b".:*/_-[]".contains(&b);
        if !text.is_empty() && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError("it must be hosts, domains, addresses or ranges, with commas between them"))
        }
    }
}

/// Whether it is `http://` or `https://`, a host, and maybe a port; of characters that need no quotes anywhere (RFC 3986).
fn is_http_url(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&()*+,;=%".contains(&b);
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host, None),
    };
    text.bytes().all(good) && !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether a URL names a user.
fn has_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().is_some_and(|authority| authority.contains('@'))
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Result<AptSource, WordError> {
        text.parse()
    }

    #[test]
    fn a_source_is_a_line_of_apts() {
        let docker = source("deb [arch=amd64] https://download.example.org/linux/debian  bookworm stable").unwrap();
        let expected = "deb [arch=amd64 signed-by=/k.asc] https://download.example.org/linux/debian bookworm stable\n";
        assert_eq!(docker.line(Some("/k.asc")), expected);
        let flat = source("deb [trusted=yes signed-by=/own.gpg] file:/srv/repo ./").unwrap();
        assert_eq!(flat.line(None), "deb [trusted=yes signed-by=/own.gpg] file:/srv/repo ./\n");
        assert!(flat.names_keyring() && !docker.names_keyring());
        assert_eq!(source("deb http://x/ ./").unwrap().line(None), "deb http://x/ ./\n");
        for bad in [
            "",
            "deb",
            "deb-src http://x/ a b",
            "deb http://x/",
            "deb http://x/ a",
            "deb http://x/ ./ main",
            "deb [a=b http://x/ a b",
            "deb [a] http://x/ a b",
            "deb x a b",
            "deb http://x/ a b\ndeb http://y/ a b",
            "deb http://x/ a b # c",
            "deb https://me:secret@x/ a b",
        ] {
            let error = source(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn urls_that_programs_would_read_otherwise_are_refused() {
        for good in ["http://p:3128", "https://me:pa%3Ass@p.example.org:443/", "http://[fd00::1]:3128", "http://p"] {
            assert!(good.parse::<ProxyUrl>().is_ok(), "{good}");
        }
        for bad in [
            "p:3128",
            "",
            "http://",
            "http://p:x",
            "http://p:3128\nA=b",
            "http://a b",
            "http://\"",
            "socks5://p",
            "http://'a",
        ] {
            assert!(bad.parse::<ProxyUrl>().is_err(), "{bad}");
        }
        assert!("https://m.example.org/v2".parse::<Mirror>().is_ok());
        for bad in ["m.example.org", "https://me:x@m", "https://m?x"] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", "http://me:secret@p".parse::<ProxyUrl>().unwrap()), "(18 bytes)");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "(deb |http://)?\\PC*") {
            let _ = (text.parse::<AptSource>(), text.parse::<ProxyUrl>(), text.parse::<Mirror>(), text.parse::<Direct>());
        }
    }
}
