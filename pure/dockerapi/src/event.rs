//! Engine events as the cluster tells them, and which of them one subscriber wants.

use crate::{filters::Filters, image::Reference, inspect::NodeFacts, network::cluster_id, row::Owner};
use osier_model::NETWORK;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Adds the node to an engine's event, where classic Swarm had it: in `from`, in the actor's attributes, and as a `node`
/// member of its own. Networks of the cluster get their cluster-wide id. Everything else stays as it came.
pub fn decorate(event: &mut Value, owner: &Owner, facts: &NodeFacts) {
    let Some(object) = event.as_object_mut() else { return };
    if let Some(from) = object.get("from").and_then(Value::as_str) {
        let from = format!("{from} node:{}", owner.node);
        object.insert("from".into(), from.into());
    }
    let network = object.get("Type").is_some_and(|t| t == "network");
    let actor = object.entry("Actor").or_insert_with(|| json!({}));
    if let Some(actor) = actor.as_object_mut() {
        if let Some(id) = network_id(actor, owner).filter(|_| network) {
            actor.insert("ID".into(), id.into());
        }
        let attributes = actor.entry("Attributes").or_insert_with(|| json!({}));
        if let Some(attributes) = attributes.as_object_mut() {
            let ip = owner.ip.to_string();
            let pairs = [("name", &owner.node), ("id", &facts.id), ("addr", &facts.address), ("ip", &ip)];
            attributes.extend(pairs.map(|(key, value)| (format!("node.{key}"), value.as_str().into())));
        }
    }
    let node = json!({"Name": owner.node, "Id": facts.id, "Addr": facts.address, "Ip": owner.ip.to_string()});
    object.insert("node".into(), node);
}

/// The cluster's id of the network that an event is about, where it is one of the cluster's. What the event says of the
/// network decides: it may be told before the network is listed, and after it no longer is.
fn network_id(actor: &Map<String, Value>, owner: &Owner) -> Option<String> {
    let attribute = |name: &str| actor.get("Attributes")?.get(name)?.as_str();
    match (attribute("type"), attribute("name")) {
        (Some(NETWORK), Some(name)) => Some(cluster_id(name)),
        _ => actor.get("ID").and_then(Value::as_str).and_then(|id| owner.cluster_networks.get(id)).cloned(),
    }
}

/// The event's time in nanoseconds since 1970.
pub fn time_nanos(event: &Value) -> i128 {
    let seconds = || event["time"].as_i64().map(|s| i128::from(s) * 1_000_000_000);
    event["timeNano"].as_i64().map(i128::from).or_else(seconds).unwrap_or_default()
}

/// Tells one event from all others of the cluster, however often it is told.
pub fn identity(event: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let node = text(&event["node"]["Name"]);
    (node, time_nanos(event), text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]))
        .hash(&mut hasher);
    hasher.finish()
}

/// Which events a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter(Filters);

impl EventFilter {
    /// Takes the call's filters. As with an engine, one that nobody knows of is not applied.
    pub fn new(filters: Filters) -> Self {
        Self(filters)
    }

