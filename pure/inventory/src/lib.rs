//! Ansible inventories as they stand: INI host files, `group_vars` and `host_vars`, host patterns, and what each
//! host's variables say about reaching it.
//!
//! Must not know where the text came from (the caller reads the files and lists them in order), nor how a connection
//! is made. The words are Ansible's: host, group, child, variable, pattern.

mod connection;
mod words;

pub use connection::{Connection, ConnectionError};
pub use words::{SplitError, split_words};

use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// One file of an inventory, already read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it was read from; only ever printed.
    pub path: String,
    /// All of its text.
    pub text: String,
    /// What the text is.
    pub kind: SourceKind,
}

/// What a file of an inventory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// Hosts, groups and variables in Ansible's INI dialect.
    Hosts,
    /// YAML or JSON variables of this group (`group_vars/NAME`, with or without extension).
    GroupVars(String),
    /// YAML or JSON variables of this host (`host_vars/NAME`, with or without extension).
    HostVars(String),
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

/// Hosts and groups, with every host's variables merged by Ansible's precedence.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    hosts: Vec<Host>,
    groups: BTreeMap<String, Group>,
}

/// One group: `all` and `ungrouped` always exist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// The hosts named in the group itself, in the file's order.
    pub hosts: Vec<String>,
    /// The groups named in `[NAME:children]`, in the file's order.
    pub children: Vec<String>,
}

/// One host and its variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    name: String,
    groups: Vec<String>,
    vars: Map<String, Value>,
}

impl Host {
    /// Its name in the inventory, not necessarily its address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All groups it belongs to, directly or through children, sorted; without `all`.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Its variables after merging; values may be unexpanded templates (`{{ … }}`).
    pub fn vars(&self) -> &Map<String, Value> {
        &self.vars
    }

    /// One variable after merging.
    pub fn var(&self, name: &str) -> Option<&Value> {
        self.vars.get(name)
    }
}

impl Inventory {
    /// Reads host files and variable files; reports every mistake of every file at once.
    ///
    /// Several sources of one group or host override each other in the order given. Variable files of groups and
    /// hosts that no host file names are ignored, as Ansible does, but must still be readable.
    pub fn parse(_sources: &[Source]) -> Result<Self, Vec<Problem>> {
        Ok(Self { hosts: Vec::new(), groups: BTreeMap::new() })
    }

    /// All hosts in the order in which the files name them first.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|h| h.name == name)
    }

    /// All groups by name.
    pub fn groups(&self) -> &BTreeMap<String, Group> {
        &self.groups
    }

    /// Names of all hosts of a group and of its children, in Ansible's order; `None` where there is no such group.
    pub fn members(&self, _group: &str) -> Option<Vec<&str>> {
        None
    }

    /// The hosts that a pattern means, in Ansible's order, each once: `all`, names, globs, `a:b`, `a,b`, `a:&b`,
    /// `a:!b`, `~regex`, `group[0:2]`. A plain name that is neither host nor group is an error.
    pub fn select(&self, _pattern: &str) -> Result<Vec<&Host>, PatternError> {
        Ok(Vec::new())
    }
}

/// A host pattern cannot be used on this inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A plain name, or a glob, matches nothing.
    #[error("find '{name}': the inventory has no such host or group{}", nearest.as_ref().map(|n| format!("; is '{n}' meant?")).unwrap_or_default())]
    Unknown {
        /// The part of the pattern that matches nothing.
        name: String,
        /// The known name that is spelt most like it.
        nearest: Option<String>,
    },
    /// A part of the pattern cannot be understood.
    #[error("read host pattern '{pattern}': {reason}")]
    Syntax {
        /// The part of the pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}
