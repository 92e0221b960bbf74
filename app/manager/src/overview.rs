//! The cluster on one screen: `/osier/v1/status` on the manager, `osier status` on the operator's machine.
//!
//! Must not know how the mesh works: what it is like is asked of the agent beside the manager, which hears of all others.

use crate::{
    client::{ManagerArgs, Place},
    nodes::{NodeReport, table},
};
use http::Method;
use osier_engine::{BoxError, Client};
use osier_model::{Bytes, Cpus};
use osier_nodes::Health;
use osier_ui::{Failure, FailureExt, Ui};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Everything on the screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// The manager's version.
    pub(crate) version: String,
    /// The newest version of Docker's API that the manager speaks.
    pub(crate) api: String,
    pub(crate) nodes: Vec<NodeReport>,
    /// Absent where the manager was started by hand, without a network.
    pub(crate) network: Option<Network>,
}

/// The cluster's network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The range of container addresses.
    pub(crate) range: String,
    pub(crate) members: usize,
    /// Members that answer.
    pub(crate) alive: usize,
    /// Pairs of members that answer, and those of them between which a control connection stands.
    pub(crate) pairs: usize,
    pub(crate) links: usize,
    /// What is wrong with it, a sentence each.
    pub(crate) problems: Vec<String>,
}

