//! Clusters of up to a thousand nodes: what the mesh costs while nothing happens, and how long news takes to be everywhere.
//! Only the mesh runs here, without rings and containers, in a network that loses some datagrams. Must not know what the
//! figures are compared with.

use crate::{
    clock::{Clock, What},
    control::{equalise, seal},
    world::{member, number, peer},
};
use osier_mesh::{Event, Mesh, MeshConfig};
use osier_model::{PeerId, config::Member};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{ops::Range, time::Duration};

/// Nodes start within this time, as when an operator rolls the agent out to all.
const ROLL_OUT: Duration = Duration::from_secs(5);
/// How long what has happened may still be told after everybody knows it.
const CALM: Duration = Duration::from_secs(20);
/// How long is measured what is sent while nothing happens; longer than the longest period of anything in the mesh (30 s).
const IDLE: Duration = Duration::from_secs(60);
/// After so long without everybody knowing, a figure counts as this long.
const LONGEST: Duration = Duration::from_secs(120);
/// How often a node compares its facts with another's.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// How long a datagram is on its way, in microseconds.
const DELAY: Range<u64> = 100..1_500;
/// The share of datagrams that are lost.
const LOSS: f64 = 0.01;
/// The key of the fact whose way is measured, and a value as long as a container's name usually is.
const KEY: &str = "name/0123456789abcdef";
const VALUE: [u8; 120] = [7; 120];

/// What one cluster of `nodes` showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Until all nodes know all others and their facts, from the last start on.
    pub formed: Duration,
    /// Bytes that one node sends in a second while nothing happens, in datagrams, with their headers (IPv4, UDP, the seal).
    pub datagrams: f64,
    /// The same in comparisons of facts, with their headers (IPv4, TCP, TLS, the frame) and acknowledgements; without the
    /// connections' own signs of life.
    pub comparisons: f64,
    /// Until a new fact of one node is known to all.
    pub name: Duration,
    /// Until a node that died counts as dead on all others.
    pub death: Duration,
}

struct Cluster {
    nodes: Vec<Option<Mesh>>,
    clock: Clock,
    rng: StdRng,
    members: Vec<Member>,
    /// Bytes in datagrams, and in comparisons.
    sent: (u64, u64),
    /// How many pairs of nodes there are of which the first takes the second for alive.
    alive: usize,
    /// Who knows the new fact, and who knows of the death.
    told: Told,
    victim: Option<PeerId>,
}

#[derive(Default)]
struct Told {
    name: Vec<bool>,
    death: Vec<bool>,
}

/// Runs one cluster and takes its figures. The same seed gives the same figures.
pub fn figures(nodes: usize, seed: u64) -> Figures {
    let mut cluster = Cluster::new(nodes, seed);
    cluster.run_for(ROLL_OUT);
    let formed = cluster.until(Duration::from_millis(100), Cluster::is_whole);
    cluster.run_for(CALM);
    cluster.sent = (0, 0);
    cluster.run_for(IDLE);
    let each = |bytes: u64| f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / IDLE.as_secs_f64() / count(nodes);
    let (datagrams, comparisons) = (each(cluster.sent.0), each(cluster.sent.1));
    let name = cluster.name();
    cluster.run_for(CALM);
    let death = cluster.death();
    Figures { formed, datagrams, comparisons, name, death }
}

fn count(nodes: usize) -> f64 {
    f64::from(u32::try_from(nodes).unwrap_or(u32::MAX))
}

impl Cluster {
    fn new(nodes: usize, seed: u64) -> Self {
        let mut this = Self {
            nodes: (0..nodes).map(|_| None).collect(),
            clock: Clock::new(nodes),
            rng: StdRng::seed_from_u64(seed),
            members: (0..nodes).map(member).collect(),
            sent: (0, 0),
            alive: 0,
            told: Told { name: vec![false; nodes], death: vec![false; nodes] },
            victim: None,
        };
        for node in 0..nodes {
            let at = ROLL_OUT.mul_f64(this.rng.random());
            this.clock.push(at, What::Start(node));
        }
        this
    }

