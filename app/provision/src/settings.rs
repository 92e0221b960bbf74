//! What an inventory's variables say about a cluster and its nodes, checked and typed.
//!
//! Must not know how hosts are reached or changed. All mistakes are reported at once. The names are the seed's
//! (`swarm_token`, `weave_ip_pool`, `internal_ip`, …), with `osier_` names for what the seed had no word for.

mod docker;
mod unused;

pub(crate) use docker::{AptSource, DockerSettings};
pub(crate) use unused::{misspelt, unused};

use docker::{Direct, ProxyUrl};
use ipnet::Ipv4Net;
use osier_converge::{Content, Proxies};
use osier_inventory::{Host, Inventory, TemplateError};
use osier_model::{Hostname, NodeName, Token, port};
use osier_ui::Failure;
use std::{collections::BTreeMap, fmt::Display, net::Ipv4Addr, str::FromStr};

/// The group whose hosts run the manager.
const MASTERS: &str = "masters";

/// What all hosts must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterSettings {
    /// `osier_cluster`: the cluster's name.
    pub(crate) name: NodeName,
    /// `swarm_token`: the discovery token, where the inventory has one.
    pub(crate) token: Option<Token>,
    /// `weave_ip_pool`: the range of container addresses, where the inventory has one.
    pub(crate) pool: Option<Ipv4Net>,
    /// `osier_domain`: the zone of container names, where the inventory has one.
    pub(crate) domain: Option<Hostname>,
    /// Whether the inventory says who runs the manager, by a group of masters.
    pub(crate) names_masters: bool,
    /// `swarm_port`: where the manager listens.
    pub(crate) manager_port: u16,
    /// `weave_proxy_port`: where the engine proxies listen.
    pub(crate) proxy_port: u16,
}

/// What is special to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeSettings {
    /// Its name in the inventory.
    pub(crate) name: NodeName,
    /// Whether it runs the manager: the first host where the inventory has no group of masters.
    pub(crate) master: bool,
    /// `internal_ip`: the address other nodes reach it at.
    pub(crate) internal: Option<Ipv4Addr>,
    /// `floating_ip`: the address the operator reaches it at.
    pub(crate) floating: Option<Ipv4Addr>,
    /// Docker, where this program installs it.
    pub(crate) docker: DockerSettings,
}

