//! Commands on all hosts at once, over a real `sshd` of this machine that stands for several hosts.

use crate::{
    program::{Bench, Said, file},
    sshd::{PASSWORD, Sshd, User},
    wait::{PATIENCE, end, until},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

/// Hosts of these names, each of which is this machine; `$OSIER_HOST` says which one a command runs on.
pub(crate) struct Hosts {
    pub(crate) bench: Bench,
    pub(crate) sshd: Sshd,
}

impl Hosts {
    pub(crate) fn new(names: &[&str]) -> Self {
        let hosts = Self { bench: Bench::new(), sshd: Sshd::start() };
        let lines: Vec<String> = names.iter().map(|name| hosts.line(name)).collect();
        file(&hosts.bench.path(""), "inventory", lines.join("\n"));
        hosts
    }

    /// One host's line of an inventory.
    fn line(&self, name: &str) -> String {
        let key = self.sshd.folder.path().join("user");
        format!(
            "{name} ansible_host=127.0.0.1 ansible_port={} ansible_ssh_private_key_file={} ansible_ssh_common_args='-F none \
             -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o SetEnv=OSIER_HOST={name}'",
            self.sshd.port,
            key.display()
        )
    }

    /// Makes a program that stands for that of the system on all hosts.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let path = file(&self.sshd.folder.path().join("bin"), name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn osier(&self, words: &[&str]) -> Said {
        self.bench.run_words(words)
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = self.osier(&[&["-o", "json"], words].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"))
    }
}

pub(crate) fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn output_comes_as_it_comes_or_host_by_host() {
    let hosts = Hosts::new(&["a", "bb", "c"]);
    let mark = hosts.bench.path("mark").display().to_string();
    // The first host waits for the last.
    let script = "#!/bin/sh\necho $OSIER_HOST 1\ncase $OSIER_HOST in a) until [ -e $1 ]; do sleep 0.1; done;; c) $2;; esac\n\
        echo $OSIER_HOST 2; echo warn >&2\n";
    let path = file(&hosts.bench.path(""), "waits", script);
    let touch = format!("touch {mark}");
    let said = hosts.osier(&["exec", "--ordered", "--timeout", "1m", "--script", &path, "--", &mark, &touch]);
    assert_eq!(said.out, "a  | a 1\na  | a 2\nbb | bb 1\nbb | bb 2\nc  | c 1\nc  | c 2\n", "{said:?}");
    assert_eq!((said.code, said.err.as_str()), (Some(0), "a  ! warn\nbb ! warn\nc  ! warn\n"));
    fs::remove_file(&mark).unwrap();
    let mut daemon = hosts.bench.start(&format!("osier exec --timeout 1m --script {path} -- {mark} true"));
    until("the last is done before the first", async || daemon.log().contains("c  | c 2")).await;
    assert!(!daemon.log().contains("a  | a 2"), "{}", daemon.log());
    fs::write(&mark, "").unwrap();
    assert!(daemon.end().success() && daemon.log().contains("a  | a 2"), "{}", daemon.log());
    let json = hosts.json(&["exec", "--", "printf", "%s\\n", "two words"]);
    assert_eq!(json["hosts"][1], serde_json::json!({"host": "bb", "code": 0, "stdout": ["two words"], "stderr": []}));
    // One connection for each host: all commands of all runs go over it, unless connections are not to be kept.
    let logins = || hosts.sshd.log().matches("Accepted publickey").count();
    assert_eq!(logins(), 3);
    assert_eq!(hosts.osier(&["exec", "--keep", "0", "--", "true"]).code, Some(0));
    assert_eq!(logins(), 6);
}

#[test]
fn batches_follow_each_other_until_one_fails_wholly() {
    let hosts = Hosts::new(&["a", "b", "c", "d"]);
    let lock = hosts.bench.path("lock");
    let alone = format!("mkdir {0} && echo $OSIER_HOST && rmdir {0}", lock.display());
    let said = hosts.osier(&["exec", "--serial", "1", "--", &alone]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "a | a\nb | b\nc | c\nd | d\n"), "{said:?}");
    let fails = "case $OSIER_HOST in b|c) exit 1;; esac; echo $OSIER_HOST";
    let said = hosts.osier(&["exec", "--serial", "1,2", "--", fails]);
    assert_eq!((said.code, said.out.as_str()), (Some(3), "a | a\n"), "{said:?}");
    assert!(said.err.contains("2 of 4 hosts failed: b, c; 1 of 4 hosts not started: d"), "{said:?}");
    let said = hosts.osier(&["exec", "--serial", "50%", "--", fails]);
    assert!(said.code == Some(3) && said.out.contains("d | d") && !said.err.contains("not started"), "{said:?}");
    let json = hosts.json(&["exec", "--serial", "1", "--", "exit 7"]);
    assert_eq!((&json["hosts"][0]["code"], &json["hosts"][3]["skipped"]), (&7.into(), &true.into()), "{json}");
}

