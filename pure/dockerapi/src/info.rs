//! `GET /info` of a cluster: totals, and the `SystemStatus` rows in classic Swarm's layout, which Docker's command line
//! prints line by line and scripts read.

use crate::features::features;
use osier_model::{Bytes, Cpus};
use osier_nodes::{Availability, Health};
use serde_json::{Value, json};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// How many containers there are, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Running, restarting included.
    pub running: usize,
    /// Paused.
    pub paused: usize,
    /// Everything else.
    pub stopped: usize,
}

impl Counts {
    /// Counts one container more, by the engine's word for its state.
    pub fn add(&mut self, state: &str) {
        match state {
            "running" | "restarting" => self.running += 1,
            "paused" => self.paused += 1,
            _ => self.stopped += 1,
        }
    }

    /// All containers.
    pub fn total(&self) -> usize {
        self.running + self.paused + self.stopped
    }
}

/// One node as `info` shows it.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// Its name; empty while it is not known.
    pub name: String,
    /// `host:port` of its engine.
    pub address: String,
    /// The engine's id.
    pub id: String,
    /// Whether it answers.
    pub health: Health,
    /// Whether it takes work.
    pub availability: Availability,
    /// Its containers.
    pub counts: Counts,
    /// Images with a name of their own or none, intermediate ones not counted.
    pub images: usize,
    /// Cores promised to containers.
    pub reserved_cpus: Cpus,
    /// Cores.
    pub cpus: Cpus,
    /// Memory promised to containers.
    pub reserved_memory: Bytes,
    /// Memory.
    pub memory: Bytes,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// What is odd about it, although it works.
    pub warning: Option<String>,
    /// When its state was last confirmed, RFC 3339.
    pub updated_at: String,
    /// The engine's version.
    pub server_version: String,
}

/// The words that describe the manager itself.
#[derive(Debug, Clone)]
pub struct Manager<'a> {
    /// The address of the manager that leads, where another one does.
    pub primary: Option<&'a str>,
    /// The scheduling strategy.
    pub strategy: &'a str,
    /// The filters in force, in their order.
    pub filters: &'a [String],
    /// The manager's host name.
    pub name: &'a str,
    /// The manager's version.
    pub version: &'a str,
    /// The time of the answer, RFC 3339.
    pub time: String,
    /// Streams of events that are open.
    pub listeners: usize,
}

/// The answer to `GET /info`. `engines` are the names of the nodes that answer, with their engines' own answers.
pub fn info(manager: &Manager<'_>, nodes: &[NodeStatus], engines: &[(&str, &Value)]) -> Value {
    let sum = |number: fn(&NodeStatus) -> u64| nodes.iter().map(number).sum::<u64>();
    let systems = engines.iter().map(|(_, info)| info["OperatingSystem"].as_str().unwrap_or_default());
    let systems: BTreeSet<&str> = systems.collect();
    let system = systems.first().copied().filter(|first| systems.len() == 1 && !first.is_empty());
    let mut info = json!({
        "ID": "",
        "Containers": sum(|n| n.counts.total() as u64),
        "ContainersRunning": sum(|n| n.counts.running as u64),
        "ContainersPaused": sum(|n| n.counts.paused as u64),
        "ContainersStopped": sum(|n| n.counts.stopped as u64),
        "Images": sum(|n| n.images as u64),
        "DriverStatus": null,
        "SystemStatus": system_status(manager, nodes),
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "SystemTime": manager.time,
        "NEventsListener": manager.listeners,
        "OperatingSystem": system.unwrap_or("linux"),
        "OSType": "linux",
        "NCPU": sum(|n| n.cpus.0 / 1_000_000_000),
        "MemTotal": sum(|n| n.memory.0),
        "GenericResources": null,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": manager.name,
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": manager.version,
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
                  "RemoteManagers": null},
        "Isolation": "",
    });
    if let Some(all) = info.as_object_mut() {
        all.append(&mut features(engines));
    }
    info
}

