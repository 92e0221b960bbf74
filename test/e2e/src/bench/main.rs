//! `cargo xtask bench`: each row measures Osier and its baseline in turns within one run and prints the ratio.
//!
//! No row prints an absolute figure as a result: machines differ, ratios taken in one run much less.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod list;
mod overlay;
mod run;

use anyhow::{Result, bail};

/// One line of the report.
pub(crate) struct Row {
    what: &'static str,
    result: String,
    promise: &'static str,
    holds: bool,
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = ["overlay", "list", "run"];
    if let Some(unknown) = wanted.iter().find(|w| !all.contains(&w.as_str())) {
        bail!("there is no row '{unknown}'; there are {}", all.join(", "));
    }
    let mut rows = Vec::new();
    for name in all.iter().filter(|n| wanted.is_empty() || wanted.iter().any(|w| w == *n)) {
        rows.extend(match *name {
            "overlay" => overlay::measure()?,
            "list" => list::measure()?,
            _ => run::measure()?,
        });
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
