//! One cluster as its operator holds it: record, CA, keys and certificates, with a lock that keeps a second run out.
//!
//! Must not know how nodes are reached. Everything is decided in memory and written by [`Cluster::save`], so that a run
//! that only checks leaves no trace. Node identities and keys are made once and kept; certificates are made again
//! when their names change or less than [`RENEW`] days are left.

mod names;
mod signed;

use crate::{
    home::{Home, Record, read_record},
    lock::{hold, host_name},
    preflight::ClusterNeeds,
    settings::{ClusterSettings, NodeSettings},
};
use anyhow::Context;
use names::{Names, NodeCertificate};
use osier_converge::Digest;
use osier_members::Roll;
use osier_model::{Hostname, NodeName, PeerId, Token, config::Member};
use osier_pki::{Authority, Issued, Subject, Verifier, days_left};
use osier_ui::Failure;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// Days of validity below which a certificate is renewed.
const RENEW: i64 = 60;

/// A cluster and its secrets.
pub(crate) struct Cluster {
    /// What is known about it.
    pub(crate) record: Record,
    folder: PathBuf,
    authority: Authority,
    /// What holds of what was signed about nodes.
    roll: Roll,
    /// The CA's list of the certificates that are valid no more, once there is one.
    revoked: Option<String>,
    /// The gossip key: 64 hex digits.
    gossip_key: String,
    operator: Issued,
    nodes: BTreeMap<NodeName, NodeCertificate>,
    _lock: Option<fs::File>,
}

