//! A real engine of our own: dockerd with everything it owns in one temporary folder, gone with the value.

use crate::world::until;
use osier_engine::Client;
use osier_manager::Target;
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long dockerd may take to stop by itself.
const STOP: Duration = Duration::from_secs(10);

/// A running dockerd.
pub(crate) struct Dockerd {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    process: Child,
}

impl Dockerd {
    /// Starts an engine without bridge and firewall rules: the tests' containers need no network.
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::start_in(name, "true").await
    }

    /// Starts one with mounts of its own, which this shell script makes.
    pub(crate) async fn start_in(name: &'static str, mounts: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("osier-dockerd-").tempdir().unwrap();
        let port = osier_ports::free();
        let path = |part: &str| folder.path().join(part);
        // The engine's id is made from this key; by default all engines of a host share it.
        let config = serde_json::json!({"deprecated-key-path": path("key.json")});
        fs::write(path("config.json"), config.to_string()).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{mounts}; exec dockerd \"$@\""), "sh"])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--config-file")
            .arg(path("config.json"))
            .args(["--tls=false", "--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "-H", &format!("tcp://127.0.0.1:{port}")])
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .expect("these tests need root and dockerd (apt-get install docker.io)");
        let engine = Self { name, address: (Ipv4Addr::LOCALHOST, port).into(), folder, process };
        let client = Client::tcp(engine.address);
        until("dockerd answers", async || client.call(http::Method::GET, "/_ping", None).await.is_ok()).await;
        engine
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            name: Some(self.name.into()),
            host: self.address.ip().to_string(),
            port: self.address.port(),
            server_name: self.name.into(),
        }
    }

    /// What the engine itself lists as its images.
    pub(crate) async fn images(&self) -> Vec<Value> {
        Client::tcp(self.address).json(http::Method::GET, "/images/json", None).await.unwrap()
    }

    /// Whether one of them has this name.
    pub(crate) async fn has(&self, name: &str) -> bool {
        let images = self.images().await;
        images.iter().filter_map(|image| image["RepoTags"].as_array()).flatten().any(|tag| tag == name)
    }

    /// Kills the engine, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn stop(&mut self) {
        let (pid, process) = (self.process.id().to_string(), &mut self.process);
        // One that has ended has no number any more.
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        let kill = |signal: &str| drop(Command::new("kill").args(["-s", signal, &pid]).status());
        kill("TERM");
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || tell.send(process.wait()));
            if told.recv_timeout(STOP).is_err() {
                kill("KILL");
            }
        });
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
        let root = self.folder.path();
        // What survives a killed engine: its containers' shims, its containerd, and mounts.
        for process in processes_of(root) {
            let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
        }
        for mount in mounts_under(root) {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

/// The processes whose command line names something under this folder.
fn processes_of(root: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&root.display().to_string())
    };
    let shims: Vec<u32> = pids.filter(names).collect();
    let children = |parent: &u32| {
        let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()
    };
    let containers: Vec<u32> = shims.iter().flat_map(children).collect();
    [shims, containers].concat()
}

/// The mounts under this folder, the deepest first.
fn mounts_under(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = text.lines().filter_map(|l| l.split(' ').nth(1)).map(PathBuf::from).collect();
    mounts.retain(|m| m.starts_with(root));
    mounts.reverse();
    mounts
}
