//! All nodes and the network between them, over virtual time.

use crate::{
    Plant, Report,
    act::Act,
    control::equalise,
    network::{Message, Network, Parcel},
    node::{Node, Outcome},
};
use osier_model::{PeerId, config::Member};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

/// The range of addresses: so small that nodes run short.
pub(crate) const RANGE: &str = "10.1.1.0/26";
/// How many different names containers have.
pub(crate) const NAMES: u32 = 12;
/// How long nothing happens before everything is compared.
const QUIET: Duration = Duration::from_secs(60);
/// How often a node compares its facts with another's.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// The pause between two of the comparisons that a start begins with.
const COMPARE_FIRST: Duration = Duration::from_millis(100);
/// How many of the last acts are told when something breaks.
const HISTORY: usize = 30;

/// See the module.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    /// The share of datagrams that are lost.
    pub(crate) loss: f64,
    pub(crate) report: Report,
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
            nodes: (0..nodes).map(Node::new).collect(),
            loss: 0.0,
            report: Report::default(),
            now: Duration::ZERO,
            network: Network::default(),
            rng,
            plant,
            history: VecDeque::new(),
            next_id: 0,
        };
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    pub(crate) fn into_report(mut self, steps: u64) -> Report {
        (self.report.steps, self.report.clusters) = (steps, 1);
        self.report
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
        let rng = StdRng::from_rng(&mut self.rng);
        let (now, nodes, plant) = (self.now, self.nodes.len(), self.plant);
        self.nodes[node].paused = Duration::ZERO;
        self.nodes[node].start(now, nodes, plant, rng);
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

    pub(crate) fn toggle(&mut self, node: usize, id: u64) {
        self.nodes[node].toggle(id);
    }

    /// Whether messages go from one to the other.
    pub(crate) fn hears(&self, a: usize, b: usize) -> bool {
        let awake = |n: usize| self.nodes[n].life.is_some() && !self.nodes[n].is_paused(self.now);
        a != b && self.nodes[a].side == self.nodes[b].side && awake(a) && awake(b)
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
        let is_datagram = matches!(message, Message::Datagram(_));
        let node = &self.nodes[to];
        // A connection is cut by what cuts the way; a datagram that has left arrives.
        if node.is_paused(self.now) || (!is_datagram && (node.starts != start || node.side != self.nodes[from].side)) {
            return;
        }
        let given = self.nodes[to].receive(self.now, peer(from), message);
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
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| self.hears(node, *other)).collect();
        let other = match first {
            Some(first) => Some(first).filter(|first| others.contains(first)),
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
        let now = self.now;
        let Ok([a, b]) = self.nodes.get_disjoint_mut([a, b]) else { return };
        let (peer_a, peer_b) = (a.peer, b.peer);
        let (Some(a), Some(b)) = (&mut a.life, &mut b.life) else { return };
        equalise(now, &mut a.mesh, &mut b.mesh);
        a.synced.insert(peer_b);
        b.synced.insert(peer_a);
    }

    fn drain(&mut self, node: usize) {
        for (to, message) in self.nodes[node].drain(self.now) {
            let to = number(to);
            let is_datagram = matches!(message, Message::Datagram(_));
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
