//! Takes the tour on a lab that is up: what `cargo xtask demo` shows.

use clap::Parser;
use osier_e2e::{Cluster, tour};

/// Provisions a lab and takes the seed document's tour on it.
#[derive(Parser)]
struct Args {
    /// The lab, as 'osier lab up' named it.
    #[arg(long)]
    lab: String,
}

fn main() -> anyhow::Result<()> {
    let cluster = Cluster::of_lab(&Args::parse().lab)?;
    tour::take(&cluster)?;
    // The demo goes on: leave the image there for whoever wants to run something.
    tour::load_image(&cluster)
}
