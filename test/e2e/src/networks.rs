//! Networks that users make: one on all nodes, apart from every other, with addresses and names of its own.

use crate::{Cluster, eventually, settled, tour::IMAGE};
use anyhow::{Context, Result, ensure};
use std::{net::Ipv4Addr, time::Duration};

/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(30);

/// All of it, on a cluster that has the tour's image.
pub fn all(cluster: &Cluster) -> Result<()> {
    one_network_on_all_nodes(cluster)?;
    connect_and_disconnect(cluster)?;
    addresses(cluster)?;
    a_container_is_who_it_is(cluster)?;
    subnets_are_clear_of_every_nodes_routes(cluster)?;
    a_node_that_was_away(cluster)?;
    hide_and_expose(cluster)?;
    names_by_hand(cluster)?;
    compose(cluster)
}

fn run(cluster: &Cluster, name: &str, node: &str, options: &str) -> Result<()> {
    cluster.sh(&format!("docker run -d --name {name} -e constraint:node=={node} {options} {IMAGE} sleep 100000"))?;
    Ok(())
}

/// What a container's name is for another one, or nothing.
fn asked(cluster: &Cluster, from: &str, name: &str) -> Result<Option<Ipv4Addr>> {
    let output = cluster.try_sh(&format!("docker exec {from} nslookup {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = text.lines().skip_while(|line| !line.starts_with("Name:")).nth(1);
    Ok(answer.and_then(|line| line.split_whitespace().last()?.parse().ok()))
}

fn address(cluster: &Cluster, container: &str, network: &str) -> Result<Ipv4Addr> {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    let shown = cluster.sh(&format!("docker inspect -f '{format}' {container}"))?;
    shown.trim().parse().with_context(|| format!("'{}' of {container} on {network} is no address", shown.trim()))
}

/// A network is there at once on every node, carries packets and names between them, and nothing to or from others.
pub fn one_network_on_all_nodes(cluster: &Cluster) -> Result<()> {
    cluster.sh("docker network create -d osier net-a")?;
    cluster.sh("docker network create -d osier --subnet 10.77.0.0/24 net-b")?;
    let listed = cluster.sh("docker network ls --filter driver=osier --format '{{.Name}}'")?;
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    ensure!(listed == ["net-a", "net-b", "osier"], "{listed:?} are listed");
    run(cluster, "na-1", "datalyse-1", "--network net-a --network-alias both")?;
    run(cluster, "na-2", "datalyse-2", "--network net-a --network-alias both")?;
    run(cluster, "nb-1", "datalyse-1", "--network net-b")?;
    run(cluster, "nb-2", "datalyse-2", "--network net-b")?;
    run(cluster, "no-1", "datalyse-1", "")?;
    cluster.sh("docker exec na-1 ping -c 2 na-2")?;
    cluster.sh("docker exec nb-1 ping -c 2 nb-2.net-b")?;
    let both = cluster.sh("docker exec na-1 nslookup both")?;
    ensure!(both.matches("Address: ").count() == 2, "'both' is not two containers:\n{both}");
    for (from, to, network) in [("na-1", "nb-2", "net-b"), ("nb-1", "na-2", "net-a"), ("no-1", "na-2", "net-a")] {
        let address = address(cluster, to, network)?;
        ensure!(asked(cluster, from, to)?.is_none(), "{from} is told where {to} is");
        // The containers' default route leads out, so what must not arrive is answered by nobody.
        let ping = cluster.try_sh(&format!("docker exec {from} ping -c 1 -W 1 {address}"))?;
        ensure!(!ping.status.success(), "{from} reaches {to}");
    }
    let refused = cluster.try_sh("docker network rm net-a")?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && told.contains("active endpoints (2 of them, on datalyse-1, datalyse-2)"),
        "{told}"
    );
    cluster.sh("docker rm -f na-1 na-2 nb-1 nb-2 no-1")?;
    cluster.sh("docker network rm net-a net-b")?;
    for node in crate::tour::NODES {
        let left = cluster.on(node, "docker network ls --filter name=net- --format '{{.Name}}'; ls /var/lib/osier")?;
        ensure!(!left.contains("net-") && !left.contains("ring-"), "{node} still has {left}");
    }
    Ok(())
}

/// A running container joins a second network, leaves its first, and finds what is on the one it has left.
pub fn connect_and_disconnect(cluster: &Cluster) -> Result<()> {
    cluster.sh("docker network create -d osier net-c")?;
    run(cluster, "nc-1", "datalyse-1", "--network net-c")?;
    run(cluster, "nc-2", "datalyse-2", "")?;
    cluster.sh("docker network connect --alias second net-c nc-2")?;
    eventually(SOON, || cluster.sh("docker exec nc-1 ping -c 1 second").map(drop))?;
    cluster.sh("docker exec nc-2 ping -c 1 nc-1")?;
    let links = cluster.sh("docker exec nc-2 ip -o -4 addr")?;
    ensure!(links.contains(" ethwe ") && links.contains(" ethwe1 "), "the two interfaces are not there:\n{links}");
    cluster.sh("docker network disconnect osier nc-2")?;
    // Its way to the resolver went with the first network.
    eventually(SOON, || cluster.sh("docker exec nc-2 ping -c 1 nc-1").map(drop))?;
    cluster.sh("docker network disconnect net-c nc-2")?;
    eventually(SOON, || {
        ensure!(asked(cluster, "nc-1", "second")?.is_none(), "a container that has left is still named");
        Ok(())
    })?;
    cluster.sh("docker rm -f nc-1 nc-2")?;
    cluster.sh("docker network prune -f")?;
    let left = cluster.sh("docker network ls --filter driver=osier --format '{{.Name}}'")?;
    ensure!(left.trim() == "osier", "after prune there are {left}");
    Ok(())
}

/// A subnet that nobody named is clear of what some other node reaches.
pub fn subnets_are_clear_of_every_nodes_routes(cluster: &Cluster) -> Result<()> {
    let (node, reached) = ("datalyse-2", ["10.0.0.0/9", "10.128.0.0/10"]);
    let routes = |verb: &str| {
        let line = reached.map(|subnet| format!("ip route {verb} {subnet} dev lo")).join(" && ");
        cluster.on(node, &line).map(drop)
    };
    let chosen = |name: &str| {
        cluster.sh(&format!("docker network create -d osier {name}"))?;
        let shown = cluster.sh(&format!("docker network inspect -f '{{{{(index .IPAM.Config 0).Subnet}}}}' {name}"))?;
        cluster.sh(&format!("docker network rm {name}"))?;
        let first: Ipv4Addr = shown.trim().split('/').next().unwrap_or_default().parse()?;
        ensure!(first.octets()[1] > 191, "{first} is on a way of {node}");
        anyhow::Ok(())
    };
    routes("add")?;
    // It takes a moment until the others know; by luck alone one in four would be clear, and six in a row hardly ever.
    let clear = eventually(SOON, || (0..6).try_for_each(|_| chosen("net-clear")));
    routes("del").and(clear)
}

/// Addresses that users choose are given on any node and only once, and stay through restarts of container and agent.
pub fn addresses(cluster: &Cluster) -> Result<()> {
    cluster
        .sh("docker network create -d osier --subnet 10.78.0.0/16 --ip-range 10.78.5.0/24 --gateway 10.78.0.1 net-d")?;
    for (place, ip) in ["10.78.5.10", "10.78.5.100", "10.78.5.200", "10.78.9.9"].iter().enumerate() {
        let name = format!("nd-{place}");
        run(cluster, &name, "datalyse-2", &format!("--network net-d --ip {ip}"))?;
        let got = address(cluster, &name, "net-d")?;
        ensure!(got.to_string() == *ip, "{name} has {got}, not {ip}");
        let twice = cluster.try_sh(&format!(
            "docker run -d --name nd-twice -e constraint:node==datalyse-1 --network net-d --ip {ip} {IMAGE} true"
        ))?;
        ensure!(!twice.status.success(), "{ip} was given twice");
    }
    run(cluster, "nd-any", "datalyse-1", "--network net-d")?;
    let any = address(cluster, "nd-any", "net-d")?;
    ensure!(any.octets()[..3] == [10, 78, 5], "{any} is outside the range");
    cluster.on("datalyse-1", "systemctl kill -s KILL osier-agent")?;
    eventually(SOON, || cluster.sh("docker restart -t 0 nd-any").map(drop))?;
    ensure!(address(cluster, "nd-any", "net-d")? == any, "a restarted container has another address");
    eventually(SOON, || cluster.sh("docker exec nd-3 ping -c 1 nd-any").map(drop))?;
    cluster.sh("docker rm -f nd-0 nd-1 nd-2 nd-3 nd-any")?;
    cluster.sh("docker network rm net-d")?;
    Ok(())
}

/// A container that may set up its own interface and gives it an address that nobody has is answered as itself and not as
/// somebody else, on this node and on another, also after somebody has flushed the rules on its node.
pub fn a_container_is_who_it_is(cluster: &Cluster) -> Result<()> {
    cluster.sh("docker network create -d osier --subnet 10.79.0.0/24 net-i")?;
    run(cluster, "ni-liar", "datalyse-1", "--network net-i --cap-add NET_ADMIN")?;
    run(cluster, "ni-near", "datalyse-1", "--network net-i")?;
    run(cluster, "ni-far", "datalyse-2", "--network net-i")?;
    let own = address(cluster, "ni-liar", "net-i")?;
    let alien = Ipv4Addr::new(10, 79, 0, 250);
    cluster.sh(&format!("docker exec ni-liar ip addr add {alien}/24 dev ethwe"))?;
    let answered = |to: &str, from: Ipv4Addr| {
        let ping = cluster.try_sh(&format!("docker exec ni-liar ping -c 2 -W 1 -I {from} {to}"))?;
        anyhow::Ok(ping.status.success())
    };
    let held_to_itself = || {
        for to in ["ni-near", "ni-far"] {
            ensure!(answered(to, own)?, "{to} does not answer");
            ensure!(!answered(to, alien)?, "{to} answers what is not an address of the asker");
        }
        Ok(())
    };
    held_to_itself()?;
    cluster.on("datalyse-1", "ip netns exec osier nft delete table bridge osier")?;
    eventually(SOON, held_to_itself)?;
    cluster.sh("docker rm -f ni-liar ni-near ni-far")?;
    cluster.sh("docker network rm net-i").map(drop)
}

/// A node that was away learns what was made and what was removed meanwhile.
pub fn a_node_that_was_away(cluster: &Cluster) -> Result<()> {
    let node = "datalyse-2";
    cluster.sh("docker network create -d osier net-e")?;
    cluster.on(node, "systemctl stop docker.socket docker osier-agent")?;
    eventually(SOON, || {
        let info = cluster.sh("docker info 2>&1")?;
        ensure!(info.contains("Status: Unhealthy"), "{node} is still healthy");
        Ok(())
    })?;
    cluster.sh("docker network rm net-e")?;
    cluster.sh("docker network create -d osier net-f")?;
    run(cluster, "nf-1", "datalyse-1", "--network net-f")?;
    cluster.on(node, "systemctl start osier-agent docker.socket docker")?;
    eventually(SOON, || {
        let names = cluster.on(node, "docker network ls --filter driver=osier --format '{{.Name}}'")?;
        ensure!(names.contains("net-f") && !names.contains("net-e"), "{node} has {names}");
        Ok(())
    })?;
    settled(cluster, SOON)?;
    run(cluster, "nf-2", node, "--network net-f")?;
    cluster.sh("docker exec nf-2 ping -c 1 nf-1")?;
    cluster.sh("docker rm -f nf-1 nf-2")?;
    cluster.sh("docker network rm net-f")?;
    Ok(())
}

/// A host is on the overlay until somebody hides it, and then stays off it.
pub fn hide_and_expose(cluster: &Cluster) -> Result<()> {
    let node = "datalyse-1";
    run(cluster, "host-1", "datalyse-2", "")?;
    let container = address(cluster, "host-1", "osier")?;
    let place = cluster.on(node, "osier expose")?;
    let host: Ipv4Addr = place.trim().parse().with_context(|| format!("'{place}' is no address"))?;
    cluster.sh(&format!("docker exec host-1 ping -c 1 {host}"))?;
    cluster.on(node, &format!("ping -c 1 {container}"))?;
    cluster.on(node, "osier hide && systemctl restart osier-agent")?;
    eventually(SOON, || {
        let ping = cluster.try_sh(&format!("docker exec host-1 ping -c 1 -W 1 {host}"))?;
        ensure!(!ping.status.success(), "a hidden host answers");
        let links = cluster.on(node, "ip -o link")?;
        ensure!(!links.contains("osier-host"), "a hidden host still has its interface");
        Ok(())
    })?;
    ensure!(cluster.on(node, "weave expose")?.trim() == host.to_string(), "the host has another address");
    eventually(SOON, || cluster.sh(&format!("docker exec host-1 ping -c 1 {host}")).map(drop))?;
    cluster.sh("docker rm -f host-1").map(drop)
}

/// A name that was set on one node is answered on all, and gone everywhere when it is removed on another.
pub fn names_by_hand(cluster: &Cluster) -> Result<()> {
    cluster.sh("docker network create -d osier net-g")?;
    run(cluster, "ng-1", "datalyse-1", "")?;
    run(cluster, "ng-2", "datalyse-2", "--network net-g")?;
    let outside: Ipv4Addr = [192, 0, 2, 7].into();
    cluster.on("datalyse-master", &format!("osier dns add oracle {outside}"))?;
    for from in ["ng-1", "ng-2"] {
        eventually(SOON, || {
            let answer = asked(cluster, from, "oracle")?;
            ensure!(answer == Some(outside), "oracle is {answer:?} for {from}");
            Ok(())
        })?;
    }
    ensure!(cluster.on("datalyse-2", "weave dns-lookup oracle")?.trim() == outside.to_string(), "weave finds another");
    cluster.on("datalyse-1", "osier dns remove oracle")?;
    for from in ["ng-1", "ng-2"] {
        eventually(SOON, || {
            ensure!(asked(cluster, from, "oracle")?.is_none(), "{from} still finds it");
            Ok(())
        })?;
    }
    cluster.sh("docker rm -f ng-1 ng-2")?;
    cluster.sh("docker network rm net-g").map(drop)
}

/// A compose project whose file says nothing of drivers spans nodes, and taking it up again changes nothing.
pub fn compose(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = format!(
        "version: '3'\nservices:\n  web:\n    image: {IMAGE}\n    command: sleep 100000\n    environment: ['constraint:node==datalyse-1']\n  \
         db:\n    image: {IMAGE}\n    command: sleep 100000\n    environment: ['constraint:node==datalyse-2']\n"
    );
    std::fs::write(folder.path().join("docker-compose.yml"), file)?;
    // Where these are set, Python's HTTP library takes them before the cluster's own CA.
    let clean = "env -u REQUESTS_CA_BUNDLE -u CURL_CA_BUNDLE docker-compose";
    let up = format!("{clean} --project-directory {0} -f {0}/docker-compose.yml -p shop", folder.path().display());
    cluster.sh(&format!("{up} up -d 2>&1"))?;
    eventually(SOON, || cluster.sh("docker exec shop_web_1 ping -c 1 db").map(drop))?;
    let ids = cluster.sh("docker ps -q --no-trunc --filter name=shop_")?;
    let again = cluster.sh(&format!("{up} up -d 2>&1"))?;
    ensure!(again.matches("up-to-date").count() == 2, "a second 'up' changed something:\n{again}");
    ensure!(cluster.sh("docker ps -q --no-trunc --filter name=shop_")? == ids, "a second 'up' made new containers");
    cluster.sh(&format!("{up} down -t 0 2>&1"))?;
    let left = cluster.sh("docker network ls --filter driver=osier --format '{{.Name}}'")?;
    ensure!(left.trim() == "osier", "'down' left {left}");
    Ok(())
}
