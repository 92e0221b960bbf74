//! Which networks there are, as far as one node has heard.

use crate::Network;
use osier_model::NetworkId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The networks that a node knows and those that it knows to be gone; it is kept on disk as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    known: Vec<Network>,
    gone: BTreeSet<NetworkId>,
}

/// What [`Book::hear`] found new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Networks that were not known.
    pub added: Vec<NetworkId>,
    /// Networks that are gone, and must be taken down.
    pub removed: Vec<NetworkId>,
}

impl Book {
    /// The networks, those that are gone left out, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.known.iter().filter(|n| !self.gone.contains(&n.id))
    }

    /// One of them.
    pub fn get(&self, id: NetworkId) -> Option<&Network> {
        self.networks().find(|n| n.id == id)
    }

    /// The networks that were removed and that some node may still have.
    pub fn gone(&self) -> impl Iterator<Item = NetworkId> {
        self.gone.iter().copied()
    }

    /// Enters a network that was made here.
    pub fn add(&mut self, network: Network) {
        let place = self.known.partition_point(|n| n.id < network.id);
        if self.known.get(place).is_none_or(|n| n.id != network.id) {
            self.known.insert(place, network);
        }
    }

    /// Strikes out a network that was removed here; false if it is not known.
    pub fn remove(&mut self, id: NetworkId) -> bool {
        let known = self.get(id).is_some();
        if known {
            self.gone.insert(id);
            self.known.retain(|n| n.id != id);
        }
        known
    }

    /// Takes in everything that the other nodes say: which networks they have, and which are gone. What is gone is
    /// forgotten once nobody says it any more; only with `all`: every member is heard, and long enough after the removal that
    /// whoever had heard of the network before has said so. One that is cut off may still have it without anybody here
    /// knowing.
    pub fn hear<'a>(
        &mut self,
        said: impl Iterator<Item = &'a Network>,
        gone: impl Iterator<Item = NetworkId>,
        all: bool,
    ) -> Changes {
        let mut changes = Changes::default();
        let gone: BTreeSet<NetworkId> = gone.collect();
        let said: BTreeMap<NetworkId, &Network> = said.map(|n| (n.id, n)).collect();
        let known: BTreeSet<NetworkId> = self.known.iter().map(|n| n.id).collect();
        changes.removed.extend(gone.iter().filter(|id| known.contains(id)));
        // It is said on from here: whoever removed it may be lost, or forget it, before all have heard.
        self.gone.extend(gone.iter().filter(|id| known.contains(id) || said.contains_key(id)));
        self.known.retain(|n| !gone.contains(&n.id));
        self.gone.retain(|id| !all || said.contains_key(id));
        for (id, network) in said {
            let news = id != NetworkId::MAIN && !known.contains(&id) && !gone.contains(&id) && !self.gone.contains(&id);
            if news {
                changes.added.push(id);
                self.add(network.clone());
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, Taken};
    use proptest::prelude::*;

    fn network(id: u64) -> Network {
        let draft = Draft { name: format!("n{id}"), ..Draft::default() };
        draft.settle(id, &BTreeSet::new(), &Taken::default()).unwrap()
    }

    /// What a node says: its networks and what is gone.
    fn said(book: &Book) -> (Vec<Network>, Vec<NetworkId>) {
        (book.networks().cloned().collect(), book.gone().collect())
    }

    #[derive(Debug, Clone)]
    enum Act {
        Make(usize, u64),
        Remove(usize, u64),
        /// What all say whom it reaches, those of its own side, is on its way to a node.
        Send(usize),
        /// The node hears what was sent to it last, perhaps long ago.
        Hear(usize),
        Split(u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => (0..4_usize, 1..40_u64).prop_map(|(n, id)| Act::Make(n, id)),
            2 => (0..4_usize, 1..40_u64).prop_map(|(n, id)| Act::Remove(n, id)),
            6 => (0..4_usize).prop_map(Act::Send),
            6 => (0..4_usize).prop_map(Act::Hear),
            1 => any::<u8>().prop_map(Act::Split),
        ]
    }

    proptest! {
        #[test]
        fn all_agree_in_the_end_and_what_was_removed_stays_so(acts in prop::collection::vec(act(), 0..80)) {
            let mut books = vec![Book::default(); 4];
            // What each has last heard of each: cut off, a node still knows what the others said.
            let mut heard = vec![vec![(Vec::new(), Vec::new()); 4]; 4];
            let (mut made, mut removed, mut sides) = (BTreeSet::new(), BTreeSet::new(), 0_u8);
            let send = |books: &[Book], heard: &mut [Vec<(Vec<Network>, Vec<NetworkId>)>], node: usize, sides: u8| {
                for other in (0..4).filter(|other| *other != node && (sides >> other) & 1 == (sides >> node) & 1) {
                    heard[node][other] = said(&books[other]);
                }
            };
            let hear = |book: &mut Book, heard: &[(Vec<Network>, Vec<NetworkId>)], all: bool| {
                book.hear(heard.iter().flat_map(|(n, _)| n), heard.iter().flat_map(|(_, g)| g.iter().copied()), all);
            };
            for act in acts {
                match act {
                    Act::Make(node, id) if made.insert(id) => books[node].add(network(id)),
                    Act::Remove(node, id) if books[node].remove(NetworkId(id)) => drop(removed.insert(id)),
                    Act::Send(node) => send(&books, &mut heard, node, sides),
                    Act::Hear(node) => hear(&mut books[node], &heard[node], false),
                    Act::Split(new) => sides = new,
                    _ => {}
                }
            }
            for round in 0..4 {
                for node in 0..4 {
                    send(&books, &mut heard, node, 0);
                    hear(&mut books[node], &heard[node], round > 1);
                }
            }
            let left: Vec<NetworkId> = made.difference(&removed).map(|id| NetworkId(*id)).collect();
            for book in &books {
                prop_assert_eq!(book.networks().map(|n| n.id).collect::<Vec<_>>(), left.clone());
                prop_assert_eq!(book.gone().count(), 0, "what nobody has any more is forgotten");
            }
        }
    }

    #[test]
    fn a_book_is_written_and_read_back() {
        let mut book = Book::default();
        book.add(network(5));
        book.add(network(3));
        book.add(network(3));
        book.remove(NetworkId(5));
        let text = serde_json::to_string(&book).unwrap();
        assert_eq!(serde_json::from_str::<Book>(&text).unwrap(), book);
        assert_eq!((book.networks().count(), book.get(NetworkId(5))), (1, None));
        assert!(!book.remove(NetworkId(5)));
    }
}
