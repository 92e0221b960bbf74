//! The address ring, the mesh, the networks of users and the names of whole clusters over virtual time, against everything that may happen to
//! them: crashes, lost and rolled-back disks, partitions, loss, pauses. What must always hold is checked after every step,
//! and what must hold once it is quiet is checked whenever it is.
//!
//! The engines are the real ones of `pure/`; what the agent does between them (persist, then send; ask peers in turn; wait
//! for news after a start) is told again in `node`, because the agent's own words for it need sockets. Must not know
//! either. One seed is one history, on every machine.
//!
//! In `scale`, only the mesh runs, among up to a thousand nodes, and is measured.

mod act;
mod clock;
mod control;
mod laws;
mod members;
mod network;
mod node;
mod promises;
mod removal;
mod report;
mod scale;
mod world;

pub use act::Act;
pub use laws::Breach;
pub use promises::{Row, SIZES};
pub use report::Report;
pub use scale::{Figures, figures};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use world::World;

/// Steps of one cluster's life; then another cluster begins.
const LIFE: u64 = 400;
/// After so many steps it is quiet for a while.
const QUIET_EVERY: u64 = 50;
/// The longest pause between two steps.
const PAUSE: Duration = Duration::from_millis(1500);

/// Clusters in which a law was broken once, by their seeds.
pub const KEPT: [u64; 4] = [10434448687359682746, 10674083129316159150, 14976675088907845392, 15665536977860159898];

/// A defect that is put in on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// A chunk is given before it is on the giver's disk that it is given.
    SendFirst,
    /// The names of stopped containers stay.
    KeepNames,
    /// The names of nodes count that are dead.
    TrustTheDead,
    /// After a start addresses are given out at once, whatever the disk has missed.
    NoCatchUp,
    /// A node does not care that another machine runs under its identity.
    IgnoreClones,
    /// That a network was removed is not said, only done.
    ForgetRemovals,
    /// The heir of a removed node takes its chunks at once.
    HastyHeirs,
    /// A node that is added founds a ring of its own.
    FoundAgain,
}

impl Plant {
    /// Whether this breach is one that the defect makes.
    pub fn makes(self, breach: &Breach) -> bool {
        use Breach::{AddressTwice, ChunkTwice, Conflict, Name, Network, Networks, Unnoticed};
        match self {
            Self::SendFirst | Self::NoCatchUp | Self::HastyHeirs | Self::FoundAgain => {
                matches!(breach, ChunkTwice { .. } | AddressTwice { .. } | Conflict { .. })
            }
            Self::IgnoreClones => {
                matches!(breach, ChunkTwice { .. } | AddressTwice { .. } | Conflict { .. } | Unnoticed { .. })
            }
            Self::ForgetRemovals => matches!(breach, Network { .. } | Networks { .. }),
            Self::KeepNames | Self::TrustTheDead => matches!(breach, Name { .. }),
        }
    }
}

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many steps; each is one act and a while of virtual time.
    pub steps: u64,
    /// Decides everything that happens.
    pub seed: u64,
    /// The most nodes of a cluster.
    pub nodes: usize,
    /// A defect put in on purpose.
    pub plant: Option<Plant>,
}

/// A law was broken: which, when, and what had happened just before.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}, step {step} of the cluster of {nodes} nodes, at {now:?}: {breach}\njust before:\n{}", history.join("\n"))]
pub struct Broken {
    /// The cluster's seed.
    pub seed: u64,
    /// How many nodes it has.
    pub nodes: usize,
    /// The step.
    pub step: u64,
    /// The virtual time.
    pub now: Duration,
    /// What was broken.
    pub breach: Breach,
    /// The last acts.
    pub history: Vec<String>,
}

/// Simulates cluster after cluster, on all processors, until all steps are done or a law is broken. What happens in a cluster
/// depends on its seed alone.
///
/// # Errors
/// What broke, with the seed of the cluster in which it did; of several the first.
pub fn simulate(options: Options) -> Result<Report, Box<Broken>> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let clusters = options.steps.div_ceil(LIFE);
    let lives: Vec<(u64, u64)> = (0..clusters).map(|i| (rng.random(), (options.steps - i * LIFE).min(LIFE))).collect();
    let (next, broken) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let work = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((seed, steps)) = lives.get(i).filter(|_| i < broken.load(Ordering::Relaxed)) else { return done };
            let lived = live(*seed, Options { steps: *steps, ..options });
            if lived.is_err() {
                broken.fetch_min(i, Ordering::Relaxed);
            }
            done.push((i, lived));
        }
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        // A worker that panicked takes everything with it: a law that cannot be checked is no law.
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    all.sort_by_key(|(i, _)| *i);
    let mut report = Report::default();
    for (_, lived) in all {
        report.add(lived?);
    }
    Ok(report)
}

/// Simulates one cluster, as [`simulate`] does with the seeds that it draws.
///
/// # Errors
/// What broke.
pub fn live(seed: u64, options: Options) -> Result<Report, Box<Broken>> {
    let steps = options.steps.min(LIFE);
    let mut rng = StdRng::seed_from_u64(seed);
    let nodes = rng.random_range(3..=options.nodes.max(3));
    let mut world = World::new(nodes, options.plant, rng);
    for step in 0..steps {
        let last = step + 1 == steps;
        let lived = (|| {
            world.act()?;
            let pause = world.luck(PAUSE);
            world.run_for(pause);
            world.check_always()?;
            if last || step % QUIET_EVERY == QUIET_EVERY - 1 {
                world.be_quiet(last || step % (2 * QUIET_EVERY) == 2 * QUIET_EVERY - 1);
                world.check_always()?;
                world.check_quiet()?;
            }
            Ok(())
        })();
        if let Err(breach) = lived {
            let (now, history) = (world.now(), world.history());
            return Err(Box::new(Broken { seed, nodes, step, now, breach, history }));
        }
    }
    Ok(world.into_report(steps))
}
