//! Many containers that come and go while agents and engines die, and nothing that is left behind of them.

use crate::{
    Cluster, eventually, settled,
    tour::{IMAGE, NODES},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    process::Stdio,
    time::Duration,
};

/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(30);
/// How long an agent may take to forget what a start that failed has left.
const FORGOTTEN: Duration = Duration::from_secs(180);
/// How many containers start while agents die.
const STARTS: usize = 200;
/// How many commands of the docker command line run at a time.
const AT_ONCE: usize = 16;
/// By how much the agent's memory may grow over all cycles, in KiB: the allocator's slack, not a few KiB per cycle.
const SLACK: u64 = 16 << 10;

/// All of it, with so many containers made and removed in turn.
pub fn all(cluster: &Cluster, cycles: usize) -> Result<()> {
    agents_die_under_starts(cluster)?;
    nothing_is_left_behind(cluster, cycles)?;
    the_engine_restarts_under_its_containers(cluster)
}

/// How many of each.
type Traces = BTreeMap<&'static str, u64>;

/// What containers leave on a node while they are there.
fn traces(cluster: &Cluster, node: &str) -> Result<Traces> {
    let mut found = BTreeMap::new();
    for (what, line) in [
        ("ports on the overlay's bridges", "ip -n osier -br link show type veth | grep -c '^oe' || true"),
        ("ends on the host", "ip -br link show type veth | grep -c '^o[ec]' || true"),
        ("forwarding entries", "bridge -n osier fdb show | grep -c ' dst .* self' || true"),
        ("neighbours", "ip -n osier neigh show nud permanent | wc -l"),
        ("network namespaces", "ls /run/docker/netns 2> /dev/null | grep -vc default || true"),
    ] {
        found.insert(what, cluster.on(node, line)?.trim().parse()?);
    }
    let table: Value = serde_json::from_str(&cluster.on(node, "sed '$d' /var/lib/osier/endpoints.json")?)?;
    found.insert("endpoints", table["endpoints"].as_object().context("no endpoints")?.len() as u64);
    let status: Value = serde_json::from_str(&cluster.on(node, "osier status -o json")?)?;
    found.insert("addresses in use", status["addresses"]["in_use"].as_u64().context("no addresses")?);
    Ok(found)
}

fn all_traces(cluster: &Cluster) -> Result<Vec<Traces>> {
    NODES.iter().map(|node| traces(cluster, node)).collect()
}

/// Waits until there is no more on any node than there was before. (There may be less: an engine takes its time to remove what
/// earlier containers had.)
fn as_before(cluster: &Cluster, before: &[Traces]) -> Result<()> {
    eventually(FORGOTTEN, || {
        let now = all_traces(cluster)?;
        let is_more = |(now, before): (&Traces, &Traces)| now.iter().any(|(what, count)| *count > before[what]);
        ensure!(!now.iter().zip(before).any(is_more), "what containers leave behind was {before:?} and is {now:?}");
        Ok(())
    })
}

/// Two hundred containers start, a few at a time, while one node's agent after the other is killed with -9: whatever was
/// said to run has an address of its own and a name, whatever failed says which node was lost or which call had
/// no answer, and all can be removed.
pub fn agents_die_under_starts(cluster: &Cluster) -> Result<()> {
    let before = all_traces(cluster)?;
    let start = format!(
        "said=$(docker run -d --name many-$1 {IMAGE} sleep 100000 2>&1) && echo started $1 || echo failed $1 $said"
    );
    let line = format!("seq {STARTS} | xargs -P {AT_ONCE} -n 1 sh -c '{start}' sh");
    let mut starting = cluster.shell(&line)?.stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(starting.stdout.take().context("no output")?);
    let (mut said, mut kills) = (String::new(), NODES.iter());
    let mut count = 0;
    while output.read_line(&mut said)? > 0 {
        count += 1;
        // One after the other, while containers start on all nodes.
        if count % (STARTS / (NODES.len() + 1)) == 0
            && let Some(node) = kills.next()
        {
            cluster.on(node, "systemctl kill -s KILL osier-agent")?;
        }
    }
    starting.wait()?;
    ensure!(kills.next().is_none(), "only {count} containers were started");
    crate::show(&said);
    let started: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("started ")).collect();
    ensure!(started.len() >= STARTS / 2, "only {} containers were started", started.len());
    for failed in said.lines().filter(|line| line.starts_with("failed ")) {
        // An engine repeats a plugin call that was cut off without its body.
        let known = failed.contains("osier: the call lacks") || NODES.iter().any(|node| failed.contains(node));
        ensure!(known, "'{failed}' does not say which node it was");
    }
    settled(cluster, SOON)?;
    let format = "{{.Name}} {{.State.Running}} {{.NetworkSettings.Networks.osier.IPAddress}}";
    let names: Vec<String> = started.iter().map(|n| format!("many-{n}")).collect();
    let shown = cluster.sh(&format!("docker inspect -f '{format}' {}", names.join(" ")))?;
    let mut addresses = BTreeMap::<Ipv4Addr, &str>::new();
    for line in shown.lines() {
        let [name, running, address] = line.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("'{line}' is not a name, a state and an address");
        };
        ensure!(running == "true", "{name} was said to be started, and does not run");
        if let Some(other) = addresses.insert(address.parse()?, name) {
            anyhow::bail!("{name} and {other} both have {address}");
        }
    }
    ensure!(addresses.len() == started.len(), "{} of {} are shown", addresses.len(), started.len());
    eventually(SOON, || {
        let ask = names.iter().map(|name| format!("nslookup {name} | grep -c \"^Name:\"")).collect::<Vec<_>>();
        let counts = cluster.sh(&format!("docker exec {} sh -c '{}'", names[0], ask.join("; ")))?;
        ensure!(counts.lines().filter(|count| *count == "1").count() == names.len(), "not all names are known");
        Ok(())
    })?;
    let last = addresses.keys().last().context("no container")?;
    cluster.sh(&format!("docker exec {} ping -c 1 {last}", names[0]))?;
    cluster.sh("docker ps -aq --filter name=many- | xargs docker rm -f > /dev/null")?;
    as_before(cluster, &before)
}

