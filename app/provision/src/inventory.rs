//! Reading inventories from disk: the files, and the `group_vars` and `host_vars` folders beside them.
//!
//! Must not know what the files mean; `osier-inventory` parses them.

use osier_inventory::{Host, Inventory, Source, SourceKind};
use osier_ui::{ExitKind, Failure};
use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::args::HostArgs;

/// Names that Ansible passes over in folders of inventories.
const IGNORED: [&str; 9] = ["~", ".orig", ".bak", ".ini.bak", ".cfg", ".retry", ".pyc", ".pyo", ".md"];

/// Reads the inventory that the arguments name, with the variables they set.
pub(crate) fn read(args: &HostArgs) -> Result<Inventory, Failure> {
    let mut sources = Vec::new();
    for path in &args.inventory {
        sources.extend(read_one(path)?);
    }
    let inventory = parse(&sources)?;
    if args.extra_vars.is_empty() {
        return Ok(inventory);
    }
    // Variables of the command line win over all others: every host gets them last.
    let vars: serde_json::Map<_, _> = args.extra_vars.iter().map(|(n, v)| (n.clone(), v.clone().into())).collect();
    let text = serde_json::Value::from(vars).to_string();
    sources.extend(inventory.hosts().iter().map(|host| Source {
        path: "--extra-vars".to_owned(),
        text: text.clone(),
        kind: SourceKind::HostVars(host.name().to_owned()),
    }));
    parse(&sources)
}

/// The hosts to work on: all, or those that `--limit` means.
pub(crate) fn select<'a>(inventory: &'a Inventory, limit: Option<&str>) -> Result<Vec<&'a Host>, Failure> {
    let selected = inventory.select(limit.unwrap_or("all"));
    let hosts = selected
        .map_err(|e| Failure::new(ExitKind::Usage, e).hint("'--limit' takes hosts and groups of the inventory"))?;
    if hosts.is_empty() {
        let message = limit.map_or("the inventory has no hosts".to_owned(), |l| format!("'{l}' leaves no host"));
        return Err(Failure::usage(message));
    }
    Ok(hosts)
}

fn parse(sources: &[Source]) -> Result<Inventory, Failure> {
    Inventory::parse(sources).map_err(|problems| {
        let list = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
        Failure::usage(format!("read the inventory:\n  {list}"))
    })
}

fn read_one(path: &Path) -> Result<Vec<Source>, Failure> {
    let kind = fs::metadata(path).map_err(|e| failure(path, e))?;
    let (files, beside) = if kind.is_dir() {
        (files_of(path)?, path)
    } else {
        (vec![path.to_owned()], path.parent().unwrap_or(Path::new("")))
    };
    let mut sources = Vec::new();
    for file in files {
        sources.push(source(&file, SourceKind::Hosts)?);
    }
    sources.extend(read_vars(&beside.join("group_vars"), SourceKind::GroupVars)?);
    sources.extend(read_vars(&beside.join("host_vars"), SourceKind::HostVars)?);
    Ok(sources)
}

/// Variables of groups or hosts: `NAME`, `NAME.yml`, `.yaml` or `.json`, or a folder `NAME` of such files.
fn read_vars(folder: &Path, kind: impl Fn(String) -> SourceKind) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for entry in entries_of(folder)? {
        let Some(name) = entry.file_name().and_then(|n| n.to_str()) else { continue };
        if entry.is_dir() {
            for file in files_of(&entry)?.iter().filter(|f| is_vars_file(f)) {
                sources.push(source(file, kind(name.to_owned()))?);
            }
        } else if is_vars_file(&entry) {
            let stem = [".yml", ".yaml", ".json"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
            sources.push(source(&entry, kind(stem.to_owned()))?);
        }
    }
    Ok(sources)
}

fn is_vars_file(path: &Path) -> bool {
    path.extension().is_none_or(|e| e == "yml" || e == "yaml" || e == "json")
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(entries_of(folder)?.into_iter().filter(|p| !p.is_dir()).collect())
}

/// What a folder holds, sorted, hidden and backup files left out; nothing where there is no such folder.
fn entries_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failure(folder, e)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths.map_err(|e| failure(folder, e))?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !name.starts_with('.') && !IGNORED.iter().any(|end| name.ends_with(end))
    });
    paths.sort();
    Ok(paths)
}

fn source(path: &Path, kind: SourceKind) -> Result<Source, Failure> {
    let text = fs::read_to_string(path).map_err(|e| failure(path, e))?;
    Ok(Source { path: path.display().to_string(), text, kind })
}

fn failure(path: &Path, error: std::io::Error) -> Failure {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let failure =
        Failure::new(ExitKind::Usage, anyhow::Error::new(error).context(format!("read '{}'", path.display())));
    if missing {
        failure.hint("'-i PATH' names the inventory, OSIER_INVENTORY does so for every command")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(path: &Path, extra: &[(&str, &str)]) -> HostArgs {
        let extra_vars = extra.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        HostArgs { inventory: vec![path.to_owned()], limit: None, forks: 1, extra_vars }
    }

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    const FILES: [(&str, &str); 8] = [
        ("inventory", "[masters]\nm ansible_host=10.0.0.1\n[slaves]\na\nb\n"),
        ("group_vars/all", "pool: from all\nlevel: all\n"),
        ("group_vars/slaves.yml", "level: slaves\n"),
        ("group_vars/slaves.yml~", "level: backup\n"),
        ("group_vars/masters/one.json", r#"{"level": "masters"}"#),
        ("host_vars/b.yaml", "level: b\n"),
        ("host_vars/.hidden", "{{{\n"),
        ("host_vars/readme.txt", "{{{\n"),
    ];

    #[test]
    fn variables_beside_the_file_and_of_the_command_line_count() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &FILES);
        let path = dir.path().join("inventory");
        let level = |extra: &[_]| {
            let inventory = read(&args(&path, extra)).unwrap();
            inventory.hosts().iter().map(|h| h.var("level").unwrap().as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(level(&[]), ["masters", "slaves", "b"]);
        assert_eq!(level(&[("level", "mine")]), ["mine", "mine", "mine"]);
    }

    #[test]
    fn a_broken_line_is_named_by_file_and_line_and_a_missing_file_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("inventory", "[masters]\nm\n[slaves\na\n")]);
        let path = dir.path().join("inventory");
        let broken = read(&args(&path, &[])).unwrap_err();
        assert_eq!(broken.code(), 2);
        assert!(broken.message().contains(&format!("{}:3: ", path.display())), "{}", broken.message());
        let missing = read(&args(&dir.path().join("nowhere"), &[])).unwrap_err();
        assert!(missing.code() == 2 && missing.message().contains("nowhere'"), "{missing:?}");
    }

    #[test]
    fn an_unknown_host_in_the_limit_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &FILES);
        let inventory = read(&args(&dir.path().join("inventory"), &[])).unwrap();
        let names = |l| select(&inventory, l).unwrap().iter().map(|h| h.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(None), ["m", "a", "b"]);
        assert_eq!(names(Some("all:!slaves")), ["m"]);
        let unknown = select(&inventory, Some("nobody")).unwrap_err();
        assert!(unknown.code() == 2 && unknown.message().contains("nobody"));
    }
}
