//! The words that name a host, a user and a suffix: checked, so that they mean nothing to a shell or to ssh_config(5).

use std::{fmt, str::FromStr};

/// A word that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is no {what}: {why}")]
pub struct WordError {
    word: String,
    what: &'static str,
    why: &'static str,
}

fn wrong(word: &str, what: &'static str, why: &'static str) -> WordError {
    WordError { word: word.escape_debug().to_string(), what, why }
}

/// What is put behind an address to say that it is reached through the VPN, such as `eolas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffix(String);

impl FromStr for Suffix {
    type Err = WordError;

    /// Takes one or more labels of a host name (RFC 1123), a dot before them or not.
    fn from_str(text: &str) -> Result<Self, WordError> {
        let labels = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |l: &str| {
            let inner = l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            (1..=63).contains(&l.len()) && inner && !l.starts_with('-') && !l.ends_with('-')
        };
        if labels.len() > 100 || !labels.split('.').all(is_label) {
            return Err(wrong(text, "suffix", "it takes letters, digits and hyphens, with dots between"));
        }
        Ok(Self(labels))
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's name on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

impl FromStr for User {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if text.is_empty() || text.len() > 64 || text.starts_with('-') || !text.bytes().all(fits) {
            return Err(wrong(
                text,
                "user",
                "it takes letters, digits, dots, hyphens and underscores, no hyphen first",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where ssh is to go: `[USER@]HOST[:PORT]`, an IPv6 address with a port in brackets. The host may be an alias of ssh_config(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The user, where the configuration's is not wanted.
    pub user: Option<User>,
    /// Name, address or alias.
    host: String,
    /// The port, where the configuration's is not wanted.
    pub port: Option<u16>,
}

impl Destination {
    /// Name, address or alias of the host.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for Destination {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.parse()?), place),
            None => (None, text),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, port.strip_prefix(':').or(Some(""))),
            None if place.matches(':').count() == 1 => {
                place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
            }
            None => (place, None),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(wrong(text, "destination", "its port is a number from 1 to 65535")),
        };
        let is_name = |h: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            (1..=253).contains(&h.len()) && h.bytes().all(fits) && !h.starts_with(['-', '.'])
        };
        if !is_name(host) && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong(text, "destination", "it looks like 'user@host', 'host:port' or '[::1]:port'"));
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn destinations_are_read_and_written() {
        let read = |text: &str| text.parse::<Destination>().map(|d| (d.user.map(|u| u.0), d.host, d.port));
        let user = || Some("vpn-user".to_owned());
        assert_eq!(read("vpn-user@vpn-host"), Ok((user(), "vpn-host".into(), None)));
        assert_eq!(read("192.0.2.1:2222"), Ok((None, "192.0.2.1".into(), Some(2222))));
        assert_eq!(read("vpn-user@[2001:db8::1]:22"), Ok((user(), "2001:db8::1".into(), Some(22))));
        assert_eq!(read("2001:db8::1"), Ok((None, "2001:db8::1".into(), None)));
        for bad in ["", "@h", "u@", "h:", "h:0", "h:70000", "-oProxyCommand=x", "u@-h", "-l@h", "h;id", "h h", "$(id)"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        for bad in ["h\nUser root", "a%h", "[::1", "[::1]x", "[h]x:1", "`id`@h", "a b@h", "..", "fe80::1%eth0"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_suffix_is_the_end_of_a_host_name() {
        for (text, kept) in [("eolas", "eolas"), (".eolas", "eolas"), ("Lab.Eolas", "lab.eolas")] {
            assert_eq!(text.parse::<Suffix>().map(|s| s.0).as_deref(), Ok(kept));
        }
        for bad in ["", ".", "..a", "a..b", "*", "a*", "a b", "-a", "a-", "a\nHost *", "a`id`", "a%h", "a_b", "é"] {
            assert!(bad.parse::<Suffix>().is_err(), "{bad}");
        }
        let error = "a\nHost *".parse::<Suffix>().unwrap_err().to_string();
        assert!(error.starts_with(r"'a\nHost *' is no suffix: "), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_read_back_and_means_nothing_to_a_shell(text in "[a-z@:.\\[\\]0-9 %$`;'\"\n-]{0,24}") {
            if let Ok(destination) = text.parse::<Destination>() {
                let written = destination.to_string();
                prop_assert_eq!(written.parse::<Destination>(), Ok(destination));
                prop_assert!(!written.contains([' ', '%', '$', '`', ';', '\'', '"', '\n']) && !written.starts_with('-'));
            }
        }
    }
}
