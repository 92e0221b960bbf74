//! What processes use, out of the texts in /proc.

use anyhow::{Context, Result};

/// The unit of processor times in /proc, per second (`USER_HZ`).
const TICKS: f64 = 100.0;

/// The processor time that a process has used so far, in seconds, out of its `stat`.
pub(crate) fn busy(stat: &str) -> Result<f64> {
    // Behind the name in brackets, which may hold anything, come the fields from the third on.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<f64>().ok()).context("no processor time");
    Ok((ticks(14)? + ticks(15)?) / TICKS)
}

/// The memory that a process occupies, in bytes, out of its `status`.
pub(crate) fn resident(status: &str) -> Result<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse::<u64>()? * 1024)
}
