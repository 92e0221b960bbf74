//! `cargo xtask bench`: each row measures Osier and its baseline in turns within one run and prints the ratio.
//!
//! No row prints an absolute figure as a result: machines differ, ratios taken in one run much less.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod ansible;
mod dns;
mod fakes;
mod footprint;
mod idle;
mod lab;
mod list;
mod names;
mod overlay;
mod parallel;
mod place;
mod run;
mod stream;
mod swarm;
mod tool;
mod usage;

use anyhow::{Result, bail};

/// The docker command line of a node, talking to the manager on it.
pub(crate) const MANAGER: &str =
    "env DOCKER_HOST=tcp://127.0.0.1:3376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/etc/osier/pki docker";

/// Measures what one name stands for.
type Measure = fn() -> Result<Vec<Row>>;

/// All measurements by name.
const ROWS: [(&str, Measure); 12] = [
    ("overlay", overlay::measure),
    ("swarm", swarm::measure),
    ("names", names::measure),
    ("dns", dns::measure),
    ("footprint", footprint::measure),
    ("ansible", ansible::measure),
    ("list", list::measure),
    ("place", place::measure),
    ("idle", idle::measure),
    ("run", run::measure),
    ("parallel", parallel::measure),
    ("stream", stream::measure),
];

/// One line of the report.
pub(crate) struct Row {
    what: &'static str,
    result: String,
    promise: &'static str,
    holds: bool,
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(done) = tool::run(&wanted) {
        return done;
    }
    if let Some(unknown) = wanted.iter().find(|w| !ROWS.iter().any(|(name, _)| name == w)) {
        bail!("there is no row '{unknown}'; there are {}", ROWS.map(|(name, _)| name).join(", "));
    }
    println!("Ratios are taken in turns within one run; on a machine that does other work they still spread.");
    let mut rows = Vec::new();
    for (_, measure) in ROWS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        rows.extend(measure()?);
    }
    println!("\n{:<66} {:<34} {:<28} holds", "what", "result", "promise");
    for row in &rows {
        println!("{:<66} {:<34} {:<28} {}", row.what, row.result, row.promise, if row.holds { "yes" } else { "NO" });
    }
    Ok(())
}

/// The value below which `part` (0 to 1) of the samples lie.
pub(crate) fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let index = ((samples.len() as f64 * part).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
    samples.get(index).copied().unwrap_or(f64::NAN)
}