fn system_status(manager: &Manager<'_>, nodes: &[NodeStatus]) -> Value {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |key: &str, value: String| rows.push([key.to_owned(), value]);
    match manager.primary {
        None => row("Role", "primary".into()),
        Some(primary) => {
            row("Role", "replica".into());
            row("Primary", primary.into());
        }
    }
    row("Strategy", manager.strategy.into());
    row("Filters", manager.filters.join(", "));
    row("Nodes", nodes.len().to_string());
    let mut nodes: Vec<&NodeStatus> = nodes.iter().collect();
    nodes.sort_by(|a, b| natural(&a.name, &b.name).then_with(|| a.address.cmp(&b.address)));
    for node in nodes {
        let name = if node.name.is_empty() { "(unknown)" } else { &node.name };
        row(&format!(" {name}"), node.address.clone());
        let Counts { running, paused, stopped } = node.counts;
        let total = node.counts.total();
        let (status, containers) = match node.health {
            Health::Pending => ("Pending", total.to_string()),
            Health::Healthy => ("Healthy", format!("{total} ({running} Running, {paused} Paused, {stopped} Stopped)")),
            Health::Unhealthy => ("Unhealthy", total.to_string()),
            Health::Disconnected => ("Disconnected", total.to_string()),
        };
        let status = match node.availability {
            Availability::Active => status.to_owned(),
            other => format!("{status}, {other}"),
        };
        let labels: Vec<String> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        row("  └ ID", node.id.clone());
        row("  └ Status", status);
        row("  └ Containers", containers);
        row("  └ Reserved CPUs", format!("{} / {}", node.reserved_cpus, node.cpus));
        row("  └ Reserved Memory", format!("{} / {}", node.reserved_memory, node.memory));
        row("  └ Labels", labels.join(", "));
        if let Some(error) = node.error.as_ref().filter(|e| !e.is_empty()) {
            row("  └ Error", error.clone());
        }
        if let Some(warning) = &node.warning {
            row("  └ Warning", warning.clone());
        }
        row("  └ UpdatedAt", node.updated_at.clone());
        row("  └ ServerVersion", node.server_version.clone());
    }
    json!(rows)
}

/// Compares names so that runs of digits count as numbers: `node-2` comes before `node-10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let ((x, rest_a), (y, rest_b)) = (chunk(a), chunk(b));
        if x.is_empty() && y.is_empty() {
            return Ordering::Equal;
        }
        let digits = |t: &str| t.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(x) && digits(y) {
            let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Splits off the leading run of digits or of anything else.
fn chunk(text: &str) -> (&str, &str) {
    let digit = |c: char| c.is_ascii_digit();
    let end = match text.chars().next() {
        Some(first) => text.find(|c| digit(c) != digit(first)).unwrap_or(text.len()),
        None => 0,
    };
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str, health: Health, error: Option<&str>) -> NodeStatus {
        NodeStatus {
            name: name.into(),
            address: "10.67.24.194:12375".into(),
            id: "ID".into(),
            health,
            availability: Availability::Active,
            counts: Counts { running: 3, paused: 0, stopped: 1 },
            images: 2,
            reserved_cpus: Cpus(0),
            cpus: Cpus::whole(4),
            reserved_memory: Bytes(0),
            memory: Bytes(8_791_798_054),
            labels: [("storagedriver".to_owned(), "overlay2".to_owned())].into(),
            error: error.map(str::to_owned),
            warning: None,
            updated_at: "2026-01-01T00:00:00Z".into(),
            server_version: "28.5.2".into(),
        }
    }

    #[test]
    fn the_rows_stand_where_the_classic_had_them() {
        let manager = Manager {
            primary: None,
            strategy: "spread",
            filters: &["health".into(), "port".into()],
            name: "m",
            version: "1",
            time: String::new(),
            listeners: 0,
        };
        let nodes = [
            node("node-10", Health::Healthy, None),
            node("", Health::Pending, None),
            NodeStatus {
                availability: Availability::Cordoned,
                warning: Some("its clock".into()),
                ..node("node-2", Health::Unhealthy, Some("down"))
            },
        ];
        let info =
            info(&manager, &nodes, &[("node-10", &json!({"Architecture": "x86_64", "OperatingSystem": "Debian"}))]);
        let rows: Vec<[String; 2]> = serde_json::from_value(info["SystemStatus"].clone()).unwrap();
        let text: Vec<String> = rows.iter().map(|[k, v]| format!("{k}: {v}")).collect();
        assert_eq!(
            text[..5],
            [
                "Role: primary",
                "Strategy: spread",
                "Filters: health, port",
                "Nodes: 3",
                " (unknown): 10.67.24.194:12375"
            ]
        );
        let at = |name: &str| text.iter().position(|t| t.starts_with(name)).unwrap();
        assert!(at(" node-2") < at(" node-10"));
        assert_eq!(
            text[at(" node-10") + 1..],
            [
                "  └ ID: ID",
                "  └ Status: Healthy",
                "  └ Containers: 4 (3 Running, 0 Paused, 1 Stopped)",
                "  └ Reserved CPUs: 0 / 4",
                "  └ Reserved Memory: 0 B / 8.188 GiB",
                "  └ Labels: storagedriver=overlay2",
                "  └ UpdatedAt: 2026-01-01T00:00:00Z",
                "  └ ServerVersion: 28.5.2"
            ]
        );
        for row in ["  └ Status: Unhealthy, cordoned", "  └ Error: down", "  └ Warning: its clock"] {
            assert!(text.iter().any(|t| t == row), "{row}");
        }
        assert_eq!(
            (&info["NCPU"], &info["Containers"], &info["Architecture"], &info["OperatingSystem"]),
            (&json!(12), &json!(12), &json!("x86_64"), &json!("Debian"))
        );
    }

    proptest! {
        #[test]
        fn names_are_ordered_totally(a in "[a-c0-2]{0,4}", b in "[a-c0-2]{0,4}", c in "[a-c0-2]{0,4}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
