//! Names that were set by hand: this node's on its disk, and what is said about them in the mesh.
//!
//! What holds, and how a removal reaches the node that has the name, is decided in `osier_names::given`. Written first,
//! then said. Level-triggered: with every change of the mesh the whole is compared.

use crate::{
    config::Config,
    facts::{decode, encode, prefix},
    resolver,
};
use osier_gossip::{Handle, Snapshot};
use osier_model::{Hostname, NodeName, PeerId};
use osier_names::given::{self, Entry, EntryId, Full, Mistake, Seen, Table, Wish};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::{info, warn};

/// How long to wait before the file is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A name was not set or removed; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenError {
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error("keep another name: {0}")]
    Full(#[from] Full),
    #[error("keep the names")]
    Store(#[from] osier_store::Error),
}

/// A name that was set by hand, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GivenName {
    /// The name, with the domain.
    pub name: Hostname,
    /// Where it leads; none where it follows its container.
    pub address: Option<Ipv4Addr>,
    /// The id of the container it is for.
    pub container: Option<String>,
    /// What that was called when the name was set.
    pub called: Option<String>,
    /// The node on which it was set.
    pub node: String,
    /// Whether it is answered now: a container's name is while the container runs on the overlay.
    pub answered: bool,
}

/// The names that were set on this node, and its file.
pub(crate) struct Given {
    me: PeerId,
    names: BTreeMap<PeerId, NodeName>,
    domain: Hostname,
    path: PathBuf,
    table: Mutex<Table>,
    gossip: Handle,
}

impl Given {
    /// Reads the file and says what is in it; one that is damaged is an error and stays as it is.
    pub(crate) fn open(path: PathBuf, config: &Config, gossip: Handle) -> Result<Self, osier_store::Error> {
        let table = Mutex::new(osier_store::read_state(&path)?.unwrap_or_default());
        let names = config.members.iter().map(|m| (m.peer, m.name.clone())).collect();
        let this = Self { me: config.me.peer, names, domain: config.domain.clone(), path, table, gossip };
        this.publish(&this.table(), &seen(&this.gossip.snapshot()));
        Ok(this)
    }

