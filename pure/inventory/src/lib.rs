//! Ansible inventories as they stand: INI host files, `group_vars` and `host_vars`, host patterns, and what each
//! host's variables say about reaching it.
//!
//! Must not know where the text came from (the caller reads the files and lists them in order), nor how a connection
//! is made. The words are Ansible's: host, group, child, variable, pattern.

mod build;
mod connection;
mod draft;
mod ini;
mod literal;
mod nearest;
mod pattern;
mod range;
mod words;
mod yaml;

pub use connection::{Connection, ConnectionError};
pub use pattern::PatternError;
pub use words::{SplitError, split_words};

use serde_json::{Map, Value};
use std::fmt;

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
    groups: Vec<Group>,
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

    /// The hosts that a pattern means, in Ansible's order, each once: `all`, names, globs, `a:b`, `a,b`, `a:&b`,
    /// `a:!b`, `~regex`, `group[0:2]`. A name or glob that matches neither a host nor a group is an error.
    pub fn select(&self, pattern: &str) -> Result<Vec<&Host>, PatternError> {
        pattern::select(self, pattern).map(|hosts| hosts.into_iter().map(|h| &self.hosts[h]).collect())
    }
}