#[test]
fn hosts_that_fail_and_hosts_that_are_away_have_their_own_exit_codes() {
    let hosts = Hosts::new(&["a"]);
    let port = osier_ports::free();
    let away = format!("away ansible_host=127.0.0.1 ansible_port={port} ansible_ssh_common_args='-F none'\n");
    file(&hosts.bench.path(""), "both", format!("{}\n{away}", hosts.line("a")));
    let said = hosts.osier(&["exec", "-i", "both", "--", "echo here"]);
    assert_eq!((said.code, said.out.as_str()), (Some(4), "a    | here\n"), "{said:?}");
    assert!(said.err.contains("1 of 2 hosts cannot be reached: away"), "{said:?}");
    let said = hosts.osier(&["exec", "-i", "both", "--", "exit 9"]);
    assert!(said.code == Some(3) && said.err.contains("a: the command ended with code 9"), "{said:?}");
    // As the seed has it with Ansible's command, and with Osier's pattern in the wrong place.
    for words in [&["both", "a", "-a", "echo x"][..], &["both", "all", "-s", "-m", "shell"], &["both", "a", "--", "id"]]
    {
        let said = hosts.osier(&[&["exec", "-i"], words].concat());
        let hint = format!("'osier exec -l {} -- COMMAND'", words[1]);
        assert!(said.code == Some(2) && said.err.contains(&hint) && said.out.is_empty(), "{said:?}");
    }
}

