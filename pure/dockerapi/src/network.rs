//! Networks of the whole cluster. One that the cluster's own driver made is the same network on every node although
//! each engine gave it an id of its own: it is shown once, under one id. Networks of one node carry its name.

use crate::{
    filters::{Filters, FiltersError, Pattern},
    row::labels,
};
use osier_model::{NETWORK, NETWORK_ID_OPTION};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The id that a network of the cluster has everywhere: 64 hex digits that follow from its name, so that every manager
/// tells the same one whichever engines it can reach.
pub fn cluster_id(name: &str) -> String {
    hex::encode(Sha256::digest(format!("osier network {name}")))
}

/// A network of one engine, as that engine lists it.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The engine's object.
    pub network: &'a Value,
}

impl<'a> Local<'a> {
    /// Its name on its node.
    pub fn name(&self) -> &'a str {
        self.network["Name"].as_str().unwrap_or_default()
    }

    /// Its id on its node.
    pub fn id(&self) -> &'a str {
        self.network["Id"].as_str().unwrap_or_default()
    }

    /// Whether it exists on all nodes as one.
    pub fn is_cluster_wide(&self) -> bool {
        self.network["Driver"] == NETWORK
    }

    /// The id that the cluster shows.
    pub fn shown_id(&self) -> String {
        if self.is_cluster_wide() { cluster_id(self.name()) } else { self.id().to_owned() }
    }

    /// Whether only one node has it.
    fn is_local(&self) -> bool {
        !self.is_cluster_wide() && self.network["Scope"].as_str().unwrap_or("local") == "local"
    }

    fn shown_name(&self) -> String {
        if self.is_local() { format!("{}/{}", self.node, self.name()) } else { self.name().to_owned() }
    }

    /// Whether every engine has a network of this name from the start.
    pub fn is_builtin(&self) -> bool {
        is_builtin(self.name())
    }
}

/// Whether every engine has a network of this name from the start, each its own.
pub fn is_builtin(name: &str) -> bool {
    matches!(name, "none" | "host" | "bridge")
}

/// The engine's ids of cluster-wide networks with the ids that the cluster shows.
pub fn translations<'a>(networks: impl Iterator<Item = &'a Value>) -> BTreeMap<String, String> {
    let locals = networks.map(|network| Local { node: "", network }).filter(Local::is_cluster_wide);
    locals.map(|l| (l.id().to_owned(), l.shown_id())).collect()
}

