//! Where things are in a message's bytes: just enough to keep a reply and to send it again as it came.
//!
//! Must not know what any of it means. The library that reads messages would write them anew; types and options that it
//! does not know, and the way names are compressed, survive only where nothing is written anew.

use crate::message::{HEADER, question};
use std::ops::Range;

/// Types and the class that matter (RFC 1035, 3.2).
pub(crate) const A: u16 = 1;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const ANY: u16 = 255;
pub(crate) const IN: u16 = 1;
/// The type of the pseudo record that carries EDNS (RFC 6891); its time to live is none.
pub(crate) const OPT: u16 = 41;

/// The sections that records are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Where one record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) section: Section,
    pub(crate) kind: u16,
    /// Of the four bytes with its time to live.
    pub(crate) ttl_at: usize,
    pub(crate) ttl: u32,
    pub(crate) data: Range<usize>,
}

/// The number in two bytes.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// The number in four bytes.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// The records of a message with one question, in their order. `None` where it ends too early or does not end with the
/// last of them.
pub(crate) fn records(bytes: &[u8]) -> Option<Vec<Place>> {
    if u16_at(bytes, 4)? != 1 {
        return None;
    }
    let mut at = HEADER + question(bytes)?.len();
    let mut places = Vec::new();
    for (count_at, section) in [(6, Section::Answer), (8, Section::Authority), (10, Section::Additional)] {
        for _ in 0..u16_at(bytes, count_at)? {
            let fixed = after_name(bytes, at)?;
            let length = usize::from(u16_at(bytes, fixed + 8)?);
            let data = fixed + 10..fixed + 10 + length;
            bytes.get(data.clone())?;
            at = data.end;
            let (kind, ttl) = (u16_at(bytes, fixed)?, u32_at(bytes, fixed + 4)?);
            places.push(Place { section, kind, ttl_at: fixed + 4, ttl, data });
        }
    }
    (at == bytes.len()).then_some(places)
}

/// Where the name that begins at `at` ends.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            // The rest is elsewhere.
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}