/// Mistakes found so far.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    /// Takes note of what is wrong with a host's variable; of one that was encrypted nothing is shown.
    fn note(&mut self, host: &Host, name: &str, says: impl Display) {
        let name_of = format!("{name} of host '{}'", host.name());
        self.0.push(if host.is_secret(name) {
            format!("{name_of} cannot be used as it is; it was encrypted with ansible-vault, so it is not shown")
        } else {
            format!("{name_of}{says}")
        });
    }

    /// A variable with everything put in that it names; where that fails, it is noted.
    fn value(&mut self, host: &Host, name: &str, is_shown: bool) -> Option<serde_json::Value> {
        match host.value(name) {
            Ok(value) => value,
            Err(TemplateError::Vault(e)) => {
                self.0.push(format!("{name} of host '{}': {e}", host.name()));
                None
            }
            Err(e) if is_shown => {
                self.note(host, name, format_args!(": {e}"));
                None
            }
            Err(_) => {
                self.note(host, name, " names a variable that is not set or cannot be expanded");
                None
            }
        }
    }

    /// The value of a host's variable; one that cannot be read is noted and counts as missing.
    fn var<T: FromStr<Err: Display>>(&mut self, host: &Host, name: &str) -> Option<T> {
        use serde_json::Value;
        let text = match self.value(host, name, true)? {
            Value::Null => return None,
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => {
                self.note(host, name, format_args!(" is {other}, it must be text"));
                return None;
            }
        };
        let value = text.trim().parse();
        // A URL that names a user may hold a password.
        let shown = if text.contains('@') { String::new() } else { format!(" is '{text}'") };
        value.map_err(|e| self.note(host, name, format_args!("{shown}: {e}"))).ok()
    }

    /// The words of a host's variable, which is a list, or text with blanks or commas between them. One that cannot be read is
    /// noted and missing; it is shown where it is no `secret`.
    fn words<T: FromStr<Err: Display>>(&mut self, host: &Host, name: &str, secret: bool) -> Vec<T> {
        use serde_json::Value;
        let Some(value) = self.value(host, name, !secret) else { return Vec::new() };
        let words: Vec<String> = match &value {
            Value::Null => Vec::new(),
            Value::String(text) => {
                text.split([',', ' ', '\t', '\n']).filter(|w| !w.is_empty()).map(str::to_owned).collect()
            }
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).map(|item| item.trim().to_owned()).collect()
            }
            _ => {
                self.note(host, name, " must be text or a list of texts");
                return Vec::new();
            }
        };
        let mut parsed = Vec::new();
        for word in words {
            // What names a user may name a password.
            let shown = if secret || word.contains('@') { String::new() } else { format!(" has '{word}'") };
            match word.parse() {
                Ok(word) => parsed.push(word),
                Err(e) => self.note(host, name, format_args!("{shown}: {e}")),
            }
        }
        parsed
    }

    /// What a host's variables say about Docker.
    fn docker(&mut self, host: &Host) -> DockerSettings {
        let name = host.name();
        let mut proxy = |variable: &str| {
            let mut urls: Vec<ProxyUrl> = self.words(host, variable, true);
            if urls.len() > 1 {
                self.0.push(format!("{variable} of host '{name}' has more than one URL"));
            }
            urls.pop().map(ProxyUrl::into_content)
        };
        let (http, https) = (proxy("http_proxy"), proxy("https_proxy"));
        let direct: Vec<Direct> = self.words(host, "no_proxy", false);
        let direct = direct.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let none = (!direct.is_empty()).then(|| Content::from(direct));
        // YAML and INI read 28.10 as a number, which is 28.1.
        let number = host.value("docker_version").ok().flatten().is_some_and(|v| v.is_f64());
        if number {
            self.0
                .push(format!("docker_version of host '{name}' is a number; put it into quotes, for 1.10 is not 1.1"));
        }
        let docker = DockerSettings {
            packages: self.words(host, "docker_packages", false),
            version: if number { None } else { self.var(host, "docker_version") },
            source: self.var(host, "docker_apt_source"),
            key: self.var(host, "docker_apt_key"),
            proxies: Proxies { http, https, none },
            mirrors: self.words(host, "docker_registry_mirrors", false),
        };
        if docker.key.is_some() && host.var("docker_apt_source").is_none_or(serde_json::Value::is_null) {
            self.0.push(format!("docker_apt_key of host '{name}' is set, docker_apt_source is not"));
        }
        if docker.key.is_some() && docker.source.as_ref().is_some_and(AptSource::names_keyring) {
            self.0.push(format!(
                "docker_apt_source of host '{name}' names a keyring (signed-by), docker_apt_key another"
            ));
        }
        docker
    }

    /// A variable on which all hosts that have it must agree.
    fn common<T: FromStr<Err: Display> + PartialEq + Display>(&mut self, hosts: &[Host], name: &str) -> Option<T> {
        let mut found: Option<(T, &str)> = None;
        for host in hosts {
            let Some(value) = self.var::<T>(host, name) else { continue };
            match &found {
                None => found = Some((value, host.name())),
                Some((first, _)) if *first == value => {}
                Some((first, other)) => {
                    let of = |value: &T| if host.is_secret(name) { "another".to_owned() } else { value.to_string() };
                    let (first, value, host) = (of(first), of(&value), host.name());
                    self.0.push(format!("{name} is {first} for host '{other}' and {value} for host '{host}'"));
                }
            }
        }
        found.map(|(value, _)| value)
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.0.dedup();
        match self.0.as_slice() {
            [] => Ok(()),
            list => Err(Failure::usage(format!("read the inventory's variables:\n  {}", list.join("\n  ")))),
        }
    }
}

