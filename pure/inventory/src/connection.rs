//! What a host's variables say about logging in, under Ansible's old names and its new ones.
//!
//! Must not know how ssh is run, nor which user is the default: what the inventory does not say stays `None`.

use crate::{Host, TemplateError};
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
    /// `ansible_ssh_args`, `ansible_ssh_common_args` and `ansible_ssh_extra_args`, still as one shell-quoted line;
    /// [`crate::split_words`] takes it apart. Empty where there are none.
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
    /// Whether it is one that shows nothing of the value.
    is_blind: bool,
}

/// What is said of a value that may not be shown.
const HIDDEN: &str = "it cannot be used as it is; it was encrypted with ansible-vault, so it is not shown";

impl Host {
    /// How to log in to this host. Where both are set, old names (`ansible_ssh_host`) win over new ones (`ansible_host`),
    /// as they do in Ansible. The port behind a host's name is its `ansible_port`.
    ///
    /// Variables that values name (`{{ internal_ip }}`) are put in. Fails on a value of the wrong type, a template that is
    /// more than a name, and ways of connecting other than ssh and sudo.
    pub fn connection(&self) -> Result<Connection, ConnectionError> {
        let mut args: Vec<String> = self.arguments("ansible_ssh_args")?.into_iter().collect();
        if self.flag(&["ansible_ssh_host_key_checking", "ansible_host_key_checking"])? == Some(false) {
            args.push("-o StrictHostKeyChecking=no".to_owned());
        }
        for name in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            args.extend(self.arguments(name)?);
        }
        args.retain(|args| !args.is_empty());
        self.only(&["ansible_connection"], &["ssh", "smart", "paramiko", "paramiko_ssh"])?;
        self.only(&["ansible_become_method"], &["sudo"])?;
        self.only(&["ansible_become_user", "ansible_sudo_user"], &["root"])?;
        Ok(Connection {
            address: self.string(&["ansible_ssh_host", "ansible_host"])?.unwrap_or_else(|| self.name().to_owned()),
            port: self.port()?,
            user: self.string(&["ansible_ssh_user", "ansible_user"])?.filter(|user| !user.is_empty()),
            private_key_file: self
                .string(&["ansible_ssh_private_key_file", "ansible_private_key_file"])?
                .filter(|path| !path.is_empty()),
            common_args: args.join(" "),
            sudo: self.flag(&["ansible_become", "ansible_sudo"])?,
            sudo_password: self.secret(&["ansible_sudo_pass", "ansible_become_pass", "ansible_become_password"])?,
        })
    }

    /// The first of these variables that is set, expanded.
    fn find<'a>(&self, names: &[&'a str]) -> Result<Option<(&'a str, Value)>, ConnectionError> {
        for name in names {
            let value = self.value(name).map_err(|e| match e {
                TemplateError::Vault(reason) => self.blind(name, reason.to_string()),
                e => self.error(name, e.to_string()),
            });
            match value? {
                None | Some(Value::Null) => {}
                Some(value) => return Ok(Some((name, value))),
            }
        }
        Ok(None)
    }

    fn error(&self, variable: &str, reason: impl Into<String>) -> ConnectionError {
        if self.is_secret(variable) {
            return self.blind(variable, HIDDEN);
        }
        ConnectionError { is_blind: false, ..self.blind(variable, reason) }
    }

    /// An error that shows nothing of a value.
    fn blind(&self, variable: &str, reason: impl Into<String>) -> ConnectionError {
        let (host, variable) = (self.name().to_owned(), variable.to_owned());
        ConnectionError { host, variable, reason: reason.into(), is_blind: true }
    }

    fn text<'a>(&self, names: &[&'a str]) -> Result<Option<(&'a str, String)>, ConnectionError> {
        match self.find(names)? {
            None => Ok(None),
            Some((name, Value::String(text))) => Ok(Some((name, text))),
            Some((name, Value::Number(number))) => Ok(Some((name, number.to_string()))),
            Some((name, _)) => Err(self.error(name, "it must be a string")),
        }
    }

    /// As [`Self::string`], of something that no error may show.
    fn secret(&self, names: &[&str]) -> Result<Option<String>, ConnectionError> {
        let hidden =
            "it is no text, or a template that is more than a name ('{{' and '{#' begin one); its value is not shown";
        let hide = |e: ConnectionError| if e.is_blind { e } else { ConnectionError { reason: hidden.to_owned(), ..e } };
        self.string(names).map_err(hide)
    }

    fn string(&self, names: &[&str]) -> Result<Option<String>, ConnectionError> {
        Ok(self.text(names)?.map(|(_, text)| text))
    }

    /// Further words for ssh. The last one must not want another: it would take one of Osier's own.
    fn arguments(&self, name: &str) -> Result<Option<String>, ConnectionError> {
        let line = self.string(&[name])?;
        match line.as_deref().and_then(|line| line.split_whitespace().last()) {
            Some(last @ ("-o" | "-J" | "-F" | "-i" | "-l" | "-p" | "-W")) => {
                let reason = format!("'{last}' at its end lacks its value; does the whole stand in quotation marks?");
                Err(self.error(name, reason))
            }
            _ => Ok(line),
        }
    }

    fn port(&self) -> Result<Option<u16>, ConnectionError> {
        let Some((name, text)) = self.text(&["ansible_ssh_port", "ansible_port"])? else { return Ok(None) };
        let port = text.trim().parse().ok().filter(|&p: &u16| p > 0);
        port.map(Some).ok_or_else(|| self.error(name, format!("'{text}' is not a port (1 to 65535)")))
    }

    fn flag(&self, names: &[&str]) -> Result<Option<bool>, ConnectionError> {
        if let Some((_, Value::Bool(flag))) = self.find(names)? {
            return Ok(Some(flag));
        }
        let Some((name, text)) = self.text(names)? else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "1" | "y" | "yes" | "t" | "true" | "on" => Ok(Some(true)),
            "0" | "n" | "no" | "f" | "false" | "off" | "" => Ok(Some(false)),
            _ => Err(self.error(name, format!("'{text}' is neither yes nor no"))),
        }
    }

    /// Refuses all values but those known, which may have Ansible's full names.
    fn only(&self, names: &[&str], known: &[&str]) -> Result<(), ConnectionError> {
        match self.text(names)? {
            Some((name, text)) if !known.contains(&text.strip_prefix("ansible.builtin.").unwrap_or(&text)) => {
                Err(self.error(name, format!("'{text}' is not supported (only {})", known.join(", "))))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Connection, Inventory, Named, Source, SourceKind, Variables, Vault};

    fn connection(line: &str) -> Result<Connection, String> {
        let source = Source { path: "hosts".to_owned(), text: line.to_owned(), kind: SourceKind::Hosts };
        let inventory = Inventory::parse(&[source]).unwrap();
        inventory.hosts()[0].connection().map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_shown_of_what_was_encrypted() {
        let secret = crate::vault::tests::VALUE.replace('\n', "\n    ");
        let file = |text: &str| {
            let group = SourceKind::GroupVars("all".to_owned());
            Source {
                path: "all".to_owned(),
                text: text.replace("SECRET", &format!("!vault |\n    {secret}")),
                kind: group,
            }
        };
        let error = |text: &str, vault: &Vault| {
            let hosts = Source { path: "hosts".to_owned(), text: "h\n".to_owned(), kind: SourceKind::Hosts };
            let named = Named::read(&[hosts]).unwrap();
            let variables = Variables { beside: vec![vec![file(text)]], vault: vault.clone(), ..Variables::default() };
            named.merge(&variables).unwrap().hosts()[0].connection().unwrap_err().to_string()
        };
        let vault = Vault::new(vec![b"correct horse".to_vec()]);
        for text in [
            "ansible_port: SECRET",
            "ansible_become: SECRET",
            "ansible_connection: SECRET",
            "ansible_become_user: <{{ s }}>\ns: SECRET",
            "ansible_host:\n- SECRET",
        ] {
            let error = error(text, &vault);
            assert!(error.contains("it was encrypted") && !error.contains("geheim"), "{text}: {error}");
        }
        assert!(error("ansible_port: SECRET", &Vault::default()).contains("--vault-password-file"));
        vault.open_file("all", crate::vault::tests::VALUE).unwrap();
        let of_file = error("ansible_port: port-of-a-file", &vault);
        assert!(of_file.contains("it was encrypted") && !of_file.contains("port-of"), "{of_file}");
    }

    #[test]
    fn old_names_new_names_and_none_are_understood() {
        let old = connection(
            "m:2222 ansible_ssh_host=10.67.24.190 ansible_ssh_user=ubuntu ansible_ssh_private_key_file=~/.ssh/k \
             ansible_ssh_common_args='-J b' ansible_ssh_extra_args=-4 ansible_sudo=yes ansible_sudo_pass=12",
        );
        let expected = Connection {
            address: "10.67.24.190".to_owned(),
            port: Some(2222),
            user: Some("ubuntu".to_owned()),
            private_key_file: Some("~/.ssh/k".to_owned()),
            common_args: "-J b -4".to_owned(),
            sudo: Some(true),
            sudo_password: Some("12".to_owned()),
        };
        assert_eq!(old, Ok(expected));
        let named =
            connection("m.lan ansible_host='{{ ip }}' ip=10.0.0.{{n}} n=7 ansible_user='{{inventory_hostname_short}}'");
        let named = named.unwrap();
        assert_eq!((named.address.as_str(), named.user.as_deref()), ("10.0.0.7", Some("m")));
        let beside =
            connection("m ansible_ssh_private_key_file='{{ inventory_dir }}/k' ansible_user='{{inventory_file}}'");
        let beside = beside.unwrap();
        assert_eq!((beside.private_key_file.as_deref(), beside.user.as_deref()), (Some("./k"), Some("hosts")));
        let new = connection(
            "m ansible_host=a ansible_user=u ansible_port='22' ansible_private_key_file=k ansible_become=False",
        );
        let new = new.unwrap();
        assert_eq!((new.address.as_str(), new.port, new.sudo), ("a", Some(22), Some(false)));
        assert_eq!((new.user.as_deref(), new.private_key_file.as_deref()), (Some("u"), Some("k")));
        let both = connection(
            "m:1 ansible_host=a ansible_ssh_host=b ansible_ssh_port=2 ansible_user=a ansible_ssh_user=b \
             ansible_private_key_file=a ansible_ssh_private_key_file=b ansible_become_password=a ansible_become_pass=b",
        );
        let both = both.unwrap();
        assert_eq!((both.address.as_str(), both.port, both.user.as_deref()), ("b", Some(2), Some("b")));
        assert_eq!((both.private_key_file.as_deref(), both.sudo_password.as_deref()), (Some("b"), Some("b")));
        let none = connection("m").unwrap();
        assert_eq!((none.address.as_str(), none.port, none.user, none.sudo), ("m", None, None, None));
    }

    #[test]
    fn further_words_for_ssh_come_in_ansibles_order_and_what_is_empty_is_unset() {
        let args = |line: &str| connection(line).unwrap().common_args;
        let all = "ansible_ssh_args='-C -F f' ansible_ssh_common_args='-J b' ansible_ssh_extra_args=-4";
        assert_eq!(
            args(&format!("m {all} ansible_host_key_checking=no")),
            "-C -F f -o StrictHostKeyChecking=no -J b -4"
        );
        assert_eq!(
            args(
                "m ansible_ssh_host_key_checking=True ansible_host_key_checking=no ansible_ssh_args= ansible_ssh_extra_args=-6"
            ),
            "-6"
        );
        let empty = connection("m ansible_user= ansible_ssh_private_key_file=''").unwrap();
        assert_eq!((empty.user, empty.private_key_file), (None, None));
        let full = "m ansible_connection=ansible.builtin.ssh ansible_become_method=ansible.builtin.sudo";
        assert!(connection(full).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (line, message) in [
            (
                "m ansible_host='{{ ip }}'",
                "read ansible_host of host 'm': '{{ ip }}' names a variable that is not set for this host",
            ),
            (
                "m ansible_host={{internal_pi}} internal_ip=10.0.0.1",
                "read ansible_host of host 'm': '{{internal_pi}}' names a variable that is not set for this host; is \
                 'internal_ip' meant?",
            ),
            (
                "m ansible_host=\"{{ ip | default('a') }}\"",
                "read ansible_host of host 'm': '{{ ip | default('a') }}' is more than a variable: of Jinja only \
                 '{{ name }}' is understood; write the value itself",
            ),
            (
                "m ansible_become_password='pa{{ss'",
                "read ansible_become_password of host 'm': it is no text, or a template that is more than a name ('{{' and \
                 '{#' begin one); its value is not shown",
            ),
            (
                "m ansible_ssh_common_args=-o",
                "read ansible_ssh_common_args of host 'm': '-o' at its end lacks its value; does the whole stand in quotation \
                 marks?",
            ),
            ("m ansible_ssh_port=no", "read ansible_ssh_port of host 'm': 'no' is not a port (1 to 65535)"),
            ("m ansible_port=0", "read ansible_port of host 'm': '0' is not a port (1 to 65535)"),
            ("m ansible_user=[1]", "read ansible_user of host 'm': it must be a string"),
            ("m ansible_become=maybe", "read ansible_become of host 'm': 'maybe' is neither yes nor no"),
            ("m ansible_become_method=su", "read ansible_become_method of host 'm': 'su' is not supported (only sudo)"),
            (
                "m ansible_connection=local",
                "read ansible_connection of host 'm': 'local' is not supported (only ssh, smart, paramiko, paramiko_ssh)",
            ),
        ] {
            assert_eq!(connection(line), Err(message.to_owned()), "{line}");
        }
    }
}
