//! Entries: `host:port`, one by one, in comma lists with ranges, and in files with comments.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

/// The most engines that one range may stand for.
const RANGE: u32 = 10_000;

/// Where one engine is: `host:port`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    host: String,
    port: u16,
}

/// The text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not `host:port`.
    #[error("'{0}' is not of the form host:port")]
    Form(String),
    /// The first number of a range is the larger one.
    #[error("the range in '{0}' ends before it begins")]
    Backwards(String),
    /// A range is too long.
    #[error("the range in '{0}' stands for more than {RANGE} engines")]
    TooMany(String),
    /// There is more than one range.
    #[error("'{0}' has more than one range")]
    TwoRanges(String),
}

impl Entry {
    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Entry {
    type Err = EntryError;
    fn from_str(text: &str) -> Result<Self, EntryError> {
        let bad = || EntryError::Form(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '[' | ']' | '@');
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
        let port: u16 = port.filter(|p| *p != 0).ok_or_else(bad)?;
        if host.is_empty() || host.contains(odd) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Reads a list of entries with ranges, in its order and each engine once. Blank ones are skipped.
pub fn parse_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Entry>, EntryError> {
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    for text in texts.into_iter().map(str::trim).filter(|t| !t.is_empty()) {
        for entry in expand(text)? {
            if seen.insert(entry.clone()) {
                list.push(entry);
            }
        }
    }
    Ok(list)
}

/// Reads a file of entries: one per line, `#` begins a comment.
pub fn parse_file(text: &str) -> Result<Vec<Entry>, EntryError> {
    parse_list(text.lines().map(|line| line.split_once('#').map_or(line, |(entry, _)| entry)))
}

/// Writes out an inclusive range `[A:B]` of numbers. Anything else in brackets is an address. Leading zeros count
/// (`node[08:10]` is node08, node09, node10), except in IPv4 addresses, which have none.
fn expand(text: &str) -> Result<Vec<Entry>, EntryError> {
    let Some(Range { head, first, last, tail }) = range(text) else { return Ok(vec![text.parse()?]) };
    if range(tail).is_some() {
        return Err(EntryError::TwoRanges(text.to_owned()));
    }
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| EntryError::TooMany(text.to_owned()));
    let width = if first.starts_with('0') { first.len() } else { 0 };
    let (first, last) = (number(first)?, number(last)?);
    match last.checked_sub(first) {
        None => return Err(EntryError::Backwards(text.to_owned())),
        Some(more) if more >= RANGE => return Err(EntryError::TooMany(text.to_owned())),
        Some(_) => {}
    }
    let entry = |n: u32| {
        let padded: Entry = format!("{head}{n:0width$}{tail}").parse()?;
        let bare = format!("{head}{n}{tail}").parse::<Entry>().ok();
        Ok(bare.filter(|entry| entry.host.parse::<Ipv4Addr>().is_ok()).unwrap_or(padded))
    };
    (first..=last).map(entry).collect()
}

struct Range<'a> {
    head: &'a str,
    first: &'a str,
    last: &'a str,
    tail: &'a str,
}

/// The first range of a text.
fn range(text: &str) -> Option<Range<'_>> {
    let opening = text.match_indices('[').map(|(at, _)| at);
    opening.into_iter().find_map(|at| {
        let (inside, tail) = text[at + 1..].split_once(']')?;
        let (first, last) = inside.split_once(':')?;
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        (digits(first) && digits(last)).then_some(Range { head: &text[..at], first, last, tail })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<String>, String> {
        let entries = parse_list(text.split(',')).map_err(|e| e.to_string())?;
        Ok(entries.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_are_taken_and_refused_as_the_classic_did() {
        for good in ["h-n_42:1111", "[2001:db8::3]:2375", "a:1", "10.0.0.1:65535"] {
            assert_eq!(good.parse::<Entry>().unwrap().to_string(), good);
        }
        for bad in ["", "h", "h:", "h:0", "h:65536", "h:+1", "a b:1", ":1", "a:b:1", "[::1:1", "http://h:1", "x/y:1"] {
            assert!(bad.parse::<Entry>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_stand_for_engines() {
        assert_eq!(list("10.0.0.[9:11]:2375").unwrap(), ["10.0.0.9:2375", "10.0.0.10:2375", "10.0.0.11:2375"]);
        assert_eq!(list("h:[1:2]376").unwrap(), ["h:1376", "h:2376"]);
        assert_eq!(list("b:1, a:2,,b:1").unwrap(), ["b:1", "a:2"]);
        assert_eq!(list("[::1]:2375").unwrap(), ["[::1]:2375"]);
        assert_eq!(list("[::1]:[1:2]376").unwrap(), ["[::1]:1376", "[::1]:2376"]);
        assert_eq!(list("n%d[1:1]:1").unwrap(), ["n%d1:1"]);
    }

    #[test]
    fn leading_zeros_belong_to_names_and_not_to_addresses() {
        assert_eq!(list("node[08:10]:1").unwrap(), ["node08:1", "node09:1", "node10:1"]);
        assert_eq!(list("10.0.0.[08:10]:1").unwrap(), ["10.0.0.8:1", "10.0.0.9:1", "10.0.0.10:1"]);
    }

    #[test]
    fn broken_ranges_are_named() {
        for (text, part) in [
            ("h[3:1]:1", "ends before it begins"),
            ("h[0:10000]:1", "more than 10000"),
            ("h[0:99999999999]:1", "more than 10000"),
            ("h[1:2]-[1:2]:1", "more than one range"),
            ("h[1:2]", "not of the form"),
            ("h[a:b]:1", "not of the form"),
        ] {
            assert!(list(text).unwrap_err().contains(part), "{text}");
        }
    }

    #[test]
    fn files_have_comments_and_a_broken_line_is_an_error() {
        let found = parse_file("# all\n a:1 # first\n\n10.0.0.[8:9]:2\r\n#b:1\n").unwrap();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "10.0.0.8:2", "10.0.0.9:2"]);
        assert!(parse_file("a:1\nb\n").is_err());
    }
}