/// Reads the settings of the cluster and of every host, in the inventory's order.
pub(crate) fn read(inventory: &Inventory) -> Result<(ClusterSettings, Vec<NodeSettings>), Failure> {
    let mut mistakes = Mistakes::default();
    let hosts = inventory.hosts();
    let name = mistakes.common(hosts, "osier_cluster");
    let grouped = hosts.iter().any(is_master);
    let cluster = ClusterSettings {
        names_masters: grouped,
        name: name.or_else(|| "default".parse().ok()).ok_or_else(|| Failure::usage("name the cluster"))?,
        token: mistakes.common(hosts, "swarm_token"),
        pool: mistakes.common(hosts, "weave_ip_pool").map(|pool: Ipv4Net| pool.trunc()),
        domain: mistakes.common(hosts, "osier_domain"),
        manager_port: mistakes.common(hosts, "swarm_port").unwrap_or(port::MANAGER),
        proxy_port: mistakes.common(hosts, "weave_proxy_port").unwrap_or(port::ENGINE_PROXY),
    };
    if let Some(pool) = cluster.pool.filter(|p| !(8..=28).contains(&p.prefix_len())) {
        mistakes.0.push(format!("weave_ip_pool is {pool}; it must have a prefix of 8 to 28 bits"));
    }
    let mut nodes = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let name = host
            .name()
            .parse()
            .map_err(|e| mistakes.0.push(format!("{e}; rename the host, and give its address as ansible_host")));
        let node = |name| NodeSettings {
            name,
            master: if grouped { is_master(host) } else { index == 0 },
            internal: mistakes.var(host, "internal_ip"),
            floating: mistakes.var(host, "floating_ip"),
            docker: mistakes.docker(host),
        };
        nodes.extend(name.ok().map(node));
    }
    duplicates(&nodes, &mut mistakes);
    mistakes.finish()?;
    Ok((cluster, nodes))
}

/// Refuses ports at which a node could not serve what it must.
pub(crate) fn judge_ports(cluster: &ClusterSettings) -> Result<(), Failure> {
    let ports = [("swarm_port", cluster.manager_port), ("weave_proxy_port", cluster.proxy_port)];
    for (name, number) in ports {
        let reason = match number {
            0 => "a port of the kernel's choice, which nobody would find",
            port::PEER | port::METRICS => "where nodes serve each other, or their numbers",
            _ if cluster.manager_port == cluster.proxy_port => "the port of both the manager and the engines",
            _ => continue,
        };
        return Err(Failure::usage(format!("use {name} {number}: it is {reason}")).hint("give it another number"));
    }
    Ok(())
}

fn is_master(host: &Host) -> bool {
    host.groups().iter().any(|g| g == MASTERS)
}

