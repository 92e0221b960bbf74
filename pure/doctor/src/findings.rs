//! The rules: what of that which was seen is a finding, how bad it is, and what mends it.

use crate::{Seen, seen::Agent};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// KiB free below `/var/lib` that are worth a word, and those with which nothing goes on.
const LOW: u64 = 1 << 20;
const FULL: u64 = 50 << 10;
/// Files that can still be made there, which are worth a word.
const FEW_INODES: u64 = 10_000;
/// How often systemd may have started a service anew before that is worth a word.
const RESTARTS: u32 = 3;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It works, and may not go on doing so.
    Warning,
    /// Something does not work.
    Failure,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The host, or nothing where it is of the cluster as a whole.
    pub host: Option<String>,
    /// What is wrong, as a sentence without its stop.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// What is wrong with hosts of one cluster, the worst first. `version` is that of the program that asks.
pub fn diagnose(hosts: &BTreeMap<String, Seen>, version: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (host, seen) in hosts {
        let found = of_host(host, seen, version);
        findings.extend(found.into_iter().map(|(level, what, fix)| Finding {
            level,
            host: Some(host.clone()),
            what,
            fix,
        }));
    }
    findings.extend(of_mesh(hosts));
    findings.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.host.cmp(&b.host)));
    findings
}

type Found = (Level, String, String);

fn of_host(host: &str, seen: &Seen, version: &str) -> Vec<Found> {
    use Level::{Failure, Warning};
    let mut found: Vec<Found> = Vec::new();
    for service in &seen.services {
        let (name, unit) = (&service.name, service.name.trim_end_matches(".service"));
        let logs = format!("'osier logs -l {host} -u {unit}' shows what it said");
        match service.state.as_str() {
            "active" | "activating" | "reloading" if service.restarts < RESTARTS => {}
            "active" | "activating" | "reloading" => {
                let what =
                    format!("{name} runs and had to be started anew {} times since it was set up", service.restarts);
                found.push((Warning, what, logs));
            }
            state => {
                let start = format!("{logs}; 'osier exec -l {host} -b -- systemctl start {unit}' starts it");
                found.push((Failure, format!("{name} is {state}"), start));
            }
        }
    }
    if let Some(error) = &seen.engine_error {
        let fix = format!("'osier logs -l {host} -u docker' shows what the engine said");
        found.push((Failure, format!("its Docker engine does not answer: {error}"), fix));
    }
    match seen.free {
        Some(kib) if kib < FULL => {
            found.push((
                Failure,
                format!("its disk is full: {} MiB are free below /var/lib", kib >> 10),
                freeing(host),
            ));
        }
        Some(kib) if kib < LOW => {
            let what = format!("its disk is nearly full: {} MiB are free below /var/lib", kib >> 10);
            found.push((Warning, what, freeing(host)));
        }
        _ => {}
    }
    if let Some(inodes) = seen.inodes.filter(|inodes| *inodes < FEW_INODES) {
        found.push((Warning, format!("no more than {inodes} files can be made below /var/lib"), freeing(host)));
    }
    match (&seen.agent, &seen.agent_error) {
        (Some(agent), _) => found.extend(of_agent(host, agent, version)),
        (None, Some(error)) => {
            let fix = format!("'osier logs -l {host} -u osier-agent' shows what the agent said");
            found.push((Failure, format!("its agent does not answer: {error}"), fix));
        }
        (None, None) => {}
    }
    found
}

fn freeing(host: &str) -> String {
    format!(
        "'osier exec -l {host} -b -- docker system df' shows what Docker keeps, 'docker system prune' removes what nobody uses"
    )
}

fn of_agent(host: &str, agent: &Agent, version: &str) -> Vec<Found> {
    use Level::{Failure, Warning};
    let logs = format!("'osier logs -l {host} -u osier-agent' shows more");
    let mut found: Vec<Found> = Vec::new();
    if agent.version != version {
        let what = format!("it runs Osier {}, and this is {version}", agent.version);
        found.push((Warning, what, "'osier site' brings this version to all hosts".to_owned()));
    }
    if let Some(problem) = &agent.engine_problem {
        found.push((Failure, format!("its agent cannot follow the engine: {problem}"), logs.clone()));
    } else if !agent.ready {
        found.push((Warning, "its engine is being set up".to_owned(), format!("wait a moment; {logs}")));
    }
    if let Some(problem) = &agent.network.problem {
        found.push((Failure, format!("its part of the network cannot be set up: {problem}"), logs));
    }
    if let Some(conflict) = &agent.addresses.conflict {
        let fix =
            "two machines may run under one identity, or a disk was put back: stop the one that is not to be there";
        found.push((Failure, format!("it gives no addresses out: {conflict}"), fix.to_owned()));
    }
    for problem in &agent.network_problems {
        found.push((Warning, problem.clone(), "'docker network inspect' shows the network on each node".to_owned()));
    }
    if agent.addresses.frozen > 0 {
        let what =
            format!("{} addresses of {} of removed nodes are frozen", agent.addresses.frozen, agent.addresses.range);
        let fix = format!(
            "'osier status' on {host} says which nodes must be heard first; 'osier node rm --force' does without"
        );
        found.push((Warning, what, fix));
    }
    found
}

