//! Rings that allocate, release, ask, give, crash and lose, repeat and reorder messages: no address is ever held twice,
//! no chunk ever has two owners, and once messages flow again every address can be had.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use osier_model::PeerId;
use osier_ring::{Allocation, ChunkRecord, ChunkReply, ChunkRequest, Owner, Ring};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::Ipv4Addr};

#[derive(Debug, Clone)]
enum Step {
    Allocate(usize),
    Claim(usize, u32),
    Release(usize, usize),
    Ask {
        from: usize,
        to: usize,
    },
    /// Asks for the chunk of one address.
    Want {
        from: usize,
        to: usize,
        offset: u32,
    },
    Publish {
        from: usize,
        to: usize,
    },
    /// Delivers some message in flight and keeps it there, to be delivered again.
    Repeat(usize),
    Deliver(usize),
    Lose(usize),
    /// The node dies before what it just did is persisted or seen.
    Crash(Box<Step>),
}

#[derive(Debug, Clone)]
enum Message {
    Request(usize, usize, ChunkRequest),
    Reply(usize, ChunkReply),
    Records(usize, Vec<ChunkRecord>),
}

/// What a step lets out of its node once persisted.
type Output = Vec<Message>;

struct World {
    peers: Vec<PeerId>,
    /// What is on each node's disk; a node in memory is never ahead of it when a step ends.
    disks: Vec<String>,
    flight: Vec<Message>,
    names: u64,
}

impl World {
    /// A ring that the first node founds, or the first `founders` nodes together.
    fn new(nodes: usize, founders: usize, range: &str) -> Self {
        let range = range.parse().unwrap();
        let peers: Vec<_> = (0..nodes).map(|n| PeerId([2, 0, 0, 0, 0, n as u8])).collect();
        let together = peers.iter().take(founders).copied().collect();
        let ring = |n: usize| match (founders, n) {
            (1, 0) => Ring::found(range, peers[0], &[]),
            (1, n) => Ring::join(range, peers[n], &[]),
            (_, n) => Ring::found_among(range, peers[n], &together, &[]),
        };
        let disks = (0..nodes).map(|n| serde_json::to_string(&ring(n)).unwrap()).collect();
        Self { peers, disks, flight: Vec::new(), names: 0 }
    }

    fn load(&self, node: usize) -> Ring {
        serde_json::from_str(&self.disks[node]).unwrap()
    }