    /// Whether the subscriber wants this event (a decorated one).
    pub fn passes(&self, event: &Value) -> bool {
        let empty = Map::new();
        let attributes = event["Actor"]["Attributes"].as_object().unwrap_or(&empty);
        let attribute = |name: &str| attributes.get(name).and_then(Value::as_str);
        let kind = event["Type"].as_str().unwrap_or("container");
        let action = event["Action"].as_str().or(event["status"].as_str()).unwrap_or_default();
        let id = event["Actor"]["ID"].as_str().or(event["id"].as_str()).unwrap_or_default();
        // `exec_start: sh` is asked for as `exec_start`, `health_status: healthy` either way.
        let is_action = |wanted: &str| action == wanted || action.split(':').next() == Some(wanted);
        // The beginning of a name or id is enough, as with an engine; a node says which of several.
        let is_actor = |wanted: &str| {
            let name = attribute("name").unwrap_or_default();
            let qualified = || format!("{}/{name}", attribute("node.name").unwrap_or_default());
            name.starts_with(wanted) || id.starts_with(wanted) || qualified() == wanted
        };
        let of_kind = |key: &str| self.0.any(key, |wanted| kind == key && is_actor(wanted));
        let is_image = |wanted: &str| {
            let image =
                if kind == "image" { attribute("name").unwrap_or(id) } else { attribute("image").unwrap_or_default() };
            image == wanted
                || Reference::parse(image).repository() == Reference::parse(wanted).repository()
                    && !wanted.contains(':')
        };
        self.0.any("type", |wanted| kind == wanted)
            && self.0.any("event", is_action)
            && self.0.any("image", is_image)
            && self.0.any("node", |wanted| attribute("node.name") == Some(wanted))
            && self.0.any("scope", |wanted| event["scope"].as_str().unwrap_or("local") == wanted)
            && self.0.labels("label", attribute)
            && ["config", "container", "daemon", "network", "plugin", "secret", "service", "volume", "builder"]
                .into_iter()
                .all(of_kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        json!({"status": "exec_start: sh", "id": "abc", "from": "busybox:1", "Type": "container",
               "Action": "exec_start: sh", "Actor": {"ID": "abc", "Attributes": {"image": "busybox:1", "name": "web", "tier": "x"}},
               "scope": "local", "time": 7, "timeNano": 7_000_000_001_i64})
    }

    fn decorated(mut event: Value) -> Value {
        let networks = [("e".to_owned(), "c".to_owned())].into();
        let owner = Owner { node: "node-1".into(), ip: [10, 0, 0, 1].into(), cluster_networks: networks };
        let facts = NodeFacts {
            id: "ID".into(),
            address: "10.0.0.1:12375".into(),
            cpus: 4,
            memory: 9,
            labels: Default::default(),
        };
        decorate(&mut event, &owner, &facts);
        event
    }

    #[test]
    fn events_tell_their_node_and_keep_the_rest() {
        let event = decorated(event());
        assert_eq!(event["from"], "busybox:1 node:node-1");
        assert_eq!(event["Actor"]["Attributes"]["node.addr"], "10.0.0.1:12375");
        assert_eq!(event["node"], json!({"Name": "node-1", "Id": "ID", "Addr": "10.0.0.1:12375", "Ip": "10.0.0.1"}));
        assert_eq!(event["Action"], "exec_start: sh");
        assert_eq!(time_nanos(&event), 7_000_000_001);
        let network = decorated(json!({"Type": "network", "Action": "connect", "Actor": {"ID": "e"}}));
        assert_eq!(network["Actor"]["ID"], "c");
        let made = json!({"Type": "network", "Action": "create", "Actor": {"ID": "f", "Attributes": {"name": "back", "type": "osier"}}});
        assert_eq!(decorated(made)["Actor"]["ID"], cluster_id("back"), "also before it is listed");
        assert!(network.get("from").is_none(), "events of engines that no longer send it do not get one");
    }

    #[test]
    fn an_event_told_twice_is_known_again_and_others_are_not() {
        let once = identity(&decorated(event()));
        assert_eq!(identity(&decorated(event())), once);
        for (member, value) in
            [("timeNano", json!(7_000_000_002_i64)), ("Action", json!("die")), ("Type", json!("image"))]
        {
            let mut other = decorated(event());
            other[member] = value;
            assert_ne!(identity(&other), once, "{member}");
        }
    }

    #[test]
    fn subscribers_get_what_they_asked_for() {
        let event = decorated(event());
        for (filters, passes) in [
            ("", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"event":["exec_start"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["node-1/web"]}"#, true),
            (r#"{"container":["ab"]}"#, true),
            (r#"{"container":["other"]}"#, false),
            (r#"{"network":["web"]}"#, false),
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"image":["busybox:2"]}"#, false),
            (r#"{"label":["tier=x"]}"#, true),
            (r#"{"label":["tier=y"]}"#, false),
            (r#"{"node":["node-1"]}"#, true),
            (r#"{"node":["node-2"]}"#, false),
            (r#"{"scope":["local"]}"#, true),
            (r#"{"scope":["swarm"]}"#, false),
            (r#"{"container":["we"]}"#, true),
            (r#"{"container":["node-2/web"]}"#, false),
            (r#"{"nobody-knows":["x"]}"#, true),
        ] {
            let filter = EventFilter::new(Filters::parse(Some(filters)).unwrap());
            assert_eq!(filter.passes(&event), passes, "{filters}");
        }
    }
}