/// What nodes say of each other, once for all who say it.
fn of_mesh(hosts: &BTreeMap<String, Seen>) -> Vec<Finding> {
    let agents = || hosts.iter().filter_map(|(host, seen)| Some((host, seen.agent.as_ref()?)));
    let mut silent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut apart: BTreeSet<(String, String)> = BTreeSet::new();
    for (host, agent) in agents() {
        for peer in agent.peers.iter().filter(|peer| !peer.alive) {
            silent.entry(&peer.name).or_default().insert(host);
        }
        for reconnect in &agent.reconnects {
            let Some(peer) = agent.peers.iter().find(|p| p.peer == reconnect.peer) else { continue };
            if peer.alive {
                let what = format!("{host} has no connection to {} at {}", peer.name, reconnect.address);
                apart.insert((what, reconnect.problem.clone()));
            }
        }
    }
    let all = agents().count();
    let finding = |level, what, fix| Finding { level, host: None, what, fix };
    let mut findings = Vec::new();
    for (peer, hosts) in silent {
        let who = if hosts.len() + 1 >= all { "any other node".to_owned() } else { Vec::from_iter(hosts).join(", ") };
        let fix = format!(
            "is {peer} up, and do UDP and TCP 6783 get through between the nodes? One that is gone for good: 'osier node rm {peer}'"
        );
        findings.push(finding(Level::Failure, format!("{peer} does not answer {who} in the mesh"), fix));
    }
    for (what, problem) in apart {
        let fix = "TCP 6783 must get through between the nodes in both directions".to_owned();
        findings.push(finding(Level::Warning, format!("{what}: {problem}"), fix));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(lines: &str, agent: serde_json::Value) -> Seen {
        Seen::parse(&format!("{lines}\nagent={agent}\n"))
    }

    fn agent(dead: &str) -> serde_json::Value {
        let peer = |name: &str| json!({"name": name, "peer": name, "alive": name != dead});
        json!({
            "version": "1", "peers": [peer("a"), peer("b"), peer("c")], "network": {"problem": null}, "ready": true,
            "addresses": {"range": "10.1.1.0/24", "frozen": 0, "conflict": null},
        })
    }

    const GOOD: &str =
        "service=osier-agent.service active 0\nservice=docker.service active 1\nfree=99999999\ninodes=999999";

    #[test]
    fn a_healthy_cluster_has_no_findings() {
        let hosts = ["a", "b", "c"].map(|host| (host.to_owned(), seen(GOOD, agent("")))).into();
        assert_eq!(diagnose(&hosts, "1"), []);
        assert_eq!(diagnose(&BTreeMap::new(), "1"), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_found_with_its_host_and_its_fix_the_worst_first() {
        let mut sick = agent("");
        sick["engine_problem"] = json!("no socket");
        sick["addresses"]["conflict"] = json!("twice");
        sick["addresses"]["frozen"] = json!(7);
        sick["reconnects"] = json!([{"peer": "c", "address": "192.0.2.3:6783", "problem": "refused"}]);
        let lines =
            "service=docker.service failed 0\nservice=osier-agent.service active 9\nengine_error=no socket\nfree=2048";
        let hosts: BTreeMap<String, Seen> =
            [("a".to_owned(), seen(lines, sick)), ("b".to_owned(), seen(GOOD, agent("")))].into();
        let found = diagnose(&hosts, "2");
        let failures = found.iter().take_while(|f| f.level == Level::Failure).count();
        assert!(found[failures..].iter().all(|f| f.level == Level::Warning), "{found:?}");
        for (what, host, level) in [
            ("docker.service is failed", Some("a"), Level::Failure),
            ("its Docker engine does not answer: no socket", Some("a"), Level::Failure),
            ("its disk is full: 2 MiB are free below /var/lib", Some("a"), Level::Failure),
            ("its agent cannot follow the engine: no socket", Some("a"), Level::Failure),
            ("it gives no addresses out: twice", Some("a"), Level::Failure),
            ("it runs Osier 1, and this is 2", Some("b"), Level::Warning),
            (
                "osier-agent.service runs and had to be started anew 9 times since it was set up",
                Some("a"),
                Level::Warning,
            ),
            ("7 addresses of 10.1.1.0/24 of removed nodes are frozen", Some("a"), Level::Warning),
            ("a has no connection to c at 192.0.2.3:6783: refused", None, Level::Warning),
        ] {
            let finding = found.iter().find(|f| f.what == what && f.host.as_deref() == host);
            assert!(finding.is_some_and(|f| f.level == level && !f.fix.is_empty()), "no '{what}' in {found:?}");
        }
    }

    #[test]
    fn a_silent_node_is_one_finding_whoever_says_so() {
        let hosts = ["a", "b"].map(|host| (host.to_owned(), seen(GOOD, agent("c")))).into();
        let found = diagnose(&hosts, "1");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].what.as_str(), &found[0].host), ("c does not answer any other node in the mesh", &None));
        let hosts = [("a", "c"), ("b", ""), ("d", ""), ("e", "")];
        let hosts = hosts.map(|(host, dead)| (host.to_owned(), seen(GOOD, agent(dead)))).into();
        assert_eq!(diagnose(&hosts, "1")[0].what, "c does not answer a in the mesh");
    }
}
