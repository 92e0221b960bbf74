//! The hosts of one run: how each is reached, work on many at a time, and failures in the user's words.
//!
//! Must not know what is done on a host.

use crate::{args::InventoryArgs, inventory};
use anyhow::Context;
use futures::StreamExt;
use osier_inventory::{Connection, Host, split_words};
use osier_ssh::{Connections, Error, Secret, Target, Unreachable};
use osier_ui::{ExitKind, Failure, Ui};
use std::{net::Ipv4Addr, path::PathBuf};

/// One host of the run.
pub(crate) struct Remote {
    /// Its name in the inventory.
    pub(crate) name: String,
    /// The way to it.
    pub(crate) ssh: osier_ssh::Host,
    /// Whether the inventory wants everything done as root (`ansible_become`).
    pub(crate) root: bool,
}

impl Remote {
    /// The address that ssh connects to, where the inventory has one and not a name.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.ssh.target().host.parse().ok()
    }
}

/// Reads how to reach each host; connects to none.
pub(crate) fn remotes(hosts: &[&Host]) -> Result<Vec<Remote>, Failure> {
    over(&Connections::new().map_err(|e| Failure::new(ExitKind::Failed, e))?, hosts)
}

/// As [`remotes`], over connections that stay open for so many seconds and are found by the next command, where this user
/// has a folder for them.
pub(crate) fn kept(hosts: &[&Host], seconds: u16) -> Result<Vec<Remote>, Failure> {
    let Some(folder) = sockets().filter(|_| seconds > 0) else { return remotes(hosts) };
    match Connections::kept(&folder, seconds) {
        Ok(connections) => over(&connections, hosts),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "connections are not kept");
            remotes(hosts)
        }
    }
}

/// Where connections meet that are kept.
fn sockets() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = || var("XDG_STATE_HOME").or_else(|| var("HOME").map(|home| home.join(".local/state")));
    let base = var("XDG_RUNTIME_DIR").filter(|path| path.is_dir()).or_else(state)?;
    Some(base.join("osier/ssh"))
}

fn over(connections: &Connections, hosts: &[&Host]) -> Result<Vec<Remote>, Failure> {
    let mut remotes = Vec::new();
    for host in hosts {
        let connection = host.connection().map_err(|e| Failure::new(ExitKind::Usage, e))?;
        let password = connection.sudo_password.as_deref().map(Secret::new);
        let root = connection.sudo == Some(true);
        let ssh = connections.host(host.name(), target(host, connection)?).sudo_password(password);
        remotes.push(Remote { name: host.name().to_owned(), ssh, root });
    }
    Ok(remotes)
}

/// How the inventory says to reach a host.
fn target(host: &Host, connection: Connection) -> Result<Target, Failure> {
    let args = split_words(&connection.common_args);
    let args = args.with_context(|| format!("read the ssh arguments of host '{}'", host.name()));
    Ok(Target {
        host: connection.address,
        user: connection.user,
        port: connection.port,
        key: connection.private_key_file.as_deref().map(expand_home),
        args: args.map_err(|e| Failure::new(ExitKind::Usage, e))?,
    })
}

/// How ssh reaches the one host of an inventory that has this name.
pub fn resolve_host(args: &InventoryArgs, name: &str, ui: &Ui) -> Result<Target, Failure> {
    let inventory = inventory::read(args, ui)?;
    let host = inventory.hosts().iter().find(|h| h.name() == name);
    let unknown = || Failure::usage(format!("the inventory has no host '{name}'"));
    let host = host.ok_or_else(|| unknown().hint("'osier inventory --list-hosts all' shows those it has"))?;
    target(host, host.connection().map_err(|e| Failure::new(ExitKind::Usage, e))?)
}

