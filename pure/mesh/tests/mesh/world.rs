//! A simulated network: nodes, datagrams with delay and loss, partitions, crashes and restarts, over virtual time.

use osier_mesh::{Event, Mesh, MeshConfig};
use osier_model::{PeerId, config::Member};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::Ipv4Addr,
    time::Duration,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// How often each node compares its facts with one other, as the driver does.
const COMPARE_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Duration,
    pub(crate) loss: f64,
    /// Nodes of different sides do not hear each other.
    pub(crate) side: Vec<u8>,
    /// A machine that stands still: it neither hears nor does anything.
    pub(crate) asleep: Option<usize>,
    /// Payload bytes and number of datagrams sent.
    pub(crate) bytes: usize,
    pub(crate) datagrams: usize,
    /// Every death announced: when, by whom, of whom.
    pub(crate) deaths: Vec<(Duration, usize, usize)>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    flight: BTreeMap<u64, (usize, usize, Vec<u8>)>,
    rng: StdRng,
    sequence: u64,
}

pub(crate) struct Node {
    pub(crate) mesh: Option<Mesh>,
    incarnation: u64,
    compare_at: Duration,
}

pub(crate) fn peer(node: usize) -> PeerId {
    PeerId([2, 0, 0, 0, (node >> 8) as u8, node as u8])
}

pub(crate) fn member(node: usize) -> Member {
    Member { name: format!("n{node}").parse().unwrap(), peer: peer(node), address: Ipv4Addr::from(node as u32) }
}

