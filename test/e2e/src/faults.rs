//! What a cluster must survive: a dead agent under traffic, a node's reboot, a manager that is away, a node that is away.

use crate::{Cluster, doctor, eventually, repair, settled, tour::IMAGE};
use anyhow::{Context, Result, ensure};
use osier_pki::{Authority, Subject};
use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(30);
/// How long a node may take to come back from a reboot.
const REBOOT: Duration = Duration::from_secs(120);
/// How long the agent stays dead under traffic.
const DEAD: u32 = 30;

/// All of them, on a cluster that has the tour's image.
pub fn all(cluster: &Cluster) -> Result<()> {
    strangers_are_refused(cluster)?;
    agent_dies_under_traffic(cluster)?;
    manager_stops(cluster)?;
    rules_are_flushed_and_the_engine_restarts(cluster)?;
    node_reboots(cluster)?;
    node_stops(cluster)?;
    repair::a_host_fails(cluster)?;
    doctor::all(cluster)
}

/// Where a container runs and what it is called there.
struct Placed {
    id: String,
    node: String,
    address: String,
}

fn run(cluster: &Cluster, name: &str, options: &str, command: &str) -> Result<Placed> {
    let id = cluster.sh(&format!("docker run -d --name {name} -h {name}.weave.local {options} {IMAGE} {command}"))?;
    let format = "{{.Node.Name}} {{.NetworkSettings.Networks.osier.IPAddress}}";
    let shown = cluster.sh(&format!("docker inspect --format '{format}' {name}"))?;
    let (node, address) = shown.trim().split_once(' ').context("inspect names no node and address")?;
    Ok(Placed { id: id.trim().to_owned(), node: node.to_owned(), address: address.to_owned() })
}

/// Two containers on two different nodes.
fn pair(cluster: &Cluster, a: &str, b: &str) -> Result<(Placed, Placed)> {
    let (a, b) = (run(cluster, a, "", "sleep 100000")?, run(cluster, b, "", "sleep 100000")?);
    ensure!(a.node != b.node, "both containers are on {}", a.node);
    Ok((a, b))
}

/// The agent of one node is killed with -9 and kept from starting for 30 s, under a ping that crosses nodes: no packet is
/// lost, and afterwards everything is as before.
pub fn agent_dies_under_traffic(cluster: &Cluster) -> Result<()> {
    let (a, b) = pair(cluster, "kill-a", "kill-b")?;
    cluster.sh(&format!("docker exec kill-a ping -c 2 {}", b.address))?;
    let count = DEAD * 5 + 50;
    let line = format!("docker exec {} ping -i 0.2 -c {count} {}", a.id, b.address);
    // The ping runs through the engine of its node itself: the proxy there is about to die.
    let mut ssh = cluster.shell(&format!("ssh {} {line}", a.node))?;
    let mut ping = ssh.stdout(Stdio::piped()).spawn()?;
    let incarnation = || cluster.on(&a.node, "cat /var/lib/osier/incarnation");
    let lives = incarnation()?;
    let state = || cluster.on(&a.node, "systemctl show --property ActiveState --value osier-agent");
    let dead = || {
        let state = state()?;
        ensure!(["inactive", "failed"].contains(&state.trim()), "the agent is {state}");
        Ok(())
    };
    cluster.on(&a.node, "systemctl mask --runtime --quiet osier-agent && systemctl kill -s KILL osier-agent")?;
    let died = Instant::now();
    let stayed_dead = eventually(SOON, dead).and_then(|()| {
        // Not a wait for something to happen: this is how long the agent is to be dead.
        std::thread::sleep(Duration::from_secs(DEAD.into()).saturating_sub(died.elapsed()));
        dead()
    });
    cluster.on(&a.node, "systemctl unmask --runtime --quiet osier-agent && systemctl start osier-agent")?;
    stayed_dead?;
    ensure!(incarnation()? != lives, "the agent has not started anew");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut ping.stdout.take().context("no output")?, &mut text)?;
    ping.wait()?;
    let summary = format!("{count} packets transmitted, {count} packets received, 0% packet loss");
    ensure!(text.contains(&summary), "packets were lost:\n{}", text.lines().last().unwrap_or_default());
    resolves(cluster, "kill-b", "kill-a", &a.address)?;
    cluster.sh("docker rm -f kill-a kill-b")?;
    Ok(())
}

