//! Connections that stay for the next process: used again, given up when they are dead, and gone in the end.

use crate::sshd::Sshd;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use osier_ssh::{Command, Connections, Error, Host, Stream, Target};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

/// Nothing here takes so long unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough for every test.
const SECONDS: u16 = 60;

/// The host as a process of its own would see it.
fn host(sshd: &Sshd, seconds: u16) -> Host {
    Connections::kept(&sockets(sshd), seconds).unwrap().host("node", sshd.target("user"))
}

fn sockets(sshd: &Sshd) -> std::path::PathBuf {
    sshd.folder.path().join("cp")
}

fn logins(sshd: &Sshd) -> usize {
    sshd.log().matches("Accepted publickey").count()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The process of `sshd` that a command runs under.
async fn server_of(host: &Host) -> Pid {
    let parent = host.check(&Command::shell("echo $PPID", [""; 0])).await.unwrap().stdout;
    Pid::from_raw(String::from_utf8(parent).unwrap().trim().parse().unwrap())
}

#[tokio::test]
async fn the_next_process_finds_the_connection_and_in_the_end_it_goes() {
    let sshd = Sshd::start();
    for _ in 0..3 {
        let host = host(&sshd, SECONDS);
        assert_eq!(host.check(&Command::new(["echo", "x"])).await.unwrap().stdout, b"x\n");
        let input = Command::new(["cat"]).stdin(b"not eaten\n");
        assert_eq!(host.check(&input).await.unwrap().stdout, b"not eaten\n");
        let mut lines = Vec::new();
        let never = std::future::pending();
        let noisy = Command::shell("echo out; echo err >&2; exit 255", [""; 0]);
        let code =
            host.stream_until(&noisy, never, |stream, line| lines.push((stream, line.to_owned()))).await.unwrap();
        assert_eq!(code, Some(255), "the program's own 255 is not a dead connection");
        lines.sort_by(|a, b| b.1.cmp(&a.1));
        assert_eq!(lines, [(Stream::Out, "out".to_owned()), (Stream::Err, "err".to_owned())]);
        host.close().await;
    }
    assert_eq!(logins(&sshd), 1);
    assert_eq!(fs::metadata(sockets(&sshd)).unwrap().permissions().mode() & 0o7777, 0o700);
    end_masters(&sshd);
    assert_eq!(host(&sshd, 1).run(&Command::new(["true"])).await.unwrap().code, 0);
    // On a busy machine the second is over before the command begins, which then has a login of its own.
    assert!(logins(&sshd) > 1);
    until("the connection stays", || sshd.sessions() == 0);
}

/// A master outlives its test otherwise.
fn end_masters(sshd: &Sshd) {
    for name in names(&sockets(sshd)) {
        control(sshd, &name, "exit");
    }
    until("a connection stays", || sshd.sessions() == 0);
}

/// Says something to a master; gives back what it says.
fn control(sshd: &Sshd, socket: &str, what: &str) -> String {
    let mut ssh = std::process::Command::new("ssh");
    ssh.arg("-S").arg(sockets(sshd).join(socket)).args(["-O", what, "--", "127.0.0.1"]);
    String::from_utf8(ssh.output().unwrap().stderr).unwrap()
}

#[tokio::test]
async fn over_a_dead_connection_nothing_begins_and_a_new_one_is_made() {
    let sshd = Sshd::start();
    let server = server_of(&host(&sshd, SECONDS)).await;
    // As where the host has gone, or the way to it: nothing comes back, and nobody says so.
    kill(server, Signal::SIGSTOP).unwrap();
    let marks = sshd.folder.path().join("marks");
    let mark = Command::shell(r#"echo began >> "$1""#, [marks.to_str().unwrap()]);
    let next = host(&sshd, SECONDS);
    let found = next.run(&mark).await;
    kill(server, Signal::SIGCONT).unwrap();
    assert_eq!(found.unwrap().code, 0);
    assert_eq!(logins(&sshd), 2);
    // What was asked of the old connection meanwhile comes to its end with it.
    end_masters(&sshd);
    assert_eq!(fs::read_to_string(&marks).unwrap(), "began\n");
    assert_eq!(next.run(&mark).await.unwrap().code, 0);
    assert_eq!(fs::read_to_string(&marks).unwrap(), "began\nbegan\n");
    end_masters(&sshd);
}

#[tokio::test]
async fn a_connection_whose_ends_died_is_made_again() {
    let sshd = Sshd::start();
    let server = server_of(&host(&sshd, SECONDS)).await;
    let shared = names(&sockets(&sshd)).into_iter().find(|name| name.starts_with("to-")).unwrap();
    kill(server, Signal::SIGKILL).unwrap();
    until("the master does not notice", || UnixStream::connect(sockets(&sshd).join(&shared)).is_err());
    assert_eq!(host(&sshd, SECONDS).run(&Command::new(["true"])).await.unwrap().code, 0);
    let said = control(&sshd, &shared, "check");
    let master = said.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok()).unwrap();
    kill(Pid::from_raw(master), Signal::SIGKILL).unwrap();
    until("the server does not notice", || sshd.sessions() == 0);
    let before = logins(&sshd);
    assert_eq!(host(&sshd, SECONDS).run(&Command::new(["true"])).await.unwrap().code, 0);
    assert_eq!(logins(&sshd), before + 1);
    end_masters(&sshd);
}

#[tokio::test]
async fn the_same_words_may_mean_another_host() {
    let (one, other) = (Sshd::start(), Sshd::start());
    let config = one.folder.path().join("config");
    for sshd in [&one, &other, &one] {
        let key = sshd.folder.path().join("user");
        let text = format!(
            "Host node\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n",
            sshd.port,
            key.display()
        );
        fs::write(&config, text).unwrap();
        let target = Target { args: vec!["-F".into(), config.display().to_string()], ..Target::new("node") };
        let host = Connections::kept(&sockets(&one), SECONDS).unwrap().host("node", target);
        let said = host.check(&Command::new(["printenv", "SSH_CONNECTION"])).await.unwrap().stdout;
        assert!(String::from_utf8(said).unwrap().trim_end().ends_with(&sshd.port.to_string()));
    }
    assert_eq!((logins(&one), logins(&other)), (1, 1));
    end_masters(&one);
}

#[test]
fn a_folder_that_others_may_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |path: &Path| match Connections::kept(path, SECONDS) {
        Err(Error::Folder(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(fails(&open).ends_with("is not this user's alone (mode 0700)"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
    Connections::kept(&open, SECONDS).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&open, &link).unwrap();
    assert!(fails(&link).ends_with("is not this user's alone (mode 0700)"));
    assert!(fails(&dir.path().join("x".repeat(80))).contains("too long"));
}
