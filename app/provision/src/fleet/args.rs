//! The command line of what is done on all hosts at once.
//!
//! Must not touch the world: parsing only validates.

use crate::args::HostArgs;
use clap::builder::UnknownArgumentValueParser as Unknown;
use osier_fleet::{Owner, Serial, span};
use osier_ssh::LONGEST_KEPT;
use std::{path::PathBuf, time::Duration};

/// Which hosts, and how connections to them are dealt with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    pub(crate) hosts: HostArgs,
    /// How many seconds connections stay open for the next command in this folder; with 0 they are closed, and none is found.
    /// What the login is allowed, and its groups, are those of when it was made
    #[arg(long, env = "OSIER_SSH_KEEP", default_value_t = 60, value_parser = clap::value_parser!(u16).range(..=i64::from(LONGEST_KEPT)), value_name = "SECONDS")]
    pub(crate) keep: u16,
}

/// Run a command on all hosts.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "One word is a line for the shell, several words are run as they stand. Ctrl-C and '--timeout' end the command on
the hosts, too. A host where it fails makes the exit code 3, one that cannot be reached 4.

Examples:
  osier exec -- docker ps
  osier exec -l slaves -b -- 'docker ps -qa | wc -l'
  osier exec --serial 1 -b -- systemctl restart docker     one host after another, until one fails
  osier exec --serial 1,30% --timeout 5m -b -- apt-get -y upgrade
  osier exec --ordered -- uptime                           host by host, in the inventory's order
  osier exec --script check.py -- --verbose                a script of this machine, with its arguments"
)]
pub struct ExecArgs {
    #[command(flatten)]
    pub(crate) hosts: FleetArgs,
    /// Become root on the hosts
    #[arg(short = 'b', long = "become")]
    pub(crate) root: bool,
    #[command(flatten)]
    pub(crate) batches: BatchArgs,
    /// Show the output host by host, in the inventory's order, instead of as it comes
    #[arg(long)]
    pub(crate) ordered: bool,
    /// Run this script of this machine with the interpreter that its first line names (else sh); what is behind '--' is its
    /// arguments
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required_unless_present = "script", trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    _ansible: AnsibleArgs,
}

/// Options of Ansible's that are otherwise here: they are refused with what serves instead.
#[derive(Debug, Clone, clap::Args)]
struct AnsibleArgs {
    #[arg(short = 'm', long = "module-name", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = Unknown::suggest("a command stands behind '--'; 'osier copy' copies files"))]
    _module: Option<String>,
    #[arg(short = 'a', long = "args", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = Unknown::suggest("a command stands behind '--': osier exec -- uptime"))]
    _arguments: Option<String>,
    #[arg(short = 'f', hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = Unknown::suggest_arg("--forks"))]
    _forks: Option<String>,
    #[arg(short = 'u', long = "user", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = Unknown::suggest("the login is a variable: -e ansible_user=NAME"))]
    _user: Option<String>,
    #[arg(short = 's', long = "sudo", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = Unknown::suggest_arg("-b"))]
    _sudo: Option<String>,
    #[arg(short = 'K', long = "ask-become-pass", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = Unknown::suggest("sudo's password is the variable ansible_become_password, which ansible-vault can encrypt"))]
    _password: Option<String>,
}

/// In which batches, and for how long.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct BatchArgs {
    /// Work on so many hosts, then on the next; a share of all ('30%'), or several sizes with commas between them, of which
    /// the last holds on. Where all hosts of a batch fail, the others are not started
    #[arg(long, value_name = "N|%")]
    pub(crate) serial: Option<Serial>,
    /// End it on a host where it takes longer: 90s, 5m, 1h30m
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) timeout: Option<Duration>,
}

/// Restart Docker on all hosts.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  osier restart-docker -i inventory
  osier restart-docker --limit datalyse-1 --yes
  osier restart-docker --serial 1 --yes        one host after another")]
