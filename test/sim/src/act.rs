//! What may happen to a cluster, and how often.

use crate::{laws::Breach, world::World};
use rand::{Rng, RngExt, seq::IteratorRandom};
use std::{fmt, time::Duration};

/// One thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Somebody creates a container.
    Create,
    /// A container is removed.
    Remove,
    /// A container is stopped, or started again with the address it has.
    Toggle,
    /// The agent dies; containers run on.
    KillAgent,
    /// The host dies, with its containers; its disk stays.
    KillHost,
    /// An agent or a host comes back.
    Start,
    /// A host dies and its disk with it; it comes back empty under the same identity.
    LoseDisk,
    /// An operator keeps a copy of a host's disk.
    KeepDisk,
    /// A host is put back to the copy of its disk.
    RollBack,
    /// The nodes fall apart into sides that do not hear each other.
    Partition,
    /// All nodes hear each other again.
    Heal,
    /// More or fewer datagrams are lost.
    Loss,
    /// A machine stands still for a while and does not know it.
    Pause,
    /// A node leaves in good order.
    Leave,
    /// A host's disk is copied and a second machine started with it, beside the first; some time later it is found and stopped.
    CloneDisk,
    /// A user makes a network.
    MakeNetwork,
    /// A user removes a network.
    RemoveNetwork,
    /// An operator removes a node for good, or one on each of two sides.
    RemoveNode,
    /// An operator adds a node.
    AddNode,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Create,
        Self::Remove,
        Self::Toggle,
        Self::KillAgent,
        Self::KillHost,
        Self::Start,
        Self::LoseDisk,
        Self::KeepDisk,
        Self::RollBack,
        Self::Partition,
        Self::Heal,
        Self::Loss,
        Self::Pause,
        Self::Leave,
        Self::CloneDisk,
        Self::MakeNetwork,
        Self::RemoveNetwork,
        Self::RemoveNode,
        Self::AddNode,
    ];

    /// How often it happens, as against the others.
    pub(crate) fn weight(self) -> u64 {
        match self {
            Self::Create => 40,
            Self::Remove => 18,
            Self::Toggle => 14,
            Self::Start => 16,
            Self::KillAgent => 6,
            Self::KillHost | Self::MakeNetwork => 4,
            Self::Heal | Self::Loss | Self::Pause | Self::Partition | Self::RemoveNetwork => 3,
            Self::LoseDisk
            | Self::KeepDisk
            | Self::RollBack
            | Self::Leave
            | Self::CloneDisk
            | Self::RemoveNode
            | Self::AddNode => 1,
        }
    }

    pub(crate) fn total() -> u64 {
        Self::ALL.iter().map(|act| act.weight()).sum()
    }

    pub(crate) fn any(rng: &mut impl Rng) -> Self {
        let mut luck = rng.random_range(0..Self::total());
        for act in Self::ALL {
            match luck.checked_sub(act.weight()) {
                Some(rest) => luck = rest,
                None => return act,
            }
        }
        Self::Create
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "containers created",
            Self::Remove => "containers removed",
            Self::Toggle => "containers stopped or started",
            Self::KillAgent => "agents killed",
            Self::KillHost => "hosts killed",
            Self::Start => "agents and hosts started",
            Self::LoseDisk => "disks lost",
            Self::KeepDisk => "disks copied",
            Self::RollBack => "disks rolled back",
            Self::Partition => "partitions",
            Self::Heal => "partitions healed",
            Self::Loss => "changes of loss",
            Self::Pause => "machines paused",
            Self::Leave => "nodes left",
            Self::CloneDisk => "disks cloned",
            Self::MakeNetwork => "networks made",
            Self::RemoveNetwork => "networks removed",
            Self::RemoveNode => "wishes to remove nodes",
            Self::AddNode => "wishes to add nodes",
        })
    }
}

