//! Nodes that an operator removes for good, and who takes over what they had. A removed node that nobody told lives on, alone.

use crate::{
    Breach, Plant,
    members::Known,
    node::Node,
    world::{World, number, peer},
};
use osier_model::PeerId;
use osier_ring::{MergeOutcome, Removal, inheritance};
use rand::{RngExt, seq::IteratorRandom};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How many nodes must remain, beside half of all: fewer do not give each other chunks often enough.
const FEWEST: usize = 2;

impl Node {
    /// Takes over what the node inherits by now; writes that before anybody hears of it. Now and then the agent dies just
    /// before or after that.
    pub(crate) fn inherit(&mut self, now: Duration) {
        let Some(life) = &mut self.life else { return };
        let known = &self.disk.known;
        if known.removed.is_empty() || life.provided || self.restart || !life.has_caught_up(now) || !life.is_alone(now)
        {
            return;
        }
        let me = self.peer;
        let removals: Vec<Removal> = known.removed.values().copied().collect();
        let members: BTreeSet<PeerId> = life.members.iter().copied().collect();
        let mut estates = BTreeMap::new();
        for member in members.iter().filter(|member| **member != me) {
            estates.extend(life.estate_of(*member).map(|estate| (*member, estate)));
        }
        let hasty = life.plant == Some(Plant::HastyHeirs);
        let decided = inheritance(me, &removals, &members, |member| hasty || estates.contains_key(&member));
        if !decided.takes.is_empty() {
            let mut all = MergeOutcome::default();
            for record in estates.values().flatten() {
                all.conflicts.extend(life.ring.merge(record).conflicts);
            }
            life.note(all.but_for(&decided.takes), &mut self.containers);
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
    /// Whether what a node has must not be had by another: it was not removed, or not all who remain have heard that.
    pub(crate) fn counts(&self, node: usize) -> bool {
        let peer = self.nodes[node].peer;
        self.remains(node) || self.remaining().any(|member| !self.acknowledged.contains(&(member, peer)))
    }

    /// Whether a node and those whom it hears are all who remain.
    pub(crate) fn is_whole(&self, node: usize, heard: &[usize]) -> bool {
        self.remains(node) && self.remaining().all(|other| other == node || heard.contains(&other))
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
            if !self.alone_knows(number(removal.peer)) {
                self.remove_node(&reached, removal);
            }
        }
    }

    /// Whether a node is the last who knows of another: nobody may remove it then who knows nothing of that other one. The
    /// records of who added that one would say so, which is not simulated.
    fn alone_knows(&self, victim: usize) -> bool {
        let knows = |a: usize, b: usize| self.nodes[a].disk.known.is_member(peer(b));
        let known_to_another = |of: usize| {
            let mut others = self.remaining().filter(|n| *n != victim && *n != of && *n < self.founders());
            others.any(|n| knows(n, of))
        };
        self.remaining().any(|of| of != victim && knows(victim, of) && !known_to_another(of))
    }

    /// What an operator says who hears one side: whom it reaches, who is removed (where that matters, somebody of the other
    /// side) and who inherits, by what it hears of earlier removals there.
    fn order(&mut self, side: u8, other: Option<u8>) -> Option<(Vec<usize>, Removal)> {
        let (reached, known) = self.reached(side);
        let belongs: Vec<usize> = known.members().map(number).collect();
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
        let Some(first) = others.iter().copied().choose(self.rng()).filter(|_| left >= FEWEST.max(self.founders() / 2))
        else {
            return;
        };
        self.report.nodes_removed += 1;
        if self.rng().random_range(0..3) == 0 {
            self.kill(victim, true);
        }
        let order = Known::removal(removal);
        self.known.learn(&order);
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
        if remaining.len() < FEWEST.max(self.founders() / 2) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// Node 1 inherits from node 0, and its disk is copied when it knows but node 2 beside itself. Nodes 3 and 4 are added, of
    /// which node 2 hears nothing, and get chunks of it; node 2 is removed, and the disk is put back. Nobody whom that knows
    /// remains; node 2 may live on, and knows no more than it.
    fn put_back_to_before_all_others(seed: u64, lives_on: bool) -> World {
        let mut world = World::new(3, None, StdRng::seed_from_u64(seed));
        world.be_quiet(true);
        world.remove_node(&[0, 1, 2], Removal { peer: peer(0), heir: peer(1), forced: false });
        world.be_quiet(true);
        world.nodes[1].keep_disk();
        world.nodes[2].side = 1;
        for new in [3, 4] {
            world.add_node(1);
            world.be_quiet(false);
            assert_eq!(world.size(), new + 1);
        }
        if !lives_on {
            world.kill(2, true);
            world.nodes[2].containers.clear();
            world.nodes[2].gone = true;
        }
        let two = Removal { peer: peer(2), heir: peer(3), forced: false };
        world.known.learn(&Known::removal(two));
        for node in [1, 3, 4] {
            world.tell(node, &Known::removal(two));
        }
        world.be_quiet(false);
        world.nodes[2].side = 0;
        for node in [3, 4] {
            (0..4).for_each(|name| world.create(node, name));
            world.run_for(Duration::from_secs(10));
        }
        let owns = |node: usize| world.nodes[node].ring().stats().mine;
        assert!([1, 3, 4].into_iter().all(|node| owns(node) > 0));
        assert_eq!(world.nodes[2].gone, !lives_on);
        assert_eq!(world.check_always(), Ok(()));

        world.kill(1, true);
        world.roll_back(1);
        assert_eq!(world.nodes[1].disk.known.members().map(number).collect::<Vec<_>>(), [1, 2]);
        world
    }

    #[test]
    fn a_node_that_is_put_back_to_before_all_others_were_added_asks_them_who_belongs() {
        for (seed, lives_on) in (0..12).zip([false, true].into_iter().cycle()) {
            let mut world = put_back_to_before_all_others(seed, lives_on);
            world.start(1);
            (0..4).for_each(|name| world.create(1, name));
            for moment in 0..100 {
                world.run_for(Duration::from_millis(100));
                assert_eq!(world.check_always(), Ok(()), "seed {seed}, moment {moment}, lives on: {lives_on}");
            }
            assert_eq!(world.nodes[1].disk.known, world.known);
            world.be_quiet(false);
            assert_eq!((world.check_always(), world.check_quiet()), (Ok(()), Ok(())), "seed {seed}");
            world.create(1, 0);
            world.run_for(Duration::from_secs(10));
            assert!(!world.nodes[1].containers.is_empty());
        }
    }
}
