//! A VPN to test with: an operator's machine, a VPN's host, two nodes that only the latter reaches, and one more behind the
//! second node. Each is a network namespace with an sshd of its own, the operator's has none.
//!
//! Addresses are those of the namespaces alone, so they collide with nothing. All see a `/etc/passwd` and a `/etc/hosts` of
//! the test's own, since ssh takes the home folder from there.

use crate::wait::{self, PATIENCE, poll};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The nodes' addresses: the third is reached from the second only.
pub(crate) const NODES: [&str; 3] = ["10.0.0.11", "10.0.0.12", "10.0.1.13"];
/// The hosts with an sshd: the word that each says of itself, its names, its addresses.
const HOSTS: [(&str, &str); 4] = [
    ("vpn", "vpn-host,192.0.2.2"),
    ("one", "10.0.0.11,10.0.0.11.eolas"),
    ("two", "10.0.0.12,10.0.0.12.eolas"),
    ("deep", "10.0.1.13,10.0.1.13.eolas"),
];
/// Runs a command with the test's own files in the place of the system's: with the whole folder, since a file that is mounted
/// over another is gone as soon as somebody, such as `useradd`, puts a new one in that one's place.
const INSIDE: &str = r#"mount --bind "$0/etc" /etc && exec "$@""#;

/// The namespaces and what runs in them; all of it ends with this value.
pub(crate) struct World {
    prefix: String,
    folder: tempfile::TempDir,
    servers: Vec<Child>,
    /// Clears up as soon as its input ends, whatever became of the test.
    cleaner: Child,
}

/// Ends all that runs in namespaces, and removes them.
const CLEAN: &str = r#"read _; for n; do ip netns pids "$n" | xargs -r kill -9; ip netns delete "$n"; done"#;
/// All hosts.
const ALL: [&str; 5] = ["op", "vpn", "one", "two", "deep"];

impl World {
    pub(crate) fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        assert!(nix_is_root(), "these tests make network namespaces and need root");
        let prefix = format!("osier-it-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("osier-vpn-").tempdir().unwrap();
        let names = ALL.map(|host| format!("{prefix}-{host}"));
        let mut cleaner = Command::new("sh");
        cleaner.args(["-c", CLEAN, "sh"]).args(names).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let cleaner = cleaner.process_group(0).spawn().unwrap();
        let mut world = Self { prefix, folder, servers: Vec::new(), cleaner };
        world.network();
        world.files();
        for (host, _) in HOSTS {
            world.serve(host);
        }
        world
    }

