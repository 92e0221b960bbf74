//! Figures of clusters of several sizes as a table, and whether they are what is promised. Must not know how they come about.

use crate::scale::Figures;
use std::fmt;

/// How large the clusters are, and of how many each figure is taken.
pub const SIZES: [(usize, u64); 5] = [(3, 9), (10, 9), (100, 5), (300, 5), (1000, 3)];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Formed,
    Idle,
    Name,
    Death,
}

/// What is promised: at this many nodes this is at most so much.
const PROMISES: [(usize, What, f64); 4] =
    [(3, What::Name, 0.2), (300, What::Name, 2.0), (1000, What::Idle, 2000.0), (1000, What::Death, 20.0)];

impl What {
    /// The figure, in seconds or in bytes per second.
    fn of(self, figures: &Figures) -> f64 {
        match self {
            Self::Formed => figures.formed.as_secs_f64(),
            Self::Idle => figures.datagrams + figures.comparisons,
            Self::Name => figures.name.as_secs_f64(),
            Self::Death => figures.death.as_secs_f64(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Formed => "s until all know all",
            Self::Idle => "bytes per second and node while idle",
            Self::Name => "s until a new name is known everywhere",
            Self::Death => "s until a death is known everywhere",
        }
    }
}

/// Several clusters of one size.
#[derive(Debug, Clone)]
pub struct Row {
    /// How many nodes each has.
    pub nodes: usize,
    /// What each showed.
    pub runs: Vec<Figures>,
}

impl Row {
    /// The median and the worst.
    fn spread(&self, what: What) -> (f64, f64) {
        let mut all: Vec<f64> = self.runs.iter().map(|run| what.of(run)).collect();
        all.sort_by(f64::total_cmp);
        let median = all.get(all.len() / 2).copied().unwrap_or(f64::NAN);
        (median, all.last().copied().unwrap_or(f64::NAN))
    }

    /// The promises about clusters of this size that do not hold: at the worst of all runs.
    pub fn broken(&self) -> Vec<String> {
        let mine = PROMISES.iter().filter(|(nodes, ..)| *nodes == self.nodes);
        let over = mine.filter_map(|(nodes, what, most)| {
            let (_, worst) = self.spread(*what);
            // A figure that is missing holds nothing.
            let holds = worst <= *most;
            (!holds).then(|| format!("{nodes} nodes: {worst:.3} {}, and at most {most} is promised", what.words()))
        });
        over.collect()
    }

    /// The names of the columns; of each figure the median and the worst.
    pub fn head() -> String {
        let head =
            ["bytes/s and node idle", "s to a name everywhere", "s to a death everywhere", "s to all knowing all"];
        format!("{:>5} {:>4} {:>24} {:>24} {:>24} {:>24}", "nodes", "runs", head[0], head[1], head[2], head[3])
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} {:>4}", self.nodes, self.runs.len())?;
        for (what, digits) in [(What::Idle, 0), (What::Name, 3), (What::Death, 1), (What::Formed, 1)] {
            let (median, worst) = self.spread(what);
            let promise = PROMISES.iter().find(|(nodes, about, _)| (*nodes, *about) == (self.nodes, what));
            let promise = promise.map_or(String::new(), |(_, _, most)| format!(" ≤ {most}"));
            write!(f, " {median:>8.digits$} {worst:>8.digits$}{promise:<7}")?;
        }
        Ok(())
    }
}
