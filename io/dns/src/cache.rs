//! Replies of resolvers, kept for as long as they say they hold.
//!
//! Must not know sockets or clocks: the time is an argument. A reply is kept byte for byte under all that its query said,
//! so that it answers only queries which would have brought the same one; sent again, it carries the new query's id and
//! spelling, and what is left of its times to live. Denials are kept as RFC 2308 says: with the start of authority that
//! came with them, for as long as that says. What is truncated, has failed, or says nothing about how long it holds is not
//! kept.

use crate::{
    message::{HEADER, PLAIN_PAYLOAD, Transport, question},
    wire::{ANY, IN, OPT, Place, SOA, Section, records, u16_at, u32_at},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// The longest that a reply is kept, in seconds.
const LONGEST: u32 = 3600;
/// The longest that a denial is kept, in seconds: what does not exist yet may soon.
const LONGEST_DENIAL: u32 = 300;
/// What an entry takes besides its bytes, roughly.
const OVERHEAD: usize = 256;

/// Codes of replies (RFC 1035, 4.1.1).
const NO_ERROR: u8 = 0;
const NX_DOMAIN: u8 = 3;
/// Transfers of zones are no answers to keep (RFC 5936, RFC 1995).
const TRANSFERS: [u16; 2] = [251, 252];

/// A query whose reply may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// All that it says, but for its id and the spelling of its name.
    key: Box<[u8]>,
    /// How long a datagram in reply may be.
    payload: usize,
    kind: u16,
}

impl Query {
    /// `None` where no kept reply may answer it: with options, whose meaning is between client and resolver, with
    /// signatures, with anything unusual.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let asked = question(bytes)?;
        let name = asked.len() - 4;
        let (kind, class) = (u16_at(asked, name)?, u16_at(asked, name + 2)?);
        let counts = [u16_at(bytes, 4)?, u16_at(bytes, 6)?, u16_at(bytes, 8)?];
        // A query: no response, of the operation 0, not truncated.
        let plain = bytes.get(2)? & 0b1111_1010 == 0 && counts == [1, 0, 0];
        if !plain || class != IN || TRANSFERS.contains(&kind) {
            return None;
        }
        let payload = match records(bytes)?.as_slice() {
            [] => PLAIN_PAYLOAD,
            [Place { kind: OPT, ttl_at, data, .. }] if data.is_empty() => u16_at(bytes, ttl_at - 2)?.max(PLAIN_PAYLOAD),
            _ => return None,
        };
        let mut key: Box<[u8]> = bytes.get(2..)?.into();
        key.get_mut(HEADER - 2..HEADER - 2 + name)?.make_ascii_lowercase();
        Some(Self { key, payload: payload.into(), kind })
    }
}

/// What is kept of one reply.
#[derive(Debug)]
struct Kept {
    reply: Vec<u8>,
    /// Where its times to live are, and what they were at first, in seconds.
    ttls: Vec<(usize, u32)>,
    since: Instant,
    place: (Instant, u64),
}

/// Kept replies, as many as have room; those go first that hold for the shortest.
#[derive(Debug)]
pub(crate) struct Cache {
    kept: HashMap<Box<[u8]>, Kept>,
    /// Keys by when they end, and then by when they came.
    ends: BTreeMap<(Instant, u64), Box<[u8]>>,
    bytes: usize,
    next: u64,
    most_entries: usize,
    most_bytes: usize,
}

