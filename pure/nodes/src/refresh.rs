//! How closely engines are followed.

use std::time::Duration;

/// How often engines are looked at, and when one counts as lost: classic Swarm's `--engine-refresh-min-interval`,
/// `--engine-refresh-max-interval` and `--engine-failure-retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// The shortest time between two lists of all of an engine's containers.
    pub min: Duration,
    /// The longest; not below `min`.
    pub max: Duration,
    /// The failures in a row that make an engine unhealthy; at least 1.
    pub failure_retry: u32,
}

impl Default for Refresh {
    /// Classic Swarm's defaults: 30 s, 60 s, 3.
    fn default() -> Self {
        Self { min: Duration::from_secs(30), max: Duration::from_secs(60), failure_retry: 3 }
    }
}
