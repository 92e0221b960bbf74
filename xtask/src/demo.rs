//! `cargo xtask demo`: from a fresh clone to a cluster of three hosts with the tour taken on it.

use crate::shell::{self, build, command, output};
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
        return down(&osier);
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

/// Takes the cluster off its hosts first, so that the operator's side forgets it too; then the hosts go.
fn down(osier: &Path) -> Result<()> {
    let labs: serde_json::Value = serde_json::from_str(&output(command(osier).args(["lab", "list", "-o", "json"]))?)?;
    let lab = labs.as_array().into_iter().flatten().find(|node| node["lab"] == LAB);
    if let Some(inventory) = lab.and_then(|l| l["inventory"].as_str()) {
        let destroyed = shell::run(command(osier).args(["destroy", "-i", inventory, "--yes"]));
        if let Err(error) = destroyed {
            eprintln!("the hosts go all the same: {error:#}");
        }
    }
    shell::run(command(osier).args(["lab", "down", LAB]))
}