/// What the agent of a node holds: file descriptors, and memory in KiB.
fn held(cluster: &Cluster, node: &str) -> Result<(u64, u64)> {
    let line = "pid=$(systemctl show --property MainPID --value osier-agent); ls /proc/$pid/fd | wc -l; \
                sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$pid/status";
    let shown = cluster.on(node, line)?;
    let mut numbers = shown.split_whitespace().map(str::parse);
    let mut next = || anyhow::Ok(numbers.next().context("too few numbers")??);
    Ok((next()?, next()?))
}

/// Containers come and go, so many of them: no port, address, forwarding entry or namespace stays, and the agents hold no more
/// than after the first of them.
pub fn nothing_is_left_behind(cluster: &Cluster, cycles: usize) -> Result<()> {
    let before = all_traces(cluster)?;
    let run = |count: usize| {
        let line = format!("seq {count} | xargs -P 8 -n 1 sh -c 'docker run --rm {IMAGE} true'");
        cluster.sh(&line).map(drop)
    };
    run(NODES.len() * 8)?;
    as_before(cluster, &before)?;
    let warm = NODES.iter().map(|node| held(cluster, node)).collect::<Result<Vec<_>>>()?;
    run(cycles)?;
    as_before(cluster, &before)?;
    for (node, (files, memory)) in NODES.iter().zip(warm) {
        eventually(SOON, || {
            let (now_files, now_memory) = held(cluster, node)?;
            ensure!(now_files <= files + 8, "the agent of {node} had {files} files open and has {now_files}");
            ensure!(now_memory <= memory + SLACK, "the agent of {node} had {memory} KiB and has {now_memory}");
            Ok(())
        })?;
    }
    Ok(())
}

/// An engine with live-restore restarts under its containers: they run on, no packet is lost, they keep their names, and new ones
/// find them.
pub fn the_engine_restarts_under_its_containers(cluster: &Cluster) -> Result<()> {
    let node = "datalyse-1";
    // No other setting is there: Osier writes none, and a lab's engines come as Debian's package leaves them.
    cluster.on(node, "test ! -e /etc/docker/daemon.json")?;
    cluster.on(node, r#"echo '{"live-restore": true}' > /etc/docker/daemon.json; systemctl reload docker"#)?;
    let lived = lives(cluster, node);
    cluster.on(node, "rm /etc/docker/daemon.json; systemctl reload docker")?;
    lived?;
    cluster.sh("docker rm -f live-a live-b live-c").map(drop)
}

fn lives(cluster: &Cluster, node: &str) -> Result<()> {
    eventually(SOON, || {
        let set = cluster.on(node, "docker info --format '{{.LiveRestoreEnabled}}'")?;
        ensure!(set.trim() == "true", "the engine has not taken live-restore");
        Ok(())
    })?;
    let run = |name: &str, node: &str| {
        let line = format!("docker run -d --name {name} -e constraint:node=={node} {IMAGE} sleep 100000");
        cluster.sh(&line).map(drop)
    };
    run("live-a", node)?;
    run("live-b", "datalyse-2")?;
    let started = || cluster.sh("docker inspect -f '{{.State.Pid}} {{.State.StartedAt}}' live-a");
    let before = started()?;
    let mut ping = cluster.shell("docker exec live-b ping -i 0.2 -c 60 live-a")?.stdout(Stdio::piped()).spawn()?;
    let output = ping.stdout.take().context("no output")?;
    cluster.on(node, "systemctl restart docker")?;
    let text = std::io::read_to_string(output)?;
    ping.wait()?;
    ensure!(text.contains("60 packets transmitted, 60 packets received"), "packets were lost:\n{text}");
    settled(cluster, SOON)?;
    ensure!(started()? == before, "the container was started anew");
    run("live-c", node)?;
    cluster.sh("docker exec live-c ping -c 1 live-a")?;
    cluster.sh("docker exec live-a ping -c 1 live-b").map(drop)
}
