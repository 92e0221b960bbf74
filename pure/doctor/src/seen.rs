//! What was seen on a host, read from the lines of a script.

use serde::Deserialize;

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, such as `osier-agent.service`.
    pub name: String,
    /// As `systemctl is-active` says: `active`, `failed`, `inactive` and so on.
    pub state: String,
    /// How many times systemd has started it anew by itself.
    pub restarts: u32,
}

/// One host of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The units that are there.
    pub services: Vec<Service>,
    /// The engine's version, where it answers.
    pub engine: Option<String>,
    /// Why it does not.
    pub engine_error: Option<String>,
    /// KiB free below `/var/lib`, where known.
    pub free: Option<u64>,
    /// Files that can still be made there, where known.
    pub inodes: Option<u64>,
    /// What the agent says of itself, where it answers.
    pub agent: Option<Agent>,
    /// Why it does not.
    pub agent_error: Option<String>,
}

/// What an agent says of itself (`osier status -o json`), as far as it tells whether something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Agent {
    pub(crate) version: String,
    pub(crate) peers: Vec<Peer>,
    #[serde(default)]
    pub(crate) reconnects: Vec<Reconnect>,
    pub(crate) network: Overlay,
    pub(crate) addresses: Addresses,
    #[serde(default)]
    pub(crate) network_problems: Vec<String>,
    #[serde(default)]
    pub(crate) engine_problem: Option<String>,
    pub(crate) ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) peer: String,
    pub(crate) alive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Reconnect {
    pub(crate) peer: String,
    pub(crate) address: String,
    pub(crate) problem: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Overlay {
    #[serde(default)]
    pub(crate) problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) range: String,
    #[serde(default)]
    pub(crate) frozen: u64,
    #[serde(default)]
    pub(crate) conflict: Option<String>,
}

impl Seen {
    /// Reads lines `NAME=VALUE`; what it does not know is passed over, and what is missing stays unknown. `service` is
    /// `NAME STATE RESTARTS`, `agent` the agent's status as JSON in one line.
    pub fn parse(text: &str) -> Self {
        let mut seen = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            let some = || Some(value.trim().to_owned()).filter(|v| !v.is_empty());
            match name {
                "service" => seen.services.extend(service(value)),
                "engine" => seen.engine = some(),
                "engine_error" => seen.engine_error = some(),
                "free" => seen.free = value.trim().parse().ok(),
                "inodes" => seen.inodes = value.trim().parse().ok(),
                "agent" => match serde_json::from_str(value) {
                    Ok(agent) => seen.agent = Some(agent),
                    Err(error) => seen.agent_error = Some(format!("its status cannot be read: {error}")),
                },
                "agent_error" => seen.agent_error = some(),
                _ => {}
            }
        }
        seen
    }
}

fn service(value: &str) -> Option<Service> {
    let mut words = value.split_whitespace();
    let (name, state) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Service { name, state, restarts: words.next().and_then(|n| n.parse().ok()).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_the_script_are_read_and_others_passed_over() {
        let text = "service=osier-agent.service active 3\nservice=docker.service failed\nnoise\nfuture=1\nfree=1024\n\
            engine=26.1.5\nagent={\"version\":\"0.1.0\",\"peers\":[],\"network\":{},\"addresses\":{\"range\":\"r\"},\"ready\":true}\n";
        let seen = Seen::parse(text);
        let service = |name: &str, state: &str, restarts| Service { name: name.into(), state: state.into(), restarts };
        let services = [service("osier-agent.service", "active", 3), service("docker.service", "failed", 0)];
        assert_eq!(seen.services, services);
        assert_eq!((seen.free, seen.inodes, seen.engine.as_deref()), (Some(1024), None, Some("26.1.5")));
        assert!(seen.agent.is_some_and(|agent| agent.ready));
        assert!(Seen::parse("agent={").agent_error.unwrap().starts_with("its status cannot be read"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "((service|engine|free|agent|inodes)=?[ a-z0-9{}\":]{0,20}\n){0,6}") {
            let _ = Seen::parse(&text);
        }
    }
}
