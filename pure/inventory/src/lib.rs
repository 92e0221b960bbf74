//! Ansible inventories as they stand: hosts in INI, YAML or JSON, `group_vars` and `host_vars`, host patterns, what
//! `ansible-inventory` shows of it all, and what each host's variables say about reaching it.
//!
//! Must not know where the text came from (the caller reads the files and lists them in order), nor how a connection
//! is made. The words are Ansible's: host, group, child, variable, pattern.

mod build;
mod connection;
mod draft;
mod ini;
mod listing;
mod literal;
mod nearest;
mod pattern;
mod range;
mod scalar;
mod script;
mod template;
mod tree;
mod vault;
mod words;
mod yaml;

pub use build::Named;
pub use connection::{Connection, ConnectionError};
pub use nearest::slip;
pub use pattern::{PatternError, split_pattern};
pub use script::hosts_to_ask;
pub use template::TemplateError;
pub use vault::{Vault, VaultError, is_encrypted};
pub use words::{SplitError, split_pairs, split_words};

use serde_json::{Map, Value};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// One file of an inventory, already read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it was read from. It is printed, and its extension tells INI from YAML as Ansible does.
    pub path: String,
    /// All of its text.
    pub text: String,
    /// What the text is.
    pub kind: SourceKind,
}

/// What a file of an inventory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// Hosts, groups and variables in Ansible's INI dialect, or in YAML or JSON.
    Hosts,
    /// Names of hosts, with or without ports, between commas.
    List,
    /// What an executable inventory printed for `--list`, and by host what it printed for `--host NAME` where
    /// [`hosts_to_ask`] names any.
    Script(BTreeMap<String, String>),
    /// YAML or JSON variables of this group (`group_vars/NAME`, with or without extension).
    GroupVars(String),
    /// YAML or JSON variables of this host (`host_vars/NAME`, with or without extension).
    HostVars(String),
}

/// Files of variables, by where they lie, and what the command line sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables {
    /// `group_vars` and `host_vars` beside each inventory, in the inventories' order.
    pub beside: Vec<Vec<Source>>,
    /// `group_vars` and `host_vars` of the working folder, where Ansible has its playbooks.
    pub here: Vec<Source>,
    /// Variables of every host that win over all others.
    pub extra: Map<String, Value>,
    /// Whether some of these come from a file that was encrypted.
    pub extra_is_secret: bool,
    /// What opens values that ansible-vault encrypted. Files of which all is encrypted must have been opened already.
    pub vault: Vault,
}

/// One mistake in one file. Prints as `path:line: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The [`Source::path`] it is in.
    pub path: String,
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong, and how it would be right where that is not obvious.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl std::error::Error for Problem {}

/// Reads variables as a file of them or the command line has them: YAML or JSON, names with values. `path` is where the
/// text came from, for what is wrong with it.
pub fn variables(path: &str, text: &str) -> Result<Map<String, Value>, Vec<Problem>> {
    let problem = |(line, message)| Problem { path: path.to_owned(), line, message };
    yaml::variables(text).map_err(|mistakes| mistakes.into_iter().map(problem).collect())
}

/// Hosts and groups, with every host's variables merged by Ansible's precedence.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    hosts: Vec<Host>,
    groups: Vec<Group>,
    remarks: Vec<Problem>,
}

/// One group; `all` and `ungrouped` always exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    name: String,
    hosts: Vec<String>,
    children: Vec<String>,
    members: Vec<usize>,
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hosts named in the group itself, in the files' order.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The groups named in `[NAME:children]`; for `all` every group that is in no other.
    pub fn children(&self) -> &[String] {
        &self.children
    }
}

/// One host and its variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    name: String,
    groups: Vec<String>,
    vars: Map<String, Value>,
    /// The file that names it first; none for one of a list.
    file: Option<String>,
    /// The variables that come from files of which all was encrypted.
    secret: BTreeSet<String>,
    vault: Vault,
}

/// The variables that every host has by itself and that may stand in a template.
const MAGIC: [&str; 5] =
    ["inventory_hostname", "inventory_hostname_short", "group_names", "inventory_file", "inventory_dir"];

impl Host {
    /// Its name in the inventory, not necessarily its address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All groups it belongs to, directly or through children, sorted; without `all`.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Its variables after merging; values may be unexpanded templates (`{{ … }}`), and encrypted
    /// (`{"__ansible_vault": …}`).
    pub fn vars(&self) -> &Map<String, Value> {
        &self.vars
    }

    /// What `ansible-inventory --host NAME` prints: its variables without those whose names Ansible keeps to itself.
    pub fn shown_vars(&self) -> Map<String, Value> {
        listing::alone(self)
    }

