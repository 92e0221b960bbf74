//! Who belongs to a cluster, as its nodes know it: how operators admit nodes and how the others hear of that and of removals.

use crate::{
    node::{Life, Node},
    world::{World, number, peer},
};
use osier_model::PeerId;
use osier_ring::{ChunkRecord, Removal};
use rand::{RngExt, seq::IteratorRandom};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of two facts of a node: what it knows of who belongs, and what it knew of the ring when it began to say so.
const ACKNOWLEDGED: &str = "members";
const ESTATE: &str = "estate";
/// The most nodes of a cluster that operators add to.
const MOST: usize = 8;

/// What somebody knows of who was admitted and who was removed; of two removals of one node the smaller holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    admitted: BTreeSet<PeerId>,
    pub(crate) removed: BTreeMap<PeerId, Removal>,
}

/// The same as it is said: who was admitted; who was removed, for which heir, and whether by force.
#[derive(Serialize, Deserialize)]
struct Said(BTreeSet<PeerId>, Vec<(PeerId, PeerId, bool)>);

impl Known {
    /// The nodes of these numbers.
    pub(crate) fn admit(nodes: impl IntoIterator<Item = usize>) -> Self {
        Self { admitted: nodes.into_iter().map(peer).collect(), removed: BTreeMap::new() }
    }

    /// That a node was removed.
    pub(crate) fn removal(removal: Removal) -> Self {
        Self { admitted: BTreeSet::new(), removed: BTreeMap::from([(removal.peer, removal)]) }
    }

    /// Takes in what somebody else knows; whether any of it is news.
    pub(crate) fn learn(&mut self, more: &Self) -> bool {
        let before = self.clone();
        self.admitted.extend(&more.admitted);
        for (peer, removal) in &more.removed {
            let held = self.removed.entry(*peer).or_insert(*removal);
            *held = (*held).min(*removal);
        }
        *self != before
    }

    pub(crate) fn is_member(&self, peer: PeerId) -> bool {
        self.admitted.contains(&peer) && !self.removed.contains_key(&peer)
    }

    /// Those who were admitted and not removed.
    pub(crate) fn members(&self) -> impl Iterator<Item = PeerId> {
        self.admitted.iter().copied().filter(|peer| self.is_member(*peer))
    }

    fn say(&self) -> Said {
        Said(self.admitted.clone(), self.removed.values().map(|r| (r.peer, r.heir, r.forced)).collect())
    }
}

impl From<Said> for Known {
    fn from(Said(admitted, removed): Said) -> Self {
        let removed = removed.into_iter().map(|(peer, heir, forced)| (peer, Removal { peer, heir, forced }));
        Self { admitted, removed: removed.collect() }
    }
}

impl Life {
    /// Says what this life knows of who belongs and, where somebody was removed, all that is known here of the ring; before its
    /// facts are whole, so that who knows them whole knows this.
    pub(crate) fn acknowledge(&mut self, known: &Known) {
        self.set(ACKNOWLEDGED, serde_json::to_vec(&known.say()).ok());
        if !known.removed.is_empty() {
            self.set(ESTATE, serde_json::to_vec(&self.ring.records()).ok());
        }
    }

    /// What others say of who belongs that know something else than this life.
    fn said(&self) -> Vec<Known> {
        let facts = self.mesh.facts();
        let own = facts.get(self.ring.me(), ACKNOWLEDGED);
        let said = self.members.iter().filter_map(|member| facts.get(*member, ACKNOWLEDGED));
        let said = said.filter(|value| Some(*value) != own);
        said.filter_map(|value| serde_json::from_slice::<Said>(value).ok()).map(Known::from).collect()
    }

    /// What a member knew of the ring when it acknowledged exactly what this life does, if that is known here wholly.
    pub(crate) fn estate_of(&self, member: PeerId) -> Option<Vec<ChunkRecord>> {
        let facts = self.mesh.facts();
        let said = facts.get(member, ACKNOWLEDGED);
        let has_acknowledged = facts.is_whole(member) && said == facts.get(self.ring.me(), ACKNOWLEDGED);
        serde_json::from_slice(facts.get(member, ESTATE).filter(|_| has_acknowledged)?).ok()
    }
}

impl Node {
    /// Writes down who belongs, which the agent does before it starts anew; whether that is news. Who hears of its own
    /// removal ends.
    pub(crate) fn learn(&mut self, more: &Known) -> bool {
        let news = self.disk.known.learn(more);
        self.gone |= self.disk.known.removed.contains_key(&self.peer);
        self.restart |= news;
        news
    }

