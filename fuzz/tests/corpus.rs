//! Every target takes every input that is kept: seeds, and what once broke a promise.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a test tells where it stopped")]

use osier_fuzz::TARGETS;
use std::{collections::BTreeSet, fs, path::Path};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folders = fs::read_dir(folder()).expect("read the corpus");
    let folders: BTreeSet<String> =
        folders.filter_map(|f| f.ok()?.file_name().into_string().ok()).filter(|f| !f.ends_with(".dict")).collect();
    assert_eq!(folders, TARGETS.iter().map(|t| t.name.to_owned()).collect());
}

#[test]
fn every_target_takes_its_corpus() {
    for target in TARGETS {
        let files = fs::read_dir(folder().join(target.name)).expect("read a target's corpus");
        let mut count = 0;
        for file in files {
            let path = file.expect("read a target's corpus").path();
            let data = fs::read(&path).expect("read an input");
            // So that a panic tells which input it was.
            println!("{}", path.display());
            (target.run)(&data);
            // What broke off in the middle is input, too.
            (target.run)(&data[..data.len() / 2]);
            count += 1;
        }
        assert!(count > 0, "the corpus of {} is empty", target.name);
    }
}
