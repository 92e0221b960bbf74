//! The sure way: comparing what two nodes know and sending the difference.
//!
//! Must not know how digests and deltas travel; they are encoded with postcard here and decoded with every length checked.

use crate::{
    Facts, MAX_KEY, MAX_VALUE, Refused,
    facts::{Item, Origin, WHOLE},
};
use osier_model::PeerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Per origin the incarnation and the version up to which everything is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    origins: BTreeMap<[u8; 6], (u64, u64)>,
}

/// What one node knows and another does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    pub(crate) origins: Vec<OriginDelta>,
}

/// Changes of one origin after version `since` up to `upto`; or, if `whole`, all its facts as of `upto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginDelta {
    peer: [u8; 6],
    incarnation: u64,
    since: u64,
    upto: u64,
    whole: bool,
    items: Vec<(String, u64, Option<Vec<u8>>)>,
}

impl Digest {
    /// A number that is equal for equal digests and practically never otherwise (FNV-1a, 64 bits).
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (peer, (incarnation, version)) in &self.origins {
            add(peer);
            add(&incarnation.to_be_bytes());
            add(&version.to_be_bytes());
        }
        hash
    }

    /// What this digest says of one origin: its incarnation and version.
    pub(crate) fn of(&self, peer: PeerId) -> Option<(u64, u64)> {
        self.origins.get(&peer.0).copied()
    }
}

impl Delta {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }
}

impl OriginDelta {
    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.peer)
    }

    /// The incarnation and version this delta leads to.
    pub(crate) fn age(&self) -> (u64, u64) {
        (self.incarnation, self.upto)
    }

    fn between(peer: PeerId, origin: &Origin, theirs: Option<(u64, u64)>) -> Option<Self> {
        let since = match theirs {
            Some((incarnation, version)) if incarnation == origin.incarnation => version,
            Some((incarnation, _)) if incarnation > origin.incarnation => return None,
            _ => 0,
        };
        if since >= origin.complete && theirs.is_some_and(|(incarnation, _)| incarnation == origin.incarnation) {
            return None;
        }
        let whole = since < origin.floor;
        let wanted = |item: &Item| item.version <= origin.complete && (whole || item.version > since);
        let items = origin.items.iter().filter(|(_, item)| wanted(item) && !(whole && item.value.is_none()));
        let items = items.map(|(key, item)| (key.clone(), item.version, item.value.as_deref().map(<[u8]>::to_vec)));
        let (incarnation, upto, items) = (origin.incarnation, origin.complete, items.collect());
        Some(Self { peer: peer.0, incarnation, since, upto, whole, items })
    }

    fn size(&self) -> usize {
        let item =
            |(key, _, value): &(String, u64, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len) + 12;
        40 + self.items.iter().map(item).sum::<usize>()
    }

    fn sound(&self) -> bool {
        self.items.iter().all(|(key, version, value)| {
            let length = value.as_ref().map_or(0, Vec::len);
            key.len() <= MAX_KEY && length <= MAX_VALUE && *version <= self.upto && *version > 0
        })
    }
}

impl Facts {
    pub(crate) fn digest(&self) -> Digest {
        let entry = |(peer, origin): (PeerId, &Origin)| (peer.0, (origin.incarnation, origin.complete));
        Digest { origins: self.origins().map(entry).collect() }
    }

    /// What `theirs` lacks. Whole origins are left out once the delta is longer than `limit` bytes.
    pub(crate) fn delta_since(&self, theirs: &Digest, limit: usize) -> Delta {
        let mut delta = Delta::default();
        let mut size = 0;
        for (peer, origin) in self.origins() {
            if size > limit {
                break;
            }
            if let Some(part) = OriginDelta::between(peer, origin, theirs.of(peer)) {
                size += part.size();
                delta.origins.push(part);
            }
        }
        delta
    }

    /// Takes in one origin's part of a delta; true if anything changed that can be seen.
    pub(crate) fn apply(&mut self, part: OriginDelta) -> Result<bool, Refused> {
        if !part.sound() {
            return Err(Refused::Malformed);
        }
        let peer = part.peer();
        let known = self.origin(peer).map(|origin| (origin.incarnation, origin.complete));
        let reached = match known {
            Some((incarnation, complete)) if incarnation == part.incarnation => complete,
            Some((incarnation, _)) if incarnation > part.incarnation => return Ok(false),
            _ => 0,
        };
        // A part that begins beyond what is known here, or ends before it, was made for another state.
        if !part.whole && part.since > reached || part.upto < reached {
            return Ok(false);
        }
        let Some(origin) = self.writable(peer, part.incarnation) else { return Ok(false) };
        let item = |(key, version, value): (String, u64, Option<Vec<u8>>)| {
            (key, Item { version, value: value.map(Into::into) })
        };
        if part.whole {
            origin.replace(part.upto, part.items.into_iter().map(item));
            return Ok(true);
        }
        Ok(origin.catch_up(part.upto, part.items.into_iter().map(item)))
    }
}

/// Whether a key may be used for a fact.
pub(crate) fn is_key(key: &str) -> bool {
    key != WHOLE && key.len() <= MAX_KEY
}