    /// Takes in what the others say of who belongs.
    pub(crate) fn hear_members(&mut self) {
        let Some(life) = &self.life else { return };
        for known in life.said() {
            self.learn(&known);
        }
    }
}

impl World {
    /// Whether one of two does not know the other, or knows that it was removed.
    pub(crate) fn refuse(&self, a: usize, b: usize) -> bool {
        let knows = |a: usize, b: usize| self.nodes[a].disk.known.is_member(self.nodes[b].peer);
        !knows(a, b) || !knows(b, a)
    }

    /// Whether two nodes hear each other and have to do with each other.
    pub(crate) fn talk(&self, a: usize, b: usize) -> bool {
        self.hears(a, b) && !self.refuse(a, b)
    }

    /// Whether everything that operators said of who belongs is known to all who remain.
    pub(crate) fn all_know(&self) -> bool {
        self.remaining().all(|node| self.nodes[node].disk.known == self.known)
    }

    /// Starts an agent anew that has written down what it cannot take in while it runs, or that has died.
    pub(crate) fn start_anew(&mut self, node: usize) {
        if std::mem::take(&mut self.nodes[node].restart) && self.nodes[node].life.is_some() {
            self.kill(node, false);
            self.start(node);
        }
    }

    pub(crate) fn tell(&mut self, node: usize, known: &Known) {
        if self.nodes[node].life.is_some() {
            self.nodes[node].learn(known);
            self.start_anew(node);
        }
    }

    /// The operator tells somebody of everything, as each run of its command does.
    pub(crate) fn tell_all(&mut self) {
        let running: Vec<usize> = self.remaining().filter(|node| self.nodes[*node].life.is_some()).collect();
        let known = self.known.clone();
        if let Some(node) = running.into_iter().choose(self.rng()) {
            self.tell(node, &known);
        }
    }

    /// Two nodes that compare what they know begin with who belongs. Whether it was news to one of them, which ends the
    /// connection.
    pub(crate) fn pass_on(&mut self, a: usize, b: usize) -> bool {
        if self.nodes[a].disk.known == self.nodes[b].disk.known {
            return false;
        }
        let mut all = self.nodes[a].disk.known.clone();
        all.learn(&self.nodes[b].disk.known);
        self.tell(a, &all);
        self.tell(b, &all);
        true
    }

    /// A node asks those who belongs whom it hears and does not know, as far as they count it among the members.
    pub(crate) fn ask_strangers(&mut self, node: usize) {
        let me = self.nodes[node].peer;
        let strangers = |node: &Node| node.life.iter().flat_map(|life| life.catch_up.strangers()).collect::<Vec<_>>();
        for stranger in strangers(&self.nodes[node]) {
            let other = self.machine(number(stranger), false);
            let known = self.nodes[other].disk.known.clone();
            if !self.hears(node, other) || !known.is_member(me) {
                continue;
            }
            let news = self.nodes[node].learn(&known);
            if let Some(life) = self.nodes[node].life.as_mut().filter(|_| !news) {
                life.catch_up.note_asked(stranger);
            }
        }
    }

    /// The nodes that an operator reaches who hears one side, and what is known there.
    pub(crate) fn reached(&self, side: u8) -> (Vec<usize>, Known) {
        let is_reached = |node: &Node| node.side == side && node.life.is_some() && !node.is_paused(self.now());
        let reached: Vec<usize> = (0..self.nodes.len()).filter(|n| is_reached(&self.nodes[*n])).collect();
        let mut known = Known::default();
        for node in &reached {
            known.learn(&self.nodes[*node].disk.known);
        }
        (reached, known)
    }

    /// An operator who hears the side of a node adds a host there, and brings the news to that node and to some of the others.
    pub(crate) fn add_node(&mut self, at: usize) {
        if !self.remains(at) || self.remaining().count() >= MOST {
            return;
        }
        let side = self.nodes[at].side;
        let (reached, mut known) = self.reached(side);
        let admitted = Known::admit([self.size()]);
        known.learn(&admitted);
        self.known.learn(&admitted);
        let new = self.grow(&known);
        self.nodes[new].side = side;
        self.report.nodes_added += 1;
        for node in reached {
            if node == at || self.rng().random() {
                self.tell(node, &known);
            }
        }
        self.start(new);
    }

    /// Whether a node was not removed.
    pub(crate) fn remains(&self, node: usize) -> bool {
        !self.known.removed.contains_key(&self.nodes[node].peer)
    }

    /// Those who remain; a clone is none of its own.
    pub(crate) fn remaining(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.remains(*node) && number(self.nodes[*node].peer) == *node)
    }
}
