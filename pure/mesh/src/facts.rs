//! What every node says about itself, as far as it is known here.
//!
//! Must not know how facts arrive. One writer per origin, so the newest version of a key is the truth and no two values
//! ever compete.

use osier_model::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The key of the mark that an origin sets once its set of facts is whole.
pub(crate) const WHOLE: &str = "";
/// How many deletions of one origin are remembered; who is further behind gets the whole set instead.
const MOST_TOMBSTONES: usize = 256;
/// How many versions beyond a gap are remembered before they are left to the sure way.
const MOST_AHEAD: usize = 4096;

/// The facts of all nodes. Cloning is cheap: origins are shared until they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    origins: BTreeMap<PeerId, Arc<Origin>>,
}

/// The facts of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) incarnation: u64,
    /// Everything up to this version is known.
    pub(crate) complete: u64,
    /// Versions known beyond the first gap.
    ahead: BTreeSet<u64>,
    /// Up to this version deletions have been forgotten.
    pub(crate) floor: u64,
    pub(crate) items: BTreeMap<String, Item>,
    /// Facts of the former incarnation that this one has not confirmed or replaced yet.
    former: BTreeMap<String, Arc<[u8]>>,
}

/// The newest version of one fact; no value if it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) version: u64,
    pub(crate) value: Option<Arc<[u8]>>,
}

/// What taking in a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The change was not known, nor anything newer of the same key.
    pub(crate) news: bool,
    /// Readers of the facts see a difference.
    pub(crate) seen: bool,
}

impl Facts {
    /// Every fact: its origin, key and value.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &str, &[u8])> {
        self.origins.iter().flat_map(|(peer, origin)| origin.visible().map(|(key, value)| (*peer, key, &**value)))
    }

    /// The facts of one node.
    pub fn of(&self, peer: PeerId) -> impl Iterator<Item = (&str, &[u8])> {
        self.origins.get(&peer).into_iter().flat_map(|origin| origin.visible().map(|(key, value)| (key, &**value)))
    }

    /// One fact of one node.
    pub fn get(&self, peer: PeerId, key: &str) -> Option<&[u8]> {
        self.origins.get(&peer)?.get(key)
    }

    /// Whether a node has said all that it has to say since it last started, as far as is known here. Until then what is left
    /// of its former life is shown beside it, which is not passed on: who starts meanwhile does not learn of it.
    pub fn is_whole(&self, peer: PeerId) -> bool {
        self.origins.get(&peer).is_some_and(|origin| origin.is_whole())
    }

    /// Whether a change of a node is known here beyond others that are not. Readers see it, and it is not passed on: the node
    /// itself sends what is missing, for as long as it is heard.
    pub fn has_gap(&self, peer: PeerId) -> bool {
        self.origins.get(&peer).is_some_and(|origin| !origin.ahead.is_empty())
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = (PeerId, &Origin)> {
        self.origins.iter().map(|(peer, origin)| (*peer, &**origin))
    }

    pub(crate) fn origin(&self, peer: PeerId) -> Option<&Origin> {
        self.origins.get(&peer).map(|origin| &**origin)
    }

    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.origins.remove(&peer);
    }

    /// The origin to write to, in this incarnation or a later one; `None` if a later one is known.
    pub(crate) fn writable(&mut self, peer: PeerId, incarnation: u64) -> Option<&mut Origin> {
        let origin = Arc::make_mut(self.origins.entry(peer).or_default());
        if incarnation > origin.incarnation {
            origin.begin(incarnation);
        }
        (origin.incarnation == incarnation).then_some(origin)
    }
}

impl Origin {
    /// Starts a new incarnation; what was visible stays so until it is confirmed, replaced or gone.
    fn begin(&mut self, incarnation: u64) {
        let former = self.visible().map(|(key, value)| (key.to_owned(), Arc::clone(value))).collect();
        *self = Self { incarnation, former, ..Self::default() };
    }

    fn is_whole(&self) -> bool {
        self.items.get(WHOLE).is_some_and(|mark| mark.version <= self.complete)
    }

    fn visible(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        let current = self.items.iter().filter_map(|(key, item)| Some((key.as_str(), item.value.as_ref()?)));
        current.filter(|(key, _)| *key != WHOLE).chain(self.former.iter().map(|(key, value)| (key.as_str(), value)))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        match self.items.get(key) {
            Some(item) => item.value.as_deref(),
            None => self.former.get(key).map(|value| &**value),
        }
    }

    /// Writes the origin's own next version and returns it.
    pub(crate) fn write(&mut self, key: &str, value: Option<Arc<[u8]>>) -> u64 {
        self.complete += 1;
        self.put(key, Item { version: self.complete, value });
        self.tidy();
        self.complete
    }

    /// Takes in one change that came by itself.
    pub(crate) fn offer(&mut self, key: &str, item: Item) -> Effect {
        let version = item.version;
        if version <= self.complete || self.ahead.contains(&version) || self.ahead.len() >= MOST_AHEAD {
            return Effect { news: false, seen: false };
        }
        self.ahead.insert(version);
        self.reach(self.complete);
        let news = self.put(key, item);
        let seen = self.tidy() | news;
        Effect { news, seen }
    }

