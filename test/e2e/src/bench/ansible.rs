//! Provisioning three hosts and running a command on many, against ansible-core with the same effect on the same hosts.
//!
//! The playbook does what `osier site --check` says, with Ansible's own modules and one task for each sort of step; the files
//! are those of a first run. Both find Debian's packages fetched already, and Ansible the Python that it needs on hosts.

use crate::{
    MANAGER, Row,
    lab::{MASTER, install, nodes, site},
    quantile,
};
use anyhow::{Context, Result, ensure};
use osier_e2e::{Cluster, eventually, tour};
use serde_json::{Value, json};
use sshd::Sshd;
use std::{fs, path::PathBuf, time::Duration};

#[path = "../../../../app/cli/tests/it/ansible_env.rs"]
#[expect(clippy::unwrap_used, reason = "tests use it, too, and fail by panicking")]
mod ansible_env;
#[path = "../../../../io/ssh/tests/it/sshd.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "tests use it, too, and fail by panicking")]
mod sshd;

/// How many nodes there are.
const NODES: usize = 3;
/// How many hosts a command runs on besides.
const HOSTS: usize = 50;
/// How many times everything is measured but for provisioning from nothing, which takes long.
const TURNS: usize = 5;
/// How many times that is.
const FIRST_TURNS: usize = 2;
/// What the playbook does; `plan` has the steps of each host.
const PLAYBOOK: &str = include_str!("ansible.yml");

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let cluster = Cluster::make(NODES, &[])?;
    let bench = Bench::new(&cluster)?;
    for node in nodes(NODES) {
        install(&cluster, &node, "python3 python3-apt")?;
    }
    bench.write_playbook()?;
    bench.site()?;
    let (ours, theirs) =
        (format!("osier site {}", bench.inventory()), format!("{} {}", bench.playbook(), bench.inventory()));
    tour::provision(&cluster)?;
    let recap = cluster.sh(&theirs)?;
    ensure!(recap.matches("changed=0").count() == NODES, "a second run of the playbook changes something:\n{recap}");
    let again = bench.compare(TURNS, &ours, &theirs, "true")?;
    rows.push(
        again.row("osier site, second run on 3 hosts, over the playbook's", "≤ 3 s", |seconds, _| seconds <= 3.0),
    );
    rows.push(bench.again(&bench.inventory(), 5, "osier exec on 3 hosts, over ansible -m command")?);

    let servers: Vec<Sshd> = (0..HOSTS).map(|_| Sshd::start()).collect();
    let hosts = bench.home.path().join("fifty");
    let line = |(number, sshd): (usize, &Sshd)| format!("host-{number} {}\n", variables(sshd));
    fs::write(&hosts, servers.iter().enumerate().map(line).collect::<String>())?;
    let hosts = format!("-i {}", hosts.display());
    rows.push(bench.again(&hosts, HOSTS, "osier exec on 50 hosts, over ansible -m command")?);
    rows.push(bench.first(&hosts, &servers)?);
    drop(servers);

    let destroy = format!("osier destroy {} --yes --purge", bench.inventory());
    let first = bench.compare(FIRST_TURNS, &ours, &theirs, &destroy)?;
    // The playbook came last.
    let info = format!("{MANAGER} info 2>&1 | grep 'Nodes: {NODES}'");
    eventually(Duration::from_secs(30), || cluster.on(MASTER, &info).context("see what the playbook made"))?;
    rows.push(first.row("osier site on 3 hosts without Docker, over the playbook", "≤ 1 ×", |_, ratio| ratio <= 1.0));
    Ok(rows)
}

/// What ssh must know of a server of this machine besides its port and its key.
const OPTIONS: &str = "-F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";

/// What an inventory says of a server of this machine.
fn variables(sshd: &Sshd) -> String {
    let (port, key) = (sshd.port, sshd.folder.path().join("user"));
    format!(
        "ansible_python_interpreter=/usr/bin/python3 ansible_host=127.0.0.1 ansible_port={port} \
         ansible_ssh_private_key_file={} ansible_ssh_common_args='{OPTIONS}'",
        key.display()
    )
}

/// A lab, and Ansible with a folder of its own.
struct Bench<'a> {
    cluster: &'a Cluster,
    ansible: PathBuf,
    home: tempfile::TempDir,
}

