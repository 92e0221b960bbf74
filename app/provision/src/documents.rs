//! What hosts shall be: the desired states that bootstrap, setup-cluster and destroy send them.
//!
//! Must not know how a host is now. Paths are those of `osier_model::config::path`; the units are the ones of
//! `pkg/systemd`.

use crate::{cluster::Cluster, settings::DockerSettings};
use anyhow::{Context, Result};
use osier_converge::{
    AbsPath, Absent, Binary, Content, Desired, Digest, File, Folder, Link, Name, OsRelease, Package, PackageSet, Unit,
    WantedEngine,
};
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

/// Files of the engine's, which are there where the inventory asks for what they say.
const APT_SOURCE: &str = "/etc/apt/sources.list.d/osier-docker.list";
const APT_KEY: &str = "/etc/apt/keyrings/osier-docker.asc";
const APT_PIN: &str = "/etc/apt/preferences.d/osier-docker.pref";
const PROXY_DROP_IN: &str = "/etc/systemd/system/docker.service.d/osier-proxy.conf";
const PROXY_ENV: &str = "/etc/systemd/system/docker.service.d/osier-proxy.env";
/// Where the packages of a bundle lie until they are installed; in the folder of state, so that they go with it.
pub(crate) const BUNDLE: &str = "/var/lib/osier/bundle";
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// Adds what bootstrap brings: this engine and the program. `taken` names links at whose place something else lies.
pub(crate) fn bootstrap(desired: &mut Desired, engine: WantedEngine, program: Digest, taken: &[String]) -> Result<()> {
    desired.engine = Some(engine);
    add_program(desired, program, taken)
}

/// The packages that make an engine on this system, those of the distribution where the inventory names none.
pub(crate) fn packages(docker: &DockerSettings, os: &OsRelease) -> Result<Vec<Package>> {
    let mut packages = docker.packages.clone();
    if packages.is_empty() {
        let names = os.system()?.engine_packages();
        packages.extend(names.into_iter().map(|name| Package { name, version: None }));
    }
    for package in &mut packages {
        package.version = package.version.take().or_else(|| docker.version.clone());
    }
    Ok(packages)
}

/// The engine that the inventory wants on a host with this system. `key` are the armored keys of the packages' source.
pub(crate) fn engine(docker: &DockerSettings, key: Option<&str>, os: &OsRelease) -> Result<WantedEngine> {
    // Where it says nothing, any engine will do.
    let is_said = !docker.packages.is_empty() || docker.version.is_some();
    let packages = if is_said { packages(docker, os)? } else { Vec::new() };
    let mut apt = Vec::new();
    if let Some(key) = key {
        apt.push(public(APT_KEY, key)?);
    }
    if let Some(source) = &docker.source {
        let line = source.line(key.map(|_| APT_KEY));
        apt.push(public(APT_SOURCE, &format!("# Written by Osier: docker_apt_source of the inventory.\n{line}"))?);
    }
    let pins = packages.iter().filter_map(|p| Some((&p.name, p.version.as_ref()?)));
    let pins: Vec<String> =
        pins.map(|(name, version)| format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n")).collect();
    if !pins.is_empty() {
        let head = "Explanation: written by Osier, so that other runs of apt leave the engine's version as it is\n";
        apt.push(public(APT_PIN, &format!("{head}{}", pins.join("\n")))?);
    }
    let mut files = Vec::new();
    let proxies: Vec<String> =
        docker.proxies.variables().map(|(name, value)| format!("{}=\"{value}\"\n", name.to_uppercase())).collect();
    if !proxies.is_empty() {
        // Not in the unit: systemd tells every user of the host what Environment= says.
        let drop_in =
            format!("# Written by Osier: the proxies of the inventory.\n[Service]\nEnvironmentFile={PROXY_ENV}\n");
        files.extend([secret(PROXY_ENV, &proxies.concat())?, public(PROXY_DROP_IN, &drop_in)?]);
    }
    let mirrors: Vec<&str> = docker.mirrors.iter().map(|m| m.as_str()).collect();
    let config = (!mirrors.is_empty()).then(|| json(&serde_json::json!({ "registry-mirrors": mirrors })));
    Ok(WantedEngine {
        packages,
        source: docker.source.as_ref().map(|_| APT_SOURCE.parse()).transpose()?,
        apt,
        files,
        config: config.transpose()?.map(|text| public(DAEMON_JSON, &text)).transpose()?,
        proxies: docker.proxies.clone(),
        bundle: None,
    })
}

/// The same from a bundle: the source is neither asked nor named to apt, for it cannot be reached.
pub(crate) fn offline(docker: &DockerSettings, set: &PackageSet, os: &OsRelease) -> Result<WantedEngine> {
    let here = DockerSettings { source: None, key: None, ..docker.clone() };
    Ok(WantedEngine { bundle: Some(set.wanted(BUNDLE.parse()?)), ..engine(&here, None, os)? })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(docker: &DockerSettings, key: Option<&str>) -> WantedEngine {
        let mut desired = Desired::default();
        let trixie = OsRelease::parse("ID=debian\nVERSION_ID=13\n");
        let engine = engine(docker, key, &trixie).unwrap();
        bootstrap(&mut desired, engine, Digest::of(b"x"), &[]).unwrap();
        let json = serde_json::to_vec(&desired).unwrap();
        assert_eq!(Desired::parse(&json).unwrap(), desired, "it goes through JSON");
        desired.engine.unwrap()
    }

    #[test]
    fn an_inventory_that_says_nothing_wants_any_engine() {
        assert_eq!(wanted(&DockerSettings::default(), None), WantedEngine::default());
    }

    #[test]
    fn the_inventorys_words_become_files() {
        let docker = DockerSettings {
            version: "26.1.5".parse().ok(),
            source: Some("deb http://x/ ./".parse().unwrap()),
            proxies: osier_converge::Proxies { http: Some("http://me:pa%20ss@p:1".into()), ..Default::default() },
            ..DockerSettings::default()
        };
        let engine = wanted(&docker, Some("KEY\n"));
        let names: Vec<_> = engine.packages.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io=26.1.5", "docker-cli=26.1.5"]);
        let text = |at: &str| engine.all_files().find(|f| f.path.as_str() == at).unwrap().content.as_str().to_owned();
        assert!(text(APT_SOURCE).ends_with("\ndeb [signed-by=/etc/apt/keyrings/osier-docker.asc] http://x/ ./\n"));
        assert!(text(APT_PIN).contains("Package: docker-cli\nPin: version 26.1.5\nPin-Priority: 1001\n"));
        assert_eq!(text(PROXY_ENV), "HTTP_PROXY=\"http://me:pa%20ss@p:1\"\n");
        let hidden: Vec<_> = engine.all_files().filter(|f| f.secret).map(|f| (f.path.as_str(), f.mode)).collect();
        assert_eq!(hidden, [(PROXY_ENV, 0o600)]);
        assert!(!text(PROXY_DROP_IN).contains("pa%20ss"));
        assert_eq!(engine.config, None);
        let target = osier_converge::Target::new(&OsRelease::parse("ID=debian\nVERSION_ID=13\n"), "amd64");
        let set = PackageSet { target, packages: Vec::new() };
        let offline = offline(&docker, &set, &OsRelease::parse("ID=debian\nVERSION_ID=13\n")).unwrap();
        assert_eq!((&offline.source, &offline.packages), (&None, &engine.packages));
        assert!(offline.bundle.is_some() && offline.apt.iter().all(|f| f.path.as_str() == APT_PIN));
    }
}
