//! The command line of everything that works on the hosts of an inventory.
//!
//! Must not touch the world: parsing only validates.

use osier_fleet::Serial;
use osier_model::NodeName;
use std::{convert::Infallible, path::PathBuf, str::FromStr};

/// Where the hosts are named, and what is set for them.
#[derive(Debug, Clone, clap::Args)]
pub struct InventoryArgs {
    /// Inventory: a file (INI, YAML, JSON), a program that prints one, a folder of such, or hosts with commas between them
    /// ('a,b' or 'a,'); may be given several times
    #[arg(short, long, env = "OSIER_INVENTORY", default_value = "inventory", value_name = "PATH")]
    pub inventory: Vec<PathBuf>,
    /// Set variables for every host, over what the inventory says: NAME=VALUE, several with blanks between them, JSON or YAML
    /// ('{"name": 1}'), or a file of either behind an '@'; may be given several times
    #[arg(short, long = "extra-vars", value_name = "NAME=VALUE|@FILE|JSON", value_parser = parse_extra)]
    pub extra_vars: Vec<Extra>,
    #[command(flatten)]
    pub(crate) vault: VaultArgs,
}

/// Where the passwords of ansible-vault come from. All are tried on everything that is encrypted.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct VaultArgs {
    /// Decrypt what ansible-vault encrypted with the password in this file, or that this program prints; may be given several
    /// times, and ANSIBLE_VAULT_PASSWORD_FILE adds one
    #[arg(long, visible_alias = "vault-pass-file", value_name = "FILE")]
    pub(crate) vault_password_file: Vec<PathBuf>,
    /// The same with a label, which only the prompt and programs named '…-client' are told; 'prompt' in the file's place asks.
    /// ANSIBLE_VAULT_IDENTITY_LIST adds some, with commas between them
    #[arg(long, value_name = "[LABEL@]FILE")]
    pub(crate) vault_id: Vec<VaultId>,
    /// Ask for the password of ansible-vault
    #[arg(short = 'J', long, visible_alias = "ask-vault-pass")]
    pub(crate) ask_vault_password: bool,
}

/// One password of ansible-vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultId {
    /// What the operator calls it; may be empty.
    pub(crate) label: String,
    pub(crate) source: PasswordSource,
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The terminal.
    Prompt,
    /// A file, or a program that prints it.
    File(PathBuf),
}

impl FromStr for VaultId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, source) = text.split_once('@').unwrap_or(("", text));
        let source = match source {
            "" => return Err("a file is missing".to_owned()),
            "prompt" | "prompt_ask_vault_pass" => PasswordSource::Prompt,
            path => PasswordSource::File(path.into()),
        };
        Ok(Self { label: label.to_owned(), source })
    }
}

/// Variables that the command line sets.
#[derive(Debug, Clone, PartialEq)]
pub enum Extra {
    /// Pairs, or JSON or YAML, as they stand there. What is wrong with them is not clap's to tell, which shows them.
    Text(String),
    /// A file of YAML or JSON.
    File(PathBuf),
}

/// Which hosts, and how many at a time.
#[derive(Debug, Clone, clap::Args)]
pub struct HostArgs {
    #[command(flatten)]
    pub(crate) from: InventoryArgs,
    /// Work only on the hosts that this pattern means, such as 'masters' or 'all:!datalyse-2'; '@FILE' has one on each line
    #[arg(short, long, value_name = "PATTERN")]
    pub limit: Option<String>,
    /// How many hosts to work on at the same time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub forks: u16,
}

/// Show an inventory as it is understood, the way Ansible's commands show it.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["list", "host", "graph", "list_hosts"]),
    after_help = "Examples:\n  osier inventory --list\n  osier inventory -i production --host datalyse-1\n  osier inventory --graph masters\n  osier inventory --list-hosts 'slaves:!datalyse-2'\n  osier inventory --list-hosts -l @failed-hosts"
)]
pub struct ShowArgs {
    #[command(flatten)]
    pub(crate) from: InventoryArgs,
    /// All groups, hosts and variables as JSON, as 'ansible-inventory --list' prints them
    #[arg(long)]
    pub(crate) list: bool,
    /// The variables of one host as JSON, as 'ansible-inventory --host' prints them; no limit counts
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Groups and hosts as a tree, as 'ansible-inventory --graph' prints it; no limit counts
    #[arg(long)]
    pub(crate) graph: bool,
    /// The names of the hosts that a pattern means, as 'ansible PATTERN --list-hosts' prints them
    #[arg(long)]
    pub(crate) list_hosts: bool,
    /// Show only the hosts that this pattern means; '@FILE' has one on each line
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) limit: Option<String>,
    /// The group at which '--graph' begins, or the pattern of '--list-hosts'
    #[arg(default_value = "all", value_name = "PATTERN")]
    pub(crate) pattern: String,
}

/// How a change is made.
#[derive(Debug, Clone, clap::Args)]
pub struct ChangeArgs {
    /// Only say what would change; exit with 5 if anything would
    #[arg(long)]
    pub check: bool,
    /// Show the lines of files that change
    #[arg(long)]
    pub diff: bool,
    /// Change so many hosts, then the next; a share of all ('30%'), or several sizes with commas between them, of which the last
    /// holds on. All are asked before any is changed. Where all hosts of a batch fail, the others are not changed
    #[arg(long, value_name = "N|%")]
    pub serial: Option<Serial>,
    /// The program to install on the hosts, where it is not to be the running one
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
}