#[test]
fn a_script_runs_with_its_interpreter_and_arguments_and_leaves_nothing() {
    let hosts = Hosts::new(&["a", "b"]);
    let script =
        "#!/usr/bin/perl -l\nprint sprintf('%o', (stat $0)[2] & 07777); print $0; print join '|', @ARGV; exit 5;\n";
    let path = file(&hosts.bench.path(""), "check", script);
    let json = hosts.json(&["exec", "--script", &path, "--", "-x", "it's $HOME"]);
    for host in json["hosts"].as_array().unwrap() {
        let out: Vec<&str> = host["stdout"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
        assert_eq!((out[0], out[2], &host["code"]), ("700", "-x|it's $HOME", &5.into()), "{json}");
        assert!(out[1].starts_with("/tmp/osier-script-") && !Path::new(out[1]).exists(), "{out:?}");
    }
    let path = file(&hosts.bench.path(""), "plain", "echo $0; trap : TERM; while :; do sleep 1; done\n");
    // One that does not end when it is asked to is ended by force, and its file is removed as well.
    let said = hosts.osier(&["exec", "-l", "a", "--timeout", "5s", "--script", &path]);
    let left = said.out.trim_start_matches("a | ").trim_end();
    assert!(said.code == Some(3) && left.starts_with("/tmp/osier-script-") && !Path::new(left).exists(), "{said:?}");
    let said = hosts.osier(&["exec", "--script", "nowhere"]);
    assert!(said.code == Some(2) && said.err.contains("read the script 'nowhere'"), "{said:?}");
}

#[tokio::test]
async fn what_is_late_or_interrupted_runs_no_more_on_the_hosts() {
    let hosts = Hosts::new(&["a", "b"]);
    let said = hosts.osier(&["exec", "--timeout", "5s", "--", "echo $$; sleep 100"]);
    assert!(said.code == Some(3) && said.err.contains("the command was ended on 'a' after 5 s"), "{said:?}");
    let pids: Vec<&str> = said.out.lines().filter_map(|l| l.split(" | ").nth(1)).collect();
    assert!(pids.len() == 2 && !pids.iter().any(|pid| is_running(pid)), "{pids:?}");
    let path = file(&hosts.bench.path(""), "sleeps", "echo $$\nsleep 100\n");
    for signal in ["INT", "TERM"] {
        let mut daemon = hosts.bench.start(&format!("osier exec --script {path}"));
        until("both run", async || daemon.log().lines().filter(|l| l.contains(" | ")).count() == 2).await;
        let log = daemon.log();
        let pids: Vec<&str> = log.lines().filter_map(|l| l.split(" | ").nth(1)).collect();
        assert!(pids.iter().all(|pid| is_running(pid)), "{log}");
        daemon.signal(signal);
        assert_eq!(daemon.end().code(), Some(3), "{}", daemon.log());
        assert!(!pids.iter().any(|pid| is_running(pid)), "{}", daemon.log());
        assert!(daemon.log().contains("stopped before the end"), "{}", daemon.log());
    }
}

#[tokio::test]
async fn a_closed_terminal_stops_nothing_that_was_started_to_outlive_it() {
    let hosts = Hosts::new(&["a"]);
    let mark = hosts.bench.path("mark").display().to_string();
    let path = file(&hosts.bench.path(""), "waits", "echo begun\nuntil [ -e $1 ]; do sleep 0.1; done\necho done\n");
    let mut nohup = Command::new("nohup");
    nohup.arg(hosts.bench.path("osier")).args(["exec", "--script", &path, "--", &mark]);
    nohup.env_clear().env("HOME", hosts.bench.path("")).env("PATH", "/usr/bin:/bin").current_dir(hosts.bench.path(""));
    let log = hosts.bench.path("nohup.log");
    let (out, err) = (fs::File::create(&log).unwrap(), fs::File::options().append(true).open(&log).unwrap());
    let mut osier = nohup.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    until("it runs", async || said().contains("begun")).await;
    assert!(Command::new("kill").args(["-s", "HUP", &osier.id().to_string()]).status().unwrap().success());
    fs::write(&mark, "").unwrap();
    let ended = end(&mut osier, PATIENCE).expect("it ends");
    assert!(ended.success() && said().contains("a | done"), "{ended:?}: {}", said());
}

#[tokio::test]
async fn site_leaves_nothing_behind_when_it_is_stopped() {
    let hosts = Hosts::new(&["a"]);
    let tmp = hosts.bench.path("tmp");
    fs::create_dir(&tmp).unwrap();
    let never = file(&hosts.bench.path(""), "never.yml", "ansible_ssh_common_args: -o ProxyCommand='sleep 100'");
    let environment = [("TMPDIR", tmp.to_str().unwrap())];
    let mut osier =
        hosts.bench.command(&format!("osier site --check --binary /usr/bin/true -e @{never}"), &environment);
    let mut osier = osier.stderr(Stdio::piped()).spawn().unwrap();
    let left = || fs::read_dir(&tmp).unwrap().count();
    until("it connects", async || left() > 0).await;
    assert!(Command::new("kill").args(["-s", "INT", &osier.id().to_string()]).status().unwrap().success());
    let ended = end(&mut osier, PATIENCE).expect("it ends");
    assert_eq!((ended.code(), left()), (Some(3), 0));
}

#[test]
fn the_inventorys_password_reaches_sudo_and_no_output() {
    let hosts = Hosts::new(&["a"]);
    let user = User::new("fleet", "ALL=(ALL) ALL");
    let vars =
        file(&hosts.bench.path(""), "vars.json", serde_json::json!({"ansible_become_password": PASSWORD}).to_string());
    let login = format!("ansible_user={}", user.name);
    let with = |words: &[&str]| hosts.osier(&[&["exec", "--log", "debug", "-e", &login], words].concat());
    let said = with(&["-e", &format!("@{vars}"), "-b", "--", "id -un; cat"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "a | root\n"), "{said:?}");
    assert!(!said.err.contains(PASSWORD), "{said:?}");
    let said = with(&["-e", r#"{"ansible_become": true, "ansible_become_pass": "wr0ng"}"#, "--", "id -un"]);
    assert!(said.code == Some(3) && said.err.contains("incorrect password") && !said.err.contains("wr0ng"), "{said:?}");
    let said = hosts.osier(&["exec", "a", "--", "echo", "hi"]);
    assert!(said.code == Some(2) && said.err.contains("'osier exec -l a -- COMMAND'"), "as Ansible has it: {said:?}");
    let said = hosts.osier(&["exec", "--", "nothing-of-this-name", "x"]);
    assert!(said.code == Some(3) && !said.err.contains("osier-"), "{said:?}");
    let said = with(&["-b", "--", "id -un"]);
    assert!(said.code == Some(3) && said.err.contains("hint: set ansible_become_password"), "{said:?}");
    assert_eq!(with(&["--", "id -un"]).out, format!("a | {}\n", user.name));

    let vault = file(&hosts.bench.path(""), "vault.yml", ENCRYPTED);
    let key = file(&hosts.bench.path(""), "vault-password", "correct horse\n");
    let encrypted = format!("@{vault}");
    let said = with(&["-e", &encrypted, "-b", "--vault-password-file", &key, "--", "id -un"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "a | root\n"), "{said:?}");
    assert!(!said.err.contains(PASSWORD) && !said.err.contains("correct horse"), "{said:?}");
    let said = with(&["-e", &encrypted, "-b", "--", "id -un"]);
    assert!(said.code == Some(2) && said.err.contains("'--vault-password-file FILE'"), "{said:?}");
    let said = with(&["-e", &encrypted, "-b", "--ask-vault-password", "--", "id -un"]);
    assert!(said.code == Some(2) && said.err.contains("without a terminal"), "{said:?}");
    // What nothing uses need not be opened.
    let other = file(&hosts.bench.path(""), "other.yml", ENCRYPTED.replace("ansible_become_password", "other"));
    assert_eq!(with(&["-e", &format!("@{other}"), "--", "id -un"]).out, format!("a | {}\n", user.name));
}

/// `PASSWORD`, as ansible-vault 2.19 encrypts it with 'correct horse'.
const ENCRYPTED: &str = "ansible_become_password: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  62373531633632663736376635353430346434356663656438333838333430616635303466333264
  3935333865666339653934323961616339633031613265310a626135633931613532346634363866
  36346230323561313062353230633563623730333831653063626361363265323366646533316233
  3661353835306236330a343737356166643134356530383336666635323266643962666636363935
  65303733343266356363333665663563363336303736383038393737323930346266
";

/// An engine's command line that has containers and images, one of which it will not remove.
const DOCKER: &str = r#"#!/bin/sh
cd "$(dirname "$0")/engine-$OSIER_HOST" || exit 1
case "$*" in
"ps -a "*) cat containers ;;
"images "*) cat images ;;
"rm -f "* | "rmi -f "*)
    shift 2
    for id; do
        case $id in used) echo "conflict: it is used" >&2; continue ;; esac
        for list in containers images; do grep -v "^$id" $list >new; mv new $list; done
    done ;;