impl Cache {
    /// An empty one for at most so many replies, and at most so many bytes in all.
    pub(crate) fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self { kept: HashMap::new(), ends: BTreeMap::new(), bytes: 0, next: 0, most_entries, most_bytes }
    }

    /// How many replies are kept, and how many bytes they take; some may be out of date.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }

    /// The reply to a query, whose bytes are `asked`, if one is kept that still holds and fits.
    pub(crate) fn get(&self, query: &Query, asked: &[u8], transport: Transport, now: Instant) -> Option<Vec<u8>> {
        let kept = self.kept.get(&query.key)?;
        let fits = transport == Transport::Tcp || kept.reply.len() <= query.payload;
        if now >= kept.place.0 || !fits {
            return None;
        }
        let age = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut reply = kept.reply.clone();
        reply.get_mut(..2)?.copy_from_slice(asked.get(..2)?);
        let question = question(asked)?;
        reply.get_mut(HEADER..HEADER + question.len())?.copy_from_slice(question);
        for (at, ttl) in &kept.ttls {
            reply.get_mut(*at..at + 4)?.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
        }
        Some(reply)
    }

    /// Keeps the reply to a query, if it may be kept.
    pub(crate) fn put(&mut self, query: Query, reply: &[u8], now: Instant) {
        let Some((lifetime, ttls)) = holds(&query, reply) else { return };
        let Some(end) = now.checked_add(Duration::from_secs(lifetime.into())) else { return };
        let size = size(&query.key, reply);
        if size > self.most_bytes || self.most_entries == 0 {
            return;
        }
        self.drop(&query.key);
        while self.kept.len() >= self.most_entries || self.bytes + size > self.most_bytes {
            let Some((_, key)) = self.ends.pop_first() else { break };
            self.drop(&key);
        }
        let place = (end, self.next);
        self.next += 1;
        self.bytes += size;
        self.ends.insert(place, query.key.clone());
        self.kept.insert(query.key, Kept { reply: reply.to_vec(), ttls, since: now, place });
    }

    fn drop(&mut self, key: &[u8]) {
        if let Some(kept) = self.kept.remove(key) {
            self.ends.remove(&kept.place);
            self.bytes -= size(key, &kept.reply);
        }
    }
}

fn size(key: &[u8], reply: &[u8]) -> usize {
    2 * key.len() + reply.len() + OVERHEAD
}

/// For how many seconds a reply holds, and where its times to live are with the values to count down from; `None` where it
/// is not to be kept.
fn holds(query: &Query, reply: &[u8]) -> Option<(u32, Vec<(usize, u32)>)> {
    let code = reply.get(3)? & 0x0f;
    let truncated = reply.get(2)? & 0x02 != 0;
    if truncated || !matches!(code, NO_ERROR | NX_DOMAIN) {
        return None;
    }
    let (options, records): (Vec<_>, Vec<_>) = records(reply)?.into_iter().partition(|r| r.kind == OPT);
    // The upper bits of the code (RFC 6891, 6.1.3).
    if options.iter().any(|o| o.ttl >> 24 != 0) {
        return None;
    }
    let wanted = |r: &Place| r.section == Section::Answer && (r.kind == query.kind || query.kind == ANY);
    let found = code == NO_ERROR && records.iter().any(wanted);
    let authority = records.iter().find(|r| r.section == Section::Authority && r.kind == SOA);
    let longest = match (found, authority) {
        (true, _) => LONGEST,
        // The last of its numbers is how long a denial may be kept (RFC 2308, 4).
        (false, Some(soa)) => LONGEST_DENIAL.min(u32_at(reply, soa.data.end.checked_sub(4)?)?),
        // A chain that leads on to where the resolver did not go, a referral, or a denial that does not say for how long.
        (false, None) => return None,
    };
    // A set upper bit means zero (RFC 2181, 8).
    let seconds = |r: &Place| if r.ttl >> 31 == 0 { r.ttl } else { 0 };
    let lifetime = records.iter().map(seconds).chain([longest]).min().unwrap_or(0);
    // Nobody behind this cache may keep a denial for longer than it holds (RFC 2308, 5).
    let first = |r: &Place| if found { seconds(r) } else { seconds(r).min(longest) };
    let ttls = records.iter().map(|r| (r.ttl_at, first(r))).collect();
    (lifetime > 0).then_some((lifetime, ttls))
}

#[cfg(test)]
mod tests;
