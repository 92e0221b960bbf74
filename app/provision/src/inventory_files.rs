//! The files of inventories on disk: which there are, which of them are programs, and what they say or print.
//!
//! Must not know what their text means. Rules are Ansible's: a folder's entries in the order of their names, without
//! hidden ones and those that end like backups and documents; of `NAME`, `NAME.yml`, `NAME.yaml` and `NAME.json` in
//! `group_vars` or `host_vars` the first that exists, where a folder means all of its files.

use crate::vault;
use anyhow::Context;
use osier_inventory::{Named, Source, SourceKind, Vault, hosts_to_ask};
use osier_ui::{ExitKind, Failure};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Ends of names that are passed over in folders of inventories.
const IGNORED: [&str; 12] =
    [".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry"];
/// Folders beside inventories that hold something else.
const NOT_INVENTORIES: [&str; 3] = ["host_vars", "group_vars", "vars_plugins"];
/// What a file of variables may end with, in the order in which they are tried.
const EXTENSIONS: [&str; 4] = ["", ".yml", ".yaml", ".json"];

/// All hosts that a word behind `-i` names, and the folder that their files of variables lie in.
pub(crate) fn hosts(word: &Path, vault: &Vault) -> Result<(Vec<Source>, Option<PathBuf>), Failure> {
    let text = word.to_string_lossy();
    let kind = match fs::metadata(word) {
        Err(_) if text.contains(',') => {
            let source = Source { path: text.to_string(), text: text.into_owned(), kind: SourceKind::List };
            return Ok((vec![source], None));
        }
        kind => kind.map_err(|e| failure(word, e))?,
    };
    if kind.is_dir() {
        let mut sources = Vec::new();
        hosts_in(word, vault, &mut sources)?;
        return Ok((sources, Some(word.to_owned())));
    }
    let beside = word.parent().unwrap_or(Path::new(""));
    Ok((vec![file_or_program(word, vault)?], Some(beside.to_owned())))
}

fn hosts_in(folder: &Path, vault: &Vault, sources: &mut Vec<Source>) -> Result<(), Failure> {
    for name in names_in(folder)? {
        let passed_over = name.starts_with('.') || IGNORED.iter().any(|end| name.ends_with(end));
        if passed_over || NOT_INVENTORIES.contains(&name.as_str()) {
            continue;
        }
        let path = folder.join(name);
        if path.is_dir() {
            hosts_in(&path, vault, sources)?;
        } else {
            sources.push(file_or_program(&path, vault)?);
        }
    }
    Ok(())
}

/// The variables of all groups and hosts in `group_vars` and `host_vars` of a folder.
pub(crate) fn variables(folder: &Path, named: &Named, vault: &Vault) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    let groups = (folder.join("group_vars"), named.groups().collect::<Vec<_>>(), SourceKind::GroupVars as fn(_) -> _);
    let hosts = (folder.join("host_vars"), named.hosts().collect::<Vec<_>>(), SourceKind::HostVars as fn(_) -> _);
    for (folder, names, kind) in [groups, hosts] {
        if !folder.is_dir() {
            continue;
        }
        // A name that is a path leads elsewhere.
        for name in names.into_iter().filter(|n| !n.starts_with('/')) {
            for file in files_of(&folder, name)? {
                sources.push(read(&file, kind(name.to_owned()), vault)?);
            }
        }
    }
    Ok(sources)
}

fn files_of(folder: &Path, name: &str) -> Result<Vec<PathBuf>, Failure> {
    let paths = EXTENSIONS.iter().map(|end| folder.join(format!("{name}{end}")));
    let Some(path) = paths.into_iter().find(|p| p.exists()) else { return Ok(Vec::new()) };
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let mut files = Vec::new();
    variables_in(&path, &mut files)?;
    Ok(files)
}

