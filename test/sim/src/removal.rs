//! Nodes that an operator removes for good: how the others hear of it, what they say then, and who takes over what the
//! removed ones had. A removed node that nobody told lives on, alone.

use crate::{
    Breach, Plant,
    node::{Life, Node},
    world::{World, number, peer},
};
use osier_model::PeerId;
use osier_ring::{ChunkRecord, MergeOutcome, Removal, inheritance};
use rand::{RngExt, seq::IteratorRandom};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The removed nodes that somebody knows of; of two removals of one node the smaller holds.
pub(crate) type Known = BTreeMap<PeerId, Removal>;

/// The keys of two facts of a node that knows of removals: which, and what it knew of the ring when it began to say so.
const ACKNOWLEDGED: &str = "removals";
const ESTATE: &str = "estate";
/// How many nodes must remain, beside half of all: fewer do not give each other chunks often enough.
const FEWEST: usize = 2;

/// A removal as it is said.
type Said = (PeerId, PeerId, bool);

/// Takes in what somebody else knows; whether any of it is news.
fn learn(known: &mut Known, more: &Known) -> bool {
    let before = known.clone();
    for (peer, removal) in more {
        let held = known.entry(*peer).or_insert(*removal);
        *held = (*held).min(*removal);
    }
    *known != before
}

impl Life {
    /// Says which removals this life knows of, and all that is known here of the ring; before its facts are whole, so that who
    /// knows them whole knows this.
    pub(crate) fn acknowledge(&mut self, known: &Known) {
        if known.is_empty() {
            return;
        }
        let said: Vec<Said> = known.values().map(|r| (r.peer, r.heir, r.forced)).collect();
        let estate = self.ring.records();
        self.set(ACKNOWLEDGED, serde_json::to_vec(&said).ok());
        self.set(ESTATE, serde_json::to_vec(&estate).ok());
    }

    /// The removals that a node says it knows of.
    fn said_by(&self, member: PeerId) -> Known {
        let said = self.mesh.facts().get(member, ACKNOWLEDGED);
        let said: Vec<Said> = said.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
        said.into_iter().map(|(peer, heir, forced)| (peer, Removal { peer, heir, forced })).collect()
    }

    /// What a member knew of the ring when it acknowledged exactly these removals, if that is known here wholly.
    fn estate_of(&self, member: PeerId, known: &Known) -> Option<Vec<ChunkRecord>> {
        let facts = self.mesh.facts();
        let has_acknowledged = facts.is_whole(member) && self.said_by(member) == *known;
        serde_json::from_slice(facts.get(member, ESTATE).filter(|_| has_acknowledged)?).ok()
    }
}

impl Node {
    /// Writes down who was removed, which the agent does before it starts anew; whether that is news. Who hears of its own
    /// removal ends.
    pub(crate) fn learn(&mut self, more: &Known) -> bool {
        let news = learn(&mut self.disk.known, more);
        self.gone |= self.disk.known.contains_key(&self.peer);
        self.restart |= news;
        news
    }

    /// Takes in what the others say of removals.
    pub(crate) fn hear_removals(&mut self) {
        let Some(life) = &self.life else { return };
        let said: Vec<Known> = life.members.iter().map(|member| life.said_by(*member)).collect();
        for known in said {
            self.learn(&known);
        }
    }

    /// Takes over what the node inherits by now; writes that before anybody hears of it. Now and then the agent dies just
    /// before or after that.
    pub(crate) fn inherit(&mut self, now: Duration) {
        let Some(life) = &mut self.life else { return };
        let known = &self.disk.known;
        if known.is_empty() || life.provided || self.restart || !life.has_caught_up(now) || !life.is_alone(now) {
            return;
        }
        let me = self.peer;
        let removals: Vec<Removal> = known.values().copied().collect();
        let members: BTreeSet<PeerId> = life.members.iter().copied().collect();
        let mut estates = BTreeMap::new();
        for member in members.iter().filter(|member| **member != me) {
            estates.extend(life.estate_of(*member, known).map(|estate| (*member, estate)));
        }
        let hasty = life.plant == Some(Plant::HastyHeirs);
        let decided = inheritance(me, &removals, &members, |member| hasty || estates.contains_key(&member));
        if !decided.takes.is_empty() {
            let mut all = MergeOutcome::default();
            for record in estates.values().flatten() {
                all.conflicts.extend(life.ring.merge(record).conflicts);
            }
            life.note(all, &mut self.containers);
            let taken = life.ring.inherit(&decided, Some(peer(0)));
            self.inherited += u64::from(taken.gained);
            if taken.changed {
                let luck = life.rng.random_range(0..8);
                if luck > 0 {
                    self.write();
                }
                if luck < 2 {
                    self.restart = true;
                    return;
                }
            }
        }
        let Some(life) = &mut self.life else { return };
        life.provided = decided.waiting.is_empty();
        life.publish();
        self.write();
    }
}

