//! What a node knows of the networks that users made, and says of them.

use super::{Life, Node};
use crate::Plant;
use osier_model::NetworkId;
use osier_networks::{Book, Draft, Network, Taken};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long it is said at least that a network was removed: longer than anything said before is on its way. (The agent says
/// it for minutes.)
const SAY_GONE: Duration = Duration::from_secs(5);
/// Keys of facts begin with one of these.
const NETWORK: &str = "network/";
const NETWORK_GONE: &str = "network-gone/";

impl Node {
    /// The networks of users that this node knows.
    pub(crate) fn networks(&self) -> BTreeSet<NetworkId> {
        self.disk.book.networks().map(|n| n.id).collect()
    }

    /// The networks on the copy of its disk.
    pub(crate) fn kept_networks(&self) -> BTreeSet<NetworkId> {
        self.kept.iter().flat_map(|(disk, _)| disk.book.networks()).map(|n| n.id).collect()
    }

    /// Makes a network of this name, if there is none yet as far as is known here.
    pub(crate) fn make_network(&mut self, name: &str, luck: u64) -> Option<NetworkId> {
        let life = self.life.as_mut()?;
        let taken = Taken { networks: self.disk.book.networks().cloned().collect(), ..Taken::default() };
        let draft = Draft { name: name.to_owned(), ..Draft::default() };
        let network = draft.settle(luck, &life.members.iter().copied().collect(), &taken).ok()?;
        let id = network.id;
        self.disk.book.add(network);
        life.publish_networks(&self.disk.book);
        Some(id)
    }

    pub(crate) fn remove_network(&mut self, now: Duration, id: NetworkId) -> bool {
        let Some(life) = &mut self.life else { return false };
        life.gone_since = now;
        let removed = self.disk.book.remove(id);
        life.publish_networks(&self.disk.book);
        removed
    }

    /// Takes in what the others say of networks.
    pub(super) fn hear_networks(&mut self, now: Duration) {
        let Some(life) = &mut self.life else { return };
        let facts = || life.mesh.facts().iter().filter(|(peer, _, _)| *peer != self.peer);
        let said = facts().filter(|(_, key, _)| key.starts_with(NETWORK));
        let said: Vec<Network> = said.filter_map(|(_, _, value)| serde_json::from_slice(value).ok()).collect();
        let gone = facts().filter_map(|(_, key, _)| key.strip_prefix(NETWORK_GONE)?.parse().ok());
        let gone: Vec<NetworkId> = gone.collect();
        let mut others = life.members.iter().filter(|peer| **peer != self.peer);
        let all = others.all(|peer| life.mesh.alive(*peer) && life.catch_up.compared().contains(peer));
        let all = all && now >= life.gone_since + SAY_GONE;
        let mut book = self.disk.book.clone();
        book.hear(said.iter(), gone.into_iter(), all);
        if book != self.disk.book {
            if book.gone().any(|id| self.disk.book.gone().all(|known| known != id)) {
                life.gone_since = now;
            }
            self.disk.book = book;
            life.publish_networks(&self.disk.book);
        }
    }
}

impl Life {
    /// Makes what the node knows of networks facts.
    pub(super) fn publish_networks(&mut self, book: &Book) {
        let mut said: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        said.extend(book.networks().filter_map(|n| Some((format!("{NETWORK}{}", n.id), serde_json::to_vec(n).ok()?))));
        if self.plant != Some(Plant::ForgetRemovals) {
            said.extend(book.gone().map(|id| (format!("{NETWORK_GONE}{id}"), b"true".to_vec())));
        }
        let own: Vec<String> = self.mesh.facts().of(self.ring.me()).map(|(key, _)| key.to_owned()).collect();
        let ours = |key: &String| key.starts_with(NETWORK) || key.starts_with(NETWORK_GONE);
        for key in own.into_iter().filter(ours).filter(|key| !said.contains_key(key)) {
            self.set(&key, None);
        }
        for (key, value) in said {
            self.set(&key, Some(value));
        }
    }
}
