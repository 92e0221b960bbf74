//! Volumes of the whole cluster: those of one node carry its name, those of other drivers are shown once, and those that
//! are declared but not on any node yet have no node's name. Of nodes that do not answer the names are remembered.

use crate::{
    filters::{Filters, FiltersError},
    placement::is_local_driver,
    row::labels,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KNOWN: [&str; 6] = ["dangling", "driver", "label", "label!", "name", "node"];

/// What describes a volume that exists nowhere yet, from the request that declared it; `created` is RFC 3339.
pub fn declared(name: &str, request: &Value, created: &str) -> Value {
    let object = |key: &str| request.get(key).filter(|v| v.is_object()).cloned().unwrap_or_else(|| json!({}));
    json!({
        "CreatedAt": created, "Driver": "local", "Labels": object("Labels"), "Mountpoint": "", "Name": name,
        "Options": object("DriverOpts"), "Scope": "local",
    })
}

/// What describes a volume whose node does not answer: its name is all that is known.
pub fn remembered(name: &str) -> Value {
    json!({
        "Driver": "local", "Labels": {}, "Mountpoint": "", "Name": name, "Options": {}, "Scope": "local",
        "Status": {"Node": "Host Down"},
    })
}

/// The volumes of nodes that do not answer, by their nodes. `seen` are the members with the names of their volumes, where
/// those are known; `made` are volumes that were made for somebody, with the nodes they were made on. What an engine
/// had when it was last seen counts for more than what was made there once.
pub fn away<'a>(
    answers: impl Fn(&str) -> bool,
    seen: impl Iterator<Item = (&'a str, Option<&'a BTreeSet<String>>)>,
    made: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut away: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (node, volumes) in seen.filter(|(node, _)| !node.is_empty() && !answers(node)) {
        if let Some(volumes) = volumes {
            known.insert(node);
            away.entry(node.to_owned()).or_default().extend(volumes.iter().cloned());
        }
    }
    for (volume, node) in made.filter(|(_, node)| !answers(node) && !known.contains(node)) {
        away.entry(node.to_owned()).or_default().insert(volume.to_owned());
    }
    away
}

/// Whether a request to make a volume is for one whose data is on one node.
pub fn wants_local(request: &Value) -> bool {
    is_local_driver(request["Driver"].as_str().unwrap_or_default())
}

/// The name is not one that an engine's own driver takes. (The text is the engine's.)
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has less than two characters.
    #[error("create {0}: volume name is too short, names should be at least two alphanumeric characters")]
    Short(String),
    /// It has other characters, or begins with one that stands only inside.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
         allowed. If you intended to pass a host directory, use absolute path"
    )]
    Characters(String),
}

/// Refuses a name that the engine's own driver would refuse.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.len() < 2 {
        return Err(BadName::Short(name.to_owned()));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(inside) {
        return Err(BadName::Characters(name.to_owned()));
    }
    Ok(())
}

/// Whether a volume's data is on its node alone.
pub fn is_bound(volume: &Value) -> bool {
    volume["Scope"] != "global"
}

/// The answer to `GET /volumes`, from each node's own answer; declared volumes come with an empty node's name. Which
/// volumes dangle only engines know: they are asked with that filter, and it passes here.
pub fn list<'a>(volumes: impl Iterator<Item = (&'a str, &'a Value)>, filters: Filters) -> Result<Value, FiltersError> {
    let filters = filters.only(&KNOWN)?;
    let mut shown: BTreeMap<String, Value> = BTreeMap::new();
    for (node, volume) in volumes {
        let name = volume["Name"].as_str().unwrap_or_default();
        let labels = labels(volume.get("Labels"));
        let keep = filters.any("name", |wanted| name.contains(wanted))
            && filters.any("driver", |d| volume["Driver"] == d)
            && filters.any("node", |n| n == node)
            && filters.labels("label", |l| labels.get(l).map(String::as_str));
        if !keep {
            continue;
        }
        let local = volume["Driver"].as_str().unwrap_or("local") == "local";
        let name = if local && !node.is_empty() { format!("{node}/{name}") } else { name.to_owned() };
        let mut volume = volume.clone();
        if let Some(object) = volume.as_object_mut() {
            object.insert("Name".into(), name.as_str().into());
        }
        shown.entry(name).or_insert(volume);
    }
    Ok(json!({"Volumes": shown.into_values().collect::<Vec<_>>(), "Warnings": null}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_engines_take() {
        for (name, good) in
            [("data", true), ("a.b-c_1", true), ("a", false), ("-a", false), ("a b", false), ("é1", false)]
        {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn volumes_of_silent_nodes_are_remembered() {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<String>>();
        let (one, two) = (set(&["a"]), set(&["b"]));
        let seen = [("n1", Some(&one)), ("n2", Some(&two)), ("n3", None), ("", None)];
        let made = [("a", "n1"), ("gone", "n2"), ("c", "n3"), ("d", "left")];
        let away = away(|node| node == "n1", seen.into_iter(), made.into_iter());
        let expected = [("n2", set(&["b"])), ("n3", set(&["c"])), ("left", set(&["d"]))];
        assert_eq!(away, expected.map(|(node, volumes)| (node.to_owned(), volumes)).into());
        let shown = list([("n2", &remembered("b"))].into_iter(), Filters::default()).unwrap();
        assert_eq!(shown["Volumes"][0]["Name"], "n2/b");
    }

    #[test]
    fn local_volumes_carry_their_node_and_shared_ones_are_one() {
        let local = json!({"Name": "data", "Driver": "local", "Labels": {"a": "1"}});
        let shared = json!({"Name": "nas", "Driver": "nfs", "Labels": null});
        let new = declared("new", &json!({"DriverOpts": {"type": "tmpfs"}, "Labels": null}), "2026-01-01T00:00:00Z");
        assert_eq!((&new["Options"]["type"], is_bound(&new)), (&json!("tmpfs"), true));
        let volumes = [("node-1", &local), ("node-2", &local), ("node-1", &shared), ("node-2", &shared), ("", &new)];
        let names = |filters: &str| {
            let list = list(volumes.into_iter(), Filters::parse(Some(filters)).unwrap()).unwrap();
            let names: Vec<String> =
                list["Volumes"].as_array().unwrap().iter().map(|v| v["Name"].as_str().unwrap().to_owned()).collect();
            names.join(" ")
        };
        for (filters, expected) in [
            ("", "nas new node-1/data node-2/data"),
            (r#"{"node":["node-1"]}"#, "nas node-1/data"),
            (r#"{"driver":["nfs"]}"#, "nas"),
            (r#"{"driver":["local"],"name":["ne"]}"#, "new"),
            (r#"{"name":["dat"],"label":["a"]}"#, "node-1/data node-2/data"),
            (r#"{"label":["b"]}"#, ""),
        ] {
            assert_eq!(names(filters), expected, "{filters}");
        }
        assert!(list(volumes.into_iter(), Filters::parse(Some(r#"{"x":["1"]}"#)).unwrap()).is_err());
    }
}
