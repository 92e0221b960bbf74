//! `osier inventory`: an inventory in the shapes of `ansible-inventory` and `ansible --list-hosts`.
//!
//! Must not know how inventories are read or merged. Text is the same as Ansible's, JSON is the same value.

use crate::{args::ShowArgs, inventory};
use osier_ui::{Failure, Ui};
use serde_json::{Value, json};

/// Prints what is asked for.
pub async fn run_inventory(args: ShowArgs, ui: &Ui) -> Result<(), Failure> {
    if (args.list || args.host.is_some()) && args.pattern != "all" {
        return Err(Failure::usage(format!("'{}' means nothing here", args.pattern))
            .hint("a pattern goes with '--list-hosts' or behind '--limit', a group with '--graph'"));
    }
    let inventory = inventory::read(&args.from, ui)?;
    let limit = args.limit.as_deref();
    if args.list {
        let hosts = inventory::limited(&inventory, "all", limit)?;
        ui.line(pretty(inventory.list(&hosts)));
    } else if let Some(pattern) = &args.host {
        let hosts = inventory::limited(&inventory, pattern, None)?;
        let [host] = hosts[..] else {
            return Err(Failure::usage(format!("'--host' takes one host, '{pattern}' means {}", hosts.len())));
        };
        ui.line(pretty(host.shown_vars().into()));
    } else if args.graph {
        let known = inventory.graph(&args.pattern);
        let lines = known.ok_or_else(|| {
            let groups = inventory.groups().iter().map(|g| g.name()).collect::<Vec<_>>().join(", ");
            Failure::usage(format!("the inventory has no group '{}'", args.pattern)).hint(format!("it has {groups}"))
        })?;
        if ui.is_json() {
            ui.json(&json!({ "graph": lines }));
        } else {
            lines.iter().for_each(|line| ui.line(line));
        }
    } else {
        let hosts = inventory::limited(&inventory, &args.pattern, limit)?;
        let names: Vec<&str> = hosts.iter().map(|h| h.name()).collect();
        if ui.is_json() {
            ui.json(&json!({ "hosts": names }));
        } else {
            ui.line(format_args!("  hosts ({}):", names.len()));
            names.iter().for_each(|name| ui.line(format_args!("    {name}")));
        }
    }
    Ok(())
}

/// JSON as Python's encoder lays it out: names sorted, four blanks deep.
fn pretty(value: Value) -> String {
    let mut out = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut encoder = serde_json::Serializer::with_formatter(&mut out, layout);
    let written = serde::Serialize::serialize(&sorted(value), &mut encoder);
    debug_assert!(written.is_ok(), "a value of JSON is written to memory");
    String::from_utf8_lossy(&out).into_owned()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_as_pythons() {
        let value = json!({"b": [], "a": {"d": 1, "c": ["x"]}});
        let text = "{\n    \"a\": {\n        \"c\": [\n            \"x\"\n        ],\n        \"d\": 1\n    },\n    \"b\": []\n}";
        assert_eq!(pretty(value), text);
    }
}
