//! What must hold: after every step, and once it is quiet.

use crate::{
    node::label,
    world::{NAMES, RANGE, World},
};
use osier_model::{Hostname, NetworkId, PeerId};
use osier_names::{Answer, QueryName, QueryType, Zone, answer};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

/// How long two machines under one identity may run before both have noticed.
const NOTICED: Duration = Duration::from_secs(15);

/// A law that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Two containers have one address.
    #[error("{address} is held twice, on nodes {} and {}", nodes.0, nodes.1)]
    AddressTwice {
        /// The address.
        address: Ipv4Addr,
        /// The nodes.
        nodes: (usize, usize),
    },
    /// A container has an address that its node did not give it.
    #[error("node {node} did not give {address} to the container that has it")]
    NotHeld {
        /// The address.
        address: Ipv4Addr,
        /// The container's node.
        node: usize,
    },
    /// Two nodes say that one chunk is theirs.
    #[error("chunk {chunk} in generation {generation} belongs to nodes {} and {} by their own words", nodes.0, nodes.1)]
    ChunkTwice {
        /// The chunk's number.
        chunk: u32,
        /// Its generation.
        generation: u32,
        /// The nodes.
        nodes: (usize, usize),
    },
    /// A node has stopped giving out addresses although nothing was done that could make it.
    #[error("node {node} sees a contradiction in the ring: {conflict}")]
    Conflict {
        /// The node.
        node: usize,
        /// What it says.
        conflict: String,
    },
    /// Two machines under one identity hear the others, and one of them does not notice.
    #[error("{} machine of node {node} does not notice the other after {after:?}; both have given {twice:?}", if *clone { "the cloned" } else { "the first" })]
    Unnoticed {
        /// Their identity's node.
        node: usize,
        /// Whether it is the clone that does not.
        clone: bool,
        /// How long both have run.
        after: Duration,
        /// The addresses that both have given out.
        twice: Vec<Ipv4Addr>,
    },
    /// A node says that its identity is used twice, and it is not.
    #[error("node {node} says that its identity is used twice, which is not so")]
    FalseAlarm {
        /// The node.
        node: usize,
    },
    /// Nodes that hear each other disagree on who is alive.
    #[error("node {node} thinks that node {other} is {}, which is not so", if *alive { "alive" } else { "dead" })]
    Alive {
        /// Who is wrong.
        node: usize,
        /// About whom.
        other: usize,
        /// What it thinks.
        alive: bool,
    },
    /// Nodes that hear each other hold different facts.
    #[error("node {node} and node {other} hold different facts: {difference}")]
    Facts {
        /// One.
        node: usize,
        /// The other.
        other: usize,
        /// The first key that differs.
        difference: String,
    },
    /// Nodes that hear each other know different networks.
    #[error("node {node} knows networks that node {other} does not, or the other way round: {ids:?}")]
    Networks {
        /// One.
        node: usize,
        /// The other.
        other: usize,
        /// Those that only one knows.
        ids: Vec<NetworkId>,
    },
    /// All nodes hear each other, and a network that was removed is there, or one that was made is not.
    #[error("node {node} {} network {id}", if *there { "has the removed" } else { "does not have" })]
    Network {
        /// The node.
        node: usize,
        /// The network.
        id: NetworkId,
        /// Whether it has it.
        there: bool,
    },
    /// All who remain hear each other, and chunks of removed nodes are still nobody's.
    #[error("node {node} knows {addresses} addresses of removed nodes that no heir has taken")]
    Frozen {
        /// Who says so.
        node: usize,
        /// How many addresses.
        addresses: u64,
    },
    /// All who remain hear each other, and what they own is not everything.
    #[error("{addresses} addresses belong to nobody who knows it")]
    Lost {
        /// How many addresses.
        addresses: u64,
    },
    /// A name is answered with something else than what runs.
    #[error("node {node} answers {name} with {told:?}, and it is {truth:?}")]
    Name {
        /// Who answers.
        node: usize,
        /// The name.
        name: String,
        /// The answer.
        told: Vec<Ipv4Addr>,
        /// What runs.
        truth: Vec<Ipv4Addr>,
    },
}

impl World {
    /// What holds at every moment.
    pub(crate) fn check_always(&mut self) -> Result<(), Breach> {
        let mut addresses = BTreeMap::new();
        let mut chunks = BTreeMap::new();
        for (n, node) in self.nodes.iter().enumerate().filter(|(n, _)| self.counts(*n)) {
            for container in node.containers.values() {
                if let Some(other) = addresses.insert(container.address, n) {
                    return Err(Breach::AddressTwice { address: container.address, nodes: (other, n) });
                }
                if node.ring().owner_of(container.address) != Some(&label(container.id)) {
                    return Err(Breach::NotHeld { address: container.address, node: n });
                }
            }
            if node.life.as_ref().is_some_and(|life| life.duplicate) {
                return Err(Breach::FalseAlarm { node: n });
            }
            if let Some(conflict) = node.life.as_ref().and_then(|life| life.conflict.clone()) {
                return Err(Breach::Conflict { node: n, conflict });
            }
            // What a disk that was put back claims counts once its node has heard the others.
            if node.is_behind(self.now()) {
                continue;
            }
            for record in node.ring().my_records().into_iter().filter(|record| record.owner == node.peer) {
                for chunk in record.first..record.first + record.count {
                    if let Some(other) = chunks.insert((record.generation, chunk), n) {
                        let (generation, nodes) = (record.generation, (other, n));
                        return Err(Breach::ChunkTwice { chunk, generation, nodes });
                    }
                }
            }
        }
        Ok(())
    }

