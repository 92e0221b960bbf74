//! `cargo xtask sim`: simulates clusters until the steps are done or a law is broken.
#![expect(clippy::print_stdout, reason = "a simulation prints what has happened")]

use anyhow::{Result, bail};
use clap::Parser;
use osier_sim::{KEPT, Options, Plant, Row, SIZES, figures, live, simulate};
use std::time::Instant;

/// How many steps a planted defect may stay hidden.
const HIDDEN: u64 = 40_000;

/// Simulates clusters and checks what must always hold.
#[derive(Parser)]
#[command(name = "sim")]
struct Args {
    /// How many steps.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// Decides everything that happens; a new one each time where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Simulates one cluster alone, by the seed that a broken law names.
    #[arg(long, value_name = "SEED")]
    cluster: Option<u64>,
    /// The most nodes of a cluster.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// Puts a defect in on purpose.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// Puts every known defect in, one after the other, and fails unless each is found.
    #[arg(long)]
    prove: bool,
    /// Takes figures of clusters of up to so many nodes, and fails unless they are what is promised; nothing else is done.
    #[arg(long, value_name = "NODES", num_args = 0..=1, default_missing_value = "1000")]
    figures: Option<usize>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(most) = args.figures {
        return measure(most);
    }
    let seed = args.seed.unwrap_or_else(rand::random);
    let started = Instant::now();
    let options = Options { steps: args.steps, seed, nodes: args.nodes, plant: args.plant };
    if let Some(seed) = args.cluster {
        println!("{}", live(seed, options)?);
        return Ok(());
    }
    println!("{} steps with seed {seed}", args.steps);
    for kept in KEPT {
        live(kept, Options { plant: None, ..options })?;
    }
    if args.prove {
        for plant in <Plant as clap::ValueEnum>::value_variants() {
            match simulate(Options { steps: HIDDEN, plant: Some(*plant), ..options }) {
                Ok(report) => bail!("the planted defect {plant:?} was not found:\n{report}"),
                Err(broken) if plant.makes(&broken.breach) => println!("{plant:?} is found: {}", broken.breach),
                Err(broken) => return Err(broken.into()),
            }
        }
    }
    let report = simulate(options)?;
    println!("{report}");
    println!("{:>10.1}  seconds", started.elapsed().as_secs_f64());
    let shortfalls = report.shortfalls();
    if !shortfalls.is_empty() {
        let all: Vec<String> = shortfalls.iter().map(|(what, n, floor)| format!("{what}: {n} of {floor}")).collect();
        bail!("too little has happened for this to mean anything: {}", all.join(", "));
    }
    Ok(())
}

/// Prints the figures, each cluster with a seed of its own that is the same each time.
fn measure(most: usize) -> Result<()> {
    let started = Instant::now();
    println!("{}", Row::head());
    let mut broken = Vec::new();
    for (nodes, runs) in SIZES.into_iter().filter(|(nodes, _)| *nodes <= most) {
        let row = Row { nodes, runs: (1..=runs).map(|seed| figures(nodes, seed)).collect() };
        println!("{row}");
        broken.extend(row.broken());
    }
    println!("{:.1} seconds", started.elapsed().as_secs_f64());
    if !broken.is_empty() {
        bail!("promises that do not hold: {}", broken.join("; "));
    }
    Ok(())
}