fn variables_in(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for name in names_in(folder)? {
        let path = folder.join(&name);
        let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if path.is_dir() {
            if extension.is_empty() {
                variables_in(&path, files)?;
            }
        } else if EXTENSIONS.contains(&extension.as_str()) {
            files.push(path);
        }
    }
    Ok(())
}

fn names_in(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(folder).map_err(|e| failure(folder, e))?;
    let names: Result<Vec<_>, _> = entries.map(|e| e.map(|e| e.file_name())).collect();
    let names = names.map_err(|e| failure(folder, e))?;
    let mut names: Vec<String> = names.into_iter().filter_map(|n| n.into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn file_or_program(path: &Path, vault: &Vault) -> Result<Source, Failure> {
    if is_program(path).map_err(|e| failure(path, e))? { printed(path) } else { read(path, SourceKind::Hosts, vault) }
}

/// Whether a file may be run and begins as programs do. A file of hosts that is executable by accident is none.
fn is_program(path: &Path) -> std::io::Result<bool> {
    if fs::metadata(path)?.permissions().mode() & 0o111 == 0 {
        return Ok(false);
    }
    let mut start = Vec::new();
    fs::File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start.starts_with(b"#!") || start == b"\x7fELF")
}

/// What a program prints as an inventory.
fn printed(path: &Path) -> Result<Source, Failure> {
    let wrong = |reason| Failure::usage(format!("{}: {reason}", path.display()));
    let list = run(path, &["--list"])?;
    let mut asked = BTreeMap::new();
    for host in hosts_to_ask(&list).map_err(wrong)? {
        let vars = run(path, &["--host", &host])?;
        asked.insert(host, vars);
    }
    Ok(Source { path: path.display().to_string(), text: list, kind: SourceKind::Script(asked) })
}

fn run(path: &Path, args: &[&str]) -> Result<String, Failure> {
    let what = || format!("run '{} {}'", path.display(), args.join(" "));
    // A bare name would be looked for in PATH.
    let absolute = std::path::absolute(path).with_context(what).map_err(usage)?;
    let output = Command::new(absolute).args(args).stdin(Stdio::null()).output().with_context(what).map_err(usage)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        let said = if said.is_empty() { "and says nothing on standard error" } else { said };
        return Err(usage(anyhow::anyhow!("it ends with {}: {said}", output.status).context(what())));
    }
    String::from_utf8(output.stdout).context("it prints what is not UTF-8").with_context(what).map_err(usage)
}

fn usage(error: anyhow::Error) -> Failure {
    Failure::new(ExitKind::Usage, error)
}

fn read(path: &Path, kind: SourceKind, vault: &Vault) -> Result<Source, Failure> {
    let bytes = fs::read(path).map_err(|e| failure(path, e))?;
    let text = text(bytes).map_err(|line| Failure::usage(format!("{}:{line}: this is not UTF-8", path.display())))?;
    let text = vault::opened(path, text, vault)?;
    Ok(Source { path: path.display().to_string(), text, kind })
}

/// The text of a file. Comments of old inventories may be in other encodings; elsewhere the line is the error.
fn text(bytes: Vec<u8>) -> Result<String, usize> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(e) => e.into_bytes(),
    };
    let mut text = String::new();
    for (index, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) if line.starts_with(b"#") || line.starts_with(b";") => text.push_str("#\n"),
            Err(_) => return Err(index + 1),
        }
    }
    Ok(text)
}

/// What could not be read, and how to name another inventory where there is none.
pub(crate) fn failure(path: &Path, error: std::io::Error) -> Failure {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let failure = usage(anyhow::Error::new(error).context(format!("read '{}'", path.display())));
    if missing {
        failure.hint("'-i PATH' names the inventory, OSIER_INVENTORY does so for every command")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_may_be_in_any_encoding() {
        assert_eq!(text(b"a\n# gr\xfcn\nb\n".to_vec()), Ok("a\n#\nb\n".to_owned()));
        assert_eq!(text(b"a\nb\xfc\n".to_vec()), Err(2));
    }
}
