//! The system's `ssh` against a private `sshd` on a loopback port, with keys made for the occasion.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use osier_ssh::{Command, Connections, Error, Host, Stream, Target, Unreachable};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// An `sshd` that admits the user of this process with one key; it dies with this value.
struct Sshd {
    folder: TempDir,
    port: u16,
    server: Child,
}

fn keygen(path: &Path) {
    let mut keygen = std::process::Command::new("ssh-keygen");
    let status = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(status.success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Sshd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "user", "other"] {
            keygen(&path(key));
        }
        fs::copy(path("user.pub"), path("authorized_keys")).unwrap();
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxSessions 10\n",
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
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen: {}", sshd.log());
            std::thread::yield_now();
        }
        sshd
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn target(&self, key: &str) -> Target {
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
    fn sessions(&self) -> usize {
        let children = format!("/proc/{0}/task/{0}/children", self.server.id());
        fs::read_to_string(children).unwrap().split_whitespace().count()
    }

    fn host(&self) -> Host {
        Connections::new().unwrap().host("node", self.target("user"))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn reason(error: &Error) -> Unreachable {
    match error {
        Error::Unreachable { reason, .. } => *reason,
        other => panic!("not a failure of the connection: {other:?}"),
    }
}

#[tokio::test]
async fn commands_run_with_their_words_input_and_exit_code() {
    let sshd = Sshd::start();
    let host = sshd.host();
    let words = Command::new(["printf", "%s|", "a b", "$HOME", "it's", "*"]);
    assert_eq!(host.check(&words).await.unwrap().stdout, b"a b|$HOME|it's|*|");

    let big = vec![7_u8; 3 << 20];
    let output = host.run(&Command::shell("cat; echo oops >&2; exit 7", [""; 0]).stdin(&big)).await.unwrap();
    assert_eq!((output.code, output.stdout.len(), output.stderr.as_slice()), (7, big.len(), &b"oops\n"[..]));

    let error = host.check(&Command::shell("echo no such thing >&2; exit 3", [""; 0])).await.unwrap_err();
    assert_eq!(error.to_string(), "run 'sh' on 'node' (it ended with code 3)");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no such thing");

    let output = host.run(&Command::shell("exit 255", [""; 0])).await.unwrap();
    assert_eq!(output.code, 255, "the program's own 255 is not a lost connection");
}

#[tokio::test]
async fn lines_arrive_while_the_command_still_runs() {
    let sshd = Sshd::start();
    let host = sshd.host();
    let mark = sshd.folder.path().join("mark");
    let script = r#"echo first; until [ -e "$1" ]; do :; done; echo second >&2; printf last; exit 4"#;
    let mut lines = Vec::new();
    let on_line = |stream: Stream, line: &str| {
        if line == "first" {
            fs::write(&mark, "").unwrap();
        }
        lines.push((stream, line.to_owned()));
    };
    let command = Command::shell(script, [mark.to_str().unwrap()]);
    assert_eq!(host.stream(&command, on_line).await.unwrap(), 4);
    lines.sort_by_key(|(_, line)| line.clone());
    let seen: Vec<_> = lines.iter().map(|(s, l)| (*s, l.as_str())).collect();
    assert_eq!(seen, [(Stream::Out, "first"), (Stream::Out, "last"), (Stream::Err, "second")]);
}

#[tokio::test]
async fn forty_commands_at_once_share_one_connection() {
    let sshd = Sshd::start();
    let host = &sshd.host();
    let one = async |n: u32| host.check(&Command::new(["echo".to_owned(), n.to_string()])).await.unwrap().stdout;
    let seen = futures::future::join_all((0..40).map(one)).await;
    assert_eq!(seen, (0..40).map(|n| format!("{n}\n").into_bytes()).collect::<Vec<_>>());
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 1);
}

#[tokio::test]
async fn a_lost_connection_is_reported_and_made_again() {
    let sshd = Sshd::start();
    let host = sshd.host();
    let error = host.run(&Command::shell("kill -9 $PPID", [""; 0])).await.unwrap_err();
    assert_eq!(reason(&error), Unreachable::Lost, "{error:?}");
    assert_eq!(host.check(&Command::new(["echo", "again"])).await.unwrap().stdout, b"again\n");
}

#[tokio::test]
async fn files_arrive_whole_with_their_mode() {
    let sshd = Sshd::start();
    let host = sshd.host();
    let path = sshd.folder.path().join("it's a file");
    let contents: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for contents in [&b"old"[..], &contents] {
        host.push(contents, path.to_str().unwrap(), 0o750).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), contents);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o750);
    }
    let before = fs::read_dir(sshd.folder.path()).unwrap().count();
    let error = host.push(b"x", "/nonexistent/file", 0o600).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert_eq!(fs::read_dir(sshd.folder.path()).unwrap().count(), before, "no temporary file is left");
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_reason() {
    let sshd = Sshd::start();
    let connections = Connections::new().unwrap();
    let fails = async |target: Target| {
        let error = connections.host("node", target).run(&Command::new(["true"])).await.unwrap_err();
        assert_eq!(error.to_string(), "connect to 'node'");
        reason(&error)
    };
    assert_eq!(fails(sshd.target("other")).await, Unreachable::Denied);
    assert_eq!(fails(Target { port: Some(free_port()), ..sshd.target("user") }).await, Unreachable::Refused);
    assert_eq!(
        fails(Target { host: "no-such-host.invalid".into(), ..sshd.target("user") }).await,
        Unreachable::UnknownName
    );

    let known = sshd.folder.path().join("known_hosts");
    let wrong = fs::read_to_string(sshd.folder.path().join("other.pub")).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {wrong}", sshd.port)).unwrap();
    let strict = ["-F".to_owned(), "none".into(), "-o".into(), format!("UserKnownHostsFile={}", known.display())];
    assert_eq!(fails(Target { args: strict.into(), ..sshd.target("user") }).await, Unreachable::HostKey);
}

#[tokio::test]
async fn nothing_is_left_when_the_host_is_closed_or_dropped() {
    let sshd = Sshd::start();
    for close in [true, false] {
        let host = sshd.host();
        host.check(&Command::new(["true"]).as_root()).await.unwrap();
        assert_eq!(sshd.sessions(), 1);
        if close {
            host.close().await;
        } else {
            drop(host);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while sshd.sessions() > 0 {
            assert!(Instant::now() < deadline, "the master connection is still there");
            tokio::task::yield_now().await;
        }
    }
}
