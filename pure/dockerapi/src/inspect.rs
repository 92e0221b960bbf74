//! The edits of one container's inspect answer: on which node it is, and where its ports are reached.

use crate::row::{Owner, keep_once, translate_networks, unspecified};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the classic `Node` member of an inspect answer says besides the node's name and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The engine's id.
    pub id: String,
    /// `host:port` of the engine.
    pub address: String,
    /// Cores.
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
}

/// Rewrites an inspect answer for the cluster: inserts `Node` (before `Name`, where classic Swarm had it), gives
/// published ports the node's address and networks their cluster-wide ids. Everything else stays as it came.
pub fn edit(inspect: &mut Value, owner: &Owner, facts: &NodeFacts) {
    if let Some(settings) = inspect.get_mut("NetworkSettings") {
        translate_networks(settings, owner);
        edit_bindings(settings, owner);
    }
    let Some(object) = inspect.as_object_mut() else { return };
    let node = json!({
        "ID": facts.id, "IP": owner.ip.to_string(), "Addr": facts.address, "Name": owner.node,
        "Cpus": facts.cpus, "Memory": facts.memory, "Labels": facts.labels,
    });
    object.remove("Node");
    let before = object.keys().position(|key| key == "Name").unwrap_or(object.len());
    object.shift_insert(before, "Node".to_owned(), node);
}

/// Ports bound to every address of the node show the node's address; bindings for both families become one.
fn edit_bindings(settings: &mut Value, owner: &Owner) {
    let ports = settings.get_mut("Ports").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for bindings in ports.filter_map(Value::as_array_mut) {
        for binding in bindings.iter_mut().filter_map(Value::as_object_mut) {
            let ip = binding.get("HostIp").and_then(Value::as_str).unwrap_or_default();
            if ip.parse::<std::net::IpAddr>().is_err() || unspecified(ip) {
                binding.insert("HostIp".to_owned(), owner.ip.to_string().into());
            }
        }
        keep_once(bindings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(mut inspect: Value) -> Value {
        let owner = Owner {
            node: "node-1".into(),
            ip: [10, 0, 0, 1].into(),
            cluster_networks: [("e".to_owned(), "c".to_owned())].into(),
        };
        let facts = NodeFacts {
            id: "ID".into(),
            address: "10.0.0.1:12375".into(),
            cpus: 4,
            memory: 9,
            labels: BTreeMap::new(),
        };
        edit(&mut inspect, &owner, &facts);
        inspect
    }

    #[test]
    fn a_port_of_both_families_is_shown_once() {
        let both =
            |port: &str| [json!({"HostIp": "0.0.0.0", "HostPort": port}), json!({"HostIp": "::", "HostPort": port})];
        let local = json!({"HostIp": "127.0.0.1", "HostPort": "7"});
        let list: Vec<Value> = both("9").into_iter().chain([local.clone()]).chain(both("8")).collect();
        let shown = |port: &str| json!({"HostIp": "10.0.0.1", "HostPort": port});
        let inspect = edited(json!({"NetworkSettings": {"Ports": {"80/tcp": list, "81/tcp": [], "82/tcp": null}}}));
        assert_eq!(
            inspect["NetworkSettings"]["Ports"],
            json!({"80/tcp": [shown("9"), local, shown("8")], "81/tcp": [], "82/tcp": null})
        );
    }

    #[test]
    fn the_node_and_its_address_are_shown() {
        let inspect = edited(json!({
            "Id": "abc", "LogPath": "/x", "Name": "/web", "Novelty": 1,
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "1"}, {"HostIp": "1.2.3.4"}], "81/tcp": null},
                                "Networks": {"osier": {"NetworkID": "e"}, "bridge": {"NetworkID": "b"}}},
        }));
        let keys: Vec<&String> = inspect.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["Id", "LogPath", "Node", "Name", "Novelty", "NetworkSettings"]);
        assert_eq!(inspect["Node"]["Addr"], "10.0.0.1:12375");
        assert_eq!(
            inspect["NetworkSettings"],
            json!({"Ports": {"80/tcp": [{"HostIp": "10.0.0.1", "HostPort": "1"}, {"HostIp": "1.2.3.4"}], "81/tcp": null},
                   "Networks": {"osier": {"NetworkID": "c"}, "bridge": {"NetworkID": "b"}}})
        );
    }
}
