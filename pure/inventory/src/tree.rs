//! YAML inventories: groups as mappings with `hosts`, `vars` and `children`, read into a draft.
//!
//! Must not know YAML itself. Format: Ansible's `yaml` inventory plugin. What that plugin passes over with a warning
//! becomes a remark, what it refuses becomes a problem.

use crate::{
    Problem,
    draft::Draft,
    range,
    yaml::{Key, Kind, Node},
};
use serde_json::Value;

/// Reads inventories of this kind into one draft.
pub(crate) struct Tree<'a> {
    pub(crate) path: &'a str,
    pub(crate) draft: &'a mut Draft,
    pub(crate) problems: &'a mut Vec<Problem>,
    pub(crate) remarks: &'a mut Vec<Problem>,
}

impl Tree<'_> {
    /// Reads a document's top: one group by each key.
    pub(crate) fn read(&mut self, groups: Vec<(Key, Node)>) {
        if let Some((key, node)) = groups.iter().find(|(key, node)| key.text == "plugin" && !node.is_nothing()) {
            let name = node.clone().value();
            let name = name.as_str().unwrap_or("?");
            let message = format!(
                "this configures the inventory plugin '{name}', and plugins are not supported; save what \
                 'ansible-inventory --list' prints and use that script or a file of hosts instead"
            );
            return self.problem(key.line, message);
        }
        for (key, node) in groups {
            self.group(&key, node);
        }
    }

    fn problem(&mut self, line: usize, message: String) {
        self.problems.push(Problem { path: self.path.to_owned(), line, message });
    }

    fn remark(&mut self, line: usize, message: String) {
        self.remarks.push(Problem { path: self.path.to_owned(), line, message });
    }

    /// Reads one group and what is below it; its index, where it is one.
    fn group(&mut self, key: &Key, node: Node) -> Option<usize> {
        let members = match node.kind {
            Kind::Mapping(members) => members,
            Kind::Scalar(Value::Null) => Vec::new(),
            _ => {
                self.remark(key.line, format!("'{}' is passed over: a group is a mapping or empty", key.text));
                return None;
            }
        };
        if !key.is_text || key.text.is_empty() {
            self.problem(key.line, format!("'{}' is no name of a group; quote it", key.text));
            return None;
        }
        let group = self.draft.add_group(&key.text);
        for (section, node) in members {
            self.section(group, &section, node);
        }
        Some(group)
    }

    fn section(&mut self, group: usize, section: &Key, node: Node) {
        let known = matches!(section.text.as_str(), "vars" | "hosts" | "children");
        let entries = match node.kind {
            Kind::Mapping(entries) => entries,
            Kind::Scalar(Value::Null) => return,
            // One name alone stands for a mapping of that name to nothing.
            Kind::Scalar(Value::String(text)) if known => {
                let key = Key { line: node.line, text, is_text: true };
                vec![(key, Node { line: node.line, kind: Kind::Scalar(Value::Null) })]
            }
            _ if known => {
                let group = &self.draft.groups[group].name;
                let message = format!("'{}' of group '{group}' must be a mapping ('name:' on each line)", section.text);
                return self.problem(section.line, message);
            }
            _ => return self.unknown(group, section),
        };
        match section.text.as_str() {
            "vars" => self.vars(group, entries),
            "children" => entries.into_iter().for_each(|(key, node)| self.child(group, &key, node)),
            "hosts" => entries.into_iter().for_each(|(key, node)| self.hosts(group, &key, node)),
            _ => self.unknown(group, section),
        }
    }

    fn unknown(&mut self, group: usize, section: &Key) {
        let group = &self.draft.groups[group].name;
        let message =
            format!("'{}' of group '{group}' is passed over: a group has 'hosts', 'vars' and 'children'", section.text);
        self.remark(section.line, message);
    }

    fn vars(&mut self, group: usize, entries: Vec<(Key, Node)>) {
        for (key, node) in entries {
            if let Err(message) = self.draft.set_group_var(group, key.text, node.value()) {
                self.problem(key.line, message);
            }
        }
    }

    fn child(&mut self, parent: usize, key: &Key, node: Node) {
        let Some(child) = self.group(key, node) else {
            let message = format!("'{}' cannot be a child: it is no group", key.text);
            return self.problem(key.line, message);
        };
        if let Err(message) = self.draft.adopt(parent, child) {
            self.problem(key.line, message);
        }
    }

    fn hosts(&mut self, group: usize, key: &Key, node: Node) {
        if !key.is_text {
            return self.problem(key.line, format!("'{}' is no name of a host; quote it", key.text));
        }
        let vars = match node.value() {
            Value::Object(vars) => vars,
            Value::Null => serde_json::Map::new(),
            _ => {
                let message = format!("host '{}' must be followed by its variables or by nothing", key.text);
                return self.problem(key.line, message);
            }
        };
        let read = range::expand(&key.text).map_err(|reason| format!("cannot read host '{}': {reason}", key.text));
        let set = read
            .and_then(|(names, port)| names.iter().try_for_each(|name| self.draft.set_host(name, group, port, &vars)));
        if let Err(message) = set {
            self.problem(key.line, message);
        }
    }
}