impl World {
    /// Does something; which is luck. What makes no sense at the moment is made up for: a start with everybody running is
    /// preceded by a death.
    pub(crate) fn act(&mut self) -> Result<(), Breach> {
        let act = Act::any(self.rng());
        let (running, down): (Vec<usize>, Vec<usize>) =
            (0..self.nodes.len()).filter(|n| !self.nodes[*n].gone).partition(|n| self.nodes[*n].life.is_some());
        let awake: Vec<usize> = running.iter().copied().filter(|n| !self.nodes[*n].is_paused(self.now())).collect();
        let one = |world: &mut Self, among: &[usize]| among.iter().copied().choose(world.rng());
        let node = match act {
            Act::Create
            | Act::Remove
            | Act::Toggle
            | Act::Pause
            | Act::KeepDisk
            | Act::Leave
            | Act::MakeNetwork
            | Act::RemoveNetwork
            | Act::RemoveNode
            | Act::AddNode => one(self, &awake),
            Act::KillAgent | Act::KillHost => one(self, &running),
            Act::Start => one(self, &down),
            Act::LoseDisk | Act::RollBack | Act::CloneDisk | Act::Partition | Act::Heal | Act::Loss => {
                let all: Vec<usize> = (0..self.nodes.len()).filter(|node| self.remains(*node)).collect();
                one(self, &all)
            }
        };
        let Some(node) = node else {
            // Everybody is down, or nobody is.
            match (act, down.first()) {
                (_, Some(_)) => down.into_iter().for_each(|node| self.start(node)),
                (_, None) => {
                    let Some(victim) = one(self, &running) else { return Ok(()) };
                    self.kill(victim, false);
                    self.start(victim);
                    self.note(Act::Start, victim);
                }
            }
            return Ok(());
        };
        self.note(act, node);
        match act {
            Act::Create => {
                let name = self.rng().random_range(0..crate::world::NAMES);
                self.create(node, name);
            }
            Act::Remove => {
                if let Some(id) = self.any_container(node) {
                    self.remove(node, id);
                }
            }
            Act::Toggle => {
                if let Some(id) = self.any_container(node) {
                    self.toggle(node, id);
                }
            }
            Act::KillAgent => self.kill(node, false),
            Act::KillHost => self.kill(node, true),
            Act::Start => self.start(node),
            Act::KeepDisk => self.nodes[node].keep_disk(),
            // What a disk has missed can only be told by those who know it: the operator does this when all is well.
            Act::LoseDisk => {
                self.be_quiet(true);
                self.kill(node, true);
                self.forgetful = true;
                self.nodes[node].lose_disk(node == 0);
                self.come_back(node);
            }
            Act::RollBack => {
                self.be_quiet(true);
                self.kill(node, true);
                self.roll_back(node);
                self.come_back(node);
            }
            Act::Partition => {
                let sides = self.rng().random_range(2..4);
                for node in 0..self.nodes.len() {
                    self.nodes[node].side = self.rng().random_range(0..sides);
                }
            }
            Act::Heal => self.nodes.iter_mut().for_each(|node| node.side = 0),
            Act::Loss => self.loss = [0.0, 0.01, 0.05, 0.3][self.rng().random_range(0..4)],
            Act::Pause => {
                let pause = Duration::from_secs(self.rng().random_range(1..60));
                self.nodes[node].paused = self.now() + pause;
            }
            Act::Leave => self.leave(node),
            Act::CloneDisk => self.clone_disk(node)?,
            Act::MakeNetwork => self.make_network(node),
            Act::RemoveNetwork => self.remove_network(node),
            Act::RemoveNode => self.remove_nodes(node),
            Act::AddNode => self.add_node(node),
        }
        Ok(())
    }

    /// A clone begins when all is well, like everything that only an operator does. It takes messages that are meant for the
    /// first machine, as one with the same network address does, or none of them: then it hears others only in connections.
    fn clone_disk(&mut self, node: usize) -> Result<(), Breach> {
        self.be_quiet(true);
        self.loss = [0.0, 0.01, 0.05][self.rng().random_range(0..3)];
        let deaf = self.rng().random();
        let begin = self.now();
        self.start_twin(node, deaf);
        let end = begin + Duration::from_millis(self.rng().random_range(2_000..25_000));
        while self.now() < end {
            let machines = self.nodes.len();
            let machine = self.rng().random_range(0..machines);
            let name = self.rng().random_range(0..crate::world::NAMES);
            self.create(machine, name);
            let pause = self.luck(Duration::from_secs(1));
            self.run_for(pause);
            self.check_twins(node, begin)?;
        }
        self.stop_twin(node);
        Ok(())
    }

    /// Starts a node with work waiting for it, and lets it hear the others before anything else happens.
    fn come_back(&mut self, node: usize) {
        self.start(node);
        for name in 0..4 {
            self.create(node, name);
        }
        self.run_for(Duration::from_secs(5));
    }

    fn any_container(&mut self, node: usize) -> Option<u64> {
        let ids: Vec<u64> = self.nodes[node].containers.keys().copied().collect();
        ids.into_iter().choose(self.rng())
    }
}
