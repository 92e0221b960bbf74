//! One row of a container list: what the manager needs to know of it, read once, and its bytes, edited once.
//!
//! Thirty thousand rows are listed by joining bytes. Only the `Status` sentence changes between two answers, so a row is
//! kept as what stands before and behind it. Members that this program has never heard of stay as they are.

use serde_json::{Map, Value};
use std::{collections::BTreeMap, net::IpAddr};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// Who the engine is, as its answers are to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub ip: IpAddr,
    /// The engine's ids of networks that exist in the whole cluster, and the ids they have there.
    pub cluster_networks: BTreeMap<String, String>,
}

/// A container as its list row tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The full id.
    pub id: String,
    /// The names on its node, without leading slash; aliases that links gave it have a slash inside.
    pub names: Vec<String>,
    /// The image as the user named it.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// When it was made, in nanoseconds since 1970; a list row alone tells whole seconds only.
    pub created: i64,
    /// The engine's word for its state.
    pub state: String,
    /// The engine's sentence at the time of the list call.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Names and destinations of its mounts.
    pub mounts: Vec<String>,
    /// Names and cluster-wide ids of its networks.
    pub networks: Vec<(String, String)>,
    /// Everything before the `Status` sentence.
    head: Box<[u8]>,
    /// Everything behind it.
    tail: Box<[u8]>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Inside the container.
    pub private: u16,
    /// On the node; 0 where it is not published.
    pub public: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// The row is not what an engine's list holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read a row of the container list: {0}")]