/// One node of the run, as far as the operator's side must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeIdentity {
    pub(crate) name: NodeName,
    pub(crate) master: bool,
    /// Where other nodes reach it.
    pub(crate) address: Ipv4Addr,
    /// Where the operator reaches it.
    pub(crate) outside: Ipv4Addr,
    /// Further names and addresses it is reached by.
    pub(crate) dns: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Cluster {
    /// Opens the cluster of this name, or begins a new one in memory. With `lock` no other run may have it open.
    pub(crate) fn open(
        home: &Home,
        settings: &ClusterSettings,
        lock: bool,
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        let folder = home.cluster(&settings.name);
        let held = if lock {
            private_folder(&folder)?;
            Some(hold(&folder)?)
        } else {
            None
        };
        let known = read_record(&folder)?;
        if let Some(record) = &known {
            agree(record, settings, &folder)?;
        }
        let cluster = match known {
            Some(record) => Self::load(folder, record, held, now),
            None => Self::begin(folder, settings, held, now),
        };
        Ok(cluster?)
    }

    fn begin(
        folder: PathBuf,
        settings: &ClusterSettings,
        lock: Option<fs::File>,
        now: OffsetDateTime,
    ) -> anyhow::Result<Self> {
        let name = settings.name.clone();
        let authority = Authority::create(name.as_str(), now)?;
        let operator = authority.issue(&operator_subject(), now)?;
        let record = Record {
            name,
            token: settings.token.clone().unwrap_or_else(|| Token::from_random(rand::random())),
            pool: settings.pool.unwrap_or_else(default_pool),
            domain: settings.domain.clone().unwrap_or_else(Hostname::default_domain),
            founder: PeerId::from_random(rand::random()),
            managers: BTreeMap::new(),
            members: Vec::new(),
            cleared: BTreeSet::new(),
            leaving: BTreeSet::new(),
            roll: Vec::new(),
            revoked: Vec::new(),
        };
        let gossip_key = hex::encode(rand::random::<[u8; 32]>());
        let (roll, nodes) = (Roll::default(), BTreeMap::new());
        Ok(Self { record, folder, authority, roll, revoked: None, gossip_key, operator, nodes, _lock: lock })
    }

    fn load(folder: PathBuf, record: Record, lock: Option<fs::File>, now: OffsetDateTime) -> anyhow::Result<Self> {
        let authority = Authority::load(text(&folder.join("ca.pem"))?, text(&folder.join("ca-key.pem"))?)?;
        let mut operator = issued(&folder)?;
        if days_left(&operator.cert_pem, now)? < RENEW {
            operator = authority.issue(&operator_subject(), now)?;
        }
        let mut nodes = BTreeMap::new();
        for member in &record.members {
            let of_node = folder.join("nodes").join(member.name.as_str());
            if let Some(names) = osier_store::read_json(&of_node.join("names.json"))? {
                nodes.insert(member.name.clone(), NodeCertificate { issued: issued(&of_node)?, names });
            }
        }
        let gossip_key = text(&folder.join("gossip.key"))?.trim().to_owned();
        let verifier = Verifier::from_pem(authority.cert_pem().as_bytes())?;
        let mut roll = Roll::default();
        let (_, refused) = roll.take(&record.roll, |bytes, signature| {
            hex::decode(signature).is_ok_and(|signature| verifier.is_signed(bytes, &signature))
        });
        if let Some(error) = refused {
            return Err(error).with_context(|| format!("read '{}'", folder.join("cluster.json").display()));
        }
        let revoked = osier_store::read(&folder.join("crl.pem"))?.map(String::from_utf8).transpose()?;
        Ok(Self { record, folder, authority, roll, revoked, gossip_key, operator, nodes, _lock: lock })
    }

    /// The folder with everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The CA's certificate, PEM.
    pub(crate) fn ca_pem(&self) -> &str {
        self.authority.cert_pem()
    }

    /// The key that seals gossip: a secret.
    pub(crate) fn gossip_key(&self) -> &str {
        &self.gossip_key
    }

    /// The CA's list of the certificates that are valid no more, PEM, once there is one.
    pub(crate) fn revoked(&self) -> Option<&str> {
        self.revoked.as_deref()
    }

    /// What it needs of a host that is to be one of its nodes. `internal` is the host's address among the nodes, where the
    /// inventory says so.
    pub(crate) fn needs(&self, internal: Option<Ipv4Addr>) -> ClusterNeeds {
        let (pool, ca) = (self.record.pool, Digest::of(self.ca_pem().as_bytes()));
        ClusterNeeds { pool, ca, removed: self.removed(), internal }
    }

    /// A member's certificate and key.
    pub(crate) fn certificate(&self, node: &NodeName) -> Option<&Issued> {
        self.nodes.get(node).map(|n| &n.issued)
    }

    /// Where the operator reaches a manager, where that is not where nodes reach it.
    pub(crate) fn outside(&self, node: &NodeName) -> Option<Ipv4Addr> {
        match self.record.managers.get(node)?.ip() {
            IpAddr::V4(at) if !self.record.members.iter().any(|m| m.name == *node && m.address == at) => Some(at),
            _ => None,
        }
    }

    /// Whether a node is to run the manager. An inventory that names no masters moves none that is there.
    pub(crate) fn is_master(&self, node: &NodeSettings, named: bool) -> bool {
        if named || self.record.managers.is_empty() {
            node.master
        } else {
            self.record.managers.contains_key(&node.name)
        }
    }

    /// Takes note of members that everything will be taken off: whatever becomes of the run, those that are found with
    /// nothing are known by it.
    pub(crate) fn leave<'a>(&mut self, members: impl Iterator<Item = &'a NodeName>) {
        let Record { leaving, cleared, .. } = &mut self.record;
        leaving.extend(members.filter(|name| !cleared.contains(*name)).cloned());
    }

    /// Takes note of a member that everything was taken off. It is no manager any more.
    pub(crate) fn clear(&mut self, member: &NodeName) {
        self.record.managers.remove(member);
        self.record.leaving.remove(member);
        self.record.cleared.insert(member.clone());
    }

    /// Takes note of a member that not everything was taken off.
    pub(crate) fn stay(&mut self, member: &NodeName) {
        self.record.leaving.remove(member);
    }

    /// Takes nodes in, or takes note of their new addresses; the others stay as they are. The first nodes must have a
    /// master among them: it is the founder.
    pub(crate) fn admit(
        &mut self,
        nodes: &[NodeIdentity],
        manager_port: u16,
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let founder = nodes.iter().find(|n| n.master).filter(|_| self.record.members.is_empty());
        let mut taken = Names::default();
        for node in nodes {
            let mut moved = false;
            match self.record.members.iter_mut().find(|m| m.name == node.name) {
                Some(member) => {
                    moved = member.address != node.address;
                    member.address = node.address;
                }
                None => {
                    let founds = founder.is_some_and(|f| f.name == node.name);
                    let peer = if founds { self.record.founder } else { PeerId::from_random(rand::random()) };
                    self.record.members.push(Member { name: node.name.clone(), peer, address: node.address });
                }
            }
            if node.master {
                let outside = SocketAddr::from((node.outside, manager_port));
                self.record.managers.insert(node.name.clone(), outside);
            } else {
                self.record.managers.remove(&node.name);
            }
            self.record.cleared.remove(&node.name);
            self.record.leaving.remove(&node.name);
            let mut others = Names::default();
            nodes.iter().filter(|n| n.name != node.name).for_each(|n| others.extend(Names::of(n)));
            taken.extend(self.certify(node, moved, &others, now)?);
        }
        self.take_names(&taken, nodes, now)?;
        self.record.members.sort_by(|a, b| a.name.cmp(&b.name));
        self.vouch()
    }

    /// Writes everything that is not on disk yet.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let save = || -> anyhow::Result<()> {
            private_folder(&self.folder)?;
            write_new(&self.folder.join("ca.pem"), self.ca_pem(), osier_store::PUBLIC)?;
            write_new(&self.folder.join("ca-key.pem"), self.authority.key_pem(), osier_store::SECRET)?;
            write_new(&self.folder.join("gossip.key"), &self.gossip_key, osier_store::SECRET)?;
            write_issued(&self.folder, &self.operator)?;
            if let Some(list) = self.revoked() {
                write_new(&self.folder.join("crl.pem"), list, osier_store::PUBLIC)?;
            }
            for (name, node) in &self.nodes {
                let folder = self.folder.join("nodes").join(name.as_str());
                private_folder(&folder)?;
                write_issued(&folder, &node.issued)?;
                write_new(
                    &folder.join("names.json"),
                    &serde_json::to_string_pretty(&node.names)?,
                    osier_store::PUBLIC,
                )?;
            }
            // A node that was removed needs no key any more.
            for entry in fs::read_dir(self.folder.join("nodes")).into_iter().flatten().flatten() {
                if !self.nodes.keys().any(|name| entry.file_name() == name.as_str()) {
                    fs::remove_dir_all(entry.path()).with_context(|| format!("remove '{}'", entry.path().display()))?;
                }
            }
            // The record last: with it the cluster exists, and everything it needs is there.
            let record = serde_json::to_string_pretty(&self.record)? + "\n";
            write_new(&self.folder.join("cluster.json"), &record, osier_store::PUBLIC)
        };
        Ok(save().with_context(|| format!("keep cluster '{}'", self.record.name))?)
    }

    /// Forgets the cluster: its folder goes, CA and all.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        let removed = fs::remove_dir_all(&self.folder);
        Ok(removed.with_context(|| format!("remove '{}'", self.folder.display()))?)
    }
}