/// `from` finds `name` at `address`.
fn resolves(cluster: &Cluster, from: &str, name: &str, address: &str) -> Result<()> {
    eventually(SOON, || {
        let answer = cluster.sh(&format!("docker exec {from} nslookup {name}.weave.local"))?;
        ensure!(answer.contains(&format!("{address}\n")), "{name} is not {address} in:\n{answer}");
        Ok(())
    })
}

/// Somebody flushes all packet rules of a node under traffic: no packet between nodes is lost. Then its engine restarts (which
/// brings Docker's own rules back): its `--restart always` container is back with its address, its name and its network.
pub fn rules_are_flushed_and_the_engine_restarts(cluster: &Cluster) -> Result<()> {
    cluster.sh("docker network create -d osier net-r")?;
    let stays = run(cluster, "rule-a", "--restart always", "sleep 100000")?;
    let other = run(cluster, "rule-b", "", "sleep 100000")?;
    ensure!(other.node != stays.node, "both containers are on {}", stays.node);
    for name in ["rule-a", "rule-b"] {
        cluster.sh(&format!("docker network connect net-r {name}"))?;
    }
    let line = format!("docker exec rule-b ping -i 0.2 -c 40 {}", stays.address);
    let mut ping = cluster.shell(&line)?.stdout(Stdio::piped()).spawn()?;
    // Both generations of rules, as far as the node has them.
    let flush = "nft flush ruleset 2>/dev/null; for t in filter nat mangle raw; do iptables -t $t -F; iptables -t $t -X; done; \
                 iptables -P FORWARD DROP";
    cluster.on(&stays.node, flush)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut ping.stdout.take().context("no output")?, &mut text)?;
    ping.wait()?;
    ensure!(text.contains("40 packets transmitted, 40 packets received"), "packets were lost:\n{text}");
    cluster.on(&stays.node, "systemctl restart docker")?;
    eventually(SOON, || {
        let format = "{{.State.Running}} {{.NetworkSettings.Networks.osier.IPAddress}}";
        let state = cluster.sh(&format!("docker inspect --format '{format}' rule-a"))?;
        ensure!(state.trim() == format!("true {}", stays.address), "rule-a is '{}'", state.trim());
        Ok(())
    })?;
    resolves(cluster, "rule-b", "rule-a", &stays.address)?;
    eventually(SOON, || cluster.sh("docker exec rule-b ping -c 1 rule-a.net-r").map(drop))?;
    cluster.sh("docker rm -f rule-a rule-b")?;
    cluster.sh("docker network rm net-r").map(drop)
}

/// A node reboots: its `--restart always` container is back with its address and its name.
pub fn node_reboots(cluster: &Cluster) -> Result<()> {
    let stays = run(cluster, "boot-a", "--restart always", "sleep 100000")?;
    let watcher = run(cluster, "boot-b", "", "sleep 100000")?;
    ensure!(watcher.node != stays.node, "both containers are on {}", stays.node);
    // systemd takes the connection down with it.
    let _ = cluster.try_on(&stays.node, "systemctl reboot")?;
    cluster.boot_again(&stays.node)?;
    eventually(REBOOT, || {
        let format = "{{.State.Running}} {{.NetworkSettings.Networks.osier.IPAddress}}";
        let state = cluster.sh(&format!("docker inspect --format '{format}' boot-a"))?;
        ensure!(state.trim() == format!("true {}", stays.address), "boot-a is '{}'", state.trim());
        Ok(())
    })?;
    resolves(cluster, "boot-b", "boot-a", &stays.address)?;
    eventually(SOON, || cluster.sh(&format!("docker exec boot-b ping -c 2 {}", stays.address)).map(|_| ()))?;
    cluster.sh("docker rm -f boot-a boot-b")?;
    Ok(())
}

