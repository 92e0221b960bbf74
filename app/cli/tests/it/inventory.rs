//! `osier inventory` against ansible-core itself, on a corpus of inventories: JSON as values, text to the letter.
//!
//! The corpus is `test/golden/inventories` (its README says what its files are) and that of `pure/inventory`, whose kept
//! answers are thereby seen to be Ansible's still. ansible-core comes from PyPI, once for all runs.

use crate::{
    ansible_env::environment,
    program::{Bench, Said},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Variables that keep a user's own settings away from Ansible.
fn quiet(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    fs::create_dir_all(home).unwrap();
    let settings = home.join("ansible.cfg");
    fs::write(&settings, "").unwrap();
    command.env("ANSIBLE_CONFIG", settings).env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_HOME", home);
}

/// Ansible's commands in one process that waits for orders.
struct Ansible {
    process: Child,
    answers: BufReader<ChildStdout>,
    environment: PathBuf,
}

impl Ansible {
    fn new(home: &Path) -> Self {
        let environment = environment(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let mut command = Command::new(environment.join("bin/python"));
        quiet(&mut command, home);
        command.arg("-c").arg(include_str!("ansible.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, answers, environment }
    }

    fn run(&mut self, folder: &Path, words: &[&str]) -> Said {
        let mut order = json!([folder]);
        order.as_array_mut().unwrap().extend(words.iter().map(|w| json!(w)));
        writeln!(self.process.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let (code, out, err) = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{words:?}: {e}: {answer}"));
        Said { code: Some(code), out, err }
    }
}

impl Drop for Ansible {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// One folder of the corpus.
struct Case {
    folder: PathBuf,
    /// Each line of `runs`.
    runs: Vec<Vec<String>>,
    /// What must be said where Osier refuses the inventory.
    refused: Option<String>,
}

fn cases() -> Vec<Case> {
    let folders = ["test/golden/inventories", "pure/inventory/corpus"].map(|f| root().join(f));
    let entries = folders.iter().flat_map(|f| fs::read_dir(f).unwrap().map(|e| e.unwrap().path()));
    let mut cases: Vec<Case> = entries
        .filter(|p| p.is_dir())
        .map(|folder| {
            let runs = fs::read_to_string(folder.join("runs")).unwrap_or_else(|_| "-i hosts".to_owned());
            let runs = runs.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect();
            let refused = fs::read_to_string(folder.join("refused")).ok().map(|t| t.trim().to_owned());
            Case { folder, runs, refused }
        })
        .collect();
    cases.sort_by(|a, b| a.folder.cmp(&b.folder));
    cases
}

fn osier(bench: &Bench, folder: &Path, words: &[&str]) -> Said {
    let output = Command::new(bench.path("osier"))
        .arg("inventory")
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The same question in Ansible's words: `--list-hosts PATTERN` is the command `ansible`'s.
fn translated<'a>(words: &[&'a str]) -> Vec<&'a str> {
    match words.split_first() {
        Some((&"--list-hosts", rest)) => [&["ansible", "--list-hosts"], rest].concat(),
        _ => [&["ansible-inventory"], words].concat(),
    }
}

/// Whether Ansible leaves the order of hosts open: it walks each level of groups in the order of their places in memory,
/// which shows where two of one level have children.
fn is_open(list: &Value) -> bool {
    let children =
        |group: &str| -> Vec<String> { serde_json::from_value(list[group]["children"].clone()).unwrap_or_default() };
    let mut level = BTreeSet::from(["all".to_owned()]);
    while !level.is_empty() {
        let with_children: Vec<Vec<String>> = level.iter().map(|g| children(g)).filter(|c| !c.is_empty()).collect();
        if with_children.len() > 1 {
            return true;
        }
        level = with_children.into_iter().flatten().collect();
    }
    false
}

/// Compares one answer; what differs.
fn compare(ours: &Said, theirs: &Said, open: bool) -> Option<String> {
    let both = |(a, b): (&str, &str)| {
        format!("ours ({:?}):\n{a}{}theirs ({:?}):\n{b}{}", ours.code, ours.err, theirs.code, theirs.err)
    };
    if (ours.code, theirs.code) != (Some(0), Some(0)) {
        return Some(both((&ours.out, &theirs.out)));
    }
    let json = |said: &Said| serde_json::from_str::<Value>(&said.out).ok();
    if let (Some(ours), Some(theirs)) = (json(ours), json(theirs)) {
        return first_difference("", &ours, &theirs);
    }
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let same = ours.out == theirs.out || (open && sorted(&ours.out) == sorted(&theirs.out));
    (!same).then(|| both((&ours.out, &theirs.out)))
}

/// The place of the first difference of two values, and what is there.
fn first_difference(place: &str, ours: &Value, theirs: &Value) -> Option<String> {
    if ours == theirs {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (ours, theirs) {
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let of = |map: &serde_json::Map<String, Value>, name: &str| map.get(name).cloned().unwrap_or_default();
        let inside = names.into_iter().find_map(|n| first_difference(&format!("{place}/{n}"), &of(a, n), &of(b, n)));
        // A name that is missing is not the same as one that is null.
        return inside.or_else(|| Some(format!("{place}: ours has {:?}, theirs {:?}", a.keys(), b.keys())));
    }
    Some(format!("{place}: ours {ours}, theirs {theirs}"))
}

/// All that is asked of one inventory: everything about it, and what its file of runs adds.
fn questions(list: &Value, more: &[&[String]]) -> Vec<Vec<String>> {
    let plain = ["--list", "--graph", "--list-hosts all"].map(|q| q.split(' ').map(str::to_owned).collect());
    let hosts = list["_meta"]["hostvars"].as_object().into_iter().flat_map(|h| h.keys()).take(2);
    let hosts = hosts.map(|h| vec!["--host".to_owned(), h.clone()]);
    plain.into_iter().chain(hosts).chain(more.iter().map(|words| words.to_vec())).collect()
}

#[test]
fn inventories_are_shown_as_ansible_shows_them() {
    let bench = Bench::new();
    let cases = cases();
    assert!(cases.len() > 40, "the corpus is there");
    // Two at a time, each with commands of its own.
    let judged: Vec<Judged> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let (bench, mine) = (&bench, cases.iter().skip(half).step_by(2));
            scope.spawn(move || {
                let mut ansible = Ansible::new(&bench.path(&format!("ansible-{half}")));
                mine.map(|case| judge(case, bench, &mut ansible)).collect::<Vec<_>>()
            })
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let compared: usize = judged.iter().map(|j| j.compared).sum();
    let wrong: Vec<String> = judged.into_iter().flat_map(|j| j.wrong).collect();
    assert!(wrong.is_empty(), "{} of {compared} differ:\n\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 300, "only {compared} answers");
}

/// What came of one case.
#[derive(Default)]
struct Judged {
    compared: usize,
    wrong: Vec<String>,
}

fn judge(case: &Case, bench: &Bench, ansible: &mut Ansible) -> Judged {
    let mut judged = Judged::default();
    let name = case.folder.file_name().and_then(OsStr::to_str).unwrap();
    for block in case.runs.chunk_by(|_, next| next.first().is_none_or(|w| w != "-i")) {
        let (inventory, more) = block.split_first().unwrap();
        let with = |question: &[String]| [question, inventory].concat();
        let list = osier(bench, &case.folder, &words(&with(&["--list".to_owned()])));
        if let Some(said) = &case.refused {
            judged.compared += 1;
            if list.code != Some(2) || !list.err.contains(said.as_str()) || !list.out.is_empty() {
                judged.wrong.push(format!("{name} is not refused with '{said}': {list:?}"));
            }
            continue;
        }
        let list: Value = serde_json::from_str(&list.out).unwrap_or_default();
        let open = is_open(&list);
        for question in questions(&list, &more.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
            let line = with(&question);
            let ours = osier(bench, &case.folder, &words(&line));
            let theirs = ansible.run(&case.folder, &translated(&words(&line)));
            judged.compared += 1;
            let difference = compare(&ours, &theirs, open);
            judged.wrong.extend(difference.map(|d| format!("{name}: {}\n{d}", line.join(" "))));
        }
    }
    judged
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// The commands as users have them answer as those in the one process do.
#[test]
fn the_programs_of_ansible_answer_as_they_do_in_one_process() {
    let bench = Bench::new();
    let home = bench.path("ansible-home");
    let mut ansible = Ansible::new(&home);
    let folder = root().join("test/golden/inventories/seed");
    for line in ["ansible-inventory -i inventory --list", "ansible -i inventory slaves --list-hosts"] {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = Command::new(ansible.environment.join("bin").join(words[0]));
        quiet(&mut command, &home);
        let output = command.args(&words[1..]).current_dir(&folder).output().unwrap();
        let said = ansible.run(&folder, &words);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), said.out, "{line}: {}", said.err);
        assert!(output.status.success() && said.code == Some(0) && said.out.contains("datalyse-1"), "{line}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
    let bench = Bench::new();
    let folder = root().join("test/golden/inventories/seed");
    for (line, part) in [
        ("--list -i nowhere", "hint: '-i PATH' names the inventory"),
        ("--host slaves -i inventory", "'--host' takes one host, 'slaves' means 2"),
        ("--host datalyse-3 -i inventory", "is 'datalyse-1' meant?"),
        ("--graph nobody -i inventory", "hint: it has all, ungrouped, masters, slaves"),
        ("--list-hosts all -l masters:&slaves -i inventory", "leaves no host"),
        ("--list-hosts all -l @nowhere -i inventory", "read the hosts of '--limit' from 'nowhere'"),
        ("--list masters -i inventory", "a pattern goes with '--list-hosts'"),
        ("-i inventory", "--list"),
    ] {
        let said = osier(&bench, &folder, &line.split(' ').collect::<Vec<_>>());
        assert_eq!(said.code, Some(2), "{line}: {said:?}");
        assert!(said.err.contains(part) && said.out.is_empty(), "{line}: {said:?}");
    }
    let help = osier(&bench, &folder, &["--help"]);
    assert!(help.code == Some(0) && help.out.contains("osier inventory --list-hosts 'slaves:!datalyse-2'"), "{help:?}");
    let remarks = osier(&bench, &root().join("test/golden/inventories/yaml-remarks"), &["--list", "-i", "hosts.yml"]);
    assert!(remarks.err.contains("warning: hosts.yml:4: 'hosts_typo' of group 'all' is passed over"), "{remarks:?}");
}

#[test]
fn the_vaults_password_is_asked_for_at_a_terminal_which_does_not_show_it() {
    let bench = Bench::new();
    let folder = root().join("test/golden/inventories/vault-opened");
    let line = format!("{} inventory -i hosts.yml -J --vault-id ask-client --host b", bench.path("osier").display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(folder).env("TERM", "dumb");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = script.stdout.take().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"Vault password: ") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&seen)));
        seen.extend(byte);
    }
    let mut typed = script.stdin.take().unwrap();
    typed.write_all(b"correct horse\n").unwrap();
    out.read_to_end(&mut seen).unwrap();
    let seen = String::from_utf8_lossy(&seen);
    assert!(script.wait().unwrap().success() && seen.contains("\"ansible_become_password\": \"top\""), "{seen}");
    assert!(!seen.contains("correct horse"), "{seen}");
}
