//! What somebody asks for when they set or remove a name: checked, and turned into entries.
//!
//! Must not know who asks, or how. Mistakes are told in words for whoever made them.

use super::{Container, Entry, Wanted};
use crate::Record;
use osier_model::{Hostname, ParseNameError};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The most addresses that one wish may name.
const MOST_ADDRESSES: usize = 256;

/// A name to set or to remove, as it was said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The name, with the domain or without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Ipv4Addr>,
    /// The container: its name, its id, or the beginning of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// The wish cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// The name is somebody else's to answer.
    #[error("'{0}' is outside the domain '{1}', whose names are answered here; a name without dots is put into it")]
    Outside(Hostname, Hostname),
    /// The name is the domain itself.
    #[error("'{0}' is the domain itself and cannot be a name in it")]
    Domain(Hostname),
    /// Neither an address nor a container is said.
    #[error("nothing says where the name leads; say addresses, or a container")]
    NoTarget,
    /// No name is said, and there is no container to have one.
    #[error("no name is said; only a container's addresses have one by themselves")]
    NoName,
    /// Nothing is said at all.
    #[error("nothing says which names to remove; say a name, or a container")]
    NoSelection,
    /// No name can lead to this address.
    #[error("no name can lead to {0}")]
    Address(Ipv4Addr),
    /// There are too many addresses.
    #[error("{0} addresses are more than the {MOST_ADDRESSES} that can be said at once")]
    Many(usize),
    /// No such container runs on the overlay.
    #[error("no container '{0}' runs on the overlay, on any node that answers")]
    Unknown(String),
    /// Several containers are called so.
    #[error("'{0}' means several containers ({1}); say the id of one")]
    Ambiguous(String, String),
}

impl Wish {
    /// Splits the words of Weave Net's `dns-add` and `dns-remove`: addresses, then at most one container. A word that does
    /// not fit is returned as the error.
    pub fn from_words(words: &[String], name: Option<String>) -> Result<Self, String> {
        let mut wish = Self { name, ..Self::default() };
        for word in words {
            match word.parse() {
                Ok(address) if wish.container.is_none() => wish.addresses.push(address),
                // What could only be meant as an address is no container.
                Err(_) if wish.container.is_none() && word.parse::<std::net::IpAddr>().is_err() => {
                    wish.container = Some(word.clone());
                }
                _ => return Err(word.clone()),
            }
        }
        Ok(wish)
    }

    /// The entries that setting the name makes: none where the container has the name by itself. `records` are the
    /// containers that run.
    pub fn entries(&self, domain: &Hostname, records: &[Record]) -> Result<Vec<Entry>, Mistake> {
        let name = self.name.as_deref().map(|n| in_domain(n, domain)).transpose()?;
        let addresses = self.addresses()?;
        let (mut entry, own) = match &self.container {
            None if addresses.is_empty() => return Err(Mistake::NoTarget),
            None => (Entry { name: name.ok_or(Mistake::NoName)?, address: None, container: None, called: None }, false),
            Some(word) => {
                let found = find(word, domain, records);
                let mut ids = found.ids.into_keys();
                let id = ids.next().ok_or_else(|| Mistake::Unknown(word.clone()))?;
                if let Some(other) = ids.next() {
                    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
                    let all: Vec<String> = [id, other].into_iter().chain(ids).map(|id| short(&id)).collect();
                    return Err(Mistake::Ambiguous(word.clone(), all.join(", ")));
                }
                let of_container = || records.iter().filter(|r| r.container == id);
                let first = of_container().flat_map(|r| &r.names).next().map(|n| n.qualified(domain));
                let name = name.or(first).ok_or(Mistake::NoName)?;
                let own = of_container().all(|r| r.names.iter().any(|n| n.qualified(domain) == name));
                (Entry { name, address: None, container: Some(id), called: Some(found.word) }, own)
            }
        };
        if addresses.is_empty() {
            return Ok(if own { Vec::new() } else { vec![entry] });
        }
        let entries = addresses.into_iter().map(|address| {
            entry.address = Some(address);
            entry.clone()
        });
        Ok(entries.collect())
    }

    /// Which entries the wish removes. `records` are the containers that run; a container that does not may be named, too.
    pub fn wanted(&self, domain: &Hostname, records: &[Record]) -> Result<Wanted, Mistake> {
        if self.name.is_none() && self.container.is_none() {
            return Err(Mistake::NoSelection);
        }
        let name = self.name.as_deref().map(|n| in_domain(n, domain)).transpose()?;
        let container = self.container.as_deref().map(|word| find(word, domain, records));
        Ok(Wanted { name, addresses: self.addresses()?, container })
    }

    fn addresses(&self) -> Result<BTreeSet<Ipv4Addr>, Mistake> {
        if self.addresses.len() > MOST_ADDRESSES {
            return Err(Mistake::Many(self.addresses.len()));
        }
        let bad = self.addresses.iter().find(|a| a.is_unspecified() || a.is_broadcast() || a.is_multicast());
        bad.map_or_else(|| Ok(self.addresses.iter().copied().collect()), |a| Err(Mistake::Address(*a)))
    }
}

/// The name in the domain that a text means.
fn in_domain(text: &str, domain: &Hostname) -> Result<Hostname, Mistake> {
    let name: Hostname = text.parse()?;
    if name == *domain {
        return Err(Mistake::Domain(name));
    }
    if !name.is_in(domain) && name.as_str().contains('.') {
        return Err(Mistake::Outside(name, domain.clone()));
    }
    // A name that fits by itself may be too long with the domain.
    Ok(name.qualified(domain).as_str().parse()?)
}

/// The running containers that a word means: by id, else by name, else by the beginning of an id. None where none does.
pub fn find(word: &str, domain: &Hostname, records: &[Record]) -> Container {
    // The manager's way to write a container's name is `node/name`.
    let bare = word.rsplit('/').next().unwrap_or(word);
    let name = bare.parse::<Hostname>().ok().map(|n| n.qualified(domain));
    let by_id = |r: &Record| r.container == bare;
    let by_name = |r: &Record| name.as_ref().is_some_and(|name| r.names.iter().any(|n| n.qualified(domain) == *name));
    let by_start = |r: &Record| !bare.is_empty() && r.container.starts_with(bare);
    let mut ids: BTreeMap<String, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let ways: [&dyn Fn(&Record) -> bool; 3] = [&by_id, &by_name, &by_start];
    for way in ways {
        for record in records.iter().filter(|r| way(r)) {
            ids.entry(record.container.clone()).or_default();
        }
        if !ids.is_empty() {
            break;
        }
    }
    for record in records {
        if let Some(addresses) = ids.get_mut(&record.container) {
            addresses.insert(record.address);
        }
    }
    Container { word: bare.to_owned(), ids }
}
