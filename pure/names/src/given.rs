//! Names that somebody set by hand: for an address anywhere, or for a container besides those it has by itself.
//!
//! Must not know how nodes hear of each other. Every node keeps the entries that were set on it, and is the only one that
//! changes them. An entry has an identity of its own, drawn when it was set. Whoever removes an entry of another node says
//! that it is gone, and goes on saying so until the other node has forgotten it and says that; so a removal holds at once
//! wherever it is heard, also while the other node is dead or cut off, where it holds as soon as that node hears of it.
//! What is set anew has a new identity: a late removal never takes away what it did not mean.

mod wish;

pub use wish::{Mistake, Wish, find};

use crate::Record;
use osier_model::{Hostname, PeerId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    str::FromStr,
};

/// What stands in the place of a container's id where a name is for an address alone (Weave Net's word).
pub const EXTERN: &str = "weave:extern";
/// How many names set by hand one node keeps, and how many removals of other nodes' it may wait for.
pub const MOST: usize = 4096;
/// How much of the id of a container that is gone must be said.
const SHORTEST_ID: usize = 4;

/// Which entry: drawn at random when it was set. Written as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(pub u64);

/// The text is not an entry's identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not 16 hex digits")]
pub struct ParseEntryIdError(String);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for EntryId {
    type Err = ParseEntryIdError;
    fn from_str(text: &str) -> Result<Self, ParseEntryIdError> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let id = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        id.map(Self).ok_or_else(|| ParseEntryIdError(text.to_owned()))
    }
}

impl TryFrom<String> for EntryId {
    type Error = ParseEntryIdError;
    fn try_from(text: String) -> Result<Self, ParseEntryIdError> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.to_string()
    }
}

/// One name that was set by hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// The name, with the domain.
    pub name: Hostname,
    /// Where it leads; for a container none, where it leads to whatever address that has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The id of the container it is for; it is answered only while that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What the container was called when the name was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
}

impl Entry {
    /// Whether both say the same, whatever the container was called.
    fn means(&self, other: &Self) -> bool {
        (&self.name, self.address, &self.container) == (&other.name, other.address, &other.container)
    }
}

/// Which entries to remove: those that have all of what is said here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Entries of this name, with the domain.
    pub name: Option<Hostname>,
    /// Entries that lead to one of these; to any where it is empty.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Entries of this container.
    pub container: Option<Container>,
}

/// A container as somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The word: a name, an id, or the beginning of an id.
    pub word: String,
    /// The ids that it means now, and the addresses of each.
    pub ids: BTreeMap<String, BTreeSet<Ipv4Addr>>,
}

impl Container {
    fn is(&self, entry: &Entry) -> bool {
        let Some(id) = &entry.container else { return false };
        if !self.ids.is_empty() {
            return self.ids.contains_key(id);
        }
        // Once the container is gone only what the entry remembers of it tells which it was.
        let begins = self.word.len() >= SHORTEST_ID && id.starts_with(&self.word);
        begins || entry.called.as_ref() == Some(&self.word)
    }
}

impl Wanted {
    fn is(&self, entry: &Entry) -> bool {
        let container = self.container.as_ref().is_none_or(|container| container.is(entry));
        // An entry that follows its container has the addresses which that has.
        let followed = || self.container.iter().zip(&entry.container).filter_map(|(c, id)| c.ids.get(id)).flatten();
        let address = match entry.address {
            _ if self.addresses.is_empty() => true,
            Some(address) => self.addresses.contains(&address),
            None => followed().any(|a| self.addresses.contains(a)),
        };
        container && address && self.name.as_ref().is_none_or(|n| *n == entry.name)
    }
}

/// What all nodes say about names set by hand, as far as one node has heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The entries, by the node that keeps each.
    pub entries: BTreeMap<(PeerId, EntryId), Entry>,
    /// Entries that somebody says are gone.
    pub gone: BTreeSet<(PeerId, EntryId)>,
    /// Entries that their node knows are gone, and no longer keeps.
    pub forgotten: BTreeSet<(PeerId, EntryId)>,
}

impl Seen {
    /// The entries that hold.
    pub fn standing(&self) -> impl Iterator<Item = (PeerId, EntryId, &Entry)> {
        let held = self.entries.iter().filter(|(key, _)| !self.gone.contains(key));
        held.map(|((node, id), entry)| (*node, *id, entry))
    }
}