    /// What holds while a node runs twice, the clone being the last machine: both notice it in time, so that an address that
    /// both have given out is spoken of, and nobody else is drawn into it.
    pub(crate) fn check_twins(&mut self, node: usize, begin: Duration) -> Result<(), Breach> {
        let clone = self.nodes.len() - 1;
        let after = self.now() - begin;
        let given = |n: usize| self.nodes[n].given().collect::<BTreeSet<_>>();
        let twice: Vec<Ipv4Addr> = given(node).intersection(&given(clone)).copied().collect();
        let unnoticed = |n: usize| self.nodes[n].life.as_ref().is_some_and(|life| !life.duplicate);
        let blind = [node, clone].into_iter().find(|n| after >= NOTICED && unnoticed(*n));
        if let Some(machine) = blind {
            return Err(Breach::Unnoticed { node, clone: machine == clone, after, twice });
        }
        let mut addresses = BTreeMap::new();
        for (n, other) in self.nodes.iter().enumerate().filter(|(n, _)| self.counts(*n)) {
            for container in other.containers.values() {
                let first =
                    addresses.insert(container.address, n).filter(|first| self.nodes[*first].peer != other.peer);
                if let Some(first) = first {
                    return Err(Breach::AddressTwice { address: container.address, nodes: (first, n) });
                }
            }
            if let Some(conflict) = other.life.as_ref().and_then(|life| life.conflict.clone()) {
                return Err(Breach::Conflict { node: n, conflict });
            }
        }
        Ok(())
    }

    /// What holds once nothing has happened for a while: everybody knows everything about those that can be heard.
    pub(crate) fn check_quiet(&mut self) -> Result<(), Breach> {
        self.report.comparisons += 1;
        let zone = Zone { domain: Hostname::default_domain(), pool: RANGE.parse().unwrap_or_default() };
        for n in 0..self.nodes.len() {
            let Some(life) = &self.nodes[n].life else { continue };
            let heard: Vec<usize> = (0..self.nodes.len()).filter(|other| self.talk(n, *other)).collect();
            for other in (0..self.nodes.len()).filter(|other| *other != n) {
                let alive = life.mesh.alive(self.nodes[other].peer);
                if alive != heard.contains(&other) {
                    return Err(Breach::Alive { node: n, other, alive });
                }
            }
            for other in heard.iter().copied().filter(|other| *other > n) {
                if let Some(difference) = self.difference(n, other) {
                    return Err(Breach::Facts { node: n, other, difference });
                }
            }
            self.check_networks(n, &heard)?;
            if self.is_whole(n, &heard) && self.all_know() {
                self.check_inheritance(n)?;
            }
            let records = self.nodes[n].records(self.plant());
            let mut answers = 0;
            for name in 0..NAMES {
                let running = heard.iter().chain([&n]).flat_map(|node| self.nodes[*node].containers.values());
                let named = running.filter(|c| c.running && c.name == name).map(|c| c.address);
                let truth: Vec<Ipv4Addr> = named.collect::<BTreeSet<_>>().into_iter().collect();
                let text = format!("name-{name}");
                let question = QueryName::from_labels([text.as_bytes(), b"weave", b"local"].into_iter());
                let told = answer(&question, QueryType::A, None, &zone, &records, &mut self.spare_rng());
                let mut told = if let Answer::Addresses(told) = told { told } else { Vec::new() };
                told.sort_unstable();
                if told != truth {
                    return Err(Breach::Name { node: n, name: text, told, truth });
                }
                answers += 1;
            }
            self.report.answers += answers;
        }
        Ok(())
    }

    /// Networks are the same on all that hear each other, and where that is everybody, they are those that there should be.
    fn check_networks(&self, node: usize, heard: &[usize]) -> Result<(), Breach> {
        let known = self.nodes[node].networks();
        for other in heard.iter().copied() {
            let ids: Vec<NetworkId> = known.symmetric_difference(&self.nodes[other].networks()).copied().collect();
            if !ids.is_empty() {
                return Err(Breach::Networks { node, other, ids });
            }
        }
        if !self.is_whole(node, heard) {
            return Ok(());
        }
        let back = known.intersection(&self.removed).map(|id| (*id, true));
        let lost = self.networks.difference(&known).map(|id| (*id, false));
        match back.chain(lost).next() {
            Some((id, there)) => Err(Breach::Network { node, id, there }),
            None => Ok(()),
        }
    }

    /// The first fact that one node has and another has not, about nodes that both hear.
    fn difference(&self, a: usize, b: usize) -> Option<String> {
        // Of one that died or went out of hearing as it started, who had heard of its former life shows what is left of that;
        // and who heard a change, but not those before it, has nobody to ask for these.
        let settled = |n: usize, peer: PeerId| {
            let facts = self.nodes[n].life.as_ref().map(|life| life.mesh.facts());
            let whole = facts.is_some_and(|facts| facts.is_whole(peer) && !facts.has_gap(peer));
            let is_heard = |other: usize| other == n || self.talk(n, other);
            whole || (0..self.nodes.len()).any(|other| self.nodes[other].peer == peer && is_heard(other))
        };
        let facts = |n: usize| {
            let life = self.nodes[n].life.as_ref()?;
            let told = life.mesh.facts().iter().filter(|(peer, _, _)| settled(a, *peer) && settled(b, *peer));
            Some(told.map(|(peer, key, value)| (peer, key.to_owned(), value.to_vec())).collect::<BTreeSet<_>>())
        };
        let (a, b) = (facts(a)?, facts(b)?);
        a.symmetric_difference(&b).next().map(|(peer, key, _)| format!("{key} of {peer}"))
    }
}
