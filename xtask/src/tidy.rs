//! The house rules that no compiler knows: where dependencies may point, what files open with, how large things get.

use crate::shell::{cargo, output, root};
use anyhow::{Result, bail};
use std::{fs, path::Path};

/// Third-party and own packages together; raise it only with a reason in the commit.
const LOCK_CEILING: usize = 350;
/// Lines of a source file before it must be split.
const FILE_CEILING: usize = 800;
/// Folders from the inside out: a crate may use those of its own folder and of the folders before it.
const FOLDERS: [&str; 6] = ["pure", "io", "app", "test", "fuzz", "xtask"];
/// What a crate in `pure/` must not list.
const IMPURE: [&str; 6] = ["tokio", "hyper", "rustls", "socket2", "nix", "rtnetlink"];
/// Pages that every reader expects.
const PAGES: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "SPECIFICATION.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "deny.toml",
];

/// Checks them all and reports every breach.
pub(crate) fn run() -> Result<()> {
    let mut breaches = Vec::new();
    arrows(&mut breaches)?;
    files(&mut breaches)?;
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let packages = lock.lines().filter(|l| *l == "[[package]]").count();
    if packages > LOCK_CEILING {
        breaches.push(format!("Cargo.lock has {packages} packages, the ceiling is {LOCK_CEILING}"));
    }
    let missing = PAGES.iter().filter(|p| !root().join(p).is_file());
    breaches.extend(missing.map(|p| format!("{p} is missing")));
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    if !breaches.is_empty() {
        bail!("{} of the house rules are broken", breaches.len());
    }
    println!("tidy: {packages} packages in Cargo.lock, nothing to complain about");
    Ok(())
}

/// Dependencies point inwards, and `pure/` stays pure.
fn arrows(breaches: &mut Vec<String>) -> Result<()> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder_of = |manifest: &str| {
        let inside = Path::new(manifest).strip_prefix(root()).ok()?;
        let first = inside.components().next()?.as_os_str().to_str()?.to_owned();
        FOLDERS.iter().position(|f| *f == first)
    };
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(folder) = package["manifest_path"].as_str().and_then(folder_of) else {
            breaches.push(format!("crate {name} lies in none of the folders {FOLDERS:?}"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let path = dependency["path"].as_str().map(|p| format!("{p}/Cargo.toml"));
            if path.and_then(|p| folder_of(&p)).is_some_and(|f| f > folder) {
                breaches.push(format!("{name} in {}/ uses {used}, which lies further out", FOLDERS[folder]));
            }
            if FOLDERS[folder] == "pure" && IMPURE.contains(&used) {
                breaches.push(format!("{name} in pure/ lists {used}"));
            }
        }
    }
    Ok(())
}

/// Every source file says what it is for, and none has become two.
fn files(breaches: &mut Vec<String>) -> Result<()> {
    let listed = output(crate::shell::command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    for path in listed.lines().filter(|p| p.ends_with(".rs") && root().join(p).is_file()) {
        let text = fs::read_to_string(root().join(path))?;
        if !text.starts_with("//! ") {
            breaches.push(format!("{path} does not open with a sentence on its purpose"));
        }
        let lines = text.lines().count();
        if lines > FILE_CEILING {
            breaches.push(format!("{path} has {lines} lines, the ceiling is {FILE_CEILING}"));
        }
    }
    Ok(())
}
