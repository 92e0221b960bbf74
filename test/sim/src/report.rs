//! How often everything happened, so that a simulation in which nothing happens does not look like one in which nothing
//! breaks.

use crate::act::Act;
use std::{collections::BTreeMap, fmt};

/// What has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps in all.
    pub steps: u64,
    /// Clusters in all.
    pub clusters: u64,
    /// How often each act was done.
    pub acts: BTreeMap<Act, u64>,
    /// Addresses that were given out, chunks that changed hands, containers for which no address was found in time.
    pub addresses: u64,
    /// See `addresses`.
    pub chunks: u64,
    /// See `addresses`.
    pub refused: u64,
    /// Clones that their node has noticed, and addresses that both had given out by then.
    pub noticed: u64,
    /// See `noticed`.
    pub twice: u64,
    /// Nodes that were added.
    pub nodes_added: u64,
    /// Nodes that were removed for good, and chunks that their heirs took over.
    pub nodes_removed: u64,
    /// See `nodes_removed`.
    pub inherited: u64,
    /// How often it was quiet and everything was compared.
    pub comparisons: u64,
    /// Names that were asked for and answered rightly.
    pub answers: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.clusters += other.clusters;
        for (act, count) in other.acts {
            *self.acts.entry(act).or_default() += count;
        }
        self.addresses += other.addresses;
        self.chunks += other.chunks;
        self.refused += other.refused;
        self.noticed += other.noticed;
        self.twice += other.twice;
        self.nodes_added += other.nodes_added;
        self.nodes_removed += other.nodes_removed;
        self.inherited += other.inherited;
        self.comparisons += other.comparisons;
        self.answers += other.answers;
    }

    /// What happened less often than it must for the simulation to mean anything, each with its count and its floor.
    pub fn shortfalls(&self) -> Vec<(String, u64, u64)> {
        let acts = Act::ALL.iter().map(|act| {
            let floor = self.steps * act.weight() / Act::total() / 3;
            (act.to_string(), self.acts.get(act).copied().unwrap_or(0), floor)
        });
        let rest = [
            ("addresses given".to_owned(), self.addresses, self.steps / 10),
            ("chunks given".to_owned(), self.chunks, self.steps / 20),
            ("clones noticed".to_owned(), self.noticed, self.steps / 1000),
            ("nodes added".to_owned(), self.nodes_added, self.steps / 400),
            ("nodes removed".to_owned(), self.nodes_removed, self.steps / 400),
            ("chunks inherited".to_owned(), self.inherited, self.steps / 100),
            ("comparisons".to_owned(), self.comparisons, self.steps / 100),
            ("names answered".to_owned(), self.answers, self.steps),
        ];
        acts.chain(rest).filter(|(_, count, floor)| count < floor).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} steps in {} clusters", self.steps, self.clusters)?;
        for (act, count) in &self.acts {
            writeln!(f, "{count:>10}  {act}")?;
        }
        writeln!(f, "{:>10}  addresses given, {} refused", self.addresses, self.refused)?;
        writeln!(f, "{:>10}  chunks given", self.chunks)?;
        writeln!(f, "{:>10}  clones noticed, {} addresses given by both", self.noticed, self.twice)?;
        writeln!(
            f,
            "{:>10}  nodes added, {} removed, {} chunks inherited",
            self.nodes_added, self.nodes_removed, self.inherited
        )?;
        write!(f, "{:>10}  comparisons while quiet, {} names answered", self.comparisons, self.answers)
    }
}