impl World {
    /// Whether a node was not removed.
    pub(crate) fn remains(&self, node: usize) -> bool {
        !self.gone.contains_key(&self.nodes[node].peer)
    }

    /// Those who remain; a clone is none of its own.
    fn remaining(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.remains(*node) && number(self.nodes[*node].peer) == *node)
    }

    /// Whether what a node has must not be had by another: it was not removed, or not all who remain have heard that.
    pub(crate) fn counts(&self, node: usize) -> bool {
        let peer = self.nodes[node].peer;
        self.remains(node) || self.remaining().any(|member| !self.acknowledged.contains(&(member, peer)))
    }

    /// Whether one of two knows that the other was removed.
    pub(crate) fn refuse(&self, a: usize, b: usize) -> bool {
        let refuses = |a: usize, b: usize| self.nodes[a].disk.known.contains_key(&self.nodes[b].peer);
        refuses(a, b) || refuses(b, a)
    }

    /// Whether two nodes hear each other and have to do with each other.
    pub(crate) fn talk(&self, a: usize, b: usize) -> bool {
        self.hears(a, b) && !self.refuse(a, b)
    }

    /// Whether a node and those whom it hears are all who remain.
    pub(crate) fn is_whole(&self, node: usize, heard: &[usize]) -> bool {
        self.remains(node) && self.remaining().all(|other| other == node || heard.contains(&other))
    }

    /// Whether everything that operators said of removals is known to all who remain.
    pub(crate) fn all_know(&self) -> bool {
        self.remaining().all(|node| self.nodes[node].disk.known == self.gone)
    }

    /// Starts an agent anew that has written down what it cannot take in while it runs, or that has died.
    pub(crate) fn start_anew(&mut self, node: usize) {
        if std::mem::take(&mut self.nodes[node].restart) && self.nodes[node].life.is_some() {
            self.kill(node, false);
            self.start(node);
        }
    }

    fn tell(&mut self, node: usize, known: &Known) {
        if self.nodes[node].life.is_some() {
            self.nodes[node].learn(known);
            self.start_anew(node);
        }
    }

    /// The operator tells somebody of all removals, as each run of its command does.
    pub(crate) fn tell_all(&mut self) {
        let running: Vec<usize> = self.remaining().filter(|node| self.nodes[*node].life.is_some()).collect();
        let gone = self.gone.clone();
        if let Some(node) = running.into_iter().choose(self.rng()).filter(|_| !gone.is_empty()) {
            self.tell(node, &gone);
        }
    }

    /// Two nodes that compare what they know begin with who was removed. Whether it was news to one of them, which ends the
    /// connection.
    pub(crate) fn pass_on(&mut self, a: usize, b: usize) -> bool {
        if self.nodes[a].disk.known == self.nodes[b].disk.known {
            return false;
        }
        let mut all = self.nodes[a].disk.known.clone();
        learn(&mut all, &self.nodes[b].disk.known);
        self.tell(a, &all);
        self.tell(b, &all);
        true
    }

    /// An operator who hears the side of a node removes one; now and then another one on another side does so at the same time,
    /// or it is done by force.
    pub(crate) fn remove_nodes(&mut self, at: usize) {
        if self.rng().random_range(0..6) == 0 {
            return self.remove_by_force();
        }
        let here = self.nodes[at].side;
        let elsewhere: BTreeSet<u8> =
            (0..self.nodes.len()).map(|n| self.nodes[n].side).filter(|s| *s != here).collect();
        let both = self.rng().random();
        let there = elsewhere.into_iter().choose(self.rng()).filter(|_| both);
        let mut orders = Vec::new();
        for (side, other) in [(Some(here), there), (there, Some(here))] {
            orders.extend(side.and_then(|side| self.order(side, other)));
        }
        for (reached, removal) in orders {
            self.remove_node(&reached, removal);
        }
    }

    /// What an operator says who hears one side: whom it reaches, who is removed (where that matters, somebody of the other
    /// side) and who inherits, by what it hears of earlier removals there.
    fn order(&mut self, side: u8, other: Option<u8>) -> Option<(Vec<usize>, Removal)> {
        let now = self.now();
        let is_reached = |node: &Node| node.side == side && node.life.is_some() && !node.is_paused(now);
        let reached: Vec<usize> = (0..self.nodes.len()).filter(|n| is_reached(&self.nodes[*n])).collect();
        let mut known = Known::new();
        for node in &reached {
            learn(&mut known, &self.nodes[*node].disk.known);
        }
        let belongs: Vec<usize> = (0..self.nodes.len()).filter(|n| !known.contains_key(&peer(*n))).collect();
        let wanted = |node: &usize| other.is_none_or(|other| self.nodes[*node].side == other);
        let victims: Vec<usize> = belongs.iter().copied().filter(wanted).collect();
        let victim = victims.into_iter().choose(self.rng())?;
        let heir = belongs.into_iter().filter(|node| *node != victim).choose(self.rng())?;
        Some((reached, Removal { peer: peer(victim), heir: peer(heir), forced: false }))
    }

    /// A node is removed, dead or alive, and some of those who are reached hear it.
    fn remove_node(&mut self, reached: &[usize], removal: Removal) {
        let victim = number(removal.peer);
        let others: Vec<usize> = reached.iter().copied().filter(|node| *node != victim).collect();
        let left = self.remaining().filter(|node| *node != victim).count();
        let Some(first) = others.iter().copied().choose(self.rng()).filter(|_| left >= FEWEST.max(self.size() / 2))
        else {
            return;
        };
        self.report.nodes_removed += 1;
        if self.rng().random_range(0..3) == 0 {
            self.kill(victim, true);
        }
        let order = Known::from([(removal.peer, removal)]);
        learn(&mut self.gone, &order);
        for node in others {
            if node == first || self.rng().random() {
                self.tell(node, &order);
            }
        }
        if reached.contains(&victim) && self.rng().random_range(0..3) == 0 {
            self.tell(victim, &order);
        }
        self.forget_news_of(victim);
    }

    /// A machine is destroyed while all is well, and its node removed without waiting for anybody: nothing that it ever said
    /// is unknown.
    fn remove_by_force(&mut self) {
        self.be_quiet(true);
        let mut remaining: Vec<usize> = self.remaining().collect();
        let Some(victim) = remaining.iter().copied().choose(self.rng()) else { return };
        remaining.retain(|node| *node != victim);
        let Some(heir) = remaining.iter().copied().choose(self.rng()) else { return };
        if remaining.len() < FEWEST.max(self.size() / 2) {
            return;
        }
        self.kill(victim, true);
        self.nodes[victim].containers.clear();
        self.nodes[victim].gone = true;
        self.remove_node(&remaining, Removal { peer: peer(victim), heir: peer(heir), forced: true });
    }

    /// What only a removed node has heard of networks, nobody need ever hear.
    fn forget_news_of(&mut self, removed: usize) {
        let all: Vec<BTreeSet<_>> = self.remaining().map(|node| self.nodes[node].networks()).collect();
        self.networks.retain(|id| all.iter().any(|known| known.contains(id)));
        let told = self.nodes[removed].networks();
        self.removed.retain(|id| !told.contains(id) && !all.iter().any(|known| known.contains(id)));
    }

    /// What holds once all who remain hear each other and it is quiet: each address is of somebody who knows it.
    pub(crate) fn check_inheritance(&self, node: usize) -> Result<(), Breach> {
        let members: BTreeSet<PeerId> = self.remaining().map(peer).collect();
        let addresses = self.nodes[node].ring().frozen(&members);
        if addresses > 0 {
            return Err(Breach::Frozen { node, addresses });
        }
        let stats = self.nodes[node].ring().stats();
        let owned: u64 = self.remaining().map(|n| self.nodes[n].ring().stats().mine).sum();
        match stats.total.checked_sub(owned).filter(|addresses| *addresses > 0 && !self.forgetful) {
            Some(addresses) => Err(Breach::Lost { addresses }),
            None => Ok(()),
        }
    }
}
