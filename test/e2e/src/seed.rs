//! The seed's own inventories as they were: they make the cluster with what their variables mean, and the second one, whose
//! hosts are reached through the VPN's host, leads to the same nodes.
//!
//! The files are those of `test/golden/inventories/seed`, which are held against ansible-core there. Only addresses and the
//! key's path are the lab's.

use crate::{
    Cluster,
    behind::{Vpn, finished},
    eventually, show,
    tour::{IMAGE, NODES, make_image},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

/// How long something may take to come about.
const SOON: Duration = Duration::from_secs(60);
/// The seed's block for ssh, word for word.
const BLOCK: &str = r#"Host *.eolas
   User vpn-user
   ProxyCommand ssh vpn-host "nc -w 60 `basename %h .eolas` %p"
"#;
const TOKEN: &str = "feba5683f4a1645b68365f562f81694f";
/// The user of the seed's hosts, whom sudo asks for nothing.
const UBUNTU: &str = "id ubuntu 2>/dev/null || useradd --create-home --shell /bin/sh ubuntu; \
    echo 'ubuntu ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ubuntu; \
    cp -r /root/.ssh /home/ubuntu/; chown -R ubuntu: /home/ubuntu/.ssh";

/// The operator of the seed's cluster, with files of their own.
struct Seed<'a> {
    cluster: &'a Cluster,
    vpn: Vpn<'a>,
    folder: tempfile::TempDir,
    /// The nodes' addresses, by name.
    nodes: BTreeMap<String, Ipv4Addr>,
    /// The seed's `floating_ip`: where the operator reaches the master.
    floating: Ipv4Addr,
}

/// All of it. The lab's own cluster goes, and so does the seed's in the end.
pub fn all(cluster: &Cluster) -> Result<()> {
    cluster.osier(&["destroy", "-i", &cluster.inventory().display().to_string(), "--yes"])?;
    let seed = Seed::write(cluster)?;
    seed.makes_the_cluster()?;
    seed.other_values_count()?;
    seed.the_second_leads_to_the_same_hosts()?;
    seed.the_second_makes_a_cluster_too()
}

impl<'a> Seed<'a> {
    /// Writes both inventories with the lab's addresses, and prepares what the seed's hosts had and the lab's have not.
    fn write(cluster: &'a Cluster) -> Result<Self> {
        let vpn = Vpn::make(cluster)?;
        let folder = tempfile::tempdir()?;
        let lab = fs::read_to_string(cluster.inventory())?;
        let value = |key: &str| {
            let rest = lab.split(key).nth(1).with_context(|| format!("the lab's inventory has no {key}"))?;
            anyhow::Ok(rest.split([' ', '\n']).next().unwrap_or_default().to_owned())
        };
        let mut nodes: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
        for node in NODES {
            nodes.insert(node.to_owned(), value(&format!("{node} ansible_ssh_host="))?.parse()?);
        }
        let master = nodes.get("datalyse-master").copied().context("the lab has no master")?;
        let [a, b, c, _] = master.octets();
        let floating = Ipv4Addr::new(a, b, c, 200);
        let key = value("ansible_ssh_private_key_file=")?;
        let known = fs::read_to_string(value("UserKnownHostsFile=")?)?;
        let seed = Self { cluster, vpn, folder, nodes, floating };
        seed.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/inventories/seed"), seed.folder.path(), &key)?;
        seed.write_ssh(&known)?;
        for node in NODES {
            cluster.on(node, UBUNTU)?;
        }
        cluster.on("datalyse-master", &format!("ip address replace {floating}/32 dev eth0"))?;
        Ok(seed)
    }

    /// The seed's files, where its addresses and its key became the lab's, in names as well.
    fn copy(&self, from: &Path, to: &Path, key: &str) -> Result<()> {
        let ours = |text: &str| {
            let addresses = [
                ("178.237.109.178", self.floating),
                ("10.67.24.190", self.nodes["datalyse-master"]),
                ("10.67.24.194", self.nodes["datalyse-1"]),
                ("10.67.24.195", self.nodes["datalyse-2"]),
            ];
            let text = text.replace("~/.ssh/eolas.pem", key);
            addresses.iter().fold(text, |text, (seeds, ours)| text.replace(seeds, &ours.to_string()))
        };
        for entry in fs::read_dir(from).with_context(|| format!("read '{}'", from.display()))? {
            let entry = entry?;
            let to = to.join(ours(&entry.file_name().to_string_lossy()));
            if entry.file_type()?.is_dir() {
                fs::create_dir(&to)?;
                self.copy(&entry.path(), &to, key)?;
            } else {
                fs::write(&to, ours(&fs::read_to_string(entry.path())?))?;
            }
        }
        Ok(())
    }