    /// A file of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The operator's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn network(&self) {
        for host in ALL {
            ip(&format!("netns add {}", self.namespace(host)));
            ip(&format!("-n {} link set lo up", self.namespace(host)));
        }
        let vpn = self.namespace("vpn");
        ip(&format!("-n {vpn} link add nodes type bridge"));
        for (a, b) in [("op", "vpn"), ("vpn", "one"), ("vpn", "two"), ("two", "deep")] {
            let (left, right) = (self.namespace(a), self.namespace(b));
            ip(&format!("-n {left} link add to-{b} type veth peer name to-{a} netns {right}"));
            for (namespace, link) in [(&left, b), (&right, a)] {
                ip(&format!("-n {namespace} link set to-{link} up"));
            }
        }
        for node in ["one", "two"] {
            ip(&format!("-n {vpn} link set to-{node} master nodes"));
        }
        ip(&format!("-n {vpn} link set nodes up"));
        for (host, address, link) in [
            ("op", "192.0.2.1", "to-vpn"),
            ("vpn", "192.0.2.2", "to-op"),
            ("vpn", "10.0.0.1", "nodes"),
            ("one", NODES[0], "to-vpn"),
            ("two", NODES[1], "to-vpn"),
            ("two", "10.0.1.12", "to-deep"),
            ("deep", NODES[2], "to-two"),
        ] {
            ip(&format!("-n {} address add {address}/24 dev {link}", self.namespace(host)));
        }
    }

    fn files(&self) {
        let write = |name: &str, text: &str| fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(self.path("home/.ssh")).unwrap();
        fs::set_permissions(self.path("home/.ssh"), fs::Permissions::from_mode(0o700)).unwrap();
        let home = self.home().display().to_string();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let others: Vec<&str> = passwd.lines().filter(|l| !l.starts_with("root:")).collect();
        let ours = format!(
            "root:x:0:0:root:{home}:/bin/sh\nvpn-user:x:64000:64000::/:/bin/sh\n\
             jailed:x:64001:64001::/:/bin/sh\n"
        );
        // Files that come and go meanwhile, such as locks, do not matter.
        let _ = Command::new("cp").arg("-a").arg("/etc").arg(self.path("etc")).stderr(Stdio::null()).status().unwrap();
        write("etc/passwd", &format!("{ours}{}\n", others.join("\n")));
        write("etc/hosts", "127.0.0.1 localhost\n192.0.2.2 vpn-host\n");
        keygen(&self.path("home/.ssh/id_ed25519"));
        let mut known = String::new();
        for (host, names) in HOSTS {
            keygen(&self.path(host));
            let key = fs::read_to_string(self.path(&format!("{host}.pub"))).unwrap();
            known += &format!("{names} {key}");
        }
        write("home/.ssh/known_hosts", &known);
        fs::copy(self.path("home/.ssh/id_ed25519.pub"), self.path("authorized_keys")).unwrap();
    }

    /// Starts a host's sshd, once it listens.
    fn serve(&mut self, host: &str) {
        let dir = self.folder.path().display();
        let config = format!(
            "ListenAddress 0.0.0.0\nHostKey {dir}/{host}\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv HERE={host}\n\
             Match User jailed\n  AllowTcpForwarding no\n"
        );
        let (config_path, log) = (self.path(&format!("{host}.conf")), self.path(&format!("{host}.log")));
        fs::write(&config_path, config).unwrap();
        // Where `sshd` separates its privileges; a system without a running `sshd` lacks it.
        let _ = fs::create_dir_all("/run/sshd");
        let mut sshd = self.on(host, &["/usr/sbin/sshd", "-D", "-e", "-f", config_path.to_str().unwrap()]);
        let server = sshd.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        self.servers.push(server);
        poll(&format!("the sshd of '{host}' listens"), || {
            fs::read_to_string(&log).unwrap().contains("Server listening on")
        });
    }

    /// A command on one of the hosts; `op` is the operator's.
    pub(crate) fn on(&self, host: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), "sh", "-c", INSIDE]).arg(self.folder.path()).args(words);
        command.env_clear().env("HOME", self.home()).env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("OSIER_HOME", self.path("osier")).env("DOCKER_CONFIG", self.path("docker"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a line of a shell at the operator's.
    pub(crate) fn sh(&self, line: &str) -> Output {
        self.on("op", &["timeout", "60", "sh", "-c", line]).output().unwrap()
    }

    /// Runs the binary at the operator's.
    pub(crate) fn osier(&self, words: &[&str]) -> Output {
        self.on("op", &[&["timeout", "60", env!("CARGO_BIN_EXE_osier")], words].concat()).output().unwrap()
    }

    /// Starts a command on a host; its outputs go to the files `NAME.out` and `NAME.err`.
    pub(crate) fn start(&self, host: &str, name: &str, words: &[&str]) -> Running {
        let (out, err) = (self.path(&format!("{name}.out")), self.path(&format!("{name}.err")));
        let mut command = self.on(host, words);
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), out, err }
    }

    /// Starts the binary at the operator's.
    pub(crate) fn start_osier(&self, name: &str, words: &[&str]) -> Running {
        self.start("op", name, &[&[env!("CARGO_BIN_EXE_osier")], words].concat())
    }

    /// The processes that serve connections to the VPN's host: for each one with privileges, and one without.
    pub(crate) fn vpn_sessions(&self) -> Vec<u32> {
        let first = children(self.servers[0].id());
        let second: Vec<u32> = first.iter().flat_map(|process| children(*process)).collect();
        [first, second].concat()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        let _ = self.cleaner.wait();
        for server in &mut self.servers {
            let _ = server.wait();
        }
    }
}

/// A running command; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(crate) fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until it said this so many times on standard error.
    pub(crate) fn says(&mut self, text: &str, times: usize) {
        poll(&format!("it says '{text}' {times} times"), || {
            let (ended, said) = (self.child.try_wait().unwrap(), self.err());
            let enough = said.matches(text).count() >= times;
            assert!(enough || ended.is_none(), "it ended ({ended:?}) before it said '{text}': {said}");
            if enough { Ok(()) } else { Err(said) }
        });
    }

    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// Asks it to stop, and gives its exit code once it has.
    pub(crate) fn stop(&mut self, signal: &str) -> Option<i32> {
        kill(self.child.id(), signal);
        let ended = wait::end(&mut self.child, PATIENCE);
        ended.unwrap_or_else(|| panic!("it does not end: {}", self.err())).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A kind word first, so that what it started ends as well.
        if let Ok(None) = self.child.try_wait() {
            kill(self.child.id(), "TERM");
            wait::end(&mut self.child, PATIENCE / 3);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal.
pub(crate) fn kill(process: u32, signal: &str) {
    let _ = Command::new("kill").args(["-s", signal, &process.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process is there.
pub(crate) fn lives(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// What a command printed and how it ended, as text.
pub(crate) fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|l| l.split_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<_>>()).collect()
}

fn nix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(status.success());
}
