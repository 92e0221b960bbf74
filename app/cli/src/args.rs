//! The command line as data. Parsing only validates; help and completions come from these same definitions.

use crate::logs::LogsArgs;
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// One Docker engine on one flat network, out of a list of Linux hosts.
#[derive(Debug, Parser)]
#[command(name = "osier", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// What to log to standard error: error, warn, info, debug, trace, or directives such as 'osier_agent=debug'
    #[arg(
        long,
        alias = "log-level",
        global = true,
        env = "OSIER_LOG",
        default_value = "",
        hide_default_value = true,
        value_name = "LEVEL"
    )]
    pub(crate) log: String,
    /// Log as '--log debug' does
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Tell Docker's clients that experimental features are on
    #[arg(long)]
    pub(crate) experimental: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  osier lab up                       three hosts to try it on
  osier site -i inventory            a cluster out of an Ansible inventory
  eval \"$(osier env)\"                point the Docker client at it
  docker run -ti --rm -h b.weave.local busybox sh

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some hosts failed, 4 some hosts unreachable, 5 --check found changes.";

/// Result formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences.
    Text,
    /// One JSON document.
    Json,
}

/// Everything the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(osier_manager::CreateArgs),
    Bootstrap(osier_provision::BootstrapArgs),
    SetupCluster(osier_provision::SetupClusterArgs),
    Site(osier_provision::SiteArgs),
    Destroy(osier_provision::DestroyArgs),
    BundleDocker(osier_provision::BundleDockerArgs),
    Inventory(osier_provision::ShowArgs),
    Env(osier_provision::EnvArgs),
    List(osier_manager::ListArgs),
    Join(osier_manager::JoinArgs),
    /// Shows the cluster on one screen, or on a node that node: peers, links, addresses and names.
    #[command(
        after_help = "Examples:\n  osier status\n  osier status --cluster lab -o json\n  ssh datalyse-master osier status"
    )]
    Status {
        #[command(flatten)]
        manager: osier_manager::ManagerArgs,
    },
    /// Puts this host itself on the cluster's network, as hosts are by default, and prints its address there. Run it on a node.
    #[command(after_help = "Examples:\n  osier expose\n  ssh datalyse-1 osier expose")]
    Expose,
    /// Takes this host off the cluster's network until 'osier expose': its containers stay. Run it on a node.
    #[command(after_help = "Examples:\n  osier hide\n  ssh datalyse-1 osier hide")]
    Hide,
    /// Sets, removes and looks up names of the cluster's network. Run it on a node.
    Dns {
        #[command(subcommand)]
        command: osier_agent::DnsCommand,
    },
    Doctor(osier_provision::DoctorArgs),
    Exec(osier_provision::ExecArgs),
    Copy(osier_provision::CopyArgs),
    Logs(Box<LogsArgs>),
    Ps(osier_manager::PsArgs),
    RestartDocker(osier_provision::RestartDockerArgs),
    RemoveContainers(osier_provision::RemoveContainersArgs),
    RemoveImages(osier_provision::RemoveImagesArgs),
    /// Makes hosts to try a cluster on, out of containers.
    Lab {
        #[command(subcommand)]
        command: osier_lab::LabCommand,
    },
    /// Shows the nodes of a cluster, says which of them take work, and removes nodes.
    Node {
        #[command(subcommand)]
        command: Node,
    },
    /// Reaches a cluster that only a VPN's host reaches, through your own ssh.
    Vpn {
        #[command(subcommand)]
        command: osier_vpn::VpnCommand,
    },
    Explain(osier_manager::ExplainArgs),
    Manage(Box<osier_manager::ManageArgs>),
    Agent(osier_agent::AgentArgs),
    Weave(osier_agent::WeaveArgs),
    #[command(hide = true)]
    Converge(osier_provision::ConvergeArgs),
    /// Prints a completion script for a shell.
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// What can be done about nodes.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Node {
    #[command(flatten)]
    Steer(osier_manager::NodeCommand),
    Rm(osier_provision::RemoveNodeArgs),
}

/// The network of this node, as Weave Net's command showed it.
#[derive(Debug, Parser)]
#[command(name = "weave", version)]
pub(crate) struct Weave {
    #[command(flatten)]
    args: osier_agent::WeaveArgs,
}

impl From<Weave> for Cli {
    fn from(weave: Weave) -> Self {
        Self {
            output: Format::Text,
            log: String::new(),
            debug: false,
            experimental: false,
            command: Command::Weave(weave.args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
        Weave::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            let grouped = command.has_subcommands() || command.get_name() == "completion";
            assert!(grouped || command.get_after_help().is_some(), "{} has no example", command.get_name());
        }
    }
}
