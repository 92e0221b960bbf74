//! Takes the tour on a lab that is up: what `cargo xtask demo` shows.

use clap::Parser;
use osier_e2e::{Cluster, behind, churn, faults, networks, partition, removal, seed, tour};
use std::{process::ExitCode, time::Duration};

/// Provisions a lab and takes the seed document's tour on it.
#[derive(Parser)]
struct Args {
    /// The lab, as 'osier lab up' named it.
    #[arg(long)]
    lab: String,
    /// Before it is provisioned, give a node Docker of another Debian release than its own.
    #[arg(long, value_name = "NODE=RELEASE")]
    engine: Option<String>,
    /// Leave the tour itself out: the lab has been on it.
    #[arg(long)]
    skip_tour: bool,
    /// Then make networks, use them and remove them.
    #[arg(long)]
    networks: bool,
    /// Then cut one node off for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    partition: Option<u64>,
    /// Then break things, and see that the cluster survives.
    #[arg(long)]
    faults: bool,
    /// Then make containers and remove them while agents and engines die, so many in turn.
    #[arg(long, value_name = "CYCLES")]
    churn: Option<usize>,
    /// Then remove a node, and let its host come back.
    #[arg(long)]
    removal: bool,
    /// Then make the cluster anew from behind a VPN, and use it from there.
    #[arg(long)]
    vpn: bool,
    /// Then make a cluster of the seed document's own inventories in the place of the lab's.
    #[arg(long)]
    inventories: bool,
}

fn main() -> ExitCode {
    osier_e2e::verdict(take(&Args::parse()))
}

fn take(args: &Args) -> anyhow::Result<()> {
    let cluster = Cluster::of_lab(&args.lab)?;
    if let Some((node, release)) = args.engine.as_deref().and_then(|engine| engine.split_once('=')) {
        cluster.install_engine_of(node, release)?;
    }
    if !args.skip_tour {
        tour::take(&cluster)?;
    }
    // The demo goes on: leave the image there for whoever wants to run something.
    tour::load_image(&cluster)?;
    if args.networks {
        networks::all(&cluster)?;
    }
    if let Some(seconds) = args.partition {
        partition::heals(&cluster, Duration::from_secs(seconds))?;
    }
    if args.faults {
        faults::all(&cluster)?;
    }
    if let Some(cycles) = args.churn {
        churn::all(&cluster, cycles)?;
    }
    if args.removal {
        removal::all(&cluster)?;
    }
    if args.vpn {
        behind::all(&cluster)?;
    }
    if args.inventories { seed::all(&cluster) } else { Ok(()) }
}
