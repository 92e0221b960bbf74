//! Compares inventories with what Ansible itself printed for them (see `corpus/README.md`), and feeds the parsers
//! arbitrary text.
#![expect(clippy::disallowed_methods, reason = "the corpus is files, and only this test reads them")]
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use osier_inventory::{Inventory, Source, SourceKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn cases() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders = fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    folders.collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn source(path: &Path, kind: SourceKind) -> Source {
    Source { path: path.display().to_string(), text: fs::read_to_string(path).unwrap(), kind }
}

/// Files of one `group_vars` or `host_vars` folder; a folder in it is one group's files.
fn variable_files(folder: &Path, kind: impl Fn(String) -> SourceKind) -> Vec<Source> {
    let mut sources = Vec::new();
    for path in files(folder) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inside = if path.is_dir() { files(&path) } else { vec![path] };
        sources.extend(inside.iter().map(|p| source(p, kind(name.clone()))));
    }
    sources
}

fn inventory(case: &Path) -> Inventory {
    let mut sources = vec![source(&case.join("hosts"), SourceKind::Hosts)];
    sources.extend(variable_files(&case.join("group_vars"), SourceKind::GroupVars));
    sources.extend(variable_files(&case.join("host_vars"), SourceKind::HostVars));
    Inventory::parse(&sources).unwrap_or_else(|problems| panic!("{}: {problems:?}", case.display()))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The inventory as `ansible-inventory --list` prints it, without the mark of its encoding.
fn listing(inventory: &Inventory) -> Value {
    let mut list = inventory.list(&inventory.hosts().iter().collect::<Vec<_>>());
    list["_meta"].as_object_mut().unwrap().remove("profile");
    list
}

#[test]
fn inventories_read_as_ansible_reads_them() {
    let cases = cases();
    assert!(cases.len() >= 8, "the corpus is there");
    for case in cases {
        let (ours, ansible) = (listing(&inventory(&case)), read_json(&case.join("expected.json")));
        for (part, expected) in ansible["_meta"]["hostvars"].as_object().unwrap() {
            assert_eq!(&ours["_meta"]["hostvars"][part], expected, "variables of {part} in {}", case.display());
        }
        assert_eq!(ours, ansible, "{}", case.display());
    }
}

#[test]
fn patterns_select_what_ansible_selects() {
    let mut compared = 0;
    for case in cases().into_iter().filter(|c| c.join("patterns.json").exists()) {
        let inventory = inventory(&case);
        for (pattern, expected) in read_json(&case.join("patterns.json")).as_object().unwrap() {
            let hosts = inventory.select(pattern).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
            let names: Vec<_> = hosts.iter().map(|h| h.name()).collect();
            assert_eq!(json!(names), *expected, "{pattern} in {}", case.display());
            compared += 1;
        }
    }
    assert!(compared > 30, "only {compared} patterns");
}

/// Text made of what inventories are made of, so that the interesting branches are reached.
fn inventory_like() -> impl Strategy<Value = String> {
    let line = prop::collection::vec(
        prop::sample::select(vec![
            "[",
            "]",
            ":",
            "children",
            "vars",
            "all",
            "web",
            "a",
            "0",
            "01",
            "9",
            "=",
            " ",
            "'",
            "\"",
            "\\",
            "#",
            "{",
            "{{ a }}",
            "}",
            ": ",
            "  ",
            "all:",
            "hosts:",
            "&x ",
            "*x",
            "\n",
            "(",
            ",",
            "- ",
            "~",
            "&",
            "!",
            "*",
            "|",
            "<<",
            "True",
            "1e9",
            "é",
            "\t",
            "-",
            ".",
            "_",
            "!vault",
            "ansible_port",
        ]),
        0..12,
    );
    prop::collection::vec(line.prop_map(|parts| parts.concat()), 0..12).prop_map(|lines| lines.join("\n"))
}

fn read_as_everything(text: &str) {
    let kinds = [
        SourceKind::Hosts,
        SourceKind::List,
        SourceKind::Script(BTreeMap::new()),
        SourceKind::GroupVars("all".to_owned()),
        SourceKind::HostVars("a".to_owned()),
    ];
    for kind in kinds {
        let lines = text.lines().count();
        let source = Source { path: "file".to_owned(), text: text.to_owned(), kind };
        match Inventory::parse(&[source]) {
            Ok(inventory) => {
                for host in inventory.hosts() {
                    let _ = host.connection();
                    host.vars().keys().for_each(|name| drop(host.value(name)));
                }
                let _ = inventory.list(&inventory.hosts().iter().collect::<Vec<_>>());
            }
            Err(problems) => {
                assert!(!problems.is_empty() && problems.iter().all(|p| (1..=lines + 1).contains(&p.line)));
            }
        }
    }
    let hosts = Source { path: "file".to_owned(), text: "a\nb\n[web]\na\n".to_owned(), kind: SourceKind::Hosts };
    let _ = Inventory::parse(&[hosts]).unwrap().select(text);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        read_as_everything(&text);
    }

    #[test]
    fn text_like_an_inventory_never_panics(text in inventory_like()) {
        read_as_everything(&text);
    }
}
