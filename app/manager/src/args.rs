//! The command lines of `manage`, `create` and `list`, in classic Swarm's words.

use crate::discovery::Discovery;
use clap::Args;
use osier_scheduler::Strategy;
use std::{path::PathBuf, time::Duration};

/// Serve one Docker API for all engines of a cluster
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier manage --config /etc/osier/manager.json
  osier manage -H tcp://127.0.0.1:2375 nodes://10.0.0.1:2375,10.0.0.2:2375
  osier manage -H tcp://0.0.0.0:3376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem \\
      token://10.0.0.1:3376/feba5683f4a1645b68365f562f81694f")]
pub struct ManageArgs {
    /// Serve a provisioned cluster as this file says: mutual TLS, members from the local agent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["discovery", "host", "tlsverify"])]
    pub config: Option<PathBuf>,
    /// Where to listen: [tcp://]ADDRESS:PORT or unix://PATH (repeatable)
    #[arg(short = 'H', long, env = "SWARM_HOST", value_delimiter = ',', default_value = "tcp://127.0.0.1:2375")]
    pub host: Vec<String>,
    /// How nodes are chosen: spread, binpack or random
    #[arg(long, default_value = "spread")]
    pub strategy: Strategy,
    /// Demand certificates of this CA from clients and engines
    #[arg(long, requires_all = ["tlscacert", "tlscert", "tlskey"])]
    pub tlsverify: bool,
    /// The CA's certificate
    #[arg(long, value_name = "FILE", requires = "tlsverify")]
    pub tlscacert: Option<PathBuf>,
    /// Our certificate
    #[arg(long, value_name = "FILE", requires = "tlsverify")]
    pub tlscert: Option<PathBuf>,
    /// Our certificate's key
    #[arg(long, value_name = "FILE", requires = "tlsverify")]
    pub tlskey: Option<PathBuf>,
    /// How often file and token discovery are read again
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub heartbeat: Duration,
    /// Where to keep what must outlive the manager (nodes' availability, volumes); in memory only where this is not given
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    pub state: Option<PathBuf>,
    /// Where the engines are: nodes://HOST:PORT,…, file://PATH, or token://[HOST[:PORT]/]TOKEN
    #[arg(env = "SWARM_DISCOVERY", required_unless_present = "config")]
    pub discovery: Option<Discovery>,
}

/// Make a discovery token
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier create")]
pub struct CreateArgs {}

/// List the engines of a cluster
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier list token://feba5683f4a1645b68365f562f81694f
  osier list token://feba5683f4a1645b68365f562f81694f@datalyse-master
  osier list nodes://10.0.0.[1:9]:2375")]
pub struct ListArgs {
    /// How long to wait for an answer
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Where the engines are: nodes://HOST:PORT,…, file://PATH, or token://[HOST[:PORT]/]TOKEN
    #[arg(env = "SWARM_DISCOVERY")]
    pub discovery: Discovery,
}

/// Reads a positive duration such as `10s`, `500ms`, `1m30s` or `2h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a positive duration such as 10s or 1m30s");
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    if total.is_zero() { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Manage {
        #[command(flatten)]
        args: ManageArgs,
    }

    fn parse(line: &str) -> Result<ManageArgs, String> {
        let words = std::iter::once("manage").chain(line.split_whitespace());
        Manage::try_parse_from(words).map(|m| m.args).map_err(|e| e.to_string())
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "10", "s", "0s", "-1s", "1x", "1..2s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_are_found_before_anything_starts() {
        let good = parse("-H tcp://0.0.0.0:3376 --strategy binpack nodes://a:1").unwrap();
        assert_eq!((good.host.len(), good.strategy), (1, Strategy::Binpack));
        assert!(parse("--config /x").is_ok());
        for bad in [
            "--config /x nodes://a:1",
            "--tlsverify nodes://a:1",
            "--strategy best nodes://a:1",
            "a:b",
            "--tlskey k a:1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