/// What both took, in seconds.
#[derive(Default)]
struct Taken {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Taken {
    fn row(mut self, what: &'static str, promise: &'static str, holds: impl Fn(f64, f64) -> bool) -> Row {
        let (ours, theirs) = (quantile(&mut self.ours, 0.5), quantile(&mut self.theirs, 0.5));
        let (result, holds) = (format!("{ours:.2} s, {:.2} ×", ours / theirs), holds(ours, ours / theirs));
        Row { what, result, promise, holds }
    }
}

impl<'a> Bench<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let program = std::env::current_exe()?;
        let folder = program.ancestors().nth(2).context("this program lies in no build folder")?.join("tmp");
        let home = tempfile::tempdir()?;
        fs::write(home.path().join("ansible.cfg"), "")?;
        Ok(Self { cluster, ansible: ansible_env::environment(&folder).join("bin"), home })
    }

    fn inventory(&self) -> String {
        format!("-i {}", self.cluster.inventory().display())
    }

    /// One of Ansible's programs, under settings that are nobody's.
    fn program(&self, name: &str) -> String {
        let (home, ansible) = (self.home.path().display(), self.ansible.display());
        format!(
            "env ANSIBLE_CONFIG={home}/ansible.cfg ANSIBLE_HOME={home} ANSIBLE_SSH_CONTROL_PATH_DIR={home}/cp \
             ANSIBLE_REMOTE_TEMP={home}/remote {ansible}/{name}"
        )
    }

    fn playbook(&self) -> String {
        format!("{} {}", self.program("ansible-playbook"), self.home.path().join("site.yml").display())
    }

    /// `true` on all hosts of an inventory, over connections that are open from a run before, as both leave them.
    fn again(&self, hosts: &str, forks: usize, what: &'static str) -> Result<Row> {
        let ours = format!("osier exec {hosts} --forks {forks} -- true");
        let theirs = format!("{} all {hosts} --forks {forks} -m command -a true", self.program("ansible"));
        let mut taken = Taken::default();
        for _ in 0..TURNS {
            taken.ours.push(self.seconds(&ours, &ours)?);
            taken.theirs.push(self.seconds(&theirs, &theirs)?);
        }
        Ok(taken.row(what, "≤ 0.1 ×", |_, ratio| ratio <= 0.1))
    }

    /// `true` on servers that nobody is connected to, over ssh itself on all at once, which none can do without. A connection
    /// that can serve more than one command takes two calls more.
    fn first(&self, hosts: &str, servers: &[Sshd]) -> Result<Row> {
        let ssh = |sshd: &Sshd| {
            let (port, key) = (sshd.port, sshd.folder.path().join("user"));
            format!("ssh {OPTIONS} -i {} -p {port} 127.0.0.1 true </dev/null &\n", key.display())
        };
        let script = self.home.path().join("ssh-on-all");
        fs::write(&script, servers.iter().map(ssh).chain(["wait\n".to_owned()]).collect::<String>())?;
        let ours = format!("osier exec {hosts} --keep 0 --forks {HOSTS} -- true");
        let taken = self.compare(TURNS, &ours, &format!("sh {}", script.display()), "true")?;
        let what = "osier exec on 50 hosts, connecting first, over ssh on all at once";
        Ok(taken.row(what, "≤ 1.3 ×", |_, ratio| ratio <= 1.3))
    }

    /// Runs both in turns, and something before each.
    fn compare(&self, turns: usize, ours: &str, theirs: &str, before: &str) -> Result<Taken> {
        let mut taken = Taken::default();
        for _ in 0..turns {
            taken.ours.push(self.seconds(ours, before)?);
            taken.theirs.push(self.seconds(theirs, before)?);
        }
        Ok(taken)
    }

    fn seconds(&self, line: &str, before: &str) -> Result<f64> {
        let line = format!("{before} >&2 && s=$(date +%s%N) && {line} >&2 && echo $(($(date +%s%N)-s))");
        let said = self.cluster.sh(&line)?;
        Ok(said.trim().parse::<f64>().with_context(|| format!("'{said}' is no time"))? / 1e9)
    }

    /// Makes the playbook out of what provisioning would do.
    fn write_playbook(&self) -> Result<()> {
        let check = format!("osier site {} --check -o json", self.inventory());
        let check: Value = serde_json::from_slice(&self.cluster.try_sh(&check)?.stdout).context("read the plan")?;
        let hosts = check["hosts"].as_array().context("the plan names no hosts")?;
        let plan: serde_json::Map<String, Value> = hosts
            .iter()
            .map(|host| Ok((host["host"].as_str().context("a host has no name")?.to_owned(), steps(host)?)))
            .collect::<Result<_>>()?;
        ensure!(plan.len() == NODES, "the plan is for {} hosts", plan.len());
        fs::write(self.home.path().join("plan.json"), json!({ "plan": plan, "osier": osier()? }).to_string())?;
        fs::write(self.home.path().join("site.yml"), PLAYBOOK).context("write the playbook")
    }

    /// Provisions the hosts, and gives the playbook the files that they have then.
    fn site(&self) -> Result<()> {
        site(self.cluster)?;
        let files = self.home.path().join("files").display().to_string();
        let inventory = self.cluster.inventory().display().to_string();
        self.cluster.osier(&["copy", "-i", &inventory, "--fetch", "/etc/osier", "/usr/local/lib/systemd", &files])?;
        Ok(())
    }
}

impl Drop for Bench<'_> {
    /// Ends the connections that Ansible keeps.
    fn drop(&mut self) {
        for socket in fs::read_dir(self.home.path().join("cp")).into_iter().flatten().flatten() {
            let mut ssh = std::process::Command::new("ssh");
            let path = format!("ControlPath={}", socket.path().display());
            let _ = ssh.args(["-F", "none", "-o", &path, "-O", "exit", "host"]).output();
        }
    }
}

fn osier() -> Result<String> {
    std::env::var("OSIER_BIN").context("OSIER_BIN is not set; run 'cargo xtask bench'")
}

/// The steps of one host's plan by their sort; those that the playbook has no task for are an error.
fn steps(host: &Value) -> Result<Value> {
    let [mut packages, mut folders, mut files, mut links, mut units] = [const { Vec::new() }; 5];
    for step in host["steps"].as_array().context("a host has no steps")? {
        let text = step.as_str().context("a step is no text")?;
        let words: Vec<&str> = text.split(' ').collect();
        let mode = |word: &str| word.trim_end_matches(')').to_owned();
        match words.as_slice() {
            ["install", path] if path.starts_with('/') => {}
            ["install", names @ ..] => packages.extend(names.iter().map(|name| json!(name))),
            ["make", "folder", path, "(mode", last] => folders.push(json!({ "path": path, "mode": mode(last) })),
            ["write", path, "(mode", last] => files.push(json!({ "path": path, "mode": mode(last) })),
            ["link", path, "to", target] => links.push(json!({ "path": path, "target": target })),
            ["start", unit] => units.push(json!(unit)),
            ["reload", ..] | ["enable", _] => {}
            _ => anyhow::bail!("the playbook has no task for '{text}'"),
        }
    }
    Ok(json!({ "packages": packages, "folders": folders, "files": files, "links": links, "units": units }))
}
