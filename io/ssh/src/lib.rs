//! Runs programs on other hosts, and puts files there, through the system's own `ssh`.
//!
//! Must not know what is run or why. The user's `~/.ssh/config`, agent, `ProxyCommand`, `ProxyJump` and known hosts
//! work because the user's `ssh` is what connects. No SSH library takes its place: inventories carry arguments for
//! `ssh` (`ansible_ssh_common_args`) that must reach it verbatim.
//!
//! Each host has one master connection (`ControlMaster`), made when it is first needed and again when it was lost; an
//! sshd that has too many logins at once turns some away (`MaxStartups`), and is asked again after a moment;
//! every command is a session on it, at most [`SESSIONS`] at a time, below the ten that sshd allows by default. Ports that
//! are to be held open have a connection of their own ([`Forward`]). Connections can be kept for the next process
//! ([`Connections::kept`]).
//!
//! Where `sudo` needs a password, a command may have to be ended before its end, or a connection was found that may be
//! dead, the command is guarded: it says on standard error under which process it would begin, waits for a line of input,
//! and `sudo` asks there. So the password is written when it is asked for and never becomes input of a command, one that
//! is stopped is ended on the host with all that it started, and one that is given up before it began never begins.

mod command;
mod connections;
mod error;
mod forward;
mod gate;
mod host;
mod lines;
mod master;
mod quote;
mod secret;
mod session;

pub use command::{Command, Output};
pub use connections::{Connections, LONGEST_KEPT};
pub use error::{Error, Said, Unreachable};
pub use forward::{Forward, Forwarding};
pub use host::{Host, SESSIONS};
pub use lines::Stream;
pub use quote::quote;
pub use secret::Secret;

/// How to reach one host: what goes on the command line of `ssh`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Name or address, or an alias of the user's `ssh_config`.
    pub host: String,
    /// The user to log in as, where the configuration's is not wanted.
    pub user: Option<String>,
    /// The port, where the configuration's is not wanted.
    pub port: Option<u16>,
    /// A private key to offer.
    pub key: Option<std::path::PathBuf>,
    /// Further arguments, verbatim.
    pub args: Vec<String>,
}

impl Target {
    /// A host reached with what the user's configuration says.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }
}