    /// What stands in the seed's `~/.ssh`: an `ssh` that reads it comes first in the operator's `PATH`.
    fn write_ssh(&self, known: &str) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name);
        let mut ours = String::new();
        for line in known.lines() {
            let (names, key) = line.split_once(' ').context("a line of known hosts has no key")?;
            let address = names.split(',').nth(1).context("a line of known hosts has no address")?;
            let floating =
                if names.starts_with("datalyse-master,") { format!(",{}", self.floating) } else { String::new() };
            ours += &format!("{address},{address}.eolas{floating} {key}\n");
        }
        fs::write(path("known"), ours)?;
        let config = format!(
            "{BLOCK}Host vpn-host\n  User vpn-user\n  Include {}\nHost *\n  UserKnownHostsFile {}\n",
            self.vpn.path("config").display(),
            path("known").display(),
        );
        fs::write(path("config"), config)?;
        fs::create_dir(path("bin"))?;
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", path("config").display());
        fs::write(path("bin/ssh"), ssh)?;
        Ok(fs::set_permissions(path("bin/ssh"), fs::Permissions::from_mode(0o755))?)
    }

    /// A command of the operator's in the folder of the inventories, `behind` the VPN or not.
    fn run(&self, behind: bool, words: &[&str]) -> Result<Output> {
        show(&format!("{}$ {}", if behind { "behind the VPN" } else { "" }, words.join(" ")));
        let mut command = if behind { self.vpn.command("env") } else { Command::new("env") };
        self.cluster.environment(&mut command);
        let ours = self.folder.path().display();
        let path = std::env::var("PATH").unwrap_or_default();
        let links = self.cluster.links.path().display();
        command.env("PATH", format!("{ours}/bin:{links}:{path}")).current_dir(self.folder.path());
        command.env("OSIER_HOME", self.folder.path().join("osier"));
        command.env("DOCKER_CONFIG", self.folder.path().join("docker"));
        let output = command.args(words).output().with_context(|| format!("run '{}'", words.join(" ")))?;
        show(&format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)));
        if behind && !output.status.success() {
            show(&format!("the VPN's sshd said:\n{}", fs::read_to_string(self.vpn.path("sshd.log"))?));
        }
        Ok(output)
    }

    fn sh(&self, line: &str) -> Result<String> {
        finished(&self.run(false, &["sh", "-c", line])?)
    }

    /// `osier site` with more words: how many steps changed each host, and what was said on standard error.
    fn site(&self, behind: bool, inventory: &str, more: &[&str]) -> Result<(BTreeMap<String, u64>, String)> {
        let output = self.run(behind, &[&["osier", "site", "-i", inventory, "-o", "json"], more].concat())?;
        let report: Value = serde_json::from_str(&finished(&output)?).context("read 'osier site -o json'")?;
        let hosts = report["hosts"].as_array().context("'osier site -o json' names no hosts")?;
        let changed = |host: &Value| Some((host["host"].as_str()?.to_owned(), host["changed"].as_u64()?));
        Ok((hosts.iter().filter_map(changed).collect(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// All nodes are healthy under these names, each at the address that nodes use among themselves.
    fn nodes_are(&self, names: impl Fn(&str, Ipv4Addr) -> String, port: u16) -> Result<()> {
        eventually(SOON, || {
            let info = self.sh("docker -c osier info 2>&1")?;
            for (node, address) in &self.nodes {
                let row = format!("{}: {address}:{port}", names(node, *address));
                ensure!(info.lines().any(|line| line.trim() == row), "'{row}' is missing");
            }
            ensure!(info.matches("Status: Healthy").count() == NODES.len(), "not all nodes are healthy");
            Ok(())
        })
    }

    fn context_leads_to(&self, address: Ipv4Addr, port: u16) -> Result<()> {
        let host = self.sh("docker context inspect osier --format '{{.Endpoints.docker.Host}}'")?;
        ensure!(host.trim() == format!("tcp://{address}:{port}"), "the context leads to {host}");
        Ok(())
    }

    fn makes_the_cluster(&self) -> Result<()> {
        let (changed, said) = self.site(false, "inventory", &[])?;
        ensure!(changed.len() == NODES.len() && changed.values().all(|steps| *steps > 0), "made nothing: {changed:?}");
        let warnings: Vec<&str> = said.lines().filter(|line| line.contains("warning")).collect();
        let [unused] = warnings.as_slice() else { bail!("not one warning: {warnings:?}") };
        ensure!(unused.contains("weave_peer_count (") && unused.contains("weave_dns ("), "{unused}");
        let (changed, _) = self.site(false, "inventory", &[])?;
        ensure!(changed.values().all(|steps| *steps == 0), "a second run changed something: {changed:?}");

        self.context_leads_to(self.floating, 3376)?;
        self.nodes_are(|node, _| node.to_owned(), 12375)?;
        let listed = self.sh(&format!("docker-swarm list token://{TOKEN}"))?;
        ensure!(NODES.iter().all(|node| listed.lines().any(|l| l == format!("{node}:12375"))), "{listed}");
        let image = tempfile::tempdir()?;
        self.sh(&format!("docker -c osier load -i {}", make_image(image.path())?.display()))?;
        self.sh(&format!("docker -c osier run -d --name seed-a -h a.weave.local {IMAGE} sleep 100000"))?;
        let shown = self.sh(&format!("docker -c osier run --rm -h b.weave.local {IMAGE} ifconfig ethwe"))?;
        let address = shown.split("inet addr:").nth(1).and_then(|a| a.split_whitespace().next());
        let address: Ipv4Addr = address.context("ethwe has no address")?.parse()?;
        ensure!(address.octets()[..3] == [10, 1, 1], "{address} is not of weave_ip_pool");
        // No weave_dns is needed for it.
        eventually(SOON, || self.sh(&format!("docker -c osier run --rm {IMAGE} ping -c 1 a.weave.local")).map(drop))
    }

    /// The seed's values are what Osier would take by itself; so others are tried.
    fn other_values_count(&self) -> Result<()> {
        let refused = self.run(false, &["osier", "site", "-i", "inventory", "-e", "weave_ip_pool=10.2.2.0/24"])?;
        let said = String::from_utf8_lossy(&refused.stderr);
        let both = said.contains("10.1.1.0/24") && said.contains("10.2.2.0/24");
        ensure!(refused.status.code() == Some(2) && both, "another pool for the same cluster: {said}");
        let ports = ["-e", "swarm_port=3377", "-e", "weave_proxy_port=12376"];
        let (changed, _) = self.site(false, "inventory", &ports)?;
        ensure!(changed.values().all(|steps| *steps > 0), "other ports changed nothing: {changed:?}");
        self.context_leads_to(self.floating, 3377)?;
        self.nodes_are(|node, _| node.to_owned(), 12376)?;
        let listed = self.sh(&format!("docker-swarm list token://{TOKEN}"))?;
        ensure!(listed.lines().count() == NODES.len() && listed.lines().all(|l| l.ends_with(":12376")), "{listed}");
        self.sh(&format!("docker -c osier run --rm {IMAGE} ping -c 1 a.weave.local"))?;
        self.site(false, "inventory", &[])?;
        self.nodes_are(|node, _| node.to_owned(), 12375)
    }

    fn the_second_leads_to_the_same_hosts(&self) -> Result<()> {
        // First by the block for ssh alone, then as the inventory has it.
        let without = "ansible_ssh_common_args=";
        let names = self.run(true, &["osier", "exec", "-i", "inventory-vpn", "-e", without, "--", "hostname"])?;
        let names = finished(&names)?;
        for (node, address) in &self.nodes {
            let is_it = |line: &str| line.contains(&format!("{address}.eolas")) && line.trim_end().ends_with(node);
            ensure!(names.lines().any(is_it), "{address}.eolas is not {node}:\n{names}");
        }
        let (changed, said) = self.site(true, "inventory-vpn", &[])?;
        let same = changed.len() == NODES.len() && changed.values().all(|steps| *steps == 0);
        ensure!(same, "the other names changed something: {changed:?}");
        for (node, address) in &self.nodes {
            let note = format!("'{address}.eolas' is the cluster's '{node}'");
            ensure!(changed.contains_key(&format!("{address}.eolas")) && said.contains(&note), "no '{note}': {said}");
        }
        ensure!(!said.contains("node rm"), "members are missed: {said}");
        let (changed, _) = self.site(false, "inventory", &[])?;
        ensure!(changed.values().all(|steps| *steps == 0), "the first inventory again: {changed:?}");
        self.context_leads_to(self.floating, 3376)?;
        self.sh("docker -c osier rm -f seed-a").map(drop)
    }

    /// What the first made goes with the second, which then makes nodes of its own names.
    fn the_second_makes_a_cluster_too(&self) -> Result<()> {
        let destroy = ["osier", "destroy", "-i", "inventory-vpn", "--yes"];
        // In two runs, as after one that did not reach all.
        finished(&self.run(true, &[&destroy[..], &["-l", "slaves"]].concat())?)?;
        ensure!(self.folder.path().join("osier/clusters/default").exists(), "the master still belongs to the cluster");
        self.forget_the_end("datalyse-1")?;
        finished(&self.run(true, &destroy)?)?;
        ensure!(!self.folder.path().join("osier/clusters/default").exists(), "the cluster is not forgotten");
        let (changed, said) = self.site(true, "inventory-vpn", &[])?;
        ensure!(changed.values().all(|steps| *steps > 0) && !said.contains("is the cluster's"), "{changed:?}: {said}");
        let (changed, _) = self.site(true, "inventory-vpn", &[])?;
        ensure!(changed.values().all(|steps| *steps == 0), "a second run changed something: {changed:?}");
        self.context_leads_to(self.nodes["datalyse-master"], 3376)?;
        self.nodes_are(|_, address| format!("{address}.eolas"), 12375)?;
        finished(&self.run(true, &destroy)?).map(drop)
    }

    /// The record becomes what a `destroy` leaves that is killed once it has cleared this node.
    fn forget_the_end(&self, node: &str) -> Result<()> {
        let path = self.folder.path().join("osier/clusters/default/cluster.json");
        let mut record: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        ensure!(record.get("leaving").is_none(), "a run that ended left {} behind", record["leaving"]);
        let cleared = record["cleared"].as_array_mut().context("nothing is remembered")?;
        let at = cleared.iter().position(|name| name == node).with_context(|| format!("{node} is not remembered"))?;
        record["leaving"] = vec![cleared.remove(at)].into();
        Ok(fs::write(&path, record.to_string())?)
    }
}
