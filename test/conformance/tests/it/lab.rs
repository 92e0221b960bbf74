//! Engines and a manager of the test's own: each dockerd in namespaces of its own (network, mounts, host name,
//! processes), the manager as a process, all gone with their values.

use osier_engine::Client;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// How long a program may take to answer for the first time.
const START: Duration = Duration::from_secs(60);
/// How long it may take to stop by itself.
const STOP: Duration = Duration::from_secs(15);
/// How many lines of a log are shown.
const LINES: usize = 40;

/// What runs inside the new namespaces before dockerd. The engine's own places are made private, so that engines of one
/// machine share neither sockets nor the key that their id comes from; `/run` keeps no trace of the machine's services.
/// Arguments: the host's name, the engine's folder, and the root to run in, where that is another one.
const PREPARE: &str = r#"
set -e
hostname "$1"
ip link set lo up
if [ -n "$3" ]; then
  mount --bind "$3" "$3"
  for tree in proc sys dev; do mount --rbind "/$tree" "$3/$tree"; done
  mkdir -p "$3$2" "$3/old"
  mount --bind "$2" "$3$2"
  cd "$3"
  pivot_root . old
  cd /
  umount -l /old
fi
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /etc/docker "$2/etc"
mount --bind "$2/etc" /etc/docker
exec dockerd --data-root "$2/data" --exec-root "$2/exec" --pidfile "$2/pid" -H "unix://$2/docker.sock" \
  --exec-opt native.cgroupdriver=cgroupfs --ip-masq=false
"#;

/// A process that is told to stop, and killed where it does not.
struct Process(Child);

impl Process {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = fs::File::create(log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).spawn();
        Self(child.unwrap_or_else(|e| panic!("run {command:?}: {e}")))
    }

    /// The process whose end is the end of all the others in its namespace.
    fn first_child(&self) -> u32 {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|c| c.parse().ok()).unwrap_or(pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.first_child().to_string()).status();
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A dockerd with a network of its own. Its socket is also served on a loopback port, which is how managers reach it.
pub(crate) struct Engine {
    pub(crate) address: SocketAddr,
    socket: PathBuf,
    relay: AbortHandle,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

impl Engine {
    /// Starts this machine's dockerd on a host of this name.
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_in(name, Path::new("")).await
    }

    /// Starts the dockerd of another system, which lies in the folder `root`.
    pub(crate) async fn start_in(name: &str, root: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("osier-conformance-").tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let mut command = Command::new("unshare");
        // --kill-child: if this test dies, so does the engine with all its containers.
        command.args(["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", PREPARE, "sh", name]).arg(folder.path()).arg(root);
        let log = folder.path().join("log");
        let process = Process::start(command, &log);
        answers(&Client::unix(&socket), "dockerd", &log).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let relay = tokio::spawn(relay(listener, socket.clone(), None)).abort_handle();
        Self { address, socket, relay, _process: process, _folder: folder }
    }

    /// The engine as `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Serves the engine over TLS as well, on a loopback port, until the test's runtime ends.
    pub(crate) async fn serve_tls(&self, acceptor: TlsAcceptor) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(relay(listener, self.socket.clone(), Some(acceptor)));
        address
    }
}

/// Copies bytes both ways, halves closing one by one as they do without a relay.
async fn relay(listener: TcpListener, socket: PathBuf, tls: Option<TlsAcceptor>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (socket, tls) = (socket.clone(), tls.clone());
        tokio::spawn(async move {
            let Ok(mut far) = UnixStream::connect(&socket).await else { return };
            // A broken connection is the business of the two who talk over it.
            let _ = match tls {
                None => copy_bidirectional(&mut near, &mut far).await,
                Some(tls) => match tls.accept(near).await {
                    Ok(mut near) => copy_bidirectional(&mut near, &mut far).await,
                    Err(_) => return,
                },
            };
        });
    }
}

/// Unpacks a Debian of this release with its Docker Engine into a folder, from where this machine gets its packages.
pub(crate) fn debootstrap(release: &str, root: &Path) {
    let targets = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let targets = Command::new("apt-get").args(targets).output().expect("apt-get");
    let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
    let mirror = targets.lines().find(|uri| !uri.contains("security")).expect("a source of packages");
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", "--include=docker.io,procps", release]).arg(root).arg(mirror);
    // A release that is newer than the program is unpacked as the development one.
    command.arg("/usr/share/debootstrap/scripts/sid");
    let output = command.output().expect("debootstrap (Debian: debootstrap)");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stdout));
}

/// A manager's process over some engines.
pub(crate) struct Manager {
    socket: PathBuf,
    _process: Process,
    folder: tempfile::TempDir,
}

impl Manager {
    /// Starts a manager and waits until all engines are healthy.
    pub(crate) async fn start(engines: &[SocketAddr]) -> Self {
        let folder = tempfile::Builder::new().prefix("osier-conformance-").tempdir().expect("a folder");
        let socket = folder.path().join("manager.sock");
        let nodes: Vec<String> = engines.iter().map(SocketAddr::to_string).collect();
        let mut command = Command::new(binary());
        command.args(["manage", "-H", &format!("unix://{}", socket.display())]);
        command.arg(format!("nodes://{}", nodes.join(",")));
        let log = folder.path().join("log");
        let manager = Self { socket, _process: Process::start(command, &log), folder };
        let client = Client::unix(&manager.socket);
        answers(&client, "the manager", &log).await;
        let start = Instant::now();
        loop {
            let info: serde_json::Value = client.json(http::Method::GET, "/info", None).await.expect("info");
            if info["SystemStatus"].to_string().matches("Status\",\"Healthy").count() == engines.len() {
                return manager;
            }
            assert!(start.elapsed() < START, "not all engines are healthy: {}", info["SystemStatus"]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The manager as `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The last lines it logged.
    pub(crate) fn log(&self) -> String {
        tail(&self.folder.path().join("log"))
    }
}

/// The program under test: `OSIER_BIN`, else what a plain build puts beside this test.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("OSIER_BIN") {
        return named.into();
    }
    let here = std::env::current_exe().expect("the test's own path");
    let beside = here.parent().and_then(Path::parent).map(|p| p.join("osier")).unwrap_or_default();
    let usable = fs::metadata(&beside).is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
    assert!(usable, "set OSIER_BIN, run 'cargo xtask test', or 'cargo build -p osier' first");
    beside
}

/// Waits until a program answers a ping.
async fn answers(client: &Client, who: &str, log: &Path) {
    let start = Instant::now();
    while client.call(http::Method::GET, "/_ping", None).await.is_err() {
        assert!(start.elapsed() < START, "{who} does not answer (root, dockerd, iproute2?):\n{}", tail(log));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