    /// Goes on for a while, or until `done`; whether it was.
    fn run(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.clock.now() + time;
        while !done(self) {
            let Some(what) = self.clock.pop(end) else { return false };
            match what {
                What::Start(node) => self.start(node),
                What::Wake(node) => {
                    let now = self.clock.now();
                    if let Some(mesh) = &mut self.nodes[node] {
                        mesh.handle_timeout(now);
                    }
                    self.settle(node);
                }
                What::Arrive { from, to, payload } => {
                    let now = self.clock.now();
                    if let Some(mesh) = &mut self.nodes[to] {
                        // Everything here comes from members.
                        let _ = mesh.handle_datagram(now, peer(from), &payload);
                    }
                    self.settle(to);
                }
                What::Compare(node) => self.compare(node),
            }
        }
        true
    }

    fn run_for(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    /// Goes on until `done`, which is looked at every so often; how long that took.
    fn until(&mut self, step: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.clock.now();
        while self.clock.now() < begin + LONGEST && !done(self) {
            self.run_for(step);
        }
        self.clock.now() - begin
    }

    /// Whether all know all.
    fn is_whole(&self) -> bool {
        let nodes = self.nodes.len();
        let mut digests = self.nodes.iter().flatten().map(|mesh| mesh.digest().fingerprint());
        let first = digests.next();
        self.alive == nodes * (nodes - 1) && digests.all(|digest| Some(digest) == first)
    }

    fn start(&mut self, node: usize) {
        let now = self.clock.now();
        let (me, members) = (member(node), self.members.clone());
        let config = MeshConfig { me, incarnation: 1, members, settle_after: Duration::from_secs(10) };
        let mut mesh = Mesh::new(config, StdRng::from_rng(&mut self.rng));
        mesh.settle();
        self.nodes[node] = Some(mesh);
        let first = COMPARE_EVERY.mul_f64(self.rng.random());
        self.clock.push(now + first, What::Compare(node));
        self.settle(node);
    }

    /// Sends what a node has to send, notes what it has learnt, and when it is due next.
    fn settle(&mut self, node: usize) {
        let now = self.clock.now();
        let Some(mesh) = &mut self.nodes[node] else { return };
        while let Some(event) = mesh.poll_event() {
            match event {
                Event::MemberUp(_) => self.alive += 1,
                Event::MemberDown(peer) => {
                    self.alive = self.alive.saturating_sub(1);
                    if self.victim == Some(peer) {
                        self.told.death[node] = true;
                    }
                }
                Event::FactsChanged { peer: origin } => {
                    self.told.name[node] |= mesh.facts().get(origin, KEY).is_some();
                }
                _ => {}
            }
        }
        while let Some(transmit) = mesh.poll_transmit(now) {
            self.sent.0 += seal(transmit.payload.len());
            if self.rng.random::<f64>() >= LOSS {
                let at = now + Duration::from_micros(self.rng.random_range(DELAY));
                let (to, payload) = (number(transmit.to), transmit.payload);
                self.clock.push(at, What::Arrive { from: node, to, payload });
            }
        }
        self.clock.wake(node, mesh.poll_timeout());
    }

    fn compare(&mut self, node: usize) {
        let now = self.clock.now();
        if self.nodes[node].is_none() {
            return;
        }
        self.clock.push(now + COMPARE_EVERY, What::Compare(node));
        let other = self.rng.random_range(0..self.nodes.len());
        let Ok([Some(a), Some(b)]) = self.nodes.get_disjoint_mut([node, other]) else { return };
        self.sent.1 += equalise(now, a, b);
        self.settle(node);
        self.settle(other);
    }

    /// One node says something new; how long until all know it.
    fn name(&mut self) -> Duration {
        let (begin, node) = (self.clock.now(), self.rng.random_range(0..self.nodes.len()));
        if let Some(mesh) = &mut self.nodes[node] {
            // Key and value are short enough.
            let _ = mesh.set_fact(KEY, Some(VALUE.to_vec()));
        }
        self.settle(node);
        self.run(LONGEST, |this| this.told.name.iter().all(|told| *told));
        self.clock.now() - begin
    }

    /// One node dies without a word; how long until all know it.
    fn death(&mut self) -> Duration {
        let (begin, node) = (self.clock.now(), self.rng.random_range(0..self.nodes.len()));
        self.nodes[node] = None;
        self.told.death[node] = true;
        self.victim = Some(peer(node));
        self.run(LONGEST, |this| this.told.death.iter().all(|told| *told));
        self.clock.now() - begin
    }
}
