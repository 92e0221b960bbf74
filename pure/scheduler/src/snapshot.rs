//! What the scheduler is told: the nodes with what runs on them, and what is to run.

use osier_model::{Bytes, Cpus};
use std::{collections::BTreeSet, sync::Arc};

/// What one container takes of its node. Stopped containers keep their reservation, because they may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Cores reserved.
    pub cpus: Cpus,
    /// Memory reserved.
    pub memory: Bytes,
    /// How many containers this is.
    pub containers: usize,
}

impl Load {
    /// The load of one container with these reservations.
    pub fn one(cpus: Cpus, memory: Bytes) -> Self {
        Self { cpus, memory, containers: 1 }
    }
}

impl std::ops::Add for Load {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            cpus: Cpus(self.cpus.0.saturating_add(other.cpus.0)),
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            containers: self.containers + other.containers,
        }
    }
}

impl std::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), std::ops::Add::add)
    }
}

/// One node at the moment of the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: Arc<str>,
    /// 0 (unusable) to 100 (no recent failure).
    pub health: u8,
    /// Its cores.
    pub cpus: Cpus,
    /// Its memory.
    pub memory: Bytes,
    /// What its containers take, those included whose creation is still under way.
    pub load: Load,
}

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Cores to reserve; 0 for none.
    pub cpus: Cpus,
    /// Memory to reserve; 0 for none.
    pub memory: Bytes,
    /// The conditions that tie it to some nodes, all of which must hold.
    pub ties: Vec<Tie>,
}

/// A condition that only these nodes meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// The condition in the user's terms, such as `network==node-1/web`.
    pub condition: String,
    /// The names of the nodes that meet it.
    pub nodes: BTreeSet<Arc<str>>,
}
