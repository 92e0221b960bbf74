//! What a host's variables say about logging in, under Ansible's old names and its new ones.
//!
//! Must not know how ssh is run, nor which user is the default: what the inventory does not say stays `None`.

use crate::Host;
use serde_json::Value;

/// How to log in to one host, as far as the inventory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Host name or address to connect to: `ansible_host`, or the host's own name.
    pub address: String,
    /// `ansible_port`, or the port behind the host's name.
    pub port: Option<u16>,
    /// `ansible_user`.
    pub user: Option<String>,
    /// `ansible_ssh_private_key_file`; may begin with `~`.
    pub private_key_file: Option<String>,
    /// `ansible_ssh_common_args` and `ansible_ssh_extra_args`, still as one shell-quoted line; [`crate::split_words`]
    /// takes it apart. Empty where there are none.
    pub common_args: String,
    /// `ansible_become`: whether to become root with sudo, where the inventory says so.
    pub sudo: Option<bool>,
    /// `ansible_become_password`, for sudo.
    pub sudo_password: Option<String>,
}

/// A host's variables do not describe a connection that can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {variable} of host '{host}': {reason}")]
pub struct ConnectionError {
    host: String,
    variable: String,
    reason: String,
}

impl Host {
    /// How to log in to this host. New names (`ansible_host`) win over old ones (`ansible_ssh_host`) and over the
    /// port behind the host's name.
    ///
    /// Fails on a value of the wrong type, an unexpanded template, and ways of connecting other than ssh and sudo.
    pub fn connection(&self) -> Result<Connection, ConnectionError> {
        let mut args = Vec::new();
        for name in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            args.extend(self.text(&[name])?.filter(|a| !a.is_empty()));
        }
        self.only(&["ansible_connection"], &["ssh", "smart", "paramiko", "paramiko_ssh"])?;
        self.only(&["ansible_become_method"], &["sudo"])?;
        self.only(&["ansible_become_user", "ansible_sudo_user"], &["root"])?;
        Ok(Connection {
            address: self.text(&["ansible_host", "ansible_ssh_host"])?.unwrap_or_else(|| self.name().to_owned()),
            port: self.port()?,
            user: self.text(&["ansible_user", "ansible_ssh_user"])?,
            private_key_file: self.text(&["ansible_private_key_file", "ansible_ssh_private_key_file"])?,
            common_args: args.join(" "),
            sudo: self.flag(&["ansible_become", "ansible_sudo"])?,
            sudo_password: self.text(&["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"])?,
        })
    }

    fn find<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a Value)> {
        names.iter().find_map(|&n| self.var(n).filter(|v| !v.is_null()).map(|v| (n, v)))
    }

    fn error(&self, variable: &str, reason: impl Into<String>) -> ConnectionError {
        ConnectionError { host: self.name().to_owned(), variable: variable.to_owned(), reason: reason.into() }
    }

    fn text(&self, names: &[&str]) -> Result<Option<String>, ConnectionError> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        match value {
            Value::String(s) if s.contains("{{") || s.contains("{%") => {
                Err(self
                    .error(name, format!("'{s}' is a template, which is not expanded here; write the value itself")))
            }
            Value::String(s) => Ok(Some(s.clone())),
            Value::Number(n) => Ok(Some(n.to_string())),
            _ => Err(self.error(name, "it must be a string")),
        }
    }

    fn port(&self) -> Result<Option<u16>, ConnectionError> {
        let names = ["ansible_port", "ansible_ssh_port"];
        let Some(text) = self.text(&names)? else { return Ok(None) };
        let name = self.find(&names).map_or("ansible_port", |(n, _)| n);
        let port = text.parse().ok().filter(|&p: &u16| p > 0);
        port.map(Some).ok_or_else(|| self.error(name, format!("'{text}' is not a port (1 to 65535)")))
    }

    fn flag(&self, names: &[&str]) -> Result<Option<bool>, ConnectionError> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        if let Value::Bool(b) = value {
            return Ok(Some(*b));
        }
        let text = self.text(&[name])?.unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "1" | "y" | "yes" | "t" | "true" | "on" => Ok(Some(true)),
            "0" | "n" | "no" | "f" | "false" | "off" | "" => Ok(Some(false)),
            _ => Err(self.error(name, format!("'{text}' is neither yes nor no"))),
        }
    }

    fn only(&self, names: &[&str], known: &[&str]) -> Result<(), ConnectionError> {
        let (Some(text), Some((name, _))) = (self.text(names)?, self.find(names)) else { return Ok(()) };
        if known.contains(&text.as_str()) {
            return Ok(());
        }
        Err(self.error(name, format!("'{text}' is not supported (only {})", known.join(", "))))
    }
}