/// What one node keeps on disk, and says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The entries that were set on this node.
    pub entries: BTreeMap<EntryId, Entry>,
    /// Entries of other nodes that were removed on this one, and that those have not yet forgotten.
    pub gone: BTreeSet<(PeerId, EntryId)>,
}

/// There is no room for another entry, or for another removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node keeps {MOST} of them already")]
pub struct Full;

impl Table {
    /// Keeps an entry. One that says the same is replaced, so that a removal which has not been heard yet does not mean
    /// the new one.
    pub fn add(&mut self, id: EntryId, entry: Entry) -> Result<(), Full> {
        self.entries.retain(|_, kept| !kept.means(&entry));
        if self.entries.len() >= MOST {
            return Err(Full);
        }
        self.entries.insert(id, entry);
        Ok(())
    }

    /// Removes entries of all nodes, and tells which. On an error nothing is removed.
    pub fn remove(&mut self, me: PeerId, wanted: &Wanted, seen: &Seen) -> Result<Vec<(PeerId, Entry)>, Full> {
        let others = seen.standing().filter(|(node, id, _)| *node != me && !self.gone.contains(&(*node, *id)));
        let others: Vec<_> = others.filter(|(_, _, entry)| wanted.is(entry)).collect();
        if self.gone.len() + others.len() > MOST {
            return Err(Full);
        }
        let mut removed = Vec::new();
        self.entries.retain(|_, entry| {
            let keep = !wanted.is(entry);
            if !keep {
                removed.push((me, entry.clone()));
            }
            keep
        });
        for (node, id, entry) in others {
            self.gone.insert((node, id));
            removed.push((node, entry.clone()));
        }
        Ok(removed)
    }

    /// Takes in what others say: entries that they removed go, and removals that have reached whom they are for, or that
    /// are for nobody in the cluster, need not be kept any longer.
    pub fn settle(&mut self, me: PeerId, members: &BTreeSet<PeerId>, seen: &Seen) {
        self.entries.retain(|id, _| !seen.gone.contains(&(me, *id)));
        self.gone.retain(|key| members.contains(&key.0) && !seen.forgotten.contains(key));
    }

    /// The entries of this node that others say are gone and that it does not keep: what it has to tell them.
    pub fn forgotten(&self, me: PeerId, seen: &Seen) -> BTreeSet<EntryId> {
        let mine = seen.gone.iter().filter(|(node, id)| *node == me && !self.entries.contains_key(id));
        mine.map(|(_, id)| *id).collect()
    }
}

/// The records of running containers together with the names that were set by hand. The names that a container has by
/// itself come first, so that its address keeps leading to them.
pub fn with_given<'a>(mut records: Vec<Record>, entries: impl Iterator<Item = (PeerId, &'a Entry)>) -> Vec<Record> {
    let mut by_container: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by_address: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    // The same record on every node, whatever the order in which they were heard of.
    records.sort();
    for (index, record) in records.iter().enumerate() {
        by_container.entry(record.container.clone()).or_default().push(index);
        by_address.entry(record.address).or_insert(index);
    }
    let mut entries: Vec<(PeerId, &Entry)> = entries.collect();
    entries.sort();
    for (node, entry) in entries {
        let indices: Vec<usize> = match (&entry.container, entry.address) {
            (Some(id), address) => {
                let Some(of_container) = by_container.get(id) else { continue };
                match address {
                    None => of_container.clone(),
                    Some(address) => vec![index_of(&mut records, &mut by_address, node, address)],
                }
            }
            (None, Some(address)) => vec![index_of(&mut records, &mut by_address, node, address)],
            (None, None) => continue,
        };
        for index in indices {
            if let Some(record) = records.get_mut(index).filter(|r| !r.names.contains(&entry.name)) {
                record.names.push(entry.name.clone());
            }
        }
    }
    records
}

/// The record that has the address, made where none has it.
fn index_of(
    records: &mut Vec<Record>,
    by_address: &mut BTreeMap<Ipv4Addr, usize>,
    node: PeerId,
    address: Ipv4Addr,
) -> usize {
    *by_address.entry(address).or_insert_with(|| {
        let container = EXTERN.to_owned();
        records.push(Record { address, network: None, node, container, names: Vec::new(), links: Vec::new() });
        records.len() - 1
    })
}

#[cfg(test)]
mod tests;
