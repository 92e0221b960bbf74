//! The command lines of `manage`, `create`, `list` and `join`, in classic Swarm's words.
//!
//! Values stay text here: the classic checks them in a certain order with messages of its own, see [`crate::settings`].

use clap::Args;
use std::path::PathBuf;

/// Where the engines are, as the help of every command tells.
const DISCOVERY: &str = "Where the engines are [env: SWARM_DISCOVERY]:
  [nodes://]HOST:PORT,…        these, with ranges such as 10.0.0.[1:9]:2375
  file://PATH                  one per line of a file
  token://TOKEN                a cluster of this machine
  token://HOST[:PORT]/TOKEN    those that joined at that manager; with
                               https:// or http:// before HOST and a path
                               behind it, at any token service
  etcd://HOST:PORT,…[/PREFIX]  those that joined in etcd (v3)";

/// Serve one Docker API for all engines of a cluster
#[derive(Debug, Clone, Args)]
#[command(after_help = "Cluster options:
  swarm.overcommit=0.05   how much more may be reserved than a node has
  swarm.createretry=0     how often a failed create is tried again
  swarm.cpushares=weight  what CPU shares mean: a weight, or cores to reserve
                          (cpus, the default when called as swarm)

Examples:
  osier manage --config /etc/osier/manager.json
  osier manage -H tcp://127.0.0.1:2375 nodes://10.0.0.1:2375,10.0.0.2:2375
  osier manage -H tcp://0.0.0.0:3376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem \\
      token://10.0.0.1:3376/feba5683f4a1645b68365f562f81694f")]
pub struct ManageArgs {
    /// Serve a provisioned cluster as this file says: mutual TLS, members from the local agent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["discovery", "host", "tls", "tlsverify", "replication"])]
    pub config: Option<PathBuf>,
    /// How nodes are chosen: spread, binpack or random
    #[arg(long, default_value = "spread")]
    pub strategy: String,
    /// What leaves a node out, in this order (repeatable; replaces the list) [default: health, port, containerslots,
    /// dependency, affinity, constraint, whitelist]
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// Where to listen: [tcp://]ADDRESS:PORT or unix://PATH (repeatable) [default: tcp://127.0.0.1:2375]
    #[arg(short = 'H', long, env = "SWARM_HOST", value_delimiter = ',', hide_env_values = true)]
    pub host: Vec<String>,
    /// Elect one of several managers in etcd; the others pass requests on to it
    #[arg(long)]
    pub replication: bool,
    /// How long a leading manager that fell silent stays the leader
    #[arg(long, value_name = "DURATION", default_value = "20s", allow_hyphen_values = true)]
    pub replication_ttl: String,
    /// The address at which other managers reach this one
    #[arg(long, visible_alias = "addr", env = "SWARM_ADVERTISE", value_name = "HOST:PORT", hide_env_values = true)]
    pub advertise: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// The shortest time between two full looks at an engine
    #[arg(long, value_name = "DURATION", default_value = "30s", allow_hyphen_values = true)]
    pub engine_refresh_min_interval: String,
    /// The longest time between two full looks at an engine
    #[arg(long, value_name = "DURATION", default_value = "60s", allow_hyphen_values = true)]
    pub engine_refresh_max_interval: String,
    /// The failures in a row that make an engine unhealthy
    #[arg(long, value_name = "COUNT", default_value = "3", allow_hyphen_values = true)]
    pub engine_failure_retry: String,
    #[arg(long, hide = true, default_value = "3", allow_hyphen_values = true)]
    pub(crate) engine_refresh_retry: String,
    /// How often file and token discovery are read again, and how long a lost engine that still answers stays: three times
    #[arg(long, value_name = "DURATION", default_value = "60s", allow_hyphen_values = true)]
    pub heartbeat: String,
    /// Let web pages of any origin use the API
    #[arg(long, visible_alias = "cors")]
    pub api_enable_cors: bool,
    /// The kind of cluster; there is only one
    #[arg(short, long, default_value = "swarm")]
    pub cluster_driver: String,
    /// An option of the cluster, see below (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub cluster_opt: Vec<String>,
    #[command(flatten)]
    pub(crate) discovery_options: DiscoveryOptions,
    /// Taken for classic Swarm's sake: the cache follows every engine's events, so 'docker ps' is fresh anyway
    #[arg(long)]
    pub refresh_on_node_filter: bool,
    /// Taken for classic Swarm's sake, as --refresh-on-node-filter
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub container_name_refresh_filter: String,
    /// Where to keep what must outlive the manager (nodes' availability, volumes); in memory only where this is not given
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    pub state: Option<PathBuf>,
    #[arg(value_name = "DISCOVERY", help = DISCOVERY)]
    pub(crate) discovery: Vec<String>,
}

/// With whom TLS is spoken.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsArgs {
    /// Use TLS, without checking anybody's certificate
    #[arg(long)]
    pub(crate) tls: bool,
    /// Use TLS, and demand certificates of this CA from clients and engines
    #[arg(long)]
    pub(crate) tlsverify: bool,
    /// The CA's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// Our certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// Our certificate's key
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
}

/// How discovery services are spoken to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DiscoveryOptions {
    /// kv.path (default docker/swarm/nodes) says below which key engines are registered; kv.cacertfile, kv.certfile and
    /// kv.keyfile make it TLS (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) discovery_opt: Vec<String>,
}

/// Make a discovery token
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier create")]
pub struct CreateArgs {
    #[arg(hide = true)]
    pub(crate) surplus: Vec<String>,
}

/// List the engines of a cluster
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier list token://feba5683f4a1645b68365f562f81694f
  osier list token://feba5683f4a1645b68365f562f81694f@datalyse-master
  osier list nodes://10.0.0.[1:9]:2375
  osier list etcd://10.0.0.1:2379,10.0.0.2:2379/mycluster")]
pub struct ListArgs {
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", allow_hyphen_values = true)]
    pub timeout: String,
    #[command(flatten)]
    pub(crate) discovery_options: DiscoveryOptions,
    #[arg(value_name = "DISCOVERY", help = DISCOVERY)]
    pub(crate) discovery: Vec<String>,
}

/// Register an engine with a cluster, for as long as this runs
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier join --advertise 10.0.0.1:2375 token://master:3376/feba5683f4a1645b68365f562f81694f
  osier join --advertise 10.0.0.1:2375 etcd://10.0.0.9:2379/mycluster")]
pub struct JoinArgs {
    /// The address at which the manager reaches the engine
    #[arg(long, visible_alias = "addr", env = "SWARM_ADVERTISE", value_name = "HOST:PORT", hide_env_values = true)]
    pub advertise: Option<String>,
    /// How often to register again
    #[arg(long, value_name = "DURATION", default_value = "60s", allow_hyphen_values = true)]
    pub heartbeat: String,
    /// How long a registration lasts
    #[arg(long, value_name = "DURATION", default_value = "180s", allow_hyphen_values = true)]
    pub ttl: String,
    /// Wait a random time shorter than this first, so that many engines do not join at once
    #[arg(long, value_name = "DURATION", default_value = "0s", allow_hyphen_values = true)]
    pub delay: String,
    #[command(flatten)]
    pub(crate) discovery_options: DiscoveryOptions,
    #[arg(value_name = "DISCOVERY", help = DISCOVERY)]
    pub(crate) discovery: Vec<String>,
}