/// Prepare hosts: Docker where there is none, and this program.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Variables of the inventory about Docker:
  docker_packages          NAME or NAME=VERSION, several as a list; the distribution's without
  docker_version           the exact version of those packages that name none
  docker_apt_source        where they come from: 'deb URL SUITE COMPONENT'
  docker_apt_key           a file with the keys that sign it
  http_proxy, https_proxy, no_proxy
                           for apt, and for an engine that this program installed
  docker_registry_mirrors  mirrors for that engine, several as a list

Examples:
  osier bootstrap -i inventory
  osier bootstrap -i inventory --limit datalyse-2 --check
  osier bootstrap -i inventory -e docker_version=26.1.5+dfsg1-9+b9 --check --diff
  osier bootstrap -i inventory --offline docker.tar     from a file of 'osier bundle-docker'")]
pub struct BootstrapArgs {
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Where Docker comes from, besides what the inventory says.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineArgs {
    /// Install Docker from this file of 'osier bundle-docker' alone; hosts ask no source of packages
    #[arg(long, value_name = "FILE")]
    pub(crate) offline: Option<PathBuf>,
}

/// Fetch Docker with all that it needs into one file, for hosts that reach no source of packages.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "The inventory's hosts must reach their sources. Of each system (distribution, release, architecture) one host fetches what the
inventory says of Docker; nothing is installed there, and nothing is left behind. Hosts of a lab will do: 'osier lab up --release'.

Examples:
  osier bundle-docker -i inventory docker.tar
  osier bundle-docker -i 'build-1,build-2' -e docker_version=26.1.5+dfsg1-9+b9 docker.tar
  osier site -i air-gapped --offline docker.tar              there, with no way to any source"
)]
pub struct BundleDockerArgs {
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    /// The file to write
    #[arg(value_name = "FILE.tar")]
    pub(crate) file: PathBuf,
}

/// Make a cluster of prepared hosts: certificates, configuration, services.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  osier setup-cluster -i inventory\n  osier setup-cluster -i inventory -e weave_ip_pool=10.2.0.0/16"
)]
pub struct SetupClusterArgs {
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Prepare hosts and make a cluster of them: bootstrap and setup-cluster in one.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  osier site -i inventory\n  osier site -i inventory --check --diff\n  osier site -i inventory --serial 1,30%     one host first, then the others by thirds\n  osier site -i inventory --offline docker.tar  Docker from a file of 'osier bundle-docker'"
)]
pub struct SiteArgs {
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Takes a node out of its cluster for good, and gives its addresses to another.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "The addresses stay frozen until every other node has heard of the removal, so that a node which was only
cut off shares none with its heir. A host that is to come back becomes a new node ('osier site').

Examples:
  osier node rm -i inventory datalyse-2
  osier node rm -i inventory datalyse-2 --heir datalyse-1 --yes
  osier node rm -i inventory datalyse-2 --force     it and others are lost: do not wait for them"
)]
pub struct RemoveNodeArgs {
    /// The node, by name
    #[arg(value_name = "NODE")]
    pub(crate) node: NodeName,
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// The node that takes over its addresses; the founder of the cluster where none is named
    #[arg(long, value_name = "NODE")]
    pub(crate) heir: Option<NodeName>,
    /// Do not wait for nodes that are silent: addresses that they had of the node unseen by others may be given out twice
    #[arg(long)]
    pub(crate) force: bool,
    /// Leave Osier on the host
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Take away from hosts what this program put there.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  osier destroy -i inventory\n  osier destroy -i inventory --purge --yes")]
pub struct DestroyArgs {
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// Remove Docker as well, with its source and files, where this program installed it
    #[arg(long)]
    pub(crate) purge: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Print how the Docker command line reaches a cluster.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  eval \"$(osier env)\"\n  eval \"$(osier env --unset)\"")]
pub struct EnvArgs {
    /// The cluster, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Print how to undo it
    #[arg(long, conflicts_with = "cluster")]
    pub(crate) unset: bool,
}

/// Make this host what a document on standard input says (run on hosts by 'osier site').
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  osier converge --check < desired.json")]
pub struct ConvergeArgs {
    /// Only report the plan; exit with 5 if it has steps
    #[arg(long)]
    pub(crate) check: bool,
}

fn parse_extra(text: &str) -> Result<Extra, Infallible> {
    Ok(text.strip_prefix('@').map_or_else(|| Extra::Text(text.to_owned()), |path| Extra::File(path.into())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    pub(crate) fn parse<T: Args + FromArgMatches>(args: &[&str]) -> Result<T, clap::Error> {
        let command = T::augment_args(clap::Command::new("x"));
        let args = std::iter::once("x").chain(args.iter().copied());
        T::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    #[test]
    fn the_commands_parse_as_documented() {
        let site: SiteArgs = parse(&["-i", "a", "-i", "b", "-e", "x=1=2", "--check"]).unwrap();
        assert_eq!(site.hosts.from.inventory, [PathBuf::from("a"), "b".into()]);
        assert_eq!((site.hosts.from.extra_vars, site.change.check), (vec![Extra::Text("x=1=2".into())], true));
        let show: ShowArgs = parse(&["--graph", "masters"]).unwrap();
        assert_eq!((show.graph, show.pattern.as_str()), (true, "masters"));
        for wrong in [&["masters"][..], &["--list", "--graph"], &["--host"]] {
            assert!(parse::<ShowArgs>(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse::<SiteArgs>(&["--forks", "0"]).is_err());
        let site: SiteArgs = parse(&["-e", "@a/b", "-e", "x"]).unwrap();
        assert_eq!(site.hosts.from.extra_vars, [Extra::File("a/b".into()), Extra::Text("x".into())]);
    }
}
