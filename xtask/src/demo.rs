//! `cargo xtask demo`: from a fresh clone to a cluster of three hosts with the tour taken on it.

use crate::shell::{self, build, command};
use anyhow::Result;
use std::{path::Path, time::Instant};

/// The demo's lab.
const LAB: &str = "demo";

/// What to do.
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Remove the cluster, its hosts and everything the demo started.
    #[arg(long)]
    down: bool,
    /// Refuse to install missing Debian packages; print the command that would.
    #[arg(long)]
    no_install: bool,
}

/// Runs it.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let osier = build("osier", "osier", "release")?;
    if args.down {
        shell::run(command(&osier).args(["lab", "down", LAB]))?;
        return shell::run(command(&osier).args(["forget", "--cluster", LAB]));
    }
    let tour = build("osier-e2e", "tour", "release")?;
    let started = Instant::now();
    let mut up = command(&osier);
    up.args(["lab", "up", LAB, "--nodes", "3"]);
    if args.no_install {
        up.arg("--no-install");
    }
    shell::run(&mut up)?;
    shell::run(command(tour).args(["--lab", LAB]).env("OSIER_BIN", &osier))?;
    println!("\nThe cluster is up after {} s. Try:\n", started.elapsed().as_secs());
    print_usage(&osier);
    Ok(())
}

fn print_usage(osier: &Path) {
    let osier = osier.display();
    println!("  eval \"$({osier} env --cluster {LAB})\"     # or: docker --context {LAB} …");
    println!("  docker info                     # one engine, three nodes");
    println!("  docker run -ti --rm -h b.weave.local osier/tour sh");
    println!("  docker ps");
    println!("  {osier} lab ssh datalyse-master --lab {LAB} -- osier status");
    println!("  {osier} lab list");
    println!("\nand when you have seen enough:\n\n  cargo xtask demo --down");
}