*) exit 64 ;;
esac
"#;

#[test]
fn containers_and_images_are_removed_and_counted_but_for_a_labs() {
    let hosts = Hosts::new(&["a", "b"]);
    hosts.program("docker", DOCKER);
    for host in ["a", "b"] {
        let folder = hosts.sshd.folder.path().join(format!("bin/engine-{host}"));
        fs::create_dir(&folder).unwrap();
        let web = if host == "a" { "c1\tweb\tx=1\nc2\tdb\t\n" } else { "" };
        file(&folder, "containers", format!("{web}lab1\tlab-n1\tosier.lab=lab\n"));
        file(&folder, "images", "i1\tbusybox:1\ni1\tbusybox:2\ni2\tosier-lab-node:x\nused\tweb:1\n");
    }
    let asked = hosts.osier(&["remove-containers"]);
    assert!(asked.code == Some(2) && asked.err.contains("'--yes' says so beforehand"), "{asked:?}");
    let said = hosts.osier(&["remove-containers", "--yes", "--forks", "1"]);
    let lines = "a | removed 2 containers, spared 1 container of a lab\nb | removed 0 containers, spared 1 container of a lab\n";
    assert_eq!((said.code, said.out.as_str()), (Some(0), lines), "{said:?}");
    let said = hosts.osier(&["-o", "json", "remove-images", "--yes"]);
    assert!(
        said.code == Some(3) && said.err.contains("remove 1 images: web:1") && said.err.contains("conflict"),
        "{said:?}"
    );
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["hosts"][0], serde_json::json!({"host": "a", "removed": 1, "spared": 1, "left": ["web:1"]}));
}
