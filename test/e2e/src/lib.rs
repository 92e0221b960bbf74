//! Real clusters to test on: a lab of systemd hosts, provisioned by `osier site`, driven by the docker command line.
//!
//! Everything a test does to a cluster goes through the programs a user has; the harness only starts them, shows what it
//! ran, and compares.
#![expect(clippy::print_stdout, reason = "a transcript of what was run is half of what an end-to-end test is for")]

pub mod behind;
pub mod churn;
pub mod doctor;
pub mod engine;
pub mod faults;
pub mod networks;
pub mod offline;
pub mod partition;
pub mod removal;
pub mod repair;
pub mod seed;
pub mod terminal;
pub mod tour;

use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// What a run comes to, said in its last line, where whoever sees only the end of the output finds it.
pub fn verdict(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A lab with a cluster on it.
pub struct Cluster {
    osier: PathBuf,
    lab: String,
    /// Links by which the binary answers as `docker-swarm` and `weave`, and as itself.
    links: tempfile::TempDir,
    /// Where the operator's files live; the user's own place where the cluster is the user's.
    home: Option<tempfile::TempDir>,
    inventory: String,
    /// Removes the lab as soon as its input ends, whatever became of the test. None where the lab is the user's.
    cleaner: Option<Child>,
}

/// What the cleaner is.
const CLEAN: &str = r#"read _; exec "$0" lab down "$1" >/dev/null"#;

impl Cluster {
    /// Makes hosts of this test's own, of Debian releases as `osier lab up --release` takes them; they are removed when
    /// the value is dropped, or the process ends.
    pub fn make(nodes: usize, releases: &[&str]) -> Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let lab = format!("e2e-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut cluster = Self::over(&lab, Some(tempfile::tempdir()?))?;
        // OSIER_KEEP leaves the hosts up for whoever wants to look at a failure.
        if std::env::var_os("OSIER_KEEP").is_none() {
            let mut cleaner = Command::new("sh");
            cleaner.args(["-c", CLEAN]).args([cluster.osier.as_os_str(), lab.as_ref()]);
            // In a group of its own, so that what ends the test does not end it as well.
            cluster.cleaner = Some(cleaner.stdin(Stdio::piped()).process_group(0).spawn()?);
        }
        let nodes = nodes.to_string();
        let mut up = vec!["lab", "up", &lab, "--nodes", &nodes, "--no-hosts"];
        up.extend(releases.iter().flat_map(|r| ["--release", r]));
        cluster.osier(&up)?;
        cluster.inventory = cluster.find_inventory()?;
        Ok(cluster)
    }

    /// Uses the hosts of a lab that is up, under the user's own account.
    pub fn of_lab(lab: &str) -> Result<Self> {
        let mut cluster = Self::over(lab, None)?;
        cluster.inventory = cluster.find_inventory()?;
        Ok(cluster)
    }

    fn over(lab: &str, home: Option<tempfile::TempDir>) -> Result<Self> {
        let osier = std::env::var_os("OSIER_BIN").context("OSIER_BIN is not set; run 'cargo xtask test'")?;
        let osier = PathBuf::from(osier);
        let links = tempfile::tempdir()?;
        for name in ["osier", "docker-swarm", "weave"] {
            std::os::unix::fs::symlink(&osier, links.path().join(name))?;
        }
        Ok(Self { osier, lab: lab.to_owned(), links, home, inventory: String::new(), cleaner: None })
    }

    fn find_inventory(&self) -> Result<String> {
        let list = self.osier(&["lab", "list", "--output", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&list).context("read 'osier lab list -o json'")?;
        let labs = list.as_array().context("'osier lab list -o json' is not a list")?;
        let ours = labs.iter().find(|node| node["lab"] == self.lab.as_str());
        let path = ours.and_then(|l| l["inventory"].as_str());
        path.map(str::to_owned).with_context(|| format!("the lab '{}' has no inventory: {list}", self.lab))
    }

    /// The lab's name, which is the cluster's.
    pub fn name(&self) -> &str {
        &self.lab
    }

    /// The lab's inventory file.
    pub fn inventory(&self) -> &Path {
        Path::new(&self.inventory)
    }

    /// Runs the binary itself, outside the lab, and gives its standard output.
    pub fn osier(&self, args: &[&str]) -> Result<String> {
        println!("$ osier {}", args.join(" "));
        let mut command = Command::new(&self.osier);
        self.environment(command.args(args));
        finish(&mut command)
    }

    /// As [`Self::osier`], for what may fail.
    pub fn try_osier(&self, args: &[&str]) -> Result<Output> {
        println!("$ osier {}", args.join(" "));
        let mut command = Command::new(&self.osier);
        self.environment(command.args(args));
        command.output().with_context(|| format!("run 'osier {}'", args.join(" ")))
    }

    /// Runs a shell line where the nodes' names resolve and `ssh NODE` works, with the cluster as `DOCKER_HOST`, shows
    /// it and its output, and gives its standard output.
    pub fn sh(&self, line: &str) -> Result<String> {
        let output = self.try_sh(line)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "'{line}' failed: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// As [`Self::sh`], for lines that may fail.
    pub fn try_sh(&self, line: &str) -> Result<Output> {
        println!("$ {line}");
        let output = self.shell(line)?.output().with_context(|| format!("run '{line}'"))?;
        print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    /// The command that [`Self::sh`] would run, for those who want its streams.
    pub fn shell(&self, line: &str) -> Result<Command> {
        let mut command = Command::new(&self.osier);
        command.args(["lab", "exec", &self.lab, "--", "sh", "-c", line]);
        self.environment(&mut command);
        for (name, value) in self.docker_env().unwrap_or_default() {
            command.env(name, value);
        }
        Ok(command)
    }

    /// Runs a shell line on a node.
    pub fn on(&self, node: &str, line: &str) -> Result<String> {
        let output = self.try_on(node, line)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "'{line}' on {node} failed: {}\n{text}{err}", output.status);
        Ok(text)
    }

    /// As [`Self::on`], for lines that may fail.
    pub fn try_on(&self, node: &str, line: &str) -> Result<Output> {
        let mut command = Command::new(&self.osier);
        command.args(["lab", "exec", &self.lab, "--", "ssh", node, line]);
        self.environment(&mut command);
        command.output().with_context(|| format!("run '{line}' on {node}"))
    }

    /// Installs the engine of another Debian release than the node's own there, and nothing else of it that the node's has:
    /// `osier site` then finds Docker present.
    pub fn install_engine_of(&self, node: &str, release: &str) -> Result<()> {
        let source = format!(
            "awk -v RS= 'NR == 1' /etc/apt/sources.list.d/debian.sources | sed 's/^Suites:.*/Suites: {release}/' \
             > /etc/apt/sources.list.d/{release}.sources"
        );
        let pin = format!(
            "printf 'Package: *\\nPin: release n={release}\\nPin-Priority: 100\\n' > /etc/apt/preferences.d/{release}"
        );
        let packages =
            ["docker.io", "containerd", "runc", "docker-cli"].map(|name| format!("{name}/{release}")).join(" ");
        let install = format!(
            "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends {packages}"
        );
        self.on(node, &format!("set -e; {source}; {pin}; {install}")).map(|_| ())
    }

    /// Takes a node's power away.
    pub fn stop_node(&self, node: &str) -> Result<()> {
        self.osier(&["lab", "stop", "--lab", &self.lab, node]).map(|_| ())
    }

    /// Gives a node its power back.
    pub fn start_node(&self, node: &str) -> Result<()> {
        self.osier(&["lab", "start", "--lab", &self.lab, node]).map(|_| ())
    }

    /// Waits for a node that is shutting itself down to reboot, and boots it: a lab's hosts have no firmware to do so.
    pub fn boot_again(&self, node: &str) -> Result<()> {
        eventually(Duration::from_secs(60), || {
            let list: serde_json::Value = serde_json::from_str(&self.osier(&["lab", "list", "--output", "json"])?)?;
            let rows = list.as_array().context("'osier lab list' is not a list")?;
            let ours = rows.iter().find(|row| row["lab"] == self.lab.as_str() && row["name"] == node);
            let state = ours.map(|row| row["state"].to_string()).unwrap_or_default();
            ensure!(state == "\"exited\"", "{node} is {state}");
            Ok(())
        })?;
        self.start_node(node)
    }

    fn environment(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.links.path().display()));
        if let Some(home) = &self.home {
            command.env("OSIER_HOME", home.path().join("osier"));
            command.env("DOCKER_CONFIG", home.path().join("docker"));
        }
    }

    /// `DOCKER_HOST` and its companions, as `osier env` prints them; an error before the cluster is provisioned.
    pub fn docker_env(&self) -> Result<BTreeMap<String, String>> {
        let mut command = Command::new(&self.osier);
        command.args(["env", "--cluster", &self.lab]);
        self.environment(&mut command);
        let text = finish(&mut command)?;
        let export = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
        };
        Ok(text.lines().filter_map(export).collect())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(mut cleaner) = self.cleaner.take() else { return };
        drop(cleaner.stdin.take());
        match cleaner.wait() {
            Ok(status) if status.success() => {}
            ended => println!("cannot remove the lab '{}': {ended:?}", self.lab),
        }
    }
}

fn finish(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?} failed: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// Waits until `check` is satisfied; after `limit` the error is what it last complained of.
pub fn eventually<T>(limit: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => {
                return Err(error.context(format!("still so after {} s", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Waits until the manager speaks to all nodes.
pub(crate) fn settled(cluster: &Cluster, limit: Duration) -> Result<()> {
    eventually(limit, || {
        let info = cluster.sh("docker info 2>&1")?;
        ensure!(info.matches("Status: Healthy").count() == tour::NODES.len(), "not all nodes are healthy");
        Ok(())
    })
}

/// Adds to the transcript.
pub(crate) fn show(text: &str) {
    println!("{}", text.trim_end());
}
