//! The name in a question, in a form that can be compared with host names.
//!
//! Must not know records. A DNS label may hold any bytes (RFC 2181, 11); a label that no host name can have must still
//! be seen to lie inside or outside the domain, and must match nothing.

use ipnet::Ipv4Net;
use osier_model::Hostname;
use std::net::Ipv4Addr;

/// The name in a question: lower case, labels joined by dots, without the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryName(String);

/// Stands for a byte that no host name has, so that a dot or blank inside a label is not taken for something else.
const FOREIGN: char = char::REPLACEMENT_CHARACTER;

impl QueryName {
    /// The name with these labels, leftmost first; none for the root.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut text = String::new();
        for (index, label) in labels.enumerate() {
            if index > 0 {
                text.push('.');
            }
            text.extend(label.iter().map(|&b| match b {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(b),
                b'A'..=b'Z' => char::from(b.to_ascii_lowercase()),
                _ => FOREIGN,
            }));
        }
        Self(text)
    }

    /// What stands before the domain, without the dot; empty for the domain itself; `None` outside it.
    pub(crate) fn inside(&self, domain: &Hostname) -> Option<&str> {
        let head = self.0.strip_suffix(domain.as_str())?;
        if head.is_empty() { Some(head) } else { head.strip_suffix('.') }
    }

    /// The whole name, if it has exactly one label.
    pub(crate) fn single_label(&self) -> Option<&str> {
        (!self.0.is_empty() && !self.0.contains('.')).then_some(&self.0)
    }

    /// The address that a whole reverse name stands for (RFC 1035, 3.5).
    pub(crate) fn reverse(&self) -> Option<Ipv4Addr> {
        let mut octets = [0; 4];
        let mut labels = self.0.strip_suffix(".in-addr.arpa")?.split('.');
        for octet in octets.iter_mut().rev() {
            let label = labels.next()?;
            *octet = label.parse().ok().filter(|o: &u8| o.to_string() == label)?;
        }
        labels.next().is_none().then(|| octets.into())
    }
}

/// The reverse zone an address of the pool is in: the largest one, cut between octets, that lies wholly in the pool.
pub(crate) fn reverse_zone(address: Ipv4Addr, pool: Ipv4Net) -> Hostname {
    let octets = usize::from(pool.prefix_len().div_ceil(8).max(1));
    let labels: Vec<String> = address.octets()[..octets].iter().rev().map(u8::to_string).collect();
    let name = format!("{}.in-addr.arpa", labels.join("."));
    name.parse().expect("numbers joined by dots are labels of a host name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_neither_match_nor_move_the_borders_of_labels() {
        let domain = Hostname::default_domain();
        let name = |labels: &[&str]| QueryName::from_labels(labels.iter().map(|l| l.as_bytes()));
        assert_eq!(name(&["a b", "weave", "local"]).inside(&domain), Some("a\u{fffd}b"));
        assert_eq!(name(&["a.weave", "local"]).inside(&domain), None);
        assert_eq!(name(&["a.b"]).single_label(), Some("a\u{fffd}b"));
    }

    #[test]
    fn reverse_zones_are_cut_between_octets() {
        for (pool, zone) in [
            ("10.1.1.0/24", "1.1.10.in-addr.arpa"),
            ("10.0.0.0/12", "1.10.in-addr.arpa"),
            ("10.1.1.128/25", "200.1.1.10.in-addr.arpa"),
            ("0.0.0.0/0", "10.in-addr.arpa"),
        ] {
            assert_eq!(reverse_zone([10, 1, 1, 200].into(), pool.parse().unwrap()).as_str(), zone, "{pool}");
        }
    }
}
