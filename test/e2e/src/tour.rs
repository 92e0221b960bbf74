//! The seed document's tour, command for command: provision, look, run, ping, clean up.

use crate::{
    Cluster, eventually, show,
    terminal::{Terminal, with_terminal},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The image everything runs: busybox, made on the spot.
pub const IMAGE: &str = "osier/tour";
/// The lab's nodes, named as the seed's.
pub const NODES: [&str; 3] = ["datalyse-1", "datalyse-2", "datalyse-master"];
/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(20);

/// Takes the whole tour on a lab whose hosts are up.
pub fn take(cluster: &Cluster) -> Result<()> {
    provision(cluster)?;
    create_token(cluster)?;
    info(cluster)?;
    screen(cluster)?;
    list(cluster)?;
    load_image(cluster)?;
    ps(cluster)?;
    weave_status(cluster)?;
    run_ifconfig(cluster)?;
    ping(cluster)?;
    ad_hoc(cluster)
}

/// `osier site`, twice: the second run has nothing to do.
pub fn provision(cluster: &Cluster) -> Result<()> {
    let inventory = cluster.inventory().display().to_string();
    cluster.osier(&["site", "-i", &inventory])?;
    let again = cluster.osier(&["site", "-i", &inventory, "-o", "json"])?;
    let again: Value = serde_json::from_str(&again).context("read 'osier site -o json'")?;
    let hosts = again["hosts"].as_array().context("'osier site -o json' names no hosts")?;
    ensure!(hosts.len() == NODES.len(), "expected {} hosts in {again}", NODES.len());
    for host in hosts {
        ensure!(host["changed"] == 0, "a second run changed something: {host}");
    }
    Ok(())
}

/// The cluster on one screen.
fn screen(cluster: &Cluster) -> Result<()> {
    eventually(SOON, || {
        let screen = cluster.osier(&["status", "--cluster", cluster.name()])?;
        for row in ["Nodes:      3 of 3 healthy", "3 of 3 nodes answer, 3 of 3 links stand"] {
            ensure!(screen.contains(row), "'{row}' is missing in:\n{screen}");
        }
        ensure!(!screen.contains("PROBLEM"), "a new cluster has problems:\n{screen}");
        Ok(())
    })?;
    let screen = cluster.osier(&["status", "--cluster", cluster.name(), "-o", "json"])?;
    let screen: Value = serde_json::from_str(&screen).context("read 'osier status -o json'")?;
    ensure!(screen["network"]["links"] == 3 && screen["nodes"].as_array().is_some_and(|n| n.len() == 3), "{screen}");
    Ok(())
}

fn create_token(cluster: &Cluster) -> Result<()> {
    let token = cluster.sh("docker-swarm create")?;
    let token = token.trim();
    ensure!(token.len() == 32 && token.bytes().all(|b| b.is_ascii_hexdigit()), "'{token}' is not a token");
    Ok(())
}

/// `docker info` as classic Swarm showed it.
pub fn info(cluster: &Cluster) -> Result<()> {
    eventually(SOON, || {
        let info = cluster.sh("docker -H tcp://datalyse-master:3376 info 2>&1")?;
        for row in ["Strategy: spread", "Filters: ", "Nodes: 3"] {
            ensure!(info.contains(row), "'{row}' is missing");
        }
        for node in NODES {
            let row = info.lines().position(|l| l.trim_start().starts_with(&format!("{node}: ")));
            let row = row.with_context(|| format!("node {node} is missing"))?;
            let block: Vec<&str> = info.lines().skip(row).take(8).collect();
            ensure!(block[0].trim_end().ends_with(":12375"), "'{}' does not end in :12375", block[0]);
            for part in ["Containers: ", "Reserved CPUs: 0 / ", "Reserved Memory: 0 B / ", "Status: Healthy"] {
                ensure!(block.iter().any(|l| l.contains(part)), "'{part}' is missing below {node}");
            }
        }
        Ok(())
    })
}

fn list(cluster: &Cluster) -> Result<()> {
    let vars = std::fs::read_to_string(cluster.inventory())?;
    let token = vars.lines().find_map(|l| l.strip_prefix("swarm_token="));
    let token = token.context("the inventory has no swarm_token")?.trim();
    let listed = cluster.sh(&format!("docker-swarm list token://{token}"))?;
    let listed: BTreeSet<&str> = listed.lines().collect();
    let expected: BTreeSet<String> = NODES.iter().map(|n| format!("{n}:12375")).collect();
    ensure!(listed.iter().copied().eq(expected.iter().map(String::as_str)), "listed {listed:?}");
    Ok(())
}

/// Makes an image archive of the host's static busybox and loads it through the manager.
pub fn load_image(cluster: &Cluster) -> Result<()> {
    let dir = tempfile::tempdir()?;
    cluster.sh(&format!("docker load -i {}", make_image(dir.path())?.display()))?;
    let images = cluster.sh("docker images")?;
    ensure!(images.contains(IMAGE), "the image is not listed");
    Ok(())
}

/// Makes the image archive in a folder.
pub(crate) fn make_image(folder: &Path) -> Result<PathBuf> {
    let script = r#"set -e
        mkdir -p root/bin root/tmp root/etc
        cp "$(command -v busybox)" root/bin/busybox
        for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "root/bin/$applet"; done
        tar --numeric-owner --owner=0 --group=0 --sort=name --mtime=@0 -C root -cf layer.tar .
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        printf '{"created":"2015-06-03T13:33:09Z","architecture":"%s","os":"linux","config":{"Cmd":["sh"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
            "$(dpkg --print-architecture)" "$sum" > config.json
        printf '[{"Config":"config.json","RepoTags":["IMAGE:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar -cf image.tar manifest.json config.json layer.tar"#;
    let made = Command::new("sh").args(["-c", &script.replace("IMAGE", IMAGE)]).current_dir(folder).status()?;
    ensure!(made.success(), "cannot make the image from busybox (package busybox-static)");
    Ok(folder.join("image.tar"))
}

fn ps(cluster: &Cluster) -> Result<()> {
    cluster.sh(&format!("docker run -d --name tour-ps {IMAGE} sleep 300"))?;
    let ps = cluster.sh("docker -H tcp://datalyse-master:3376 ps")?;
    let row = ps.lines().find(|l| l.contains("tour-ps")).context("the container is not listed")?;
    let name = row.split_whitespace().last().unwrap_or_default();
    ensure!(NODES.iter().any(|n| name == format!("{n}/tour-ps")), "'{name}' is not node/name");
    cluster.sh("docker rm -f tour-ps")?;
    Ok(())
}

/// `weave status` in the seed's layout, each value compared with the kernel's and the engines' own readings.
fn weave_status(cluster: &Cluster) -> Result<()> {
    let id = cluster.sh(&format!("docker run -d --name tour-w -h w.weave.local {IMAGE} sleep 300"))?;
    let id12 = id.trim().get(..12).context("docker run printed no id")?.to_owned();
    let inspect = cluster.sh("docker inspect tour-w")?;
    let inspect: Value = serde_json::from_str(&inspect)?;
    let endpoint = &inspect[0]["NetworkSettings"]["Networks"]["osier"];
    let (ip, mac) = (text(&endpoint["IPAddress"])?, text(&endpoint["MacAddress"])?);
    let node = text(&inspect[0]["Node"]["Name"])?;
    let status = eventually(SOON, || {
        let status = cluster.sh("ssh datalyse-master weave status")?;
        ensure!(status.contains(&format!("{id12} {ip} w.weave.local.")), "the name is not in the zone database");
        ensure!(status.lines().any(|l| l.starts_with(&format!("{mac} -> "))), "{mac} is not among the MACs");
        Ok(status)
    })?;

    let lines: Vec<&str> = status.lines().collect();
    let order = [
        "weave router ",
        "Encryption off",
        "Our name is ",
        "Sniffing traffic on &{",
        "MACs:",
        "Peers:",
        "Routes:",
        "unicast:",
        "broadcast:",
        "Reconnects:",
        "Allocator subnet 10.1.1.0/24",
        "weave DNS ",
        "Local domain weave.local.",
        "Listen address ",
        "mDNS interface &{",
        "Fallback DNS config &{[",
        "Zone database:",
    ];
    let mut at = 0;
    for head in order {
        let found = lines[at..].iter().position(|l| l.starts_with(head));
        at += found.with_context(|| format!("'{head}' is missing or out of order"))? + 1;
    }
    let line_after = |head: &str| lines.iter().find_map(|l| l.strip_prefix(head)).unwrap_or_default().to_owned();
    let bridge = cluster.on("datalyse-master", "ip -n osier -o link show osier0")?;
    let sniffing = line_after("Sniffing traffic on &{");
    let fields: Vec<&str> = sniffing.split_whitespace().collect();
    ensure!(bridge.starts_with(&format!("{}: osier0", fields[0])), "index of {sniffing} is not that of {bridge}");
    ensure!(bridge.contains(&format!("mtu {}", fields[1])), "MTU of {sniffing} is not that of {bridge}");
    ensure!(bridge.contains(fields[3]), "MAC of {sniffing} is not that of {bridge}");

    let owner = lines.iter().find(|l| l.starts_with(mac)).context("the MAC vanished")?;
    ensure!(owner.contains(&format!("({node})")), "'{owner}' does not name {node}");
    let peers = lines.iter().filter(|l| l.contains(") (v")).count();
    ensure!(peers == NODES.len(), "{peers} peers are listed");
    let sockets = cluster.on("datalyse-master", "ss -Htn state established '( sport = :6783 or dport = :6783 )'")?;
    let from = lines.iter().position(|l| l.contains("(datalyse-master) (v")).context("this node is not listed")?;
    let links: Vec<&&str> = lines[from + 1..].iter().take_while(|l| l.starts_with("   -> ")).collect();
    ensure!(links.len() == NODES.len() - 1, "this node has {} links", links.len());
    for link in links {
        let address = link.split(['[', ']']).nth(1).context("a link has no address")?;
        ensure!(sockets.contains(address), "no socket to {address} in:\n{sockets}");
    }
    let resolv = cluster.on("datalyse-master", "cat /etc/resolv.conf")?;
    let fallback = line_after("Fallback DNS config &{[");
    let servers = fallback.split(']').next().unwrap_or_default();
    ensure!(!servers.is_empty(), "there is no resolver for other names");
    for server in servers.split_whitespace() {
        ensure!(resolv.contains(server), "resolver {server} is not the host's");
    }
    let fdb = cluster.on("datalyse-master", "bridge -n osier fdb show; ip -n osier -o link show master osier0")?;
    ensure!(node == "datalyse-master" || fdb.contains(mac), "{mac} is not in the kernel's forwarding table:\n{fdb}");
    cluster.sh("docker rm -f tour-w")?;
    Ok(())
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is not a text"))
}

/// A container's own view: `ethwe` with an address of the pool.
fn run_ifconfig(cluster: &Cluster) -> Result<()> {
    let run = format!("docker run -ti --rm -h b.weave.local {IMAGE} ifconfig");
    let shown = cluster.sh(&with_terminal(&run))?;
    let interface = shown.split("\n\r").chain(shown.split("\r\n\r\n")).find(|b| b.trim_start().starts_with("ethwe"));
    let interface = interface.context("there is no ethwe")?;
    let address = interface.split("inet addr:").nth(1).and_then(|a| a.split_whitespace().next());
    let address: Ipv4Addr = address.context("ethwe has no address")?.parse()?;
    ensure!(address.octets()[..3] == [10, 1, 1], "{address} is not of the pool");
    Ok(())
}

/// Two containers on two nodes; from within one, the other by name.
fn ping(cluster: &Cluster) -> Result<()> {
    for (name, host) in [("test-a", "a"), ("test-b", "b")] {
        cluster.sh(&format!("docker run -dti --name {name} -h {host}.weave.local {IMAGE} sh"))?;
    }
    let ps = cluster.sh("docker ps | grep test")?;
    let nodes: BTreeSet<&str> = ps.lines().filter_map(|l| l.split_whitespace().last()?.split('/').next()).collect();
    ensure!(nodes.len() == 2, "test-a and test-b are both on {nodes:?}");
    let b = cluster.sh("docker inspect --format '{{.NetworkSettings.Networks.osier.IPAddress}}' test-b")?;

    show("$ docker attach test-a");
    let mut a = Terminal::start(cluster.shell(&with_terminal("docker attach test-a"))?)?;
    a.type_line("")?;
    a.expect("/ # ", SOON)?;
    a.type_line("ifconfig ethwe")?;
    show(&a.expect("/ # ", SOON)?);
    a.type_line("nslookup b.weave.local")?;
    show(&a.expect("/ # ", SOON)?);
    a.type_line("ping b")?;
    let replies = a.expect("seq=3", SOON)?;
    ensure!(replies.contains(&format!("PING b ({})", b.trim())), "b is not {} in:\n{replies}", b.trim());
    a.type_line("\x03")?;
    let end = a.expect("packet loss", SOON)?;
    show(&format!("{replies}{end}"));
    ensure!(end.contains(" 0% packet loss"), "packets were lost:\n{end}");
    a.expect("/ # ", SOON)?;
    a.type_line("exit")?;
    a.finish()?;
    Ok(())
}

/// The seed's operations on all nodes, in Osier's own words.
fn ad_hoc(cluster: &Cluster) -> Result<()> {
    let inventory = cluster.inventory().display().to_string();
    let listed = cluster.osier(&["exec", "-i", &inventory, "--", "docker", "ps"])?;
    show(&listed);
    for node in NODES {
        ensure!(listed.lines().any(|l| l.contains(node) && l.contains("CONTAINER ID")), "{node} did not answer");
    }
    cluster.osier(&["restart-docker", "-i", &inventory, "--yes"])?;
    cluster.osier(&["remove-containers", "-i", &inventory, "--yes"])?;
    cluster.osier(&["remove-images", "-i", &inventory, "--yes"])?;
    eventually(SOON, || {
        let (containers, images) = (cluster.sh("docker ps -qa")?, cluster.sh("docker images -q")?);
        if !containers.trim().is_empty() || !images.trim().is_empty() {
            bail!("left: containers [{containers}], images [{images}]");
        }
        Ok(())
    })
}
