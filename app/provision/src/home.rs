//! Where the operator's machine keeps its clusters, and the record that it keeps of each.
//!
//! Must not know how a cluster is made. `$OSIER_HOME/clusters/<name>/` holds `cluster.json` (a [`Record`]), the CA, the
//! operator's certificate under Docker's own file names, and the nodes' certificates; folders have mode 0700.

use ipnet::Ipv4Net;
use osier_members::Signed;
use osier_model::{Hostname, NodeName, PeerId, Token, config::Member};
use osier_ui::{ExitKind, Failure};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The operator's folder.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// What the operator's machine knows about one cluster; no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The cluster's name.
    pub name: NodeName,
    /// Its discovery token.
    pub token: Token,
    /// The range that container addresses come from.
    pub pool: Ipv4Net,
    /// The zone of container names.
    pub domain: Hostname,
    /// The member that owned every address at first.
    pub founder: PeerId,
    /// The members that run the manager, and where the operator reaches each.
    pub managers: BTreeMap<NodeName, SocketAddr>,
    /// All nodes, by name.
    pub members: Vec<Member>,
    /// The members that Osier was taken off, for as long as others have it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cleared: BTreeSet<NodeName>,
    /// The members that it was being taken off when that was last tried, and of which it was not seen that they are clear.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaving: BTreeSet<NodeName>,
    /// What the operator has signed about nodes, those that were removed among them.
    #[serde(default)]
    pub roll: Vec<Signed>,
    /// Serial numbers, in hexadecimal, of certificates that are valid no more.
    #[serde(default)]
    pub revoked: Vec<String>,
}

/// A cluster of this machine, and the folder with its certificates.
#[derive(Debug, Clone)]
pub struct KnownCluster {
    /// What is known about it.
    pub record: Record,
    /// Holds `ca.pem`, `cert.pem` and `key.pem` of the operator.
    pub folder: PathBuf,
}

impl Record {
    /// The manager to talk to: the founder's, else the first by name.
    pub fn manager(&self) -> Option<SocketAddr> {
        let founder = self.members.iter().find(|m| m.peer == self.founder);
        founder.and_then(|m| self.managers.get(&m.name)).or_else(|| self.managers.values().next()).copied()
    }
}

impl KnownCluster {
    /// The manager to talk to as other nodes reach it, on the network between nodes.
    pub fn manager_inside(&self) -> Option<SocketAddr> {
        let outside = self.record.manager()?;
        let name = self.record.managers.iter().find(|(_, at)| **at == outside).map(|(name, _)| name)?;
        let member = self.record.members.iter().find(|m| m.name == *name);
        Some(member.map_or(outside, |m| (m.address, outside.port()).into()))
    }

    /// Keeps others from opening a tunnel to this cluster, for as long as the value is there. `None` where somebody else does.
    pub fn lock_tunnel(&self) -> Result<Option<osier_store::Lock>, Failure> {
        match osier_store::lock(&self.folder.join("tunnel.lock")) {
            Ok(lock) => Ok(Some(lock)),
            Err(e) if e.is_in_use() => Ok(None),
            Err(e) => Err(Failure::new(ExitKind::Failed, e)),
        }
    }
}

impl Home {
    /// `$OSIER_HOME`, else `osier` in the user's configuration folder.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config = || var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|h| h.join(".config")));
        let folder = var("OSIER_HOME").or_else(|| config().map(|c| c.join("osier")));
        folder.map(Self).ok_or_else(|| Failure::usage("find the user's folder: neither OSIER_HOME nor HOME is set"))
    }

    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The folder of one cluster.
    pub(crate) fn cluster(&self, name: &NodeName) -> PathBuf {
        self.0.join("clusters").join(name.as_str())
    }

    /// All clusters, by name.
    pub(crate) fn clusters(&self) -> Result<Vec<KnownCluster>, Failure> {
        let folder = self.0.join("clusters");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(anyhow::Error::new(e).context(format!("read '{}'", folder.display())).into()),
        };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        folders.sort();
        let known = |folder: PathBuf| Ok(read_record(&folder)?.map(|record| KnownCluster { record, folder }));
        folders.into_iter().filter_map(|f| known(f).transpose()).collect()
    }

    /// The cluster of this name; without a name the only one there is, or the one called `default`.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<KnownCluster, Failure> {
        let mut known = self.clusters()?;
        let names = known.iter().map(|c| c.record.name.to_string()).collect::<Vec<_>>().join(", ");
        if known.is_empty() {
            let failure = Failure::usage(format!("there is no cluster in '{}'", self.0.display()));
            return Err(failure.hint("'osier site -i inventory' makes one"));
        }
        if name.is_none() && known.len() == 1 {
            return Ok(known.remove(0));
        }
        let wanted = name.unwrap_or("default");
        let at = known.iter().position(|c| c.record.name.as_str() == wanted);
        at.map(|i| known.swap_remove(i)).ok_or_else(|| {
            let message = name.map_or("choose a cluster".to_owned(), |n| format!("there is no cluster '{n}'"));
            Failure::usage(message).hint(format!("'--cluster NAME' takes one of: {names}"))
        })
    }
}

/// Reads a cluster's record, where the folder has one.
pub(crate) fn read_record(folder: &Path) -> Result<Option<Record>, Failure> {
    osier_store::read_json(&folder.join("cluster.json")).map_err(|e| Failure::new(ExitKind::Failed, e))
}

/// The cluster of this machine that has this name; without a name the only one there is, or the one called `default`.
pub fn resolve_cluster(name: Option<&str>) -> Result<KnownCluster, Failure> {
    Home::from_env()?.choose(name)
}

/// The cluster of this machine that a token names.
pub fn resolve_token(token: &Token) -> Result<Option<KnownCluster>, Failure> {
    Ok(Home::from_env()?.clusters()?.into_iter().find(|c| c.record.token == *token))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(name: &str) -> Record {
        Record {
            name: name.parse().unwrap(),
            token: Token::from_random([7; 16]),
            pool: "10.1.1.0/24".parse().unwrap(),
            domain: Hostname::default_domain(),
            founder: PeerId::from_random([1; 6]),
            managers: BTreeMap::from([("m".parse().unwrap(), "192.0.2.1:3376".parse().unwrap())]),
            members: Vec::new(),
            cleared: BTreeSet::new(),
            leaving: BTreeSet::new(),
            roll: Vec::new(),
            revoked: Vec::new(),
        }
    }

    #[test]
    fn the_only_cluster_or_the_default_one_is_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let add = |name: &str| {
            let folder = home.cluster(&name.parse().unwrap());
            osier_store::write_json(&folder.join("cluster.json"), &record(name), osier_store::PUBLIC).unwrap();
        };
        let chosen = |name| home.choose(name).map(|c| c.record.name.to_string());
        assert_eq!(chosen(None).unwrap_err().code(), 2);
        add("b");
        assert_eq!(chosen(None).unwrap(), "b");
        add("a");
        assert_eq!(chosen(None).unwrap_err().hints(), ["'--cluster NAME' takes one of: a, b"]);
        add("default");
        assert_eq!((chosen(None).unwrap().as_str(), chosen(Some("a")).unwrap().as_str()), ("default", "a"));
        assert!(chosen(Some("x")).unwrap_err().message().contains("'x'"));
    }
}
