//! A private `sshd` on a loopback port with keys made for the occasion, and users of this system who need a password for
//! `sudo`. All is gone with the values.

use osier_ssh::Target;
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// An `sshd` that admits the user of this process with one key; it dies with this value.
pub(crate) struct Sshd {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    server: Child,
}

fn keygen(path: &Path) {
    let mut keygen = std::process::Command::new("ssh-keygen");
    let status = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(status.success());
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// As [`Self::start`], with more lines of configuration.
    pub(crate) fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another user's keys are looked up with that user's rights.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        // Programs that stand for those of the system, and a home without anything: what the user's own shell does when it
        // starts is nobody's business here.
        fs::create_dir(path("bin")).unwrap();
        fs::create_dir(path("home")).unwrap();
        for key in ["host", "user", "other"] {
            keygen(&path(key));
        }
        fs::copy(path("user.pub"), path("authorized_keys")).unwrap();
        let port = osier_ports::free();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxSessions 10\n\
             AcceptEnv OSIER_*\n{more}SetEnv PATH={dir}/bin:/usr/bin:/bin HOME={dir}/home\n",
            dir = folder.path().display()
        );
        fs::write(path("sshd_config"), config).unwrap();
        // Where `sshd` separates its privileges; a system without a running `sshd` lacks it.
        let _ = fs::create_dir_all("/run/sshd");
        let mut server = std::process::Command::new("/usr/sbin/sshd");
        server.arg("-D").arg("-e").arg("-f").arg(path("sshd_config"));
        let log = fs::File::create(path("log")).unwrap();
        let server = server.stdin(Stdio::null()).stderr(log).spawn().expect("openssh-server is installed");
        let sshd = Self { folder, port, server };
        let deadline = Instant::now() + Duration::from_secs(10);
        // Nobody connects to look: that would be a session of the server's for a moment.
        while !sshd.log().contains("Server listening on") {
            assert!(Instant::now() < deadline, "sshd does not listen: {}", sshd.log());
            std::thread::yield_now();
        }
        sshd
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn target(&self, key: &str) -> Target {
        let args = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
        Target {
            host: "127.0.0.1".into(),
            port: Some(self.port),
            key: Some(self.folder.path().join(key)),
            args: args.into_iter().chain(["-o", "IdentitiesOnly=yes"]).map(String::from).collect(),
            user: None,
        }
    }

    /// How many connections this server serves: its child processes.
    pub(crate) fn sessions(&self) -> usize {
        self.children().len()
    }

    fn children(&self) -> Vec<String> {
        let path = format!("/proc/{0}/task/{0}/children", self.server.id());
        // One that has ended has none.
        let children = fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Connections that are kept outlive their server.
        let sessions = self.children();
        let _ = self.server.kill();
        if !sessions.is_empty() {
            let _ = std::process::Command::new("kill").args(sessions).stderr(Stdio::null()).status();
        }
        let _ = self.server.wait();
    }
}

/// A user of this system that may become root with a password; it is gone with this value.
pub(crate) struct User {
    pub(crate) name: String,
    rule: PathBuf,
}

pub(crate) const PASSWORD: &str = "it's a \\ \"pass$word";

impl User {
    /// `rule` is what `sudo` lets it do.
    pub(crate) fn new(label: &str, rule: &str) -> Self {
        let name = format!("osier-{label}-{}", std::process::id());
        let user = Self { rule: format!("/etc/sudoers.d/{name}").into(), name };
        run("useradd", &["--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", &user.name], "");
        run("chpasswd", &[], &format!("{}:{PASSWORD}\n", user.name));
        // A new name first, so that nobody's `sudo` reads half a file.
        let new = user.rule.with_extension("new");
        fs::write(&new, format!("{} {rule}\n", user.name)).expect("these tests need sudo (apt-get install sudo)");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o440)).unwrap();
        fs::rename(&new, &user.rule).unwrap();
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.rule);
        let _ = std::process::Command::new("userdel").args(["--force", &self.name]).status();
    }
}

/// Runs a program of the system, which must succeed.
fn run(program: &str, args: &[&str], input: &str) {
    let mut child = std::process::Command::new(format!("/usr/sbin/{program}"));
    let mut child = child.args(args).stdin(Stdio::piped()).spawn().expect("these tests need root");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}
