//! All nodes and the network between them, over virtual time.

use crate::{
    Plant, Report,
    act::Act,
    control::equalise,
    members::Known,
    network::{Message, Network, Parcel},
    node::{Node, Outcome},
};
use osier_model::{NetworkId, PeerId, config::Member};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

/// The range of addresses: so small that nodes run short.
pub(crate) const RANGE: &str = "10.1.1.0/26";
/// How many different names containers have.
pub(crate) const NAMES: u32 = 12;
/// How many different names networks have.
const NETWORKS: u32 = 6;
/// How long nothing happens before everything is compared.
const QUIET: Duration = Duration::from_secs(60);
/// How often a node compares its facts with another's.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// The pause between two of the comparisons that a start begins with.
const COMPARE_FIRST: Duration = Duration::from_millis(100);
/// How long it takes an operator to start a node anew whose clone was stopped.
const RESOLVED: Duration = Duration::from_secs(5);
/// How many of the last acts are told when something breaks.
const HISTORY: usize = 30;

/// See the module.
pub(crate) struct World {
    /// The machines: the nodes by their numbers and, while there is one, a clone of one of them.
    pub(crate) nodes: Vec<Node>,
    /// How many nodes there are.
    size: usize,
    /// How many there were at first.
    founders: usize,
    /// No datagram reaches the clone.
    deaf: bool,
    /// The share of datagrams that are lost.
    pub(crate) loss: f64,
    pub(crate) report: Report,
    /// The networks of users that there are, and those that were removed.
    pub(crate) networks: BTreeSet<NetworkId>,
    pub(crate) removed: BTreeSet<NetworkId>,
    /// Who was admitted, and who removed.
    pub(crate) known: Known,
    /// Which node knows, or knew once, that which other was removed.
    pub(crate) acknowledged: BTreeSet<(usize, PeerId)>,
    /// A disk was lost in this cluster, with what only it knew.
    pub(crate) forgetful: bool,
    now: Duration,
    network: Network,
    rng: StdRng,
    plant: Option<Plant>,
    history: VecDeque<String>,
    next_id: u64,
}

pub(crate) fn peer(n: usize) -> PeerId {
    let [high, low] = u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    PeerId([2, 0, 0, 0, high, low])
}

/// The node whose identity this is.
pub(crate) fn number(peer: PeerId) -> usize {
    usize::from(u16::from_be_bytes([peer.0[4], peer.0[5]]))
}

#[expect(clippy::expect_used, reason = "a letter and a number are a node's name")]
pub(crate) fn member(n: usize) -> Member {
    let name = format!("n{n}").parse().expect("a node's name");
    Member { name, peer: peer(n), address: Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)) }
}

