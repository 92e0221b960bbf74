//! `osier logs`: of hosts' services, over ssh, or of containers, through the manager.
//!
//! Must not know how either is read.

use clap::Args;
use osier_fleet::{Since, Tail, since};
use osier_manager::ContainerLogsArgs;
use osier_provision::ServiceLogsArgs;
use std::{
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

/// Lines of each source where nothing is said about it.
const LINES: u32 = 100;

/// Show what services of hosts said, or containers of the cluster, merged in the order of time.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Without '--container' and '--filter' it is the hosts' services, read from their journals over ssh; with one of them it is
containers, read through the manager. With '-o json' each line is a JSON document.

Examples:
  osier logs                                         the agents and managers of all hosts
  osier logs -l slaves --unit docker --since 10m
  osier logs -f -u osier-agent -u docker -n 0        from now on
  osier logs --container web db                      two containers, wherever they run
  osier logs -f --filter label=tier=web --since 1h"
)]
pub(crate) struct LogsArgs {
    /// Go on with what is said from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Nothing before: a span such as 10m or 2d, or a moment such as '2026-01-31 14:05' (UTC)
    #[arg(long, value_name = "SPAN|MOMENT", value_parser = since)]
    since: Option<Since>,
    /// So many of the last lines of each, or 'all'; 100 where neither this nor '--since' is given
    #[arg(short = 'n', long, visible_alias = "tail", value_name = "N|all")]
    lines: Option<Lines>,
    #[command(flatten)]
    pub(crate) services: ServiceLogsArgs,
    #[command(flatten)]
    pub(crate) containers: ContainerLogsArgs,
}

/// How many of the last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    All,
    Last(u32),
}

impl FromStr for Lines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number.parse().map(Self::Last).map_err(|_| "it must be a number or 'all'".to_owned()),
        }
    }
}

impl LogsArgs {
    /// What is asked for, by this machine's clock.
    pub(crate) fn tail(&self) -> Tail {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let lines = match self.lines {
            Some(Lines::All) => None,
            Some(Lines::Last(n)) => Some(n),
            None => self.since.is_none().then_some(LINES),
        };
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        Tail { follow: self.follow, since: self.since.map(|s| s.at(now)), lines }
    }
}
