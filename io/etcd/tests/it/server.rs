//! A real etcd of a test's own: one member on the loopback address, gone with the value.

use std::process::{Child, Command, Stdio};

/// A running etcd.
pub(crate) struct Server {
    /// Where its clients find it, `host:port`.
    pub(crate) address: String,
    peers: u16,
    extra: Vec<String>,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Server {
    /// Starts one with plain HTTP. It may not answer yet.
    pub(crate) fn start() -> Self {
        Self::start_with("http", Vec::new())
    }

    /// Starts one whose clients use this scheme, with further arguments.
    pub(crate) fn start_with(scheme: &str, mut extra: Vec<String>) -> Self {
        let (clients, peers) = (osier_ports::free(), osier_ports::free());
        let address = format!("127.0.0.1:{clients}");
        let url = format!("{scheme}://{address}");
        extra.extend(["--listen-client-urls".into(), url.clone(), "--advertise-client-urls".into(), url]);
        let folder = tempfile::Builder::new().prefix("osier-etcd-").tempdir().unwrap();
        let mut server = Self { address, peers, extra, folder, process: None };
        server.restart();
        server
    }

    /// Starts it again with the data it had.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let peers = format!("http://127.0.0.1:{}", self.peers);
        let started = Command::new("etcd")
            .args(["--name", "test", "--initial-cluster", &format!("test={peers}")])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers, "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.folder.path().join("log")).unwrap())
            .spawn();
        self.process = Some(started.expect("these tests need etcd (apt-get install etcd-server)"));
    }

    /// Kills it, as a power cut would.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
