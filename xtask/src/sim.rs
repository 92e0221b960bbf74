//! The simulator of whole clusters, in its optimised build: a step takes a moment, and there are many.

use crate::shell::{build, command, run};
use anyhow::Result;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct SimArgs {
    /// How many steps; each is something that happens and a while of virtual time.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) steps: u64,
    /// Decides everything that happens; a new one each time where it is not given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// More arguments for the simulator; `-- --help` shows them.
    #[arg(last = true)]
    pub(crate) rest: Vec<String>,
}

/// `cargo xtask sim`.
pub(crate) fn sim(args: &SimArgs) -> Result<()> {
    let mut sim = command(build("osier-sim", "osier-sim", "release")?);
    sim.args(["--steps", &args.steps.to_string()]).args(&args.rest);
    if let Some(seed) = args.seed {
        sim.args(["--seed", &seed.to_string()]);
    }
    run(&mut sim)
}