fn duplicates(nodes: &[NodeSettings], mistakes: &mut Mistakes) {
    let mut seen = BTreeMap::new();
    for node in nodes {
        let Some(address) = node.internal else { continue };
        if let Some(other) = seen.insert(address, &node.name) {
            mistakes.0.push(format!("internal_ip is {address} for host '{other}' and for host '{}'", node.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_inventory::{Source, SourceKind};

    fn settings(text: &str) -> Result<(ClusterSettings, Vec<NodeSettings>), Failure> {
        let source = Source { path: "inventory".into(), text: text.into(), kind: SourceKind::Hosts };
        read(&Inventory::parse(&[source]).unwrap())
    }

    #[test]
    fn the_seeds_inventory_is_understood() {
        let text = "[masters]\nm internal_ip=10.67.24.190 floating_ip=178.237.109.178\n[slaves]\na\nb\n[all:vars]\n\
            swarm_token=feba5683f4a1645b68365f562f81694f\nswarm_port=3376\nweave_ip_pool=10.1.1.0/24\nweave_proxy_port=12375\n";
        let (cluster, nodes) = settings(text).unwrap();
        assert_eq!(cluster.name.as_str(), "default");
        assert_eq!(cluster.token.unwrap().as_str(), "feba5683f4a1645b68365f562f81694f");
        assert_eq!((cluster.manager_port, cluster.proxy_port), (3376, 12375));
        assert_eq!(cluster.pool, "10.1.1.0/24".parse().ok());
        assert_eq!(nodes.iter().map(|n| n.master).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(nodes[0].floating, Some(Ipv4Addr::new(178, 237, 109, 178)));
    }

    #[test]
    fn what_is_said_about_docker_is_understood() {
        let text = "a docker_packages='docker-ce=5:27.5.1-1~debian.12~bookworm, containerd.io' docker_version=1.7 \
            docker_apt_source='deb https://x.example.org/debian bookworm stable' docker_apt_key=~/docker.asc \
            http_proxy=http://me:secret@p:3128 no_proxy='localhost,.example.org 10.0.0.0/8' \
            docker_registry_mirrors=https://m.example.org\nb docker_version=26.1.5+dfsg1-9+b9\n";
        let text = text.replace("docker_version=1.7 ", "docker_version=\"'1.7'\" ");
        let (_, nodes) = settings(&text).unwrap();
        let docker = &nodes[0].docker;
        let packages: Vec<_> = docker.packages.iter().map(ToString::to_string).collect();
        assert_eq!(packages, ["docker-ce=5:27.5.1-1~debian.12~bookworm", "containerd.io"]);
        assert_eq!(docker.version.as_ref().unwrap().as_str(), "1.7");
        let proxies: Vec<_> = docker.proxies.variables().collect();
        assert_eq!(
            proxies,
            [("http_proxy", "http://me:secret@p:3128"), ("no_proxy", "localhost,.example.org,10.0.0.0/8")]
        );
        assert_eq!((docker.mirrors[0].as_str(), docker.mirrors.len()), ("https://m.example.org", 1));
        assert_eq!(nodes[1].docker.version.as_ref().unwrap().as_str(), "26.1.5+dfsg1-9+b9");
        assert!(!format!("{nodes:?}").contains("secret"));
    }

    #[test]
    fn mistakes_about_docker_are_reported_at_once_and_show_no_password() {
        let text = "a docker_packages='docker-ce=, x' docker_version=26.10 docker_apt_key=/k http_proxy=me:secret@p:3128 \
            docker_registry_mirrors=m https_proxy='http://me:secret@{{ p }}'\n\
            b docker_apt_source='deb http://x/' docker_version='a b'\n\
            d docker_apt_source='deb http://me:secret@x/ ./'\n\
            c docker_apt_source='deb [signed-by=/a] http://x/ ./' docker_apt_key=/k docker_packages='{\"a\": 1}'\n";
        let failure = settings(text).unwrap_err();
        let message = failure.message();
        for part in [
            "docker_packages of host 'a' has 'docker-ce='",
            "docker_version of host 'a' is a number; put it into quotes",
            "docker_apt_key of host 'a' is set, docker_apt_source is not",
            "http_proxy of host 'a': it must be a URL",
            "https_proxy of host 'a' names a variable that is not set",
            "docker_registry_mirrors of host 'a' has 'm'",
            "docker_apt_source of host 'b' is 'deb http://x/'",
            "docker_version of host 'b' is 'a b'",
            "docker_apt_source of host 'c' names a keyring",
        ] {
            assert!(message.contains(part), "no '{part}' in: {message}");
        }
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn without_a_group_of_masters_the_first_host_is_one() {
        let (_, nodes) = settings("a\nb\n").unwrap();
        assert_eq!(nodes.iter().map(|n| n.master).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = "a_ internal_ip=10.0.0.1\nb internal_ip=10.0.0.1\nc internal_ip=10.0.0.256 weave_ip_pool=10.0.0.0/30\n\
            d weave_ip_pool=10.1.0.0/16 swarm_token=abc floating_ip='{{ floating }}'\n";
        let failure = settings(text).unwrap_err();
        assert_eq!(failure.code(), 2);
        let message = failure.message();
        for part in [
            "'a_' is not a valid node name",
            "10.0.0.256",
            "internal_ip of host 'c'",
            "8 to 28",
            "'abc' is not a token",
            "floating_ip of host 'd': '{{ floating }}' names a variable that is not set for this host",
        ] {
            assert!(message.contains(part), "no '{part}' in: {message}");
        }
        assert!(
            message.contains("weave_ip_pool is 10.0.0.0/30 for host 'c' and 10.1.0.0/16 for host 'd'"),
            "{message}"
        );
        assert!(settings("a internal_ip=10.0.0.1\nb internal_ip=10.0.0.1\n").is_err());
        for ports in ["swarm_port=0", "weave_proxy_port=6783", "swarm_port=6782", "swarm_port=1 weave_proxy_port=1"] {
            let (cluster, _) = settings(&format!("a {ports}\n")).unwrap();
            assert!(judge_ports(&cluster).unwrap_err().message().contains("_port"), "{ports}");
        }
    }
}
