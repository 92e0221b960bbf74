//! Volumes of the whole cluster: those of one node carry its name, those of other drivers are shown once.

use crate::{
    filters::{Filters, FiltersError},
    row::labels,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KNOWN: [&str; 6] = ["dangling", "driver", "label", "label!", "name", "node"];

/// The answer to `GET /volumes`, from each node's own answer. Which volumes dangle only engines know: they are asked with
/// that filter, and it passes here.
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
        let name = if local { format!("{node}/{name}") } else { name.to_owned() };
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
    fn local_volumes_carry_their_node_and_shared_ones_are_one() {
        let local = json!({"Name": "data", "Driver": "local", "Labels": {"a": "1"}});
        let shared = json!({"Name": "nas", "Driver": "nfs", "Labels": null});
        let volumes = [("node-1", &local), ("node-2", &local), ("node-1", &shared), ("node-2", &shared)];
        let names = |filters: &str| {
            let list = list(volumes.into_iter(), Filters::parse(Some(filters)).unwrap()).unwrap();
            let names: Vec<String> =
                list["Volumes"].as_array().unwrap().iter().map(|v| v["Name"].as_str().unwrap().to_owned()).collect();
            names.join(" ")
        };
        for (filters, expected) in [
            ("", "nas node-1/data node-2/data"),
            (r#"{"node":["node-1"]}"#, "nas node-1/data"),
            (r#"{"driver":["nfs"]}"#, "nas"),
            (r#"{"name":["dat"],"label":["a"]}"#, "node-1/data node-2/data"),
            (r#"{"label":["b"]}"#, ""),
        ] {
            assert_eq!(names(filters), expected, "{filters}");
        }
        assert!(list(volumes.into_iter(), Filters::parse(Some(r#"{"x":["1"]}"#)).unwrap()).is_err());
    }
}