impl World {
    pub(crate) fn new(nodes: usize, plant: Option<Plant>, rng: StdRng) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            size: 0,
            founders: nodes,
            deaf: false,
            loss: 0.0,
            report: Report::default(),
            networks: BTreeSet::new(),
            removed: BTreeSet::new(),
            known: Known::admit(0..nodes),
            acknowledged: BTreeSet::new(),
            forgetful: false,
            now: Duration::ZERO,
            network: Network::default(),
            rng,
            plant,
            history: VecDeque::new(),
            next_id: 0,
        };
        let known = world.known.clone();
        let all: Vec<usize> = (0..nodes).map(|_| world.grow(&known)).collect();
        all.into_iter().for_each(|node| world.start(node));
        world
    }

    /// There is one more node, which knows this; its number.
    pub(crate) fn grow(&mut self, known: &Known) -> usize {
        let node = self.size;
        let founds = node == 0 || (node >= self.founders && self.plant == Some(Plant::FoundAgain));
        self.nodes.push(Node::new(node, founds, known.clone()));
        self.size += 1;
        node
    }

    pub(crate) fn into_report(mut self, steps: u64) -> Report {
        (self.report.steps, self.report.clusters) = (steps, 1);
        self.report
    }

    /// How many nodes there are, removed ones among them.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// How many nodes there were at first.
    pub(crate) fn founders(&self) -> usize {
        self.founders
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn plant(&self) -> Option<Plant> {
        self.plant
    }

    pub(crate) fn history(&self) -> Vec<String> {
        self.history.iter().cloned().collect()
    }

    pub(crate) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// Luck that changes nothing of the history.
    pub(crate) fn spare_rng(&self) -> StdRng {
        StdRng::seed_from_u64(0)
    }

    /// Some time up to this.
    pub(crate) fn luck(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.random())
    }

    pub(crate) fn note(&mut self, act: Act, node: usize) {
        *self.report.acts.entry(act).or_default() += 1;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("  {:>9.3} s  {act}, node {node}", self.now.as_secs_f64()));
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].gone {
            return;
        }
        let rng = StdRng::from_rng(&mut self.rng);
        let (now, plant) = (self.now, self.plant);
        self.nodes[node].paused = Duration::ZERO;
        self.nodes[node].start(now, plant, rng);
        let known = self.nodes[node].disk.known.removed.keys();
        self.acknowledged.extend(known.map(|removed| (number(self.nodes[node].peer), *removed)));
    }

    /// Starts a second machine with a copy of a node's disk, which is the last of the machines.
    pub(crate) fn start_twin(&mut self, node: usize, deaf: bool) {
        self.deaf = deaf;
        self.nodes.push(self.nodes[node].twin());
        self.start(self.size);
    }

    /// The clone is stopped for good, and the node's agent is started anew, as its own words ask for.
    pub(crate) fn stop_twin(&mut self, node: usize) {
        let noticed = self.nodes[node].life.as_ref().is_some_and(|life| life.duplicate);
        let given = |n: usize| self.nodes[n].given().collect::<BTreeSet<_>>();
        self.report.twice += given(node).intersection(&given(self.size)).count() as u64;
        self.report.noticed += u64::from(noticed);
        self.nodes.truncate(self.size);
        // Nobody is as quick as what the two have just said of themselves.
        self.run_for(RESOLVED);
        self.nodes[node].had_twin();
        self.kill(node, false);
        self.start(node);
    }

    /// The machine that gets what is meant for a node.
    pub(crate) fn machine(&mut self, node: usize, is_datagram: bool) -> usize {
        let twin = self.nodes.get(self.size).is_some_and(|twin| twin.peer == peer(node));
        let to_twin = twin && !(is_datagram && self.deaf) && self.rng.random();
        if to_twin { self.size } else { node }
    }

    /// The agent dies, or the host and with it what runs there.
    pub(crate) fn kill(&mut self, node: usize, host: bool) {
        let node = &mut self.nodes[node];
        node.life = None;
        if host {
            node.containers.values_mut().for_each(|c| c.running = false);
        }
    }

    pub(crate) fn leave(&mut self, node: usize) {
        if let Some(life) = &mut self.nodes[node].life {
            life.mesh.leave();
        }
        self.drain(node);
        self.kill(node, true);
    }

    pub(crate) fn create(&mut self, node: usize, name: u32) {
        self.next_id += 1;
        let (now, id) = (self.now, self.next_id);
        self.nodes[node].create(now, id, name);
    }

    pub(crate) fn remove(&mut self, node: usize, id: u64) {
        self.nodes[node].remove(id);
    }

    /// A user makes a network on a node; of a name that is known there, none.
    pub(crate) fn make_network(&mut self, node: usize) {
        let (name, luck) = (self.rng.random_range(0..NETWORKS), self.rng.random());
        let made = self.nodes[node].make_network(&format!("net-{name}"), luck);
        // What a removed node makes may be known to nobody else.
        self.networks.extend(made.filter(|_| self.remains(node)));
        self.drain(node);
    }

    /// A user removes a network on a node that knows it.
    pub(crate) fn remove_network(&mut self, node: usize) {
        let known = self.nodes[node].networks();
        if let Some(id) = known.into_iter().choose(&mut self.rng)
            && self.nodes[node].remove_network(self.now, id)
        {
            self.networks.remove(&id);
            if self.remains(node) {
                self.removed.insert(id);
            }
        }
        self.drain(node);
    }

    /// A disk is put back. What was removed since its copy may be back, too: nobody remembers it any more. So may what a removed
    /// node still has, to which this one listens until it hears of that removal.
    pub(crate) fn roll_back(&mut self, node: usize) {
        let alone = (0..self.nodes.len()).filter(|other| !self.remains(*other));
        let had: Vec<NetworkId> = alone.flat_map(|other| self.nodes[other].networks()).collect();
        for id in self.nodes[node].kept_networks().into_iter().chain(had) {
            self.removed.remove(&id);
        }
        self.nodes[node].roll_back();
    }

    pub(crate) fn toggle(&mut self, node: usize, id: u64) {
        self.nodes[node].toggle(id);
    }

    /// Whether messages go from one to the other.
    pub(crate) fn hears(&self, a: usize, b: usize) -> bool {
        let awake = |n: usize| self.nodes[n].life.is_some() && !self.nodes[n].is_paused(self.now);
        self.nodes[a].peer != self.nodes[b].peer && self.nodes[a].side == self.nodes[b].side && awake(a) && awake(b)
    }

    /// Lets things come to rest; before that, where `heal` says so, all nodes are up and hear each other.
    pub(crate) fn be_quiet(&mut self, heal: bool) {
        self.loss = 0.0;
        for node in 0..self.nodes.len() {
            self.nodes[node].paused = Duration::ZERO;
            if heal {
                self.nodes[node].side = 0;
                if self.nodes[node].life.is_none() {
                    self.start(node);
                }
            }
        }
        if heal {
            self.tell_all();
        }
        self.run_for(QUIET);
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        (0..self.nodes.len()).for_each(|node| self.drain(node));
        loop {
            let own = self.nodes.iter().filter_map(|node| node.due(self.now));
            let next = own.chain(self.network.next()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(parcel) = self.network.arrived(self.now) {
                self.deliver(parcel);
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].due(self.now).is_some_and(|at| at <= self.now) {
                    self.tick(node);
                }
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, parcel: Parcel) {
        let Parcel { from, to, start, message } = parcel;
        // What a clone has sent or should get goes with it.
        if from.max(to) >= self.nodes.len() {
            return;
        }
        let is_datagram = matches!(message, Message::Datagram(_));
        let (node, sender) = (&self.nodes[to], self.nodes[from].peer);
        // A connection is cut by what cuts the way; a datagram that has left arrives.
        let is_cut = || node.starts != start || node.side != self.nodes[from].side || self.refuse(from, to);
        if node.is_paused(self.now) || (!is_datagram && is_cut()) {
            return;
        }
        let given = self.nodes[to].receive(self.now, sender, message);
        self.report.chunks += u64::from(given);
        self.drain(to);
    }

    fn tick(&mut self, node: usize) {
        for outcome in self.nodes[node].tick(self.now) {
            match outcome {
                Outcome::Granted => self.report.addresses += 1,
                Outcome::Refused => self.report.refused += 1,
            }
        }
        self.drain(node);
        let Some(life) = &mut self.nodes[node].life else { return };
        if life.compare_at > self.now {
            return;
        }
        let first = life.compare_first.pop_front();
        life.compare_at = self.now + if first.is_some() { COMPARE_FIRST } else { COMPARE_EVERY };
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| self.talk(node, *other)).collect();
        let other = match first {
            Some(first) => Some(self.machine(first, false)).filter(|first| others.contains(first)),
            None => others.into_iter().choose(&mut self.rng),
        };
        if let Some(other) = other {
            self.compare(node, other);
            self.drain(node);
            self.drain(other);
        }
    }

    /// What two agents do over their control connection.
    fn compare(&mut self, a: usize, b: usize) {
        if self.pass_on(a, b) {
            return;
        }
        let now = self.now;
        let Ok([a, b]) = self.nodes.get_disjoint_mut([a, b]) else { return };
        let (peer_a, peer_b) = (a.peer, b.peer);
        let (Some(a), Some(b)) = (&mut a.life, &mut b.life) else { return };
        equalise(now, &mut a.mesh, &mut b.mesh);
        a.catch_up.note_compared(peer_b);
        b.catch_up.note_compared(peer_a);
        (a.look, b.look) = (true, true);
    }

    pub(crate) fn drain(&mut self, node: usize) {
        let out = self.nodes[node].drain(self.now);
        self.report.inherited += std::mem::take(&mut self.nodes[node].inherited);
        self.ask_strangers(node);
        self.start_anew(node);
        for (to, message) in out {
            let is_datagram = matches!(message, Message::Datagram(_));
            let to = self.machine(number(to), is_datagram);
            let lost = is_datagram && self.rng.random::<f64>() < self.loss;
            if lost || self.nodes[to].side != self.nodes[node].side {
                continue;
            }
            // Now and then something takes long, and overtakes nothing or everything.
            let slow = if is_datagram && self.rng.random_range(0..50) == 0 { 400_000 } else { 1_500 };
            let at = self.now + Duration::from_micros(self.rng.random_range(100..slow));
            let start = self.nodes[to].starts;
            self.network.send(at, Parcel { from: node, to, start, message });
        }
    }
}
