//! The system's `ssh` against a private `sshd` on a loopback port, with keys made for the occasion.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod kept;
mod sshd;

use osier_ssh::{Command, Connections, Error, Host, Secret, Stream, Target, Unreachable};
use sshd::{PASSWORD, Sshd, User};
use std::{
    fs,
    net::TcpStream,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    time::{Duration, Instant},
};

impl Sshd {
    fn host(&self) -> Host {
        Connections::new().unwrap().host("node", self.target("user"))
    }
}

impl User {
    fn host(&self, sshd: &Sshd, password: Option<&str>) -> Host {
        let target = Target { user: Some(self.name.clone()), ..sshd.target("user") };
        Connections::new().unwrap().host("node", target).sudo_password(password.map(Secret::new))
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
async fn a_host_that_takes_no_more_logins_at_once_is_asked_again() {
    let sshd = Sshd::start_with("MaxStartups 1\n");
    let waiting = TcpStream::connect(("127.0.0.1", sshd.port)).unwrap();
    let host = sshd.host();
    let turned_away = async {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !sshd.log().contains("MaxStartups") {
            assert!(Instant::now() < deadline, "nobody was turned away: {}", sshd.log());
            tokio::task::yield_now().await;
        }
        drop(waiting);
    };
    let (reached, ()) = tokio::join!(host.reach(), turned_away);
    reached.unwrap();
}

#[tokio::test]
async fn what_a_host_on_the_way_refuses_is_told_and_not_tried_again() {
    let sshd = Sshd::start();
    let tries = sshd.folder.path().join("tries");
    let way = |says: &str| {
        let way = sshd.folder.path().join("way");
        fs::write(&way, format!("echo x >>{}; echo '{says}' >&2; exit 1", tries.display())).unwrap();
        let mut target = sshd.target("user");
        target.args.extend(["-o".to_owned(), format!("ProxyCommand=sh {}", way.display())]);
        Connections::new().unwrap().host("node", target)
    };
    for (says, why) in [
        ("me@way: Permission denied (publickey).", Unreachable::Denied),
        ("channel 0: open failed: connect failed: Connection refused", Unreachable::Refused),
        ("sh: 1: nc: not found", Unreachable::Lost),
    ] {
        fs::write(&tries, "").unwrap();
        let error = way(says).reach().await.unwrap_err();
        assert_eq!(reason(&error), why, "{error:?}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains(says), "{error:?}");
        assert_eq!(fs::read_to_string(&tries).unwrap(), "x\nx\n", "once, and once more for the reason");
    }
    // One that says nothing may have too much to do; it is given up after a while.
    fs::write(&tries, "").unwrap();
    let error = way("").reach().await.unwrap_err();
    assert_eq!(reason(&error), Unreachable::Lost, "{error:?}");
    assert!(fs::read_to_string(&tries).unwrap().lines().count() > 4);
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
    assert_eq!(fails(Target { port: Some(osier_ports::free()), ..sshd.target("user") }).await, Unreachable::Refused);
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

#[tokio::test]
async fn a_password_reaches_sudo_and_nobody_else() {
    let sshd = Sshd::start();
    let user = User::new("asks", "ALL=(ALL) ALL");
    let host = user.host(&sshd, Some(PASSWORD));
    // All command lines of the system are seen from within: the password is on none of them, nor is it the program's input.
    let look = r#"id -u; cat; all=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ')
case $all in *"$1$2"*) echo seen;; *"$3"*) echo unseen;; esac; echo done >&2"#;
    let (first, second) = PASSWORD.split_at(7);
    let command = Command::shell(look, [first, second, "all=$(cat"]).as_root().stdin(b"input\n");
    let output = host.check(&command).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\ninput\nunseen\n");
    assert_eq!(output.stderr, b"done\n", "neither question nor sign is left");
    let big = vec![7_u8; 1 << 20];
    let file = sshd.folder.path().join("big");
    fs::write(&file, &big).unwrap();
    let output = host.check(&Command::new(["cat"]).as_root().stdin_file(&file)).await.unwrap();
    assert!(output.stdout == big && output.stderr.is_empty());
    let path = sshd.folder.path().join("pushed");
    host.push(b"x", path.to_str().unwrap(), 0o600).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    let output = host.check(&Command::new(["id", "-un"])).await.unwrap();
    assert_eq!(output.stdout, format!("{}\n", user.name).into_bytes(), "only who asks for it becomes root");
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_a_refusal_that_does_not_tell_it() {
    let sshd = Sshd::start();
    let user = User::new("wrong", "ALL=(ALL) ALL");
    for (password, part) in [(Some("wr0ng"), "incorrect password"), (None, "password is required")] {
        let error = user.host(&sshd, password).check(&Command::new(["true"]).as_root()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, Error::NoSudo { .. }) && text.contains(part) && !text.contains("wr0ng"), "{text}");
    }
}

#[tokio::test]
async fn a_password_that_sudo_does_not_ask_for_is_not_sent() {
    let sshd = Sshd::start();
    let user = User::new("free", "ALL=(ALL) NOPASSWD: ALL");
    let host = user.host(&sshd, Some(PASSWORD));
    let output = host.check(&Command::shell("cat; id -u", [""; 0]).as_root().stdin(b"in\n")).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"in\n0\n"[..], &b""[..]));
    // Nor to a login that is root's already.
    let root = Connections::new().unwrap().host("node", sshd.target("user")).sudo_password(Some(Secret::new(PASSWORD)));
    let output = root.check(&Command::new(["cat"]).as_root().stdin(b"in\n")).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"in\n"[..], &b""[..]));
}

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_command_that_is_stopped_runs_no_more_on_the_host() {
    let sshd = Sshd::start();
    let user = User::new("stops", "ALL=(ALL) ALL");
    // One that takes the hint, one of its own session, one that wants to be forced.
    let script = "sleep 100 & echo $!; setsid sleep 100 & echo $!; sh -c 'trap : TERM; echo $$; while :; do sleep 1; done' & wait";
    for (host, root) in [(sshd.host(), false), (sshd.host(), true), (user.host(&sshd, Some(PASSWORD)), true)] {
        let command = Command::shell(script, [""; 0]);
        let command = if root { command.as_root() } else { command };
        let (started, starts) = tokio::sync::oneshot::channel();
        let (mut started, mut pids) = (Some(started), Vec::new());
        let stop = async { starts.await.unwrap() };
        let on_line = |stream, line: &str| {
            assert_eq!(stream, Stream::Out, "{line}");
            pids.push(line.to_owned());
            if pids.len() == 3 {
                started.take().unwrap().send(()).unwrap();
            }
        };
        assert_eq!(host.stream_until(&command, stop, on_line).await.unwrap(), None);
        let left: Vec<_> = pids.iter().filter(|pid| is_running(pid)).collect();
        assert!(left.is_empty() && pids.len() == 3, "{left:?} of {pids:?}");
        // The connection is as good as before, and one that ends by itself has its code.
        let never = std::future::pending();
        assert_eq!(host.stream_until(&Command::shell("exit 7", [""; 0]), never, |_, _| {}).await.unwrap(), Some(7));
    }
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 3);
}

#[tokio::test]
async fn control_sockets_lie_in_a_private_folder_that_goes_with_the_last_host() {
    let sshd = Sshd::start();
    let connections = Connections::new().unwrap();
    let folder = connections.folder().to_owned();
    let hosts = ["a", "b"].map(|name| connections.host(name, sshd.target("user")));
    drop(connections);
    for host in &hosts {
        host.check(&Command::new(["true"])).await.unwrap();
        host.check(&Command::new(["true"])).await.unwrap();
    }
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let sockets: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap()).collect();
    assert_eq!(sockets.len(), 2);
    for socket in sockets {
        assert_eq!((socket.file_type().is_socket(), socket.permissions().mode() & 0o077), (true, 0));
    }
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 2);
    for host in hosts {
        host.close().await;
    }
    assert!(!folder.exists());
}