pub struct RestartDockerArgs {
    #[command(flatten)]
    pub(crate) hosts: FleetArgs,
    #[command(flatten)]
    pub(crate) batches: BatchArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Remove all containers on all hosts, running ones too; a lab's nodes stay.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  osier remove-containers -i inventory\n  osier remove-containers --limit slaves --yes -o json"
)]
pub struct RemoveContainersArgs {
    #[command(flatten)]
    pub(crate) hosts: FleetArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Remove all images on all hosts; those of running containers and a lab's stay.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  osier remove-images -i inventory\n  osier remove-images --limit slaves --yes -o json"
)]
pub struct RemoveImagesArgs {
    #[command(flatten)]
    pub(crate) hosts: FleetArgs,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Copy files and folders to all hosts, or from all hosts.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "A DEST that ends with '/', or one for several SRCs, is a folder that they are put into; any other is the new name. A
folder is copied with all that is in it, and nothing else is removed there. A file that is there already, by its digest, is
not sent; one that differs is replaced at once or not at all. Paths that do not begin with '/' begin in the login's home.

Examples:
  osier copy daemon.json /etc/docker/daemon.json -b --mode 0644 --owner root:root
  osier copy site.conf certs /etc/app/ -b          becomes /etc/app/site.conf and /etc/app/certs/...
  osier copy certs /etc/app/certs -b --check       says what would change, and exits with 5 if anything would
  osier copy --fetch /etc/os-release /var/log/app logs    becomes logs/HOST/etc/os-release and logs/HOST/var/log/app/..."
)]
pub struct CopyArgs {
    #[command(flatten)]
    pub(crate) hosts: FleetArgs,
    /// Become root on the hosts
    #[arg(short = 'b', long = "become")]
    pub(crate) root: bool,
    /// The files' permissions, in octal digits; their own where it is not given
    #[arg(long, value_name = "MODE", value_parser = parse_mode, conflicts_with = "fetch")]
    pub(crate) mode: Option<u32>,
    /// Who shall own the files and folders that are copied; folders above them that are made are the login's, or root's
    #[arg(long, value_name = "USER[:GROUP]", conflicts_with = "fetch")]
    pub(crate) owner: Option<Owner>,
    /// Only say what would change; exit with 5 if anything would
    #[arg(long)]
    pub(crate) check: bool,
    /// Copy from the hosts, each into a folder of its name below DEST
    #[arg(long)]
    pub(crate) fetch: bool,
    /// What to copy, and where to
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DEST"])]
    pub(crate) paths: Vec<String>,
}

/// Which services of which hosts.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceLogsArgs {
    #[command(flatten)]
    pub(crate) hosts: FleetArgs,
    /// The services to show (repeatable): osier-agent, osier-manager, docker or any other; the first two where none is named
    #[arg(short, long, value_name = "UNIT")]
    pub(crate) unit: Vec<String>,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
    mode.ok_or_else(|| "it must be octal digits such as 0644".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::parse;

    #[test]
    fn options_of_ansible_are_answered_with_ours() {
        let instead = [
            ("-m", "osier copy"),
            ("-a", "osier exec --"),
            ("-f", "'--forks'"),
            ("-s", "'-b'"),
            ("-u", "ansible_user"),
            ("--user", "ansible_user"),
            ("--user=x", "ansible_user"),
            ("-K", "ansible_become_password"),
            ("--ask-become-pass", "ansible_become_password"),
        ];
        for (option, ours) in instead {
            let refused = parse::<ExecArgs>(&[option, "x"]).unwrap_err().to_string();
            assert!(refused.contains("unexpected argument") && refused.contains(ours), "{refused}");
        }
    }

    #[test]
    fn the_commands_parse_as_documented() {
        let exec: ExecArgs = parse(&["-b", "-l", "slaves", "--", "docker", "ps", "-a"]).unwrap();
        assert_eq!((exec.root, exec.command), (true, vec!["docker".into(), "ps".into(), "-a".into()]));
        let exec: ExecArgs = parse(&["--script", "f", "--serial", "1,30%", "--timeout", "2m", "--", "-x"]).unwrap();
        assert_eq!((exec.batches.timeout, exec.command), (Some(Duration::from_secs(120)), vec!["-x".into()]));
        for wrong in [&[][..], &["--serial", "0", "x"], &["--timeout", "x", "x"]] {
            assert!(parse::<ExecArgs>(wrong).is_err(), "{wrong:?}");
        }
        let exec: ExecArgs = parse(&["ls", "-a", "-u"]).unwrap();
        assert_eq!(exec.command, ["ls", "-a", "-u"]);
        let copy: CopyArgs = parse(&["a", "b", "/c/", "--mode", "0640", "--owner", "root:adm"]).unwrap();
        assert_eq!((copy.paths, copy.mode), (vec!["a".into(), "b".into(), "/c/".into()], Some(0o640)));
        for wrong in [
            &["a"][..],
            &["a", "b", "--mode", "9"],
            &["a", "b", "--owner", "x y"],
            &["--fetch", "--mode", "1", "a", "b"],
        ] {
            assert!(parse::<CopyArgs>(wrong).is_err(), "{wrong:?}");
        }
    }
}
