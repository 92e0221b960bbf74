//! Host patterns, as `--limit` and ad-hoc commands take them, applied to an inventory.
//!
//! Must not know variables. Parts are separated by `,`, or by `:` where there is no comma; parts are added, then those with `&` intersect, then
//! those with `!` exclude, whatever their order (Ansible's documentation, "Patterns: targeting hosts and groups").
//! A part is a name, a glob, `~` and a regular expression, any but the last with `[index]` or `[first:last]` behind it.

use crate::{
    Inventory,
    nearest::{hint, nearest},
    range,
};
use regex::Regex;
use std::collections::BTreeSet;

/// A host pattern cannot be used on this inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A name, or a glob that should add hosts, matches nothing.
    #[error("find '{name}': the inventory has no such host or group{}", hint(nearest.as_deref()))]
    Unknown {
        /// The part of the pattern that matches nothing.
        name: String,
        /// The known name that is spelt most like it.
        nearest: Option<String>,
    },
    /// A part of the pattern cannot be understood.
    #[error("read host pattern '{pattern}': {reason}")]
    Syntax {
        /// The part of the pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn syntax(pattern: &str, reason: impl Into<String>) -> PatternError {
    PatternError::Syntax { pattern: pattern.to_owned(), reason: reason.into() }
}

/// Indices of the hosts that the parts of a pattern select, in order, each once.
pub(crate) fn select(inventory: &Inventory, parts: &[String]) -> Result<Vec<usize>, PatternError> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
    if parts.is_empty() {
        return Err(syntax("", "it is empty"));
    }
    let (mut selected, mut added) = (Vec::new(), false);
    for part in parts.iter().filter(|p| !p.starts_with(['&', '!'])) {
        added = true;
        let exact = inventory.hosts.iter().position(|h| h.name == *part);
        let hosts = match exact {
            Some(host) => vec![host],
            None => matches(inventory, part, true)?,
        };
        selected.extend(hosts);
    }
    if !added {
        selected = inventory.group("all").map(|g| g.members.clone()).unwrap_or_default();
    }
    dedup(&mut selected);
    for (sign, keep) in [('&', true), ('!', false)] {
        for part in parts.iter().filter_map(|p| p.strip_prefix(sign)) {
            let hosts: BTreeSet<usize> = matches(inventory, part, false)?.into_iter().collect();
            selected.retain(|h| hosts.contains(h) == keep);
        }
    }
    Ok(selected)
}