    fn fresh(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Runs `act` on a node; persists, then lets its output out. A crash drops both.
    fn act(&mut self, node: usize, crash: bool, act: impl FnOnce(&mut Ring) -> Output) {
        let mut ring = self.load(node);
        let output = act(&mut ring);
        if !crash {
            self.disks[node] = serde_json::to_string(&ring).unwrap();
            self.flight.extend(output);
        }
    }

    fn step(&mut self, step: &Step, crash: bool) {
        let nodes = self.peers.len();
        match step {
            Step::Allocate(node) => {
                let owner = Owner::new(self.fresh().to_string());
                self.act(node % nodes, crash, |ring| {
                    ring.allocate(&owner);
                    Vec::new()
                });
            }
            Step::Claim(node, offset) => {
                let owner = Owner::new(self.fresh().to_string());
                self.act(node % nodes, crash, |ring| {
                    let base = u32::from(ring.range().network());
                    ring.claim(&owner, Ipv4Addr::from(base.wrapping_add(*offset)));
                    Vec::new()
                });
            }
            Step::Release(node, pick) => self.act(node % nodes, crash, |ring| {
                let count = ring.held().count().max(1);
                let held = ring.held().nth(pick % count).map(|(_, owner)| owner.clone());
                if let Some(owner) = held {
                    ring.release(&owner);
                }
                Vec::new()
            }),
            Step::Ask { from, to } => {
                let (from, to, fresh) = (from % nodes, to % nodes, self.fresh());
                self.act(from, crash, |ring| vec![Message::Request(from, to, ring.request_chunk(fresh))]);
            }
            Step::Want { from, to, offset } => {
                let (from, to, fresh) = (from % nodes, to % nodes, self.fresh());
                self.act(from, crash, |ring| {
                    let address = Ipv4Addr::from(u32::from(ring.range().network()).wrapping_add(*offset));
                    vec![Message::Request(from, to, ring.request_address(address, fresh))]
                });
            }
            Step::Publish { from, to } => {
                let records = self.load(from % nodes).my_records();
                self.flight.push(Message::Records(to % nodes, records));
            }
            Step::Deliver(pick) | Step::Repeat(pick) | Step::Lose(pick) => {
                if self.flight.is_empty() {
                    return;
                }
                let pick = pick % self.flight.len();
                let message = match step {
                    Step::Repeat(_) => self.flight[pick].clone(),
                    _ => self.flight.swap_remove(pick),
                };
                if !matches!(step, Step::Lose(_)) {
                    self.deliver(message, crash);
                }
            }
            Step::Crash(step) => self.step(step, true),
        }
    }

    fn deliver(&mut self, message: Message, crash: bool) {
        let peers = self.peers.clone();
        match message {
            Message::Request(from, to, request) => {
                self.act(to, crash, |ring| vec![Message::Reply(from, ring.give(peers[from], &request, &peers))]);
            }
            Message::Reply(to, reply) => self.act(to, crash, |ring| {
                assert_eq!(ring.accept(&reply).conflicts, []);
                Vec::new()
            }),
            Message::Records(to, records) => self.act(to, crash, |ring| {
                for record in &records {
                    assert_eq!(ring.merge(record).conflicts, []);
                }
                Vec::new()
            }),
        }
    }

    /// The invariants, over what is on the disks.
    fn check(&self) {
        let mut addresses = BTreeMap::new();
        let mut owners = BTreeMap::new();
        for (node, me) in self.peers.iter().enumerate() {
            let ring = self.load(node);
            for (address, _) in ring.held() {
                assert_eq!(addresses.insert(address, node), None, "{address} is held twice");
                assert_eq!(ring.peer_of(address), Some(*me), "{address} is held outside the node's own chunks");
            }
            for record in ring.records().iter().filter(|record| record.owner == *me) {
                for chunk in record.first..record.first + record.count {
                    assert_eq!(owners.insert(chunk, node), None, "chunk {chunk} has two owners");
                }
            }
        }
    }

    /// Delivers everything, lets all records spread, then has one node take every address that is left.
    fn settle_and_fill(&mut self, taker: usize) {
        while !self.flight.is_empty() {
            self.step(&Step::Deliver(0), false);
        }
        self.spread();
        let taker = taker % self.peers.len();
        let total = self.load(taker).stats().total as usize;
        assert_eq!(self.load(taker).stats().unowned, 0, "every chunk's owner is known");
        loop {
            let name = self.fresh().to_string();
            let mut answer = Allocation::Full;
            self.act(taker, false, |ring| {
                answer = ring.allocate(&Owner::new(name));
                Vec::new()
            });
            let Allocation::NeedChunk { ask } = answer else {
                if answer == Allocation::Full {
                    break;
                }
                continue;
            };
            let before = self.load(taker).stats().mine;
            for peer in ask {
                let to = self.peers.iter().position(|p| *p == peer).unwrap();
                self.step(&Step::Ask { from: taker, to }, false);
                while !self.flight.is_empty() {
                    self.step(&Step::Deliver(0), false);
                }
            }
            if self.load(taker).stats().mine == before {
                break;
            }
        }
        let held: usize = (0..self.peers.len()).map(|node| self.load(node).held().count()).sum();
        assert_eq!(held, total, "every address can be allocated");
    }

    fn spread(&mut self) {
        for from in 0..self.peers.len() {
            for to in 0..self.peers.len() {
                self.step(&Step::Publish { from, to }, false);
            }
        }
        while !self.flight.is_empty() {
            self.step(&Step::Deliver(0), false);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let plain = prop_oneof![
        4 => any::<usize>().prop_map(Step::Allocate),
        1 => (any::<usize>(), 0_u32..80).prop_map(|(n, o)| Step::Claim(n, o)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(n, p)| Step::Release(n, p)),
        4 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Step::Ask { from, to }),
        2 => (any::<usize>(), any::<usize>(), 0_u32..80).prop_map(|(from, to, offset)| Step::Want { from, to, offset }),
        3 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Step::Publish { from, to }),
        5 => any::<usize>().prop_map(Step::Deliver),
        2 => any::<usize>().prop_map(Step::Repeat),
        1 => any::<usize>().prop_map(Step::Lose),
    ];
    (plain, 0..10_u8).prop_map(|(step, luck)| match luck {
        0 => Step::Crash(Box::new(step)),
        _ => step,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_twice_no_chunk_with_two_owners_and_nothing_lost(
        nodes in 2_usize..6, founders in 1_usize..6,
        range in prop_oneof![Just("10.1.1.0/28"), Just("10.1.1.0/26"), Just("10.1.0.0/21")],
        steps in prop::collection::vec(step(), 0..120),
        taker in any::<usize>(),
    ) {
        let mut world = World::new(nodes, founders, range);
        for step in &steps {
            world.step(step, false);
            world.check();
        }
        if range != "10.1.0.0/21" {
            world.settle_and_fill(taker);
            world.check();
        }
    }

    #[test]
    fn any_record_and_any_text_is_taken_or_refused_but_never_panics(
        records in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>(), 0..3_u8, 0..4_u8), 0..20),
        cut in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let peer = |n: u8| PeerId([2, 0, 0, 0, 0, n]);
        let mut ring = Ring::found("10.1.1.0/28".parse().unwrap(), peer(0), &[]);
        for (first, count, generation, version, owner, giver) in records {
            let giver = (giver < 3).then(|| peer(giver));
            for (first, count) in [(first, count), (first % 17, count % 17)] {
                ring.merge(&ChunkRecord { first, count, generation, version, owner: peer(owner), giver });
            }
            ring.allocate(&Owner::new("x"));
            ring.give(peer(1), &ChunkRequest { id: version, wanted: None }, &[peer(1)]);
            ring.stats();
        }
        let text = serde_json::to_vec(&ring).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Ring>(&text).unwrap(), &ring);
        let mut damaged = text.clone();
        damaged[cut.index(text.len())] = byte;
        let _ = serde_json::from_slice::<Ring>(&damaged);
        let _ = serde_json::from_slice::<Ring>(&text[..cut.index(text.len())]);
    }
}
