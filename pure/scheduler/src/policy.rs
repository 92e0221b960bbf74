//! How the operator wants containers placed: classic Swarm's strategy, filters and cluster options, by their names.

use std::{fmt, str::FromStr};

/// How nodes that would do are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The least loaded node first.
    #[default]
    Spread,
    /// The most loaded node that still has room first.
    Binpack,
    /// Any node that has room.
    Random,
}

/// There is no such strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("strategy not supported")]
pub struct UnknownStrategy;

impl FromStr for Strategy {
    type Err = UnknownStrategy;
    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        match text {
            "spread" => Ok(Self::Spread),
            "binpack" | "binpacking" => Ok(Self::Binpack),
            "random" => Ok(Self::Random),
            _ => Err(UnknownStrategy),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spread => "spread",
            Self::Binpack => "binpack",
            Self::Random => "random",
        })
    }
}

/// A reason to leave a node out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filter {
    /// Its engine does not answer.
    Health,
    /// A port that the container publishes is taken there.
    Port,
    /// It has as many containers as its label `containerslots` allows.
    ContainerSlots,
    /// A container whose namespaces or volumes are to be shared is elsewhere.
    Dependency,
    /// What the request wants to be near, or far from, is not so there.
    Affinity,
    /// Its name or its labels are not what the request wants.
    Constraint,
    /// The request lists nodes, and it is none of them.
    Whitelist,
}

impl Filter {
    /// All of them, in the order that is in force unless the operator gives another.
    pub const ALL: [Self; 7] = [
        Self::Health,
        Self::Port,
        Self::ContainerSlots,
        Self::Dependency,
        Self::Affinity,
        Self::Constraint,
        Self::Whitelist,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Port => "port",
            Self::ContainerSlots => "containerslots",
            Self::Dependency => "dependency",
            Self::Affinity => "affinity",
            Self::Constraint => "constraint",
            Self::Whitelist => "whitelist",
        }
    }
}

/// There is no such filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("filter not supported")]
pub struct UnknownFilter;

impl FromStr for Filter {
    type Err = UnknownFilter;
    fn from_str(text: &str) -> Result<Self, UnknownFilter> {
        Self::ALL.into_iter().find(|f| f.name() == text).ok_or(UnknownFilter)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much more of a node may be reserved than it has, in whole percent (negative: how much is kept back).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overcommit(i32);

/// The share is not one that leaves anything.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("swarm.overcommit should be larger than -1, {0:.6} is invalid")]
pub struct BadOvercommit(f64);

impl Overcommit {
    /// From a share such as 0.05, of which whole percents count.
    pub fn new(share: f64) -> Result<Self, BadOvercommit> {
        // A thousand times what there is means "without limit" to anybody.
        if share > -1.0 { Ok(Self((share.min(1000.0) * 100.0) as i32)) } else { Err(BadOvercommit(share)) }
    }

    /// What may be reserved of so much.
    pub fn of(self, total: u64) -> u64 {
        let more = i128::from(total) * i128::from(self.0) / 100;
        u64::try_from(i128::from(total) + more).unwrap_or(if more < 0 { 0 } else { u64::MAX })
    }
}

impl Default for Overcommit {
    fn default() -> Self {
        Self(5)
    }
}

/// Everything the operator says about placing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How nodes that would do are ranked.
    pub strategy: Strategy,
    /// The filters in force, in their order.
    pub filters: Vec<Filter>,
    /// How much more may be reserved than there is.
    pub overcommit: Overcommit,
    /// How often a create that an engine failed at is tried again.
    pub create_retry: u32,
    /// Whether `CpuShares` means whole cores, as in classic Swarm.
    pub cpu_shares_as_cpus: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            filters: Filter::ALL.to_vec(),
            overcommit: Overcommit::default(),
            create_retry: 0,
            cpu_shares_as_cpus: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_and_filters_are_read_by_name() {
        for (text, strategy) in [
            ("spread", Strategy::Spread),
            ("binpack", Strategy::Binpack),
            ("binpacking", Strategy::Binpack),
            ("random", Strategy::Random),
        ] {
            assert_eq!(text.parse(), Ok(strategy));
        }
        assert_eq!("best".parse::<Strategy>().unwrap_err().to_string(), "strategy not supported");
        let names = Filter::ALL.map(|f| f.to_string());
        assert_eq!(names.join(", "), "health, port, containerslots, dependency, affinity, constraint, whitelist");
        assert_eq!(names.map(|n| n.parse()), Filter::ALL.map(Ok));
        assert_eq!("Health".parse::<Filter>().unwrap_err().to_string(), "filter not supported");
    }

    #[test]
    fn overcommit_counts_in_whole_percents() {
        for (share, total, expected) in [
            (0.05, 8, 8),
            (0.05, 1000, 1050),
            (0.29, 100, 128),
            (-0.5, 100, 50),
            (0.0, 7, 7),
            (1e300, u64::MAX, u64::MAX),
        ] {
            assert_eq!(Overcommit::new(share).unwrap().of(total), expected, "{share}");
        }
        for bad in [-1.0, -2.0, f64::NAN] {
            assert!(Overcommit::new(bad).is_err());
        }
        let error = Overcommit::new(-2.0).unwrap_err();
        assert_eq!(error.to_string(), "swarm.overcommit should be larger than -1, -2.000000 is invalid");
    }
}