/// The manager stops: containers talk and names resolve.
pub fn manager_stops(cluster: &Cluster) -> Result<()> {
    let (a, b) = pair(cluster, "mgr-a", "mgr-b")?;
    cluster.on("datalyse-master", "systemctl stop osier-manager")?;
    let asked = cluster.on(&a.node, &format!("docker exec {} ping -c 3 mgr-b", a.id));
    cluster.on("datalyse-master", "systemctl start osier-manager")?;
    let asked = asked?;
    ensure!(asked.contains(&b.address) && asked.contains(" 0% packet loss"), "{asked}");
    // A manager that has read no node yet knows no containers.
    settled(cluster, SOON)?;
    cluster.sh("docker rm -f mgr-a mgr-b").map(drop)
}

/// One node is stopped: `info` says so and why, `ps` answers at once, `run` goes elsewhere.
pub fn node_stops(cluster: &Cluster) -> Result<()> {
    let gone = "datalyse-2";
    cluster.stop_node(gone)?;
    eventually(SOON, || {
        let info = cluster.sh("docker info 2>&1")?;
        let block: Vec<&str> = info.lines().skip_while(|l| !l.contains(&format!("{gone}: "))).take(10).collect();
        ensure!(block.iter().any(|l| l.contains("Status: Unhealthy")), "{gone} is not Unhealthy");
        let reason = block.iter().find(|l| l.contains("Error: ")).context("no reason is given")?;
        ensure!(reason.split("Error: ").nth(1).is_some_and(|r| r.trim().len() > 5), "'{reason}' says nothing");
        let started = Instant::now();
        cluster.sh("docker ps")?;
        ensure!(started.elapsed() < Duration::from_secs(1), "ps took {:?}", started.elapsed());
        Ok(())
    })?;
    for i in 0..3 {
        let placed = run(cluster, &format!("stop-{i}"), "", "sleep 100000")?;
        ensure!(placed.node != gone, "a container went to the node that is away");
    }
    cluster.start_node(gone)?;
    settled(cluster, REBOOT)?;
    cluster.sh("docker rm -f stop-0 stop-1 stop-2")?;
    Ok(())
}

/// Who may not talk to the cluster: no certificate, one of another CA, an expired one. The operator's own may.
pub fn strangers_are_refused(cluster: &Cluster) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let operator = PathBuf::from(cluster.docker_env()?.remove("DOCKER_CERT_PATH").context("no DOCKER_CERT_PATH")?);
    let now = OffsetDateTime::now_utc();
    let subject = Subject { name: "stranger".into(), ..Subject::default() };
    let theirs = Authority::create("another", now)?.issue(&subject, now)?;
    let pem = |name: &str| std::fs::read_to_string(operator.join(name));
    let ours = Authority::load(pem("ca.pem")?, pem("ca-key.pem")?)?;
    let expired = ours.issue_until(&subject, now, now - time::Duration::hours(1))?;
    let mut identities = vec![(String::new(), true)];
    for (name, issued) in [("another", theirs), ("expired", expired)] {
        let (cert, key) = (dir.path().join(format!("{name}.pem")), dir.path().join(format!("{name}-key.pem")));
        std::fs::write(&cert, issued.cert_pem)?;
        std::fs::write(&key, issued.key_pem)?;
        identities.push((format!("--cert {} --key {}", cert.display(), key.display()), true));
    }
    let own = operator.display();
    identities.push((format!("--cert {own}/cert.pem --key {own}/key.pem"), false));
    for address in ["datalyse-master:3376", "datalyse-1:12375"] {
        for (identity, refused) in &identities {
            let call = format!("curl --silent --show-error --cacert {own}/ca.pem {identity} https://{address}/_ping");
            let output = cluster.try_sh(&call)?;
            ensure!(output.status.success() != *refused, "{address} answered otherwise to '{identity}': {output:?}");
        }
    }
    Ok(())
}