pub struct RowError(&'static str);

impl Row {
    /// Reads a row of an engine's answer and rewrites it for the cluster.
    pub fn read(mut row: Value, owner: &Owner) -> Result<Self, RowError> {
        let object = row.as_object_mut().ok_or(RowError("it is no object"))?;
        let id = text(object, "Id");
        if id.is_empty() {
            return Err(RowError("it has no 'Id'"));
        }
        let names = own_names(object);
        edit(object, owner);
        let (head, tail) = split(object);
        Ok(Self {
            id,
            names,
            image: text(object, "Image"),
            image_id: text(object, "ImageID"),
            created: object.get("Created").and_then(Value::as_i64).unwrap_or_default().saturating_mul(1_000_000_000),
            state: text(object, "State"),
            status: text(object, "Status"),
            labels: labels(object.get("Labels")),
            ports: list(object, "Ports").filter_map(port).collect(),
            mounts: list(object, "Mounts").flat_map(mount).collect(),
            networks: networks(object),
            head,
            tail,
        })
    }

    /// The container's own name: the one that no link gave it.
    pub fn name(&self) -> &str {
        let own = self.names.iter().find(|n| !n.contains('/')).or(self.names.first());
        own.map_or(&self.id, |n| n)
    }

    /// Takes the moment of creation from an inspect answer, which tells it more exactly: of two containers made in one
    /// second, lists have to show the later one first. `skew` is added to it: our clock less the engine's.
    pub fn refine(&mut self, inspect: &Value, skew: Duration) {
        let created = inspect["Created"].as_str().and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
        if let Some(nanos) = created.and_then(|t| i64::try_from(t.checked_add(skew)?.unix_timestamp_nanos()).ok()) {
            self.created = nanos;
        }
    }

    /// Appends the row as JSON, with this sentence as its `Status`.
    pub fn write(&self, status: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(Value::from(status).to_string().as_bytes());
        out.extend_from_slice(&self.tail);
    }
}

/// The labels of any object that Docker describes.
pub fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

fn text(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    object.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn own_names(object: &Map<String, Value>) -> Vec<String> {
    let names = list(object, "Names").filter_map(Value::as_str);
    names.map(|n| n.strip_prefix('/').unwrap_or(n).to_owned()).collect()
}

fn port(port: &Value) -> Option<Port> {
    let number = |key: &str| port[key].as_u64().and_then(|n| u16::try_from(n).ok());
    let protocol = port["Type"].as_str().unwrap_or("tcp").to_owned();
    Some(Port { private: number("PrivatePort")?, public: number("PublicPort").unwrap_or(0), protocol })
}

fn mount(mount: &Value) -> impl Iterator<Item = String> {
    ["Name", "Destination"].into_iter().filter_map(|key| mount[key].as_str()).map(str::to_owned)
}

fn networks(object: &Map<String, Value>) -> Vec<(String, String)> {
    let networks = object.get("NetworkSettings").and_then(|s| s["Networks"].as_object()).into_iter().flatten();
    networks.map(|(name, n)| (name.clone(), n["NetworkID"].as_str().unwrap_or_default().to_owned())).collect()
}

fn edit(object: &mut Map<String, Value>, owner: &Owner) {
    if let Some(names) = object.get_mut("Names").and_then(Value::as_array_mut) {
        for name in names {
            if let Some(text) = name.as_str() {
                *name = format!("/{}{text}", owner.node).into();
            }
        }
    }
    if let Some(ports) = object.get_mut("Ports").and_then(Value::as_array_mut) {
        edit_ports(ports, owner);
    }
    if let Some(settings) = object.get_mut("NetworkSettings") {
        translate_networks(settings, owner);
    }
}

/// Ports bound to every address of the node show the node's address; bindings for both families become one.
fn edit_ports(ports: &mut Vec<Value>, owner: &Owner) {
    for port in ports.iter_mut() {
        if port["IP"].as_str().is_some_and(unspecified) {
            port["IP"] = owner.ip.to_string().into();
        }
    }
    keep_once(ports);
}

/// Keeps the first of those that are equal.
pub(crate) fn keep_once(values: &mut Vec<Value>) {
    let mut seen: Vec<Value> = Vec::with_capacity(values.len());
    values.retain(|value| {
        let new = !seen.contains(value);
        if new {
            seen.push(value.clone());
        }
        new
    });
}

/// Whether a host address stands for all addresses.
pub(crate) fn unspecified(ip: &str) -> bool {
    ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Gives the networks in `NetworkSettings` their cluster-wide ids.
pub(crate) fn translate_networks(settings: &mut Value, owner: &Owner) {
    for (_, endpoint) in settings.get_mut("Networks").and_then(Value::as_object_mut).into_iter().flatten() {
        let id = endpoint["NetworkID"].as_str().and_then(|id| owner.cluster_networks.get(id));
        if let Some(id) = id.cloned() {
            endpoint["NetworkID"] = id.into();
        }
    }
}

/// The object's JSON before and behind the value of `Status`.
fn split(object: &Map<String, Value>) -> (Box<[u8]>, Box<[u8]>) {
    let (mut head, mut tail) = (vec![b'{'], Vec::new());
    let mut out = &mut head;
    for (i, (key, value)) in object.iter().enumerate() {
        let separator = if i == 0 { "" } else { "," };
        out.extend_from_slice(format!("{separator}{}:", Value::from(key.as_str())).as_bytes());
        if key == "Status" {
            out = &mut tail;
        } else {
            out.extend_from_slice(value.to_string().as_bytes());
        }
    }
    if !object.contains_key("Status") {
        out.extend_from_slice(b",\"Status\":");
        out = &mut tail;
    }
    out.push(b'}');
    (head.into(), tail.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn owner() -> Owner {
        let networks = [("engine-id".to_owned(), "cluster-id".to_owned())];
        Owner { node: "node-1".into(), ip: [10, 0, 0, 1].into(), cluster_networks: networks.into() }
    }

    fn row() -> Value {
        json!({
            "Id": "abc", "Names": ["/web", "/other/alias"], "Image": "busybox:1", "ImageID": "sha256:1",
            "Created": 7, "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 8081, "Type": "udp"},
                {"PrivatePort": 82, "Type": "tcp"}],
            "Labels": {"tier": "web"}, "State": "running", "Status": "Up 1 second",
            "NetworkSettings": {"Networks": {"osier": {"NetworkID": "engine-id", "X": 1}}},
            "Mounts": [{"Type": "volume", "Name": "data", "Destination": "/data"}],
            "Novelty": {"kept": [1, 2]},
        })
    }

    #[test]
    fn a_row_is_rewritten_and_keeps_what_it_does_not_know() {
        let read = Row::read(row(), &owner()).unwrap();
        let mut bytes = Vec::new();
        read.write("Up \"2\" seconds", &mut bytes);
        let written: Value = serde_json::from_slice(&bytes).unwrap();
        let mut expected = row();
        expected["Names"] = json!(["/node-1/web", "/node-1/other/alias"]);
        expected["Status"] = "Up \"2\" seconds".into();
        expected["NetworkSettings"]["Networks"]["osier"]["NetworkID"] = "cluster-id".into();
        expected["Ports"] = json!([
            {"IP": "10.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 8081, "Type": "udp"},
            {"PrivatePort": 82, "Type": "tcp"}]);
        assert_eq!(written, expected);
        assert_eq!((read.name(), read.mounts.join(" ").as_str()), ("web", "data /data"));
        assert_eq!(read.networks, [("osier".to_owned(), "cluster-id".to_owned())]);
        assert_eq!(read.ports.len(), 3);
    }

    #[test]
    fn an_inspect_answer_tells_the_creation_more_exactly() {
        let mut read = Row::read(row(), &owner()).unwrap();
        assert_eq!(read.created, 7_000_000_000);
        read.refine(&json!({"Created": "1970-01-01T00:00:07.5Z"}), Duration::SECOND);
        assert_eq!(read.created, 8_500_000_000);
        read.refine(&json!({"Created": "soon"}), Duration::ZERO);
        assert_eq!(read.created, 8_500_000_000);
    }

    #[test]
    fn rows_that_are_none_are_refused() {
        for bad in [json!([]), json!({}), json!({"Id": ""}), json!({"Id": 1})] {
            assert!(Row::read(bad, &owner()).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_row_stays_valid_json_wherever_its_status_stands(
            keys in prop::collection::btree_set("[A-Z]{1,3}|Status", 0..5), status in ".*",
        ) {
            let mut object = Map::from_iter(keys.into_iter().map(|k| (k, json!({"a": [1, "x"]}))));
            object.insert("Id".into(), "abc".into());
            let read = Row::read(Value::Object(object.clone()), &owner()).unwrap();
            let mut bytes = Vec::new();
            read.write(&status, &mut bytes);
            object.insert("Status".into(), status.into());
            prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), Value::Object(object));
        }
    }
}