    /// Takes in everything that changed up to `upto`; true if readers see a difference.
    pub(crate) fn catch_up(&mut self, upto: u64, items: impl Iterator<Item = (String, Item)>) -> bool {
        let mut seen = false;
        for (key, item) in items {
            seen |= self.put(&key, item);
        }
        self.reach(upto);
        self.tidy() | seen
    }

    /// Takes in the whole set as of version `upto`: older facts that are not in it are gone.
    pub(crate) fn replace(&mut self, upto: u64, items: impl Iterator<Item = (String, Item)>) {
        let later = std::mem::take(&mut self.items).into_iter().filter(|(_, item)| item.version > upto);
        self.items = items.filter(|(_, item)| item.version <= upto).collect();
        self.items.extend(later);
        let items = &self.items;
        self.former.retain(|key, _| !items.contains_key(key));
        self.floor = self.floor.max(upto);
        self.reach(upto);
        self.tidy();
    }

    fn put(&mut self, key: &str, item: Item) -> bool {
        if self.items.get(key).is_some_and(|known| known.version >= item.version) {
            return false;
        }
        self.former.remove(key);
        self.items.insert(key.to_owned(), item);
        true
    }

    fn reach(&mut self, upto: u64) {
        self.complete = self.complete.max(upto);
        self.ahead.retain(|version| *version > upto);
        while self.ahead.first().is_some_and(|first| *first == self.complete + 1) {
            self.ahead.pop_first();
            self.complete += 1;
        }
    }

    /// Drops the former incarnation once this one is whole, and deletions beyond what is worth remembering; true if
    /// readers see a difference.
    fn tidy(&mut self) -> bool {
        let over = !self.former.is_empty() && self.is_whole();
        if over {
            self.former.clear();
        }
        let deleted = self.items.iter().filter(|(_, item)| item.value.is_none() && item.version <= self.complete);
        let mut deleted: Vec<u64> = deleted.map(|(_, item)| item.version).collect();
        if deleted.len() > MOST_TOMBSTONES {
            deleted.sort_unstable();
            self.floor = self.floor.max(deleted[deleted.len() - 1 - MOST_TOMBSTONES / 2]);
            let floor = self.floor;
            self.items.retain(|_, item| item.value.is_some() || item.version > floor);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(version: u64, value: Option<&str>) -> Item {
        Item { version, value: value.map(|v| v.as_bytes().into()) }
    }

    fn keys(origin: &Origin) -> Vec<&str> {
        origin.visible().map(|(key, _)| key).collect()
    }

    #[test]
    fn changes_may_come_in_any_order() {
        let mut origin = Origin::default();
        assert!(origin.offer("a", item(3, Some("new"))).news);
        assert!(!origin.offer("a", item(1, Some("old"))).news, "older than what is known");
        assert_eq!((origin.complete, origin.get("a")), (1, Some(&b"new"[..])));
        assert!(!origin.offer("a", item(3, Some("new"))).news);
        assert!(!origin.ahead.is_empty(), "what is missing is known to be");
        assert!(origin.offer("b", item(2, None)).seen && origin.ahead.is_empty());
        assert_eq!((origin.complete, keys(&origin)), (3, vec!["a"]));
        assert!(!origin.offer("b", item(2, Some("again"))).seen, "a late copy does not bring a deleted fact back");
    }

    #[test]
    fn a_new_incarnation_takes_nothing_away_until_it_is_whole() {
        let mut facts = Facts::default();
        let peer = PeerId([2; 6]);
        let first = facts.writable(peer, 1).unwrap();
        for key in ["kept", "changed", "gone"] {
            first.write(key, Some(b"1".as_slice().into()));
        }
        assert!(facts.writable(peer, 2).unwrap().offer("kept", item(1, Some("1"))).news);
        assert!(facts.writable(peer, 1).is_none(), "the former incarnation is over");
        assert_eq!(facts.of(peer).count(), 3);
        let second = facts.writable(peer, 2).unwrap();
        second.offer(WHOLE, item(3, Some("")));
        assert_eq!(facts.of(peer).count(), 3, "version 2 is missing");
        facts.writable(peer, 2).unwrap().offer("changed", item(2, Some("2")));
        assert_eq!(facts.iter().map(|(_, key, _)| key).collect::<Vec<_>>(), ["changed", "kept"]);
    }

    #[test]
    fn forgotten_deletions_are_made_up_for_by_the_whole_set() {
        let mut origin = Origin::default();
        let mut behind = Origin::default();
        for n in 0..1000 {
            let version = origin.write(&n.to_string(), Some(b"x".as_slice().into()));
            behind.offer(&n.to_string(), item(version, Some("x")));
        }
        for n in 0..990 {
            origin.write(&n.to_string(), None);
        }
        assert!(origin.items.len() <= 10 + MOST_TOMBSTONES, "{}", origin.items.len());
        assert!(origin.floor > behind.complete);
        behind.offer("late", item(2000, Some("x")));
        let live = origin.items.iter().filter(|(_, item)| item.value.is_some());
        behind.replace(origin.complete, live.map(|(key, item)| (key.clone(), item.clone())));
        assert_eq!(behind.complete, origin.complete);
        assert_eq!(keys(&behind).len(), 11, "ten that are left and the late one");
    }
}
