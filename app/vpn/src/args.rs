//! The command line of `osier vpn`.
//!
//! Must not touch the world: parsing only validates.

use anyhow::Context;
use osier_inventory::split_words;
use osier_provision::InventoryArgs;
use osier_reach::{Destination, Suffix, User};
use osier_ssh::Target;
use osier_ui::{ExitKind, Failure};
use std::path::PathBuf;

/// The `osier vpn` commands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum VpnCommand {
    /// Holds a SOCKS proxy open on 127.0.0.1: what is asked of it is reached from the VPN's host
    Proxy(ProxyArgs),
    /// Prints or installs the lines for ~/.ssh/config with which 'ssh ADDRESS.SUFFIX' goes through the VPN's host
    SshConfig(SshConfigArgs),
    /// Holds a port of 127.0.0.1 open that leads to a cluster's manager, and makes a docker context of it
    Tunnel(TunnelArgs),
}

/// Arguments of `osier vpn proxy`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "It runs until Ctrl-C, and connects again when the connection is lost. ssh must get in without
asking: with a key that 'ssh-add' has loaded, or one without a passphrase.

Examples:
  osier vpn proxy -D 8888 vpn-user@vpn-host
  osier vpn proxy vpn-host:2222 --ssh-args '-i ~/.ssh/vpn -J gate'
  curl --proxy socks5h://127.0.0.1:8888 http://10.0.0.7/
  HTTPS_PROXY=socks5://127.0.0.1:8888 docker -c datalyse ps

Docker's client takes no proxy for attach, exec and a run in the foreground: use 'osier vpn tunnel'.")]
pub struct ProxyArgs {
    /// The port of 127.0.0.1 to listen on
    #[arg(short = 'D', long = "port", default_value_t = 8888, value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    pub(crate) port: u16,
    /// The VPN's host; it may be an alias of your ssh configuration
    #[arg(value_name = "[USER@]HOST[:PORT]")]
    pub(crate) via: Destination,
    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

/// What else ssh is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SshArgs {
    /// Further arguments for ssh, as one word that is split as a shell would
    #[arg(long, default_value = "", hide_default_value = true, allow_hyphen_values = true, value_name = "ARGS")]
    ssh_args: String,
}

/// Arguments of `osier vpn ssh-config`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "The suffix is taken off before the connection is made on the VPN's host. An inventory may name
hosts so, too (ansible_host=10.0.0.7.eolas).

Examples:
  osier vpn ssh-config --suffix eolas --via vpn-host --user vpn-user
  osier vpn ssh-config --suffix eolas --via vpn-user@vpn-host --install
  ssh 10.0.0.7.eolas
  osier vpn ssh-config --suffix eolas --remove")]
pub struct SshConfigArgs {
    /// What names end in that are to be reached through the VPN
    #[arg(long, value_name = "SUFFIX")]
    pub(crate) suffix: Suffix,
    /// The VPN's host; it may be an alias of your ssh configuration
    #[arg(long, required_unless_present = "remove", conflicts_with = "remove", value_name = "[USER@]HOST[:PORT]")]
    pub(crate) via: Option<Destination>,
    /// The user to log in as on the hosts behind it, where your ssh configuration does not say so
    #[arg(long, conflicts_with = "remove", value_name = "USER")]
    pub(crate) user: Option<User>,
    /// Write the lines into the file, in the place of those of the same suffix
    #[arg(long, conflicts_with = "remove")]
    pub(crate) install: bool,
    /// Take the lines of this suffix out of the file
    #[arg(long)]
    pub(crate) remove: bool,
    /// The file, where it is not to be ~/.ssh/config
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
}

/// Arguments of `osier vpn tunnel`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group = clap::ArgGroup::new("way").required(true).args(["via", "node"]),
    after_help = "It runs until Ctrl-C, and connects again when the connection is lost. The context is there from
the first connection to the end. The manager is known by its certificate, as without a tunnel.

Examples:
  osier vpn tunnel --via vpn-user@vpn-host
  docker -c datalyse-tunnel ps
  osier vpn tunnel -i inventory --node datalyse-master --port 3377"
)]
pub struct TunnelArgs {
    /// The cluster, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The host to go through; it may be an alias of your ssh configuration
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    pub(crate) via: Option<Destination>,
    /// The node of the inventory to go through, reached as the inventory says
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) from: InventoryArgs,
    /// The port of 127.0.0.1 to listen on
    #[arg(long, default_value_t = 3376, value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

impl SshArgs {
    /// Adds to the arguments that ssh has already.
    pub(crate) fn add_to(&self, target: &mut Target) -> Result<(), Failure> {
        let args = split_words(&self.ssh_args).with_context(|| format!("read '--ssh-args {}'", self.ssh_args));
        target.args.extend(args.map_err(|e| Failure::new(ExitKind::Usage, e))?);
        Ok(())
    }

    /// Where ssh is to go, and how.
    pub(crate) fn target(&self, via: &Destination) -> Result<Target, Failure> {
        let user = via.user.as_ref().map(ToString::to_string);
        let mut target = Target { user, port: via.port, ..Target::new(via.host()) };
        self.add_to(&mut target)?;
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse<T: Args + FromArgMatches>(args: &[&str]) -> Result<T, clap::Error> {
        let command = T::augment_args(clap::Command::new("x"));
        let args = std::iter::once("x").chain(args.iter().copied());
        T::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    #[test]
    fn the_commands_parse_as_documented() {
        let proxy: ProxyArgs = parse(&["-D", "1080", "me@gate:22", "--ssh-args", "-o 'ProxyJump=a b' -i k"]).unwrap();
        let target = proxy.ssh.target(&proxy.via).unwrap();
        assert_eq!((proxy.port, target.host.as_str(), target.port), (1080, "gate", Some(22)));
        assert_eq!(
            (target.user.as_deref(), target.args),
            (Some("me"), ["-o", "ProxyJump=a b", "-i", "k"].map(Into::into).into())
        );
        assert_eq!(parse::<ProxyArgs>(&["gate"]).unwrap().port, 8888, "the seed's");
        for wrong in
            [&["-D", "0", "gate"][..], &["-D", "8888"], &["-D", "70000", "gate"], &["-oProxyCommand=x"], &["a b"]]
        {
            assert!(parse::<ProxyArgs>(wrong).is_err(), "{wrong:?}");
        }
        let config: SshConfigArgs = parse(&["--suffix", ".eolas", "--via", "vpn-host", "--user", "me"]).unwrap();
        assert_eq!((config.suffix.to_string().as_str(), config.install), ("eolas", false));
        assert!(parse::<SshConfigArgs>(&["--suffix", "eolas", "--remove"]).is_ok());
        for wrong in [
            &["--suffix", "eolas"][..],
            &["--via", "h"],
            &["--suffix", "a", "--via", "h", "--user", "me\nProxyCommand x"],
            &["--suffix", "a", "--via", "h;id"],
            &["--suffix", "*", "--via", "h"],
            &["--suffix", "a", "--remove", "--install"],
        ] {
            assert!(parse::<SshConfigArgs>(wrong).is_err(), "{wrong:?}");
        }
        let tunnel: TunnelArgs = parse(&["--via", "vpn-host"]).unwrap();
        assert_eq!((tunnel.port, tunnel.cluster), (3376, None));
        assert!(parse::<TunnelArgs>(&[]).is_err() && parse::<TunnelArgs>(&["--via", "h", "--node", "n"]).is_err());
        let open = parse::<ProxyArgs>(&["h", "--ssh-args", "'"]).unwrap();
        assert_eq!(open.ssh.target(&open.via).unwrap_err().code(), 2);
    }
}
