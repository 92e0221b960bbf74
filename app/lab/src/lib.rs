//! Real hosts out of containers: Debian nodes with systemd and sshd on one Docker engine, for newcomers, for tests, and
//! for trying an upgrade (design: "The lab").
//!
//! Must not know what a cluster is: a lab ends at hosts that answer to ssh, and an inventory that names them.

mod apt;
mod cgroup;
mod command;
mod docker;
mod down;
mod engine;
mod firewall;
mod host;
mod hosts;
mod image;
mod list;
mod node;
mod on_host;
mod packages;
mod plan;
mod power;
mod release;
mod shell;
mod state;
mod subnet;
mod texts;
mod up;
mod wait;

pub use plan::{LabName, Node, PlanError, Prefix, ReleaseChoice};
pub use release::{ParseReleaseError, Release};

use osier_ui::{Failure, Ui};
use std::ffi::OsString;

/// The `osier lab` commands.
#[derive(Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Make a lab of real hosts out of containers, or bring one back
    #[command(after_help = "Examples:\n  osier lab up\n  osier lab up try --nodes 2 --prefix try --release trixie\n  \
                            osier lab up mixed --release bookworm --release datalyse-2=trixie")]
    Up(UpArgs),
    /// Remove a lab and all that was made for it
    #[command(after_help = "Examples:\n  osier lab down\n  osier lab down try\n  osier lab down --all --purge")]
    Down(DownArgs),
    /// List labs, their nodes and their state
    List(ListArgs),
    /// Cut a node's power, as a crash would
    #[command(after_help = "Examples:\n  osier lab stop datalyse-2\n  osier lab stop --lab try try-1")]
    Stop(PowerArgs),
    /// Boot a node that is off
    #[command(after_help = "Examples:\n  osier lab start datalyse-2")]
    Start(PowerArgs),
    /// Log in to a node, or run a command there
    #[command(after_help = "Examples:\n  osier lab ssh datalyse-master\n  osier lab ssh --lab try try-1 -- uptime")]
    Ssh(SshArgs),
    /// Run a command here that finds the lab's nodes by name, without changing this host
    #[command(after_help = "Examples:\n  osier lab exec -- ssh datalyse-master uptime\n  \
                            osier lab exec try -- sh -c 'ping -c 1 try-1'")]
    Exec(ExecArgs),
}

/// Arguments of `osier lab up`.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// The lab's name
    #[arg(default_value = "lab")]
    pub name: LabName,
    /// How many nodes to make
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(plan::MAX_NODES)))]
    pub nodes: u8,
    /// What node names begin with: PREFIX-master, PREFIX-1, …
    #[arg(long, default_value = "datalyse")]
    pub prefix: Prefix,
    /// Debian release of all nodes (bookworm, trixie, forky), or of one as NODE=RELEASE; may be repeated
    #[arg(long = "release", value_name = "[NODE=]RELEASE")]
    pub releases: Vec<ReleaseChoice>,
    /// Take node images (osier-lab-node:RELEASE) from this registry if it has them
    #[arg(long, env = "OSIER_LAB_REGISTRY", value_name = "HOST[:PORT]")]
    pub registry: Option<String>,
    /// Do not install missing packages; say how to, and stop
    #[arg(long)]
    pub no_install: bool,
    /// Do not name the nodes in this host's /etc/hosts and ssh configuration
    #[arg(long)]
    pub no_hosts: bool,
}

/// Arguments of `osier lab down`.
#[derive(Debug, clap::Args)]
pub struct DownArgs {
    /// The lab's name
    #[arg(default_value = "lab", conflicts_with = "all")]
    pub name: LabName,
    /// Remove every lab
    #[arg(long)]
    pub all: bool,
    /// Also remove the images kept for the next lab, if no lab is left
    #[arg(long)]
    pub purge: bool,
}

/// Arguments of `osier lab list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {}

/// Arguments of `osier lab stop` and `osier lab start`.
#[derive(Debug, clap::Args)]
pub struct PowerArgs {
    /// The lab the node is in
    #[arg(long, default_value = "lab")]
    pub lab: LabName,
    /// The node's name
    pub node: String,
}

/// Arguments of `osier lab ssh`.
#[derive(Debug, clap::Args)]
pub struct SshArgs {
    /// The lab the node is in
    #[arg(long, default_value = "lab")]
    pub lab: LabName,
    /// The node's name
    pub node: String,
    /// A command to run there instead of a shell
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `osier lab exec`.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// The lab's name
    #[arg(default_value = "lab")]
    pub name: LabName,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Runs one of the commands. `ssh` and `exec` do not return: they become the command they start, whose exit code is
/// then this process's.
pub async fn run(command: LabCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        LabCommand::Up(args) => up::up(args, ui).await,
        LabCommand::Down(args) => down::down(args, ui).await,
        LabCommand::List(ListArgs {}) => list::list(ui).await,
        LabCommand::Stop(args) => power::stop(args, ui).await,
        LabCommand::Start(args) => power::start(args, ui).await,
        LabCommand::Ssh(args) => shell::ssh(&args).map(|never| match never {}),
        LabCommand::Exec(args) => shell::exec(&args).map(|never| match never {}),
    }
}
