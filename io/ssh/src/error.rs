//! Why a host could not be used, read from what `ssh` and `sudo` print.
//!
//! Must not know what was to be run. `ssh` tells its own failures apart only in English text on standard error; it
//! is not localised, and `sudo` is started with `LC_ALL=C` where the remote side accepts it.

use std::fmt;

/// Using a host failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place for the control sockets.
    #[error("make a private folder for ssh's control sockets")]
    Folder(#[source] std::io::Error),
    /// The `ssh` program does not start, or its pipes broke.
    #[error("run the ssh program")]
    Program(#[source] std::io::Error),
    /// The file that is a command's input cannot be read.
    #[error("read the input of a command")]
    Input(#[source] std::io::Error),
    /// No connection, or it was lost.
    #[error("connect to '{host}'")]
    Unreachable {
        /// The host as the user names it.
        host: String,
        /// What kind of failure it is.
        reason: Unreachable,
        /// What `ssh` said.
        #[source]
        said: Said,
    },
    /// A port of this machine that was to be forwarded is not to be had.
    #[error("listen on 127.0.0.1:{port}")]
    Port {
        /// The port.
        port: u16,
        /// What `ssh` said.
        #[source]
        said: Said,
    },
    /// `ssh` does not take its arguments or its configuration.
    #[error("have ssh take its settings for '{host}'")]
    Settings {
        /// The host as the user names it.
        host: String,
        /// What `ssh` said.
        #[source]
        said: Said,
    },
    /// Connected, but the user may not become root: without a password, or with the one that was given.
    #[error("become root on '{host}'")]
    NoSudo {
        /// The host as the user names it.
        host: String,
        /// What `sudo` said.
        #[source]
        said: Said,
    },
    /// A command was to be ended, and the host did not say that it was.
    #[error("end the command on '{host}': its process {pid} may still run there")]
    NotEnded {
        /// The host as the user names it.
        host: String,
        /// The process that the command began as.
        pid: u32,
    },
    /// The command ran and failed.
    #[error("run '{command}' on '{host}' (it ended with code {code})")]
    Failed {
        /// The host as the user names it.
        host: String,
        /// The program.
        command: String,
        /// Its exit code; 128 + n for signal n.
        code: i32,
        /// The end of its standard error.
        #[source]
        said: Said,
    },
}

/// What keeps a host from being reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing listens at the port.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The name has no address.
    UnknownName,
    /// The network has no way there.
    NoRoute,
    /// The host takes none of the offered keys.
    Denied,
    /// The host's key is unknown or another than the known one.
    HostKey,
    /// The connection ended early, or something else.
    Lost,
}

/// What a program printed before it failed: its last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// Keeps the last lines of `stderr` that are not blank.
    pub(crate) fn new(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !is_banner(l)).collect();
        Self(lines[lines.len().saturating_sub(4)..].join("; "))
    }
}

/// The frame that `ssh` draws around warnings about keys.
fn is_banner(line: &str) -> bool {
    line.bytes().all(|b| b == b'@')
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "it said nothing" } else { &self.0 })
    }
}

impl std::error::Error for Said {}

impl Unreachable {
    /// Reads the reason out of what `ssh` printed.
    pub(crate) fn from_stderr(stderr: &[u8]) -> Self {
        const SIGNS: [(&str, Unreachable); 12] = [
            ("Host key verification failed", Unreachable::HostKey),
            ("HOST IDENTIFICATION HAS CHANGED", Unreachable::HostKey),
            ("Permission denied", Unreachable::Denied),
            ("Too many authentication failures", Unreachable::Denied),
            ("Could not resolve hostname", Unreachable::UnknownName),
            ("Connection refused", Unreachable::Refused),
            ("No route to host", Unreachable::NoRoute),
            ("Network is unreachable", Unreachable::NoRoute),
            ("timed out", Unreachable::TimedOut),
            ("Timeout, server", Unreachable::TimedOut),
            ("Connection reset", Unreachable::Lost),
            ("Connection closed", Unreachable::Lost),
        ];
        let text = String::from_utf8_lossy(stderr);
        SIGNS.iter().find(|(sign, _)| text.contains(sign)).map_or(Self::Lost, |(_, reason)| *reason)
    }
}

/// Whether the other side, or a host on the way, closed the connection before it said who it is: an sshd does so with some
/// while it has many that are not logged in yet (`MaxStartups`, sshd_config(5)), and so does a way that leads nowhere.
pub(crate) fn is_turned_away(stderr: &[u8]) -> bool {
    const REASONS: [&str; 4] = ["open failed", "stdio forwarding failed", "not found", "No such file"];
    const EXCHANGE: [&str; 3] = ["kex_exchange_identification:", "ssh_exchange_identification:", "banner exchange:"];
    let is_exchange = |line: &str| EXCHANGE.iter().any(|sign| line.contains(sign));
    let text = String::from_utf8_lossy(stderr);
    let has_reason = REASONS.iter().any(|reason| text.contains(reason));
    Unreachable::from_stderr(stderr) == Unreachable::Lost && text.lines().any(is_exchange) && !has_reason
}