/// What the cluster shows of networks that are one (all entries of `parts`), with their endpoints put together.
/// `qualify`: whether a network of one node shows that node in its name (lists do, inspect answers do not).
pub fn merge(parts: &[Local<'_>], qualify: bool) -> Option<Value> {
    let first = parts.first()?;
    let mut merged = first.network.clone();
    let object = merged.as_object_mut()?;
    object.insert("Id".into(), first.shown_id().into());
    if qualify {
        object.insert("Name".into(), first.shown_name().into());
    }
    // Agents and engines tell each other by it what no user has said.
    for options in ["/Options", "/IPAM/Options"] {
        if let Some(options) = merged.pointer_mut(options).and_then(Value::as_object_mut) {
            options.remove(NETWORK_ID_OPTION);
        }
    }
    let object = merged.as_object_mut()?;
    let endpoints = parts.iter().filter_map(|p| p.network["Containers"].as_object());
    if object.contains_key("Containers") {
        let all: Map<String, Value> = endpoints.flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        object.insert("Containers".into(), all.into());
    }
    Some(merged)
}

const KNOWN: [&str; 9] = ["dangling", "driver", "id", "label", "label!", "name", "node", "scope", "type"];

/// Lists the networks of all nodes, cluster-wide ones once. `used` are the shown ids of those that containers are on.
pub fn list<'a>(
    networks: impl Iterator<Item = Local<'a>>,
    used: &BTreeSet<String>,
    filters: Filters,
) -> Result<Vec<Value>, FiltersError> {
    let filters = filters.only(&KNOWN)?;
    let dangling = filters.boolean("dangling")?;
    if let Some(kind) = filters.get("type").find(|t| !matches!(*t, "custom" | "builtin")) {
        return Err(FiltersError::Value { key: "type".into(), value: kind.to_owned() });
    }
    let patterns = |key: &str| filters.get(key).map(Pattern::new).collect::<Vec<_>>();
    let (names, ids) = (patterns("name"), patterns("id"));
    let mut groups: BTreeMap<(String, String), Vec<Local<'a>>> = BTreeMap::new();
    for network in networks {
        groups.entry((network.shown_name(), network.shown_id())).or_default().push(network);
    }
    let keep = |((shown, id), parts): &(&(String, String), &Vec<Local<'a>>)| {
        let Some(first) = parts.first() else { return false };
        let labels = labels(first.network.get("Labels"));
        (names.is_empty() || names.iter().any(|p| p.matches(first.name()) || p.matches(shown)))
            && (ids.is_empty() || ids.iter().any(|p| p.matches(id)))
            && filters.labels("label", |name| labels.get(name).map(String::as_str))
            && filters.any("driver", |d| first.network["Driver"] == d)
            && filters.any("scope", |s| first.network["Scope"] == s)
            && filters.any("node", |n| parts.iter().any(|p| p.node == n))
            && filters.any("type", |t| (t == "builtin") == first.is_builtin())
            && dangling.is_none_or(|d| d != (first.is_builtin() || used.contains(id)))
    };
    Ok(groups.iter().filter(keep).filter_map(|(_, parts)| merge(parts, true)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn networks() -> Vec<(&'static str, Value)> {
        let net = |name: &str, id: &str, driver: &str, endpoint: &str| {
            let containers = if endpoint.is_empty() { json!({}) } else { json!({endpoint: {"Name": endpoint}}) };
            json!({"Name": name, "Id": id, "Driver": driver, "Scope": "local", "Labels": {"a": "1"}, "Containers": containers})
        };
        vec![
            ("node-1", net("osier", "aaaa", "osier", "c1")),
            ("node-2", net("osier", "bbbb", "osier", "c2")),
            ("node-1", net("bridge", "cccc", "bridge", "")),
            ("node-2", net("bridge", "dddd", "bridge", "")),
            ("node-2", net("web", "eeee", "bridge", "c3")),
        ]
    }

    fn listed(filters: &str) -> Result<String, FiltersError> {
        let networks = networks();
        let locals = networks.iter().map(|(node, network)| Local { node, network });
        let used = [cluster_id("osier")].into();
        let list = list(locals, &used, Filters::parse(Some(filters)).unwrap())?;
        Ok(list.iter().map(|n| n["Name"].as_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_clusters_network_is_shown_once_with_all_endpoints() {
        let networks = networks();
        let parts = [0, 1].map(|i| Local { node: networks[i].0, network: &networks[i].1 });
        let merged = merge(&parts, true).unwrap();
        assert_eq!((&merged["Id"], &merged["Name"]), (&cluster_id("osier").into(), &"osier".into()));
        assert_eq!(merged["Containers"], json!({"c1": {"Name": "c1"}, "c2": {"Name": "c2"}}));
        assert_eq!(cluster_id("osier").len(), 64);
        assert_eq!(translations(networks.iter().map(|n| &n.1)).len(), 2);
    }

    #[test]
    fn what_the_agents_tell_their_engines_is_not_shown() {
        let options = json!({"osier.id": "0000000000000007", "mine": "1"});
        let network = json!({"Name": "back", "Driver": "osier", "Options": options, "IPAM": {"Options": options}});
        let merged = merge(&[Local { node: "node-1", network: &network }], false).unwrap();
        assert_eq!((&merged["Options"], &merged["IPAM"]["Options"]), (&json!({"mine": "1"}), &json!({"mine": "1"})));
    }

    #[test]
    fn lists_qualify_local_networks_and_filter() {
        for (filters, expected) in [
            ("", "node-1/bridge node-2/bridge node-2/web osier"),
            (r#"{"type":["custom"]}"#, "node-2/web osier"),
            (r#"{"driver":["osier"]}"#, "osier"),
            (r#"{"node":["node-1"]}"#, "node-1/bridge osier"),
            (r#"{"name":["web"]}"#, "node-2/web"),
            (r#"{"name":["node-2/bridge"]}"#, "node-2/bridge"),
            (r#"{"id":["eee"]}"#, "node-2/web"),
            (r#"{"label":["a=2"]}"#, ""),
            (r#"{"scope":["swarm"]}"#, ""),
            (r#"{"dangling":["true"]}"#, "node-2/web"),
            (r#"{"dangling":["false"]}"#, "node-1/bridge node-2/bridge osier"),
        ] {
            assert_eq!(listed(filters).unwrap(), expected, "{filters}");
        }
        assert!(listed(r#"{"type":["x"]}"#).is_err() && listed(r#"{"x":["x"]}"#).is_err());
    }
}