/// The parts of a pattern: those between commas where there is one, else those between colons. A colon within brackets or
/// in an address does not separate; blanks separate as colons do.
pub fn split_pattern(pattern: &str) -> Vec<String> {
    let pieces: Vec<&str> = if pattern.contains(',') {
        pattern.split(',').collect()
    } else if range::is_address(pattern) {
        vec![pattern]
    } else {
        words(pattern)
    };
    pieces.into_iter().map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// The runs of characters other than blanks and colons; whole pairs of brackets belong to a run, single ones do not.
fn words(pattern: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(c) = pattern[at..].chars().next() {
        let next = match c {
            '[' => pattern[at..].find(']').map(|end| at + end + 1),
            ']' | ':' => None,
            c if c.is_whitespace() => None,
            c => Some(at + c.len_utf8()),
        };
        at = next.unwrap_or_else(|| {
            words.push(&pattern[start..at]);
            start = at + c.len_utf8();
            start
        });
    }
    words.push(&pattern[start..]);
    words
}

/// The hosts that one part means. A plain name must be known; a glob must match something where `must_match`.
fn matches(inventory: &Inventory, part: &str, must_match: bool) -> Result<Vec<usize>, PatternError> {
    if part.is_empty() {
        return Err(syntax(part, "a name is missing behind '&' or '!'"));
    }
    let (expression, range) = if part.starts_with('~') { (part, None) } else { subscript(part) };
    let glob = expression.contains(['*', '?', '[']);
    let test: Box<dyn Fn(&str) -> bool> = if let Some(regex) = expression.strip_prefix('~') {
        let regex = Regex::new(&format!("^(?:{regex})")).map_err(|e| syntax(part, e.to_string()))?;
        Box::new(move |name| regex.is_match(name))
    } else if glob {
        let regex = Regex::new(&regex_of_glob(expression)).map_err(|_| syntax(part, "it is not a glob"))?;
        Box::new(move |name| regex.is_match(name))
    } else {
        Box::new(|name| name == expression)
    };
    let groups: Vec<_> = inventory.groups.iter().filter(|g| test(&g.name)).collect();
    let mut hosts: Vec<usize> = groups.iter().flat_map(|g| g.members.iter().copied()).collect();
    if groups.is_empty() || glob || expression.contains('.') || expression.starts_with('~') {
        hosts.extend((0..inventory.hosts.len()).filter(|&h| test(&inventory.hosts[h].name)));
    }
    dedup(&mut hosts);
    let plain = !glob && !expression.starts_with('~');
    if hosts.is_empty() && groups.is_empty() && (plain || must_match) {
        let known = inventory.groups.iter().map(|g| g.name.as_str()).chain(inventory.hosts.iter().map(|h| h.name()));
        let nearest = if plain { nearest(expression, known).map(str::to_owned) } else { None };
        return Err(PatternError::Unknown { name: expression.to_owned(), nearest });
    }
    match range {
        None => Ok(hosts),
        Some(range) => {
            slice(&hosts, range).ok_or_else(|| syntax(part, format!("there are only {} hosts", hosts.len())))
        }
    }
}

/// `[first:last]` behind a pattern, both ends included; `[-1]` is the last host.
#[derive(Clone, Copy)]
enum Subscript {
    At(isize),
    Range(usize, Option<usize>),
}

fn subscript(part: &str) -> (&str, Option<Subscript>) {
    let parse = || {
        let (head, inside) = part.strip_suffix(']')?.rsplit_once('[')?;
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        let range = match inside.split_once([':', '-']) {
            // Ansible takes a range that ends with zero for its first host alone, and takes `[a-b]` as `[a:b]`.
            Some((first, last)) if digits(first) && digits(last) => match last.parse().ok()? {
                0 => Subscript::At(first.parse().ok()?),
                last => Subscript::Range(first.parse().ok()?, Some(last)),
            },
            Some((first, "")) if digits(first) => Subscript::Range(first.parse().ok()?, None),
            _ if digits(inside.strip_prefix('-').unwrap_or(inside)) => Subscript::At(inside.parse().ok()?),
            _ => return None,
        };
        (!head.is_empty()).then_some((head, Some(range)))
    };
    parse().unwrap_or((part, None))
}

fn slice(hosts: &[usize], range: Subscript) -> Option<Vec<usize>> {
    match range {
        Subscript::At(at) if at < 0 => hosts.len().checked_sub(at.unsigned_abs()).map(|i| vec![hosts[i]]),
        Subscript::At(at) => hosts.get(at.unsigned_abs()).map(|&h| vec![h]),
        Subscript::Range(first, last) => {
            let end = last.map_or(hosts.len(), |l| l.saturating_add(1)).min(hosts.len());
            Some(hosts.get(first..end).unwrap_or_default().to_vec())
        }
    }
}

fn dedup(hosts: &mut Vec<usize>) {
    let mut seen = BTreeSet::new();
    hosts.retain(|&h| seen.insert(h));
}

/// A shell glob (`*`, `?`, `[a-c]`, `[!a]`) as an anchored regular expression.
fn regex_of_glob(glob: &str) -> String {
    let mut out = String::from("(?s)^");
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            // A bracket right behind the opening one is a member of the set, not its end.
            '[' => match rest.char_indices().skip(1 + usize::from(rest.starts_with('!'))).find(|&(_, c)| c == ']') {
                Some((end, _)) => {
                    let (set, tail) = (&rest[..end], &rest[end + 1..]);
                    let (not, set) = set.strip_prefix('!').map_or(("", set), |s| ("^", s));
                    out.push('[');
                    out.push_str(not);
                    for c in set.chars() {
                        out.push_str(&if c == '-' { "-".to_owned() } else { regex::escape(&c.to_string()) });
                    }
                    out.push(']');
                    rest = tail;
                }
                None => out.push_str("\\["),
            },
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, SourceKind};

    fn inventory() -> Inventory {
        let text =
            "lone\n2001:db8::1\n[masters]\nmaster\n[web]\nweb[1:4]\n[db]\ndb-[a:b]\nweb4\n[live:children]\nweb\ndb\n";
        let source = Source { path: "hosts".to_owned(), text: text.to_owned(), kind: SourceKind::Hosts };
        Inventory::parse(&[source]).unwrap()
    }

    fn names(pattern: &str) -> String {
        let inventory = inventory();
        let hosts = inventory.select(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        hosts.iter().map(|h| h.name()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn patterns_select_what_ansible_selects() {
        let all = "lone 2001:db8::1 master web1 web2 web3 web4 db-a db-b";
        for (pattern, expected) in [
            ("all", all),
            ("*", all),
            ("web", "web1 web2 web3 web4"),
            ("live", "web1 web2 web3 web4 db-a db-b"),
            ("master", "master"),
            ("web1:db", "web1 db-a db-b web4"),
            ("web1, master", "web1 master"),
            ("web:&db", "web4"),
            ("live:!web", "db-a db-b"),
            ("!web:live", "db-a db-b"),
            ("!live", "lone 2001:db8::1 master"),
            ("db-?", "db-a db-b"),
            ("web[0]", "web1"),
            ("web[-1]", "web4"),
            ("web[1:2]", "web2 web3"),
            ("web[2:]", "web3 web4"),
            ("web[0:2]:&web[1:9]", "web2 web3"),
            ("web[1-2]", "web2 web3"),
            ("web[1:0]", "web2"),
            ("web db", "web1 web2 web3 web4 db-a db-b"),
            ("db-a:web1", "db-a web1"),
            ("*[!a-z]:!web", "2001:db8::1"),
            ("~web[12]$", "web1 web2"),
            ("~(lone|mas)", "master lone"),
            ("2001:db8::1", "2001:db8::1"),
            ("web:!web*", ""),
            ("all:!nothing*", all),
        ] {
            assert_eq!(names(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn unknown_names_are_errors_that_name_the_nearest() {
        for (pattern, message) in [
            ("mastr", "find 'mastr': the inventory has no such host or group; is 'master' meant?"),
            ("all:!web9", "find 'web9': the inventory has no such host or group; is 'web' meant?"),
            ("web:&mongo", "find 'mongo': the inventory has no such host or group"),
            ("x*", "find 'x*': the inventory has no such host or group"),
            ("web[9]", "read host pattern 'web[9]': there are only 4 hosts"),
            (" , ", "read host pattern '': it is empty"),
            ("web:db,lone", "find 'web:db': the inventory has no such host or group"),
            ("all:!", "read host pattern '': a name is missing behind '&' or '!'"),
        ] {
            assert_eq!(inventory().select(pattern).unwrap_err().to_string(), message, "{pattern}");
        }
        assert!(inventory().select("~(").unwrap_err().to_string().starts_with("read host pattern '~(': "));
    }
}