    /// One variable after merging; its value may be an unexpanded template, or encrypted.
    pub fn var(&self, name: &str) -> Option<&Value> {
        self.vars.get(name)
    }

    /// One variable after merging, with all `{{ name }}` in it expanded, and decrypted. What was encrypted is no template.
    pub fn value(&self, name: &str) -> Result<Option<Value>, TemplateError> {
        let variable = |name: &str| self.magic(name).or_else(|| self.var(name).cloned());
        let value = self.var(name).map(|value| template::expand(value, &self.vault, &variable)).transpose();
        value.map_err(|error| match error {
            TemplateError::Unknown { part, name, .. } => {
                let known = self.vars.keys().map(String::as_str).chain(MAGIC);
                let nearest = nearest::nearest(&name, known).map(str::to_owned);
                TemplateError::Unknown { part, name, nearest }
            }
            error => error,
        })
    }

    /// Whether ansible-vault encrypted a variable, part of it, what it names, or the file that it comes from.
    pub fn is_secret(&self, name: &str) -> bool {
        let seen = Cell::new(false);
        let is = |name: &str, value: &Value| self.secret.contains(name) || yaml::is_encrypted_value(value);
        // Whatever it leads to is asked for by its name.
        let variable = |name: &str| {
            let value = self.magic(name).or_else(|| self.var(name).cloned())?;
            seen.set(seen.get() || is(name, &value));
            Some(value)
        };
        let Some(value) = self.var(name) else { return false };
        let _ = template::expand(value, &self.vault, &variable);
        seen.get() || is(name, value)
    }

    /// The value of one of [`MAGIC`].
    fn magic(&self, name: &str) -> Option<Value> {
        match name {
            "inventory_hostname" => Some(Value::from(self.name())),
            "inventory_hostname_short" => {
                let is_address = self.name.parse::<std::net::IpAddr>().is_ok();
                let short = self.name.split('.').next().filter(|_| !is_address);
                Some(Value::from(short.unwrap_or(&self.name)))
            }
            "group_names" => Some(Value::from(self.groups.clone())),
            "inventory_file" => self.file.as_deref().map(Value::from),
            "inventory_dir" => {
                let folder = Path::new(self.file.as_deref()?).parent().filter(|folder| !folder.as_os_str().is_empty());
                Some(Value::from(folder.map_or(".".into(), Path::to_string_lossy)))
            }
            _ => None,
        }
    }
}

impl Inventory {
    /// Reads host files and variable files; reports every mistake of every file at once.
    ///
    /// Several sources of one group or host override each other in the order given. Variable files of groups and
    /// hosts that no host file names are ignored, as Ansible does, but must still be readable.
    pub fn parse(sources: &[Source]) -> Result<Self, Vec<Problem>> {
        build::build(sources)
    }

    /// All hosts in the order in which the files name them first.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|h| h.name == name)
    }

    /// All groups in the order in which the files name them first, after `all` and `ungrouped`.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.name == name)
    }

    /// All hosts of a group and of its children, each once, in Ansible's order; empty where there is no such group.
    pub fn members(&self, group: &str) -> Vec<&Host> {
        self.group(group).map_or_else(Vec::new, |g| g.members.iter().map(|&h| &self.hosts[h]).collect())
    }

    /// What Ansible passes over with a warning.
    pub fn remarks(&self) -> &[Problem] {
        &self.remarks
    }

    /// The hosts that a pattern means, in Ansible's order, each once: `all`, names, globs, `a:b`, `a,b`, `a:&b`,
    /// `a:!b`, `~regex`, `group[0:2]`. A name or glob that matches neither a host nor a group is an error.
    pub fn select(&self, pattern: &str) -> Result<Vec<&Host>, PatternError> {
        self.select_parts(&split_pattern(pattern))
    }

    /// As [`Self::select`], with the parts of a pattern as [`split_pattern`] takes it apart.
    pub fn select_parts(&self, parts: &[String]) -> Result<Vec<&Host>, PatternError> {
        pattern::select(self, parts).map(|hosts| hosts.into_iter().map(|h| &self.hosts[h]).collect())
    }

    /// What `ansible-inventory --list` prints for these hosts: groups with their hosts and children, and `_meta` with
    /// the hosts' variables.
    pub fn list(&self, hosts: &[&Host]) -> Value {
        listing::list(self, hosts)
    }

    /// What `ansible-inventory --graph GROUP` prints, line by line; `None` where there is no such group.
    pub fn graph(&self, group: &str) -> Option<Vec<String>> {
        listing::graph(self, group)
    }
}
