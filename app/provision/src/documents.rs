//! What hosts shall be: the desired states that bootstrap, setup-cluster and destroy send them.
//!
//! Must not know how a host is now. Paths are those of `osier_model::config::path`; the units are the ones of
//! `pkg/systemd`.

use crate::cluster::Cluster;
use anyhow::{Context, Result};
use osier_converge::{AbsPath, Absent, Binary, Content, Desired, Digest, File, Folder, Link, Name, Unit};
use osier_model::{
    NETWORK, NodeName,
    config::{AgentConfig, ManagerConfig, path},
};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};

/// Where the program is installed.
pub(crate) const PROGRAM: &str = "/usr/local/bin/osier";
/// The names under which the program answers as the tools it replaces.
const LINKS: [&str; 3] = ["docker-swarm", "swarm", "weave"];
/// Where the units lie. Not in `/etc`, because systemd cannot mask a unit whose file is there.
const UNITS: &str = "/usr/local/lib/systemd/system";
const SOCKET: (&str, &str) = ("osier-plugin.socket", include_str!("../../../pkg/systemd/osier-plugin.socket"));
const AGENT: (&str, &str) = ("osier-agent.service", include_str!("../../../pkg/systemd/osier-agent.service"));
const MANAGER: (&str, &str) = ("osier-manager.service", include_str!("../../../pkg/systemd/osier-manager.service"));

/// Adds what bootstrap brings: an engine and the program. `taken` names links at whose place something else lies.
pub(crate) fn bootstrap(desired: &mut Desired, program: Digest, taken: &[String]) -> Result<()> {
    desired.engine = true;
    add_program(desired, program, taken)
}

/// Adds what setup-cluster brings to one node: certificates, configuration and services.
pub(crate) fn setup(
    desired: &mut Desired,
    cluster: &Cluster,
    node: &NodeName,
    ports: Ports,
    program: Digest,
    taken: &[String],
) -> Result<()> {
    if desired.binary.is_none() {
        add_program(desired, program, taken)?;
    }
    let record = &cluster.record;
    let me = record.members.iter().find(|m| m.name == *node).context("the node is not a member")?;
    let agent = AgentConfig {
        cluster: record.name.to_string(),
        me: me.clone(),
        founder: record.founder,
        pool: record.pool,
        domain: record.domain.clone(),
        proxy_port: ports.proxy,
        upstream: Vec::new(),
    };
    let certificate = cluster.certificate(node).context("the node has no certificate")?;
    let pki = |file: &str| format!("{}/{file}", path::PKI);
    for (at, mode) in [("/etc/osier", 0o755), (path::PKI, 0o700)] {
        desired.folders.push(Folder { path: at.parse()?, mode });
    }
    let mut shared = vec![
        public(&pki("ca.pem"), cluster.ca_pem())?,
        public(&pki("cert.pem"), &certificate.cert_pem)?,
        secret(&pki("key.pem"), &certificate.key_pem)?,
    ];
    if let Some(list) = cluster.revoked() {
        shared.push(public(&pki("crl.pem"), list)?);
    }
    let key = secret(path::GOSSIP_KEY, &format!("{}\n", cluster.gossip_key()))?;
    let agent = public(path::AGENT_CONFIG, &json(&agent)?)?;
    let members = public(path::MEMBERS, &json(&record.roll)?)?;

    add_unit(desired, SOCKET, &[])?;
    let reads: Vec<&File> = shared.iter().chain([&key, &agent, &members]).collect();
    add_unit(desired, AGENT, &reads)?;
    let is_master = record.managers.contains_key(node);
    if is_master {
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ports.manager));
        let (cluster, token) = (record.name.to_string(), record.token.clone());
        let manager = ManagerConfig { cluster, token, listen, state: path::MANAGER_STATE.into() };
        let manager = public(path::MANAGER_CONFIG, &json(&manager)?)?;
        add_unit(desired, MANAGER, &shared.iter().chain([&manager]).collect::<Vec<_>>())?;
        desired.files.push(manager);
    } else {
        desired.absent.units.push(MANAGER.0.parse()?);
        desired.absent.files.extend([path::MANAGER_CONFIG.parse()?, unit_path(MANAGER.0)?]);
    }
    desired.files.extend(shared);
    desired.files.extend([key, agent, members]);
    Ok(())
}

/// The ports of a cluster's services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) manager: u16,
    pub(crate) proxy: u16,
}

/// Takes everything away; with `purge` also an engine that we installed.
pub(crate) fn destroy(purge: bool, taken: &[String]) -> Result<Desired> {
    let units = [MANAGER.0, AGENT.0, SOCKET.0];
    let mut files: Vec<AbsPath> = units.iter().map(|u| unit_path(u)).collect::<Result<_>>()?;
    files.extend(links(taken).map(|l| l.parse()).collect::<Result<Vec<_>, _>>()?);
    files.push(PROGRAM.parse()?);
    let absent = Absent {
        // libnetwork's gateway bridge was made for our network; one that Swarm mode uses is not counted as ours.
        networks: vec![NETWORK.parse()?, "docker_gwbridge".parse()?],
        units: units.iter().map(|u| u.parse()).collect::<Result<_, _>>()?,
        namespaces: vec![format!("/run/netns/{NETWORK}").parse()?],
        files,
        folders: vec!["/etc/osier".parse()?, "/run/osier".parse()?, path::STATE.parse()?],
        packages: purge,
    };
    Ok(Desired { absent, ..Desired::default() })
}

fn add_program(desired: &mut Desired, program: Digest, taken: &[String]) -> Result<()> {
    desired.binary = Some(Binary { path: PROGRAM.parse()?, sha256: program });
    for link in links(taken) {
        desired.links.push(Link { path: link.parse()?, target: "osier".to_owned() });
    }
    Ok(())
}

fn links(taken: &[String]) -> impl Iterator<Item = String> {
    LINKS.iter().filter(|l| !taken.iter().any(|t| t == *l)).map(|l| format!("/usr/local/bin/{l}"))
}

/// Adds a unit with its file; it is restarted when that, the program or one of the files it reads changes.
fn add_unit(desired: &mut Desired, (name, text): (&str, &str), reads: &[&File]) -> Result<()> {
    let file = public(unit_path(name)?.as_str(), text)?;
    let mut restart_on = vec![file.path.clone()];
    if name.ends_with(".service") {
        restart_on.push(PROGRAM.parse()?);
    }
    restart_on.extend(reads.iter().map(|f| f.path.clone()));
    desired.units.push(Unit { name: name.parse::<Name>()?, restart_on });
    desired.files.push(file);
    Ok(())
}

fn unit_path(name: &str) -> Result<AbsPath> {
    Ok(format!("{UNITS}/{name}").parse()?)
}

fn public(at: &str, text: &str) -> Result<File> {
    Ok(File { path: at.parse()?, mode: 0o644, secret: false, content: Content::from(text) })
}

fn secret(at: &str, text: &str) -> Result<File> {
    Ok(File { path: at.parse()?, mode: 0o600, secret: true, content: Content::from(text) })
}

fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