/// Works on up to `forks` hosts at a time; gives back the results in the hosts' order.
pub(crate) async fn on_each<I, T>(
    hosts: impl IntoIterator<Item = I>,
    forks: u16,
    work: impl AsyncFn(I) -> T,
) -> Vec<T> {
    let work = &work;
    let each = hosts.into_iter().enumerate().map(|(at, host)| async move { (at, work(host).await) });
    let mut done: Vec<(usize, T)> = futures::stream::iter(each).buffer_unordered(usize::from(forks)).collect().await;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Ends all connections.
pub(crate) async fn close(remotes: Vec<Remote>) {
    futures::future::join_all(remotes.into_iter().map(|r| r.ssh.close())).await;
}

/// A failure of ssh, with what to do about it.
pub(crate) fn failure(error: Error) -> Failure {
    let (kind, hint) = match &error {
        Error::Unreachable { reason, .. } => (ExitKind::SomeHostsUnreachable, unreachable_hint(*reason)),
        Error::NoSudo { .. } => (
            ExitKind::SomeHostsFailed,
            "set ansible_become_password to what sudo asks for, let this user run sudo without a password (a line 'USER ALL=(ALL) NOPASSWD: ALL' below /etc/sudoers.d), or log in as root",
        ),
        Error::NotEnded { .. } => (ExitKind::SomeHostsFailed, "look there with 'ps -ef', and end it by hand"),
        Error::Input(_) => (ExitKind::SomeHostsFailed, "the file must stay as it is while it is sent"),
        Error::Failed { .. } => return Failure::new(ExitKind::SomeHostsFailed, error),
        Error::Settings { .. } | Error::Port { .. } => return Failure::new(ExitKind::SomeHostsFailed, error),
        Error::Folder(_) | Error::Program(_) => {
            (ExitKind::SomeHostsFailed, "the 'ssh' program must be installed on this machine")
        }
    };
    Failure::new(kind, error).hint(hint)
}

fn unreachable_hint(reason: Unreachable) -> &'static str {
    match reason {
        Unreachable::Refused => "is sshd running there, and is ansible_port right?",
        Unreachable::TimedOut | Unreachable::NoRoute => "is the host up, and is ansible_host right?",
        Unreachable::UnknownName => {
            "give the host's address as ansible_host in the inventory, or a 'Host' block in ~/.ssh/config"
        }
        Unreachable::Denied => {
            "the host takes another user or key: set ansible_user and ansible_ssh_private_key_file (a password, as ansible_password, logs nobody in here)"
        }
        Unreachable::HostKey => {
            "the host's key is not the one in known_hosts: if that is right, take the old one out with 'ssh-keygen -R HOST' and log in once by hand"
        }
        Unreachable::Lost => {
            "try 'ssh -v' to that host by hand; where many logins at once are too many for an sshd (MaxStartups), '--forks N' makes fewer"
        }
    }
}

/// `~/x` as a path in the user's home.
pub(crate) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_inventory::{Inventory, Source, SourceKind};

    fn inventory(text: &str) -> Inventory {
        let source = Source { path: "i".into(), text: text.into(), kind: SourceKind::Hosts };
        Inventory::parse(&[source]).unwrap()
    }

    #[test]
    fn an_inventorys_connection_becomes_arguments_of_ssh() {
        let text = "a ansible_ssh_host=10.0.0.1 ansible_ssh_port=2222 ansible_ssh_user=u ansible_ssh_private_key_file=/k \
            ansible_ssh_common_args=\"-o ProxyCommand='ssh -W %h:%p gate'\"\nb\n";
        let inventory = inventory(text);
        let remotes = remotes(&inventory.hosts().iter().collect::<Vec<_>>()).unwrap();
        let expected = Target {
            host: "10.0.0.1".into(),
            user: Some("u".into()),
            port: Some(2222),
            key: Some("/k".into()),
            args: vec!["-o".into(), "ProxyCommand=ssh -W %h:%p gate".into()],
        };
        assert_eq!(remotes[0].ssh.target(), &expected);
        assert_eq!((remotes[0].address(), remotes[1].address()), (Some([10, 0, 0, 1].into()), None));
        assert_eq!(remotes[1].ssh.target(), &Target::new("b"));
    }

    #[tokio::test]
    async fn results_come_in_the_hosts_order_whoever_is_first() {
        let inventory = inventory("a\nb\nc\n");
        let remotes = remotes(&inventory.hosts().iter().collect::<Vec<_>>()).unwrap();
        let (send, receive) = tokio::sync::oneshot::channel();
        let slot = std::sync::Mutex::new((Some(send), Some(receive)));
        let names = on_each(&remotes, 2, async |remote| {
            if remote.name == "a" {
                let wait = slot.lock().unwrap().1.take().unwrap();
                wait.await.unwrap();
            } else if let Some(send) = slot.lock().unwrap().0.take() {
                send.send(()).unwrap();
            }
            remote.name.clone()
        });
        assert_eq!(names.await, ["a", "b", "c"]);
    }
}