/// Whether `ssh` could not have a port of this machine.
pub(crate) fn is_port_refusal(stderr: &[u8]) -> bool {
    const SIGNS: [&str; 3] =
        ["cannot listen to port", "Could not request local forwarding", "Privileged ports can only"];
    let text = String::from_utf8_lossy(stderr);
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// Whether `ssh` ended over its arguments or its configuration, before it looked for the host.
pub(crate) fn is_settings_refusal(stderr: &[u8]) -> bool {
    const SIGNS: [&str; 5] = [
        "onfiguration option",
        "Bad owner or permissions on",
        "usage: ssh",
        "command-line line ",
        "unknown option -- ",
    ];
    let text = String::from_utf8_lossy(stderr);
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// Whether a failed command as root failed in `sudo` and not in the program.
pub(crate) fn is_sudo_refusal(code: i32, stderr: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stderr);
    let refused = |line: &str| {
        line.starts_with("sudo: ") || line.contains("is not in the sudoers file") || line.contains("sudo: not found")
    };
    code != 0 && text.lines().any(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_ssh_prints_names_the_reason() {
        let changed =
            "@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.";
        for (text, reason) in [
            ("ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n", Unreachable::Refused),
            ("ssh: connect to host 10.0.0.1 port 22: Connection timed out\r\n", Unreachable::TimedOut),
            ("ssh: connect to host 10.0.0.1 port 22: No route to host\r\n", Unreachable::NoRoute),
            ("ssh: Could not resolve hostname x: Name or service not known\r\n", Unreachable::UnknownName),
            ("root@127.0.0.1: Permission denied (publickey).\r\n", Unreachable::Denied),
            (changed, Unreachable::HostKey),
            ("kex_exchange_identification: Connection closed by remote host", Unreachable::Lost),
            ("", Unreachable::Lost),
        ] {
            assert_eq!(Unreachable::from_stderr(text.as_bytes()), reason, "{text}");
        }
    }

    #[test]
    fn being_turned_away_is_told_from_all_that_has_a_reason() {
        for (text, is) in [
            (
                "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.1 port 22\r\n",
                true,
            ),
            ("kex_exchange_identification: read: Connection reset by peer\r\n", true),
            ("kex_exchange_identification: banner line 0: Not allowed at this time\r\n", true),
            ("banner exchange: Connection to UNKNOWN port 65535: Broken pipe\r\n", true),
            ("ssh_exchange_identification: Connection closed by remote host\r\n", true),
            (
                "channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n\
              kex_exchange_identification: Connection closed by remote host\r\n",
                false,
            ),
            (
                "vpn-user@vpn-host: Permission denied (publickey).\r\n\
              kex_exchange_identification: Connection closed by remote host\r\n",
                false,
            ),
            (
                "channel 0: open failed: administratively prohibited: open failed\r\nstdio forwarding failed\r\n\
              kex_exchange_identification: Connection closed by remote host\r\n",
                false,
            ),
            ("sh: 1: nc: not found\r\nkex_exchange_identification: Connection closed by remote host\r\n", false),
            ("Connection closed by 10.0.0.1 port 22\r\n", false),
            ("Connection timed out during banner exchange\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_turned_away(text.as_bytes()), is, "{text}");
        }
    }

    #[test]
    fn what_only_this_machine_can_mend_is_told_from_what_the_other_side_refuses() {
        let taken =
            b"bind [127.0.0.1]:8888: Address already in use\r\nchannel_setup_fwd_listener_tcpip: cannot listen \
            to port: 8888\r\nCould not request local forwarding.\r\n";
        assert!(is_port_refusal(taken) && !is_settings_refusal(taken));
        let option = b"command-line: line 0: Bad configuration option: nonsense\r\n";
        let file = b"Bad owner or permissions on /home/me/.ssh/config\r\n";
        assert!(is_settings_refusal(option) && is_settings_refusal(file) && !is_port_refusal(option));
        let denied = b"me@gate: Permission denied (publickey).\r\n";
        assert!(!is_settings_refusal(denied) && !is_port_refusal(denied));
    }

    #[test]
    fn sudos_refusal_is_told_from_the_programs_failure() {
        assert!(is_sudo_refusal(1, b"sudo: a password is required\n"));
        assert!(is_sudo_refusal(127, b"sh: 1: exec: sudo: not found\n"));
        assert!(!is_sudo_refusal(1, b"grep: x: No such file\n"));
        assert!(!is_sudo_refusal(0, b"sudo: setrlimit(RLIMIT_CORE): Operation not permitted\n"));
    }

    proptest! {
        #[test]
        fn any_output_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Unreachable::from_stderr(&bytes), Said::new(&bytes).to_string(), is_sudo_refusal(1, &bytes));
        }
    }
}