    /// Follows the mesh for ever.
    pub(crate) async fn follow(&self) {
        let mut changes = self.gossip.changed();
        let members: BTreeSet<PeerId> = self.names.keys().copied().collect();
        let mut last = Seen::default();
        loop {
            let seen = seen(&self.gossip.snapshot());
            if seen != last {
                let settle = |table: &mut Table| {
                    table.settle(self.me, &members, &seen);
                    Ok(())
                };
                if let Err(error) = self.change(settle) {
                    warn!(
                        error = crate::plugin::chain(&error),
                        "cannot keep names that were set by hand; trying again"
                    );
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                last = seen;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Sets names. Returns those that were set; a name that a container has by itself need not be.
    pub(crate) fn add(&self, wish: &Wish) -> Result<Vec<GivenName>, GivenError> {
        let running = resolver::running(&self.gossip.snapshot());
        let entries = wish.entries(&self.domain, &running)?;
        self.change(|table| entries.iter().try_for_each(|e| table.add(EntryId(rand::random()), e.clone())))?;
        let running: BTreeSet<&str> = running.iter().map(|r| r.container.as_str()).collect();
        let rows: Vec<GivenName> = entries.iter().map(|entry| self.row(self.me, entry, &running)).collect();
        info!(?rows, "set names");
        Ok(rows)
    }

    /// Removes names that were set, on whatever node. Returns those that were removed.
    pub(crate) fn remove(&self, wish: &Wish) -> Result<Vec<GivenName>, GivenError> {
        let snapshot = self.gossip.snapshot();
        let running = resolver::running(&snapshot);
        let wanted = wish.wanted(&self.domain, &running)?;
        let seen = seen(&snapshot);
        let removed = self.change(|table| table.remove(self.me, &wanted, &seen))?;
        let running: BTreeSet<&str> = running.iter().map(|r| r.container.as_str()).collect();
        let mut rows: Vec<GivenName> = removed.iter().map(|(node, entry)| self.row(*node, entry, &running)).collect();
        rows.sort();
        info!(?rows, "removed names");
        Ok(rows)
    }

    /// All names that were set by hand, on whatever node, in order.
    pub(crate) fn list(&self) -> Vec<GivenName> {
        let snapshot = self.gossip.snapshot();
        let running = resolver::running(&snapshot);
        let running: BTreeSet<&str> = running.iter().map(|r| r.container.as_str()).collect();
        let (seen, table) = (seen(&snapshot), self.table());
        let others = seen.standing().filter(|(node, id, _)| *node != self.me && !table.gone.contains(&(*node, *id)));
        let others = others.map(|(node, _, entry)| (node, entry));
        let mine = table.entries.values().map(|entry| (self.me, entry));
        let mut rows: Vec<GivenName> = mine.chain(others).map(|(node, e)| self.row(node, e, &running)).collect();
        rows.sort();
        rows
    }

    /// The containers that run, wherever, for whoever names one.
    pub(crate) fn find(&self, word: &str) -> given::Container {
        given::find(word, &self.domain, &resolver::running(&self.gossip.snapshot()))
    }

    fn row(&self, node: PeerId, entry: &Entry, running: &BTreeSet<&str>) -> GivenName {
        GivenName {
            name: entry.name.clone(),
            address: entry.address,
            container: entry.container.clone(),
            called: entry.called.clone(),
            node: self.names.get(&node).map_or_else(|| node.to_string(), ToString::to_string),
            answered: entry.container.as_deref().is_none_or(|id| running.contains(id)),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table, writes it, and then says it. On an error nothing has changed.
    fn change<T>(&self, edit: impl FnOnce(&mut Table) -> Result<T, Full>) -> Result<T, GivenError> {
        let mut table = self.table();
        let mut next = table.clone();
        let result = edit(&mut next)?;
        if next != *table {
            tokio::task::block_in_place(|| osier_store::write_state(&self.path, &next, osier_store::PUBLIC))?;
            *table = next;
        }
        self.publish(&table, &seen(&self.gossip.snapshot()));
        Ok(result)
    }

    /// Says what the table says. The table is locked meanwhile, so that what is newer is said later.
    fn publish(&self, table: &Table, seen: &Seen) {
        let entries = table.entries.iter().map(|(id, e)| (format!("{}{id}", prefix::GIVEN), encode(e)));
        let gone = table.gone.iter().map(|(node, id)| (format!("{}{node}/{id}", prefix::GIVEN_GONE), encode(&())));
        let forgotten = table.forgotten(self.me, seen);
        let forgotten = forgotten.iter().map(|id| (format!("{}{id}", prefix::GIVEN_FORGOTTEN), encode(&())));
        let facts: BTreeMap<String, Vec<u8>> = entries.chain(gone).chain(forgotten).collect();
        let kinds = [prefix::GIVEN, prefix::GIVEN_GONE, prefix::GIVEN_FORGOTTEN];
        for stale in kinds.iter().flat_map(|kind| self.gossip.own_keys(kind)).filter(|key| !facts.contains_key(key)) {
            self.gossip.set_fact(&stale, None);
        }
        for (key, value) in facts {
            self.gossip.set_fact(&key, Some(value));
        }
    }
}

/// What the mesh says about names that were set by hand, by nodes alive and dead: a name that leads elsewhere is no worse
/// for the death of the node on which it was set, and a removal holds all the same.
pub(crate) fn seen(snapshot: &Snapshot) -> Seen {
    let mut seen = Seen::default();
    for (node, key, value) in snapshot.facts.iter() {
        if let Some(id) = key.strip_prefix(prefix::GIVEN) {
            match id.parse().ok().zip(decode::<Entry>(value)) {
                Some((id, entry)) => drop(seen.entries.insert((node, id), entry)),
                None => warn!(%node, key, "passed over a fact that cannot be read"),
            }
        } else if let Some(id) = key.strip_prefix(prefix::GIVEN_FORGOTTEN) {
            seen.forgotten.extend(id.parse().ok().map(|id| (node, id)));
        } else if let Some((of, id)) = key.strip_prefix(prefix::GIVEN_GONE).and_then(|rest| rest.split_once('/')) {
            seen.gone.extend(of.parse().ok().zip(id.parse().ok()));
        }
    }
    seen
}

#[cfg(test)]
mod tests;