/// The token, pool and zone of a cluster are decided once.
fn agree(record: &Record, settings: &ClusterSettings, folder: &Path) -> Result<(), Failure> {
    let differs = |what: &str, is: &str, said: &str| {
        let name = &record.name;
        let message =
            format!("cluster '{name}' has {what} {is} (in '{}'), the inventory says {said}", folder.display());
        let hint = "give another cluster another name (variable osier_cluster), or destroy this one first";
        Err(Failure::usage(message).hint(hint))
    };
    if let Some(token) = settings.token.as_ref().filter(|t| **t != record.token) {
        return differs("the token", record.token.as_str(), token.as_str());
    }
    if let Some(pool) = settings.pool.filter(|p| *p != record.pool) {
        return differs("the address pool", &record.pool.to_string(), &pool.to_string());
    }
    match settings.domain.as_ref().filter(|d| **d != record.domain) {
        Some(domain) => differs("the domain", record.domain.as_str(), domain.as_str()),
        None => Ok(()),
    }
}

fn operator_subject() -> Subject {
    let user = std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
    Subject { name: format!("{user}@{}", host_name()), dns: Vec::new(), addresses: Vec::new() }
}

/// The seed's range.
fn default_pool() -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 1, 1, 0), 24)
}

fn private_folder(folder: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("make folder '{}'", folder.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("read '{}'", path.display()))
}