/// What an agent says of itself and the mesh, as far as it is of interest here.
#[derive(Debug, Clone, Default, Deserialize)]
struct Told {
    cluster: String,
    peers: Vec<Peer>,
    addresses: Addresses,
    #[serde(default)]
    network_problems: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Peer {
    name: String,
    peer: String,
    alive: bool,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Link {
    peer: String,
    established: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Addresses {
    range: String,
    #[serde(default)]
    frozen: u64,
    #[serde(default)]
    unreachable: u64,
    #[serde(default)]
    conflict: Option<String>,
}

/// Asks the agent beside this manager what the network is like.
pub(crate) async fn network(agent: &Client) -> Network {
    let told = async {
        let call = agent.json::<Told>(Method::GET, "/v1/status", None);
        let answer = tokio::time::timeout(ANSWER, call).await.map_err(|_| "it does not answer".to_owned())?;
        answer.map_err(|e| BoxError::from(e.chain()))
    };
    match told.await {
        Ok(told) => judge(&told),
        Err(error) => {
            let problems = vec![format!("the agent beside the manager cannot be asked: {error}")];
            Network { problems, ..Network::default() }
        }
    }
}

fn judge(told: &Told) -> Network {
    let alive: Vec<&Peer> = told.peers.iter().filter(|p| p.alive).collect();
    let standing: BTreeSet<(&str, &str)> = alive
        .iter()
        .flat_map(|p| p.links.iter().filter(|l| l.established).map(|l| (p.peer.as_str(), l.peer.as_str())))
        .collect();
    let mut problems: Vec<String> = Vec::new();
    problems.extend(told.peers.iter().filter(|p| !p.alive).map(|p| format!("{} does not answer in the mesh", p.name)));
    let (mut pairs, mut links) = (0, 0);
    for (i, a) in alive.iter().enumerate() {
        for b in &alive[i + 1..] {
            pairs += 1;
            let stands = |a: &Peer, b: &Peer| standing.contains(&(a.peer.as_str(), b.peer.as_str()));
            if stands(a, b) || stands(b, a) {
                links += 1;
            } else {
                problems.push(format!("no connection stands between {} and {}", a.name, b.name));
            }
        }
    }
    let Addresses { range, frozen, unreachable, conflict } = &told.addresses;
    problems.extend(conflict.iter().map(|conflict| format!("the manager's node gives no address out: {conflict}")));
    if *frozen > 0 {
        problems.push(format!("{frozen} addresses of removed nodes are frozen until all others have been heard"));
    }
    if *unreachable > 0 {
        problems.push(format!("{unreachable} addresses are of nodes that do not answer"));
    }
    problems.extend(told.network_problems.iter().cloned());
    let (members, cluster) = (told.peers.len(), told.cluster.clone());
    Network { cluster, range: range.clone(), members, alive: alive.len(), pairs, links, problems }
}

/// Shows it. `place` knows the clusters of this machine, by their names.
pub async fn run_overview(
    args: &ManagerArgs,
    ui: &Ui,
    place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
) -> Result<(), Failure> {
    let manager = args.manager(place).await?;
    let overview: Result<Overview, Failure> = manager.json(Method::GET, "/osier/v1/status", None).await;
    let overview = overview.hint("on the manager's host, 'systemctl status osier-manager osier-agent' says more")?;
    if ui.is_json() {
        ui.json(&overview);
    } else {
        ui.line(render(&overview, manager.name()));
    }
    Ok(())
}

fn render(overview: &Overview, manager: &str) -> String {
    let nodes = &overview.nodes;
    let sum = |of: fn(&NodeReport) -> u64| nodes.iter().map(of).sum::<u64>();
    let count = |of: fn(&NodeReport) -> usize| nodes.iter().map(of).sum::<usize>();
    let healthy = nodes.iter().filter(|n| n.status == Health::Healthy).count();
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes.iter().filter(|n| !n.engine.is_empty()) {
        *versions.entry(&node.engine).or_default() += 1;
    }
    let versions: Vec<String> = versions.into_iter().map(|(version, n)| format!("{n} x {version}")).collect();
    let reserved: f64 = nodes.iter().map(|n| n.reserved_cpus).sum();
    let reserved = Cpus((reserved * 1e9).round() as u64);
    let memory = (Bytes(sum(|n| n.reserved_memory)), Bytes(sum(|n| n.memory)));
    let mut rows = vec![
        ("Manager", format!("{manager} (Osier {}, Docker API up to {})", overview.version, overview.api)),
        ("Nodes", format!("{healthy} of {} healthy, engines {}", nodes.len(), versions.join(", "))),
        (
            "Containers",
            format!(
                "{} running, {} paused, {} stopped",
                count(|n| n.containers.running),
                count(|n| n.containers.paused),
                count(|n| n.containers.stopped)
            ),
        ),
        ("CPUs", format!("{reserved} of {} reserved", sum(|n| n.cpus))),
        ("Memory", format!("{} of {} reserved", memory.0, memory.1)),
    ];
    let mut problems: Vec<&str> = Vec::new();
    if let Some(network) = &overview.network {
        rows.insert(0, ("Cluster", network.cluster.clone()));
        let Network { range, members, alive, pairs, links, .. } = network;
        rows.push(("Network", format!("{range}, {alive} of {members} nodes answer, {links} of {pairs} links stand")));
        problems.extend(network.problems.iter().map(String::as_str));
    }
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to text does not fail.
        let _ = writeln!(out, "{:<12}{value}", format!("{key}:"));
    };
    rows.iter().filter(|(_, value)| !value.is_empty()).for_each(|(key, value)| line(key, value));
    problems.iter().for_each(|problem| line("PROBLEM", problem));
    format!("{out}\n{}", table(nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told() -> serde_json::Value {
        let link = |peer: &str, established: bool| json!({"peer": peer, "established": established, "more": 1});
        json!({
            "cluster": "lab",
            "peers": [
                {"name": "a", "peer": "1", "alive": true, "links": [link("2", true), link("3", false)]},
                {"name": "b", "peer": "2", "alive": true, "links": []},
                {"name": "c", "peer": "3", "alive": true, "links": [link("2", true), link("4", true)]},
                {"name": "d", "peer": "4", "alive": false, "links": [link("1", true)]},
            ],
            "addresses": {"range": "10.1.1.0/24", "unreachable": 64, "conflict": null},
            "network_problems": ["the subnet of 'x' is taken"],
        })
    }

    #[test]
    fn a_link_stands_if_either_end_says_so_and_only_between_those_that_answer() {
        let network = judge(&serde_json::from_value(told()).unwrap());
        assert_eq!((network.members, network.alive, network.pairs, network.links), (4, 3, 3, 2));
        let problems = [
            "d does not answer in the mesh",
            "no connection stands between a and c",
            "64 addresses are of nodes that do not answer",
            "the subnet of 'x' is taken",
        ];
        assert_eq!(network.problems, problems);
    }

    #[test]
    fn the_screen_has_everything_on_it() {
        let network = judge(&serde_json::from_value(told()).unwrap());
        let overview =
            Overview { version: "1.2.3".into(), api: "1.51".into(), nodes: Vec::new(), network: Some(network) };
        let again: Overview = serde_json::from_value(serde_json::to_value(&overview).unwrap()).unwrap();
        assert_eq!(again, overview);
        let text = render(&overview, "10.0.0.1:3376");
        for part in [
            "Cluster:    lab\n",
            "Manager:    10.0.0.1:3376 (Osier 1.2.3, Docker API up to 1.51)\n",
            "Network:    10.1.1.0/24, 3 of 4 nodes answer, 2 of 3 links stand\n",
            "PROBLEM:    d does not answer in the mesh\n",
            "AVAILABILITY",
        ] {
            assert!(text.contains(part), "no '{part}' in:\n{text}");
        }
    }
}