impl World {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            now: Duration::ZERO,
            loss: 0.0,
            side: vec![0; nodes],
            asleep: None,
            bytes: 0,
            datagrams: 0,
            deaths: Vec::new(),
            queue: BinaryHeap::new(),
            flight: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            sequence: 0,
        };
        let idle = |_| Node { mesh: None, incarnation: 0, compare_at: Duration::ZERO };
        world.nodes = (0..nodes).map(idle).collect();
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    pub(crate) fn mesh(&mut self, node: usize) -> &mut Mesh {
        self.nodes[node].mesh.as_mut().unwrap()
    }

    pub(crate) fn start(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation + 1;
        self.start_as(node, incarnation);
    }

    pub(crate) fn start_as(&mut self, node: usize, incarnation: u64) {
        let members = (0..self.nodes.len()).map(member).collect();
        let config = MeshConfig { me: member(node), incarnation, members, settle_after: 10 * SECOND };
        let mesh = Mesh::new(config, StdRng::seed_from_u64(self.rng.random()));
        let compare_at = self.now + self.rng.random_range(0..2000) * MS;
        self.nodes[node] = Node { mesh: Some(mesh), incarnation, compare_at };
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].mesh = None;
    }

    /// Sets a fact and says how long it took until every running node of the same side had it.
    pub(crate) fn spread_time(&mut self, node: usize, key: &str, value: &str) -> Duration {
        let start = self.now;
        self.mesh(node).set_fact(key, Some(value.into())).unwrap();
        let side = self.side[node];
        self.run_until(60 * SECOND, |world| {
            world
                .running()
                .filter(|(n, _)| world.side[*n] == side)
                .all(|(_, mesh)| mesh.facts().get(peer(node), key) == Some(value.as_bytes()))
        });
        self.now - start
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Mesh)> {
        self.nodes.iter().enumerate().filter_map(|(n, node)| Some((n, node.mesh.as_ref()?)))
    }

    /// Whether every running node counts exactly the running nodes as alive.
    pub(crate) fn agrees_on_life(&self) -> bool {
        self.running()
            .all(|(_, mesh)| (0..self.nodes.len()).all(|n| mesh.alive(peer(n)) == self.nodes[n].mesh.is_some()))
    }

    /// Whether all running nodes hold the same facts.
    pub(crate) fn agrees_on_facts(&self) -> bool {
        let mut all = self.running().map(|(_, mesh)| mesh.facts().iter().collect::<std::collections::BTreeSet<_>>());
        let Some(first) = all.next() else { return true };
        all.all(|other| other == first)
    }

    /// Shows a figure that the test has measured.
    #[expect(clippy::print_stdout, reason = "the test runner shows it on request")]
    pub(crate) fn note(&self, what: &str) {
        println!("{} nodes, loss {}: {what}", self.nodes.len(), self.loss);
    }

    /// Runs until `done`, and says how long that took; fails after `limit`.
    #[track_caller]
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        let step = if self.nodes.len() > 10 { 50 * MS } else { MS };
        while !done(self) {
            assert!(self.now - start < limit, "still not so after {limit:?}");
            self.run_for(step);
        }
        self.now - start
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        (0..self.nodes.len()).for_each(|node| self.drain(node));
        loop {
            let awake = || self.running().filter(|(node, _)| self.asleep != Some(*node));
            let timers = awake().filter_map(|(_, mesh)| mesh.poll_timeout());
            let compares = awake().map(|(node, _)| self.nodes[node].compare_at);
            let arrival = self.queue.peek().map(|Reverse((at, _))| *at);
            let next = timers.chain(compares).chain(arrival).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.arrivals();
            self.timers();
            (0..self.nodes.len()).for_each(|node| self.drain(node));
        }
        self.now = end;
    }

    fn arrivals(&mut self) {
        while self.queue.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            let Reverse((_, sequence)) = self.queue.pop().unwrap();
            let (from, to, payload) = self.flight.remove(&sequence).unwrap();
            let now = self.now;
            if let Some(mesh) = self.nodes[to].mesh.as_mut().filter(|_| self.asleep != Some(to)) {
                // Datagrams to a former life of the receiver are refused; that is not an error of this network.
                let _ = mesh.handle_datagram(now, peer(from), &payload);
            }
        }
    }

    fn timers(&mut self) {
        let now = self.now;
        let asleep = self.asleep;
        for node in (0..self.nodes.len()).filter(|node| asleep != Some(*node)) {
            let Some(mesh) = &mut self.nodes[node].mesh else { continue };
            if mesh.poll_timeout().is_some_and(|at| at <= now) {
                mesh.handle_timeout(now);
            }
            if self.nodes[node].compare_at <= now {
                self.nodes[node].compare_at = now + COMPARE_EVERY;
                let reachable = (0..self.nodes.len()).filter(|n| *n != node && self.side[*n] == self.side[node]);
                let running = reachable.filter(|n| self.nodes[*n].mesh.is_some() && asleep != Some(*n));
                if let Some(other) = running.choose(&mut self.rng) {
                    self.compare(node, other);
                }
            }
        }
    }

    /// What two drivers do over their control connection.
    fn compare(&mut self, a: usize, b: usize) {
        let now = self.now;
        let Ok([a, b]) = self.nodes.get_disjoint_mut([a, b]) else { return };
        let (Some(a), Some(b)) = (&mut a.mesh, &mut b.mesh) else { return };
        if a.digest().fingerprint() == b.digest().fingerprint() {
            return;
        }
        let (for_a, for_b) = (b.delta_since(&a.digest(), 1 << 20), a.delta_since(&b.digest(), 1 << 20));
        let (digest_a, digest_b) = (a.digest(), b.digest());
        a.note_digest(now, &digest_b);
        b.note_digest(now, &digest_a);
        a.apply_delta(now, for_a).unwrap();
        b.apply_delta(now, for_b).unwrap();
    }

    fn drain(&mut self, node: usize) {
        let now = self.now;
        let Some(mesh) = &mut self.nodes[node].mesh else { return };
        while let Some(event) = mesh.poll_event() {
            if let Event::MemberDown(down) = event {
                let down = (0..self.side.len()).find(|n| peer(*n) == down).unwrap();
                self.deaths.push((now, node, down));
            }
        }
        while let Some(transmit) = self.nodes[node].mesh.as_mut().and_then(|mesh| mesh.poll_transmit(now)) {
            assert!(transmit.payload.len() <= osier_mesh::MAX_DATAGRAM);
            self.bytes += transmit.payload.len();
            self.datagrams += 1;
            let to = (0..self.side.len()).find(|n| peer(*n) == transmit.to).unwrap();
            if self.side[to] == self.side[node] && self.rng.random::<f64>() >= self.loss {
                self.sequence += 1;
                let at = now + MS / 2 + self.rng.random_range(0..1000) * Duration::from_micros(1);
                self.flight.insert(self.sequence, (node, to, transmit.payload));
                self.queue.push(Reverse((at, self.sequence)));
            }
        }
    }
}
