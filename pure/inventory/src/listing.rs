//! An inventory in the shapes that Ansible's own commands print it in.
//!
//! Must not know where it goes. `ansible-inventory --list` has one member by each group that has hosts or children,
//! `--graph` one line by each group and host.

use crate::{Group, Host, Inventory, yaml::UNSAFE};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How Ansible's own output says which of its encodings it is in.
const PROFILE: &str = "inventory_legacy";

/// Names that Ansible gives values to by itself, and that it therefore does not show.
const HIDDEN: [&str; 33] = [
    "ansible_async_path",
    "ansible_collection_name",
    "ansible_config_file",
    "ansible_dependent_role_names",
    "ansible_diff_mode",
    "ansible_facts",
    "ansible_forks",
    "ansible_inventory_sources",
    "ansible_limit",
    "ansible_play_batch",
    "ansible_play_hosts",
    "ansible_play_hosts_all",
    "ansible_play_role_names",
    "ansible_playbook_python",
    "ansible_role_name",
    "ansible_role_names",
    "ansible_run_tags",
    "ansible_skip_tags",
    "ansible_verbosity",
    "ansible_version",
    "group_names",
    "groups",
    "hostvars",
    "inventory_dir",
    "inventory_file",
    "inventory_hostname",
    "inventory_hostname_short",
    "play_hosts",
    "playbook_dir",
    "role_name",
    "role_names",
    "role_path",
    "role_uuid",
];

/// The variables that `ansible-inventory --host` prints; whether text may be a template is not told there.
pub(crate) fn alone(host: &Host) -> Map<String, Value> {
    shown(host).into_iter().map(|(name, value)| (name, plain(value))).collect()
}

fn plain(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(mut map) => match map.remove(UNSAFE) {
            Some(text) => text,
            None => map.into_iter().map(|(name, value)| (name, plain(value))).collect::<Map<_, _>>().into(),
        },
        value => value,
    }
}

/// A host's variables without those whose names Ansible keeps to itself.
fn shown(host: &Host) -> Map<String, Value> {
    let shown = host.vars.iter().filter(|(name, _)| !HIDDEN.contains(&name.as_str()));
    shown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The inventory as `ansible-inventory --list` prints it for these hosts.
pub(crate) fn list(inventory: &Inventory, hosts: &[&Host]) -> Value {
    let wanted: BTreeSet<&str> = hosts.iter().map(|h| h.name()).collect();
    let mut out = Map::new();
    for group in &inventory.groups {
        let mut entry = Map::new();
        let hosts: Vec<&String> = group.hosts.iter().filter(|h| wanted.contains(h.as_str())).collect();
        if !hosts.is_empty() && group.name != "all" {
            entry.insert("hosts".to_owned(), json!(hosts));
        }
        if !group.children.is_empty() {
            entry.insert("children".to_owned(), json!(group.children));
        }
        if !entry.is_empty() {
            out.insert(group.name.clone(), Value::Object(entry));
        }
    }
    let vars = hosts.iter().map(|host| (host.name().to_owned(), shown(host))).filter(|(_, vars)| !vars.is_empty());
    let vars: Map<String, Value> = vars.map(|(name, vars)| (name, Value::Object(vars))).collect();
    out.insert("_meta".to_owned(), json!({"hostvars": vars, "profile": PROFILE}));
    Value::Object(out)
}

/// The lines of `ansible-inventory --graph`, from a group downwards.
pub(crate) fn graph(inventory: &Inventory, group: &str) -> Option<Vec<String>> {
    let groups: BTreeMap<&str, &Group> = inventory.groups.iter().map(|g| (g.name(), g)).collect();
    let mut lines = Vec::new();
    // What is still to be drawn, the next at the end: loops in groups are refused when they are read.
    let mut waiting = vec![(0, *groups.get(group)?)];
    let mut hosts: Vec<(usize, &Group)> = Vec::new();
    while let Some((depth, group)) = waiting.pop() {
        draw_hosts(&mut hosts, depth, &mut lines);
        lines.push(line(depth, &format!("@{}:", group.name)));
        hosts.push((depth, group));
        let children = group.children.iter().rev().filter_map(|child| groups.get(child.as_str()));
        waiting.extend(children.map(|child| (depth + 1, *child)));
    }
    draw_hosts(&mut hosts, 0, &mut lines);
    Some(lines)
}

/// Draws the hosts of all groups that end where one of this depth begins.
fn draw_hosts(open: &mut Vec<(usize, &Group)>, depth: usize, lines: &mut Vec<String>) {
    while let Some((at, group)) = open.pop_if(|(at, _)| *at >= depth) {
        if group.name != "all" {
            lines.extend(group.hosts.iter().map(|host| line(at + 1, host)));
        }
    }
}

fn line(depth: usize, name: &str) -> String {
    if depth == 0 { name.to_owned() } else { format!("{}--{name}", "  |".repeat(depth)) }
}