fn issued(folder: &Path) -> anyhow::Result<Issued> {
    Ok(Issued { cert_pem: text(&folder.join("cert.pem"))?, key_pem: text(&folder.join("key.pem"))? })
}

fn write_issued(folder: &Path, issued: &Issued) -> anyhow::Result<()> {
    write_new(&folder.join("key.pem"), &issued.key_pem, osier_store::SECRET)?;
    write_new(&folder.join("cert.pem"), &issued.cert_pem, osier_store::PUBLIC)
}

/// Writes a file unless it says this already.
fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    if osier_store::read(path)?.as_deref() != Some(text.as_bytes()) {
        osier_store::write(path, text.as_bytes(), mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DockerSettings;
    use std::os::unix::fs::PermissionsExt;
    use time::Duration;

    pub(super) fn settings(token: Option<&str>) -> ClusterSettings {
        ClusterSettings {
            name: "c".parse().unwrap(),
            token: token.map(|t| t.parse().unwrap()),
            pool: None,
            domain: None,
            names_masters: true,
            manager_port: 3376,
            proxy_port: 12375,
        }
    }

    pub(super) fn node(name: &str, last: u8) -> NodeIdentity {
        NodeIdentity {
            name: name.parse().unwrap(),
            master: name == "m",
            address: [10, 0, 0, last].into(),
            outside: [192, 0, 2, last].into(),
            dns: Vec::new(),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn identities_and_certificates_are_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let now = OffsetDateTime::now_utc();
        let open = || Cluster::open(&home, &settings(None), true, now).unwrap();
        let mut first = open();
        first.admit(&[node("a", 2), node("m", 1)], 3376, now).unwrap();
        first.save().unwrap();
        let (record, folder) = (first.record.clone(), first.folder().to_owned());
        let certificate = first.certificate(&"a".parse().unwrap()).unwrap().cert_pem.clone();
        let founder = record.members.iter().find(|m| m.peer == record.founder).unwrap();
        assert_eq!(founder.name.as_str(), "m");
        drop(first);

        let mut again = open();
        again.admit(&[node("a", 2)], 3376, now).unwrap();
        assert_eq!(again.record, record);
        assert_eq!(again.certificate(&"a".parse().unwrap()).unwrap().cert_pem, certificate);
        again.admit(&[node("a", 3)], 3376, now).unwrap();
        assert_ne!(again.certificate(&"a".parse().unwrap()).unwrap().cert_pem, certificate, "it has a new address");
        assert_eq!(again.record.managers.values().copied().collect::<Vec<_>>(), ["192.0.2.1:3376".parse().unwrap()]);
        drop(again);

        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        for secret in ["ca-key.pem", "key.pem", "gossip.key", "nodes/a/key.pem"] {
            assert_eq!(mode(secret), 0o600, "{secret}");
        }
        assert_eq!((mode(""), mode("nodes"), mode("nodes/a")), (0o700, 0o700, 0o700));
        osier_pki::Identity::read(&folder).unwrap().client().unwrap();

        let later = now + Duration::days(2 * 365 - 50);
        let mut renewed = Cluster::open(&home, &settings(None), true, later).unwrap();
        renewed.admit(&[node("a", 2)], 3376, later).unwrap();
        for pem in [&renewed.certificate(&"a".parse().unwrap()).unwrap().cert_pem, &renewed.operator.cert_pem] {
            assert!(days_left(pem, later).unwrap() > 700);
        }
        renewed.remove().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn an_inventory_that_names_no_masters_moves_no_manager() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let mut cluster = Cluster::open(&Home::at(dir.path()), &settings(None), true, now).unwrap();
        let listed = |name: &str, first: bool| NodeSettings {
            name: name.parse().unwrap(),
            master: first,
            internal: None,
            floating: None,
            docker: DockerSettings::default(),
        };
        assert!(cluster.is_master(&listed("a", true), false) && !cluster.is_master(&listed("m", false), false));
        cluster.admit(&[node("a", 2), node("m", 1)], 3376, now).unwrap();
        assert!(!cluster.is_master(&listed("a", true), false) && cluster.is_master(&listed("m", false), false));
        assert!(cluster.is_master(&listed("a", true), true) && !cluster.is_master(&listed("m", false), true));
        cluster.clear(&"m".parse().unwrap());
        assert!(cluster.is_master(&listed("a", true), false), "the manager is gone");
    }

    #[test]
    fn members_are_leaving_until_they_are_gone_or_taken_in_again() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let open = || Cluster::open(&Home::at(dir.path()), &settings(None), true, now).unwrap();
        let names: [NodeName; 4] = ["a", "b", "c", "m"].map(|name| name.parse().unwrap());
        let mut cluster = open();
        cluster.admit(&[node("a", 2), node("b", 3), node("c", 4), node("m", 1)], 3376, now).unwrap();
        cluster.clear(&names[0]);
        cluster.leave(names.iter());
        cluster.save().unwrap();
        drop(cluster);

        let mut again = open();
        assert!(again.record.leaving.iter().eq(&names[1..]) && again.record.cleared.iter().eq(&names[..1]));
        again.clear(&names[3]);
        again.expel(&names[2], again.record.founder, false, now).unwrap();
        again.admit(&[node("b", 3)], 3376, now).unwrap();
        again.leave(std::iter::once(&names[1]));
        again.stay(&names[1]);
        assert!(again.record.leaving.is_empty() && again.record.cleared.iter().eq([&names[0], &names[3]]));
    }

    #[test]
    fn a_node_that_was_removed_is_signed_off_and_its_name_is_free_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let now = OffsetDateTime::now_utc();
        let open = || Cluster::open(&home, &settings(None), true, now).unwrap();
        let peer = |cluster: &Cluster| cluster.record.members.iter().find(|m| m.name.as_str() == "a").map(|m| m.peer);
        let mut cluster = open();
        cluster.admit(&[node("a", 2), node("m", 1)], 3376, now).unwrap();
        cluster.save().unwrap();
        let (former, folder) = (peer(&cluster).unwrap(), cluster.folder().to_owned());
        let certificate = cluster.certificate(&"a".parse().unwrap()).unwrap().clone();
        let heir = cluster.record.founder;
        cluster.expel(&"a".parse().unwrap(), heir, false, now).unwrap();
        cluster.save().unwrap();
        drop(cluster);
        assert!(!folder.join("nodes/a").exists(), "its key is of no use any more");

        let mut again = open();
        let removal = again.removals(&"a".parse().unwrap()).remove(0);
        assert_eq!((removal.peer, removal.heir, removal.forced, peer(&again)), (former, heir, false, None));
        assert!(again.revoked().is_some() && again.record.revoked.len() == 1);
        assert_eq!(again.record.revoked[0], hex::encode(osier_pki::serial(&certificate.cert_pem).unwrap()));
        again.force(removal).unwrap();
        assert!(again.removals(&"a".parse().unwrap())[0].forced);
        again.admit(&[node("a", 2)], 3376, now).unwrap();
        assert!(peer(&again).is_some_and(|peer| peer != former));
        again.save().unwrap();
        osier_pki::Identity::read(&folder).unwrap().client().unwrap();
        let mut damaged = again.record.clone();
        damaged.roll[0].text.push(' ');
        drop(again);
        osier_store::write_json(&folder.join("cluster.json"), &damaged, osier_store::PUBLIC).unwrap();
        let refused = Cluster::open(&home, &settings(None), true, now).err().unwrap();
        assert!(refused.message().contains("cluster.json"), "{}", refused.message());
    }

    #[test]
    fn a_run_that_only_checks_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let mut cluster = Cluster::open(&Home::at(dir.path()), &settings(None), false, now).unwrap();
        cluster.admit(&[node("m", 1)], 3376, now).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_token_under_the_same_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (home, now) = (Home::at(dir.path()), OffsetDateTime::now_utc());
        let (ours, other) = ("ab".repeat(16), "cd".repeat(16));
        let cluster = Cluster::open(&home, &settings(Some(&ours)), true, now).unwrap();
        assert_eq!(cluster.record.token.as_str(), ours);
        cluster.save().unwrap();
        drop(cluster);
        assert!(Cluster::open(&home, &settings(Some(&ours)), true, now).is_ok());
        let refused = Cluster::open(&home, &settings(Some(&other)), true, now).err().unwrap();
        assert!(refused.code() == 2 && refused.message().contains(&other) && !refused.hints().is_empty());
    }
}
