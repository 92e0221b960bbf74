//! From the command line to an inventory: reads what `-i` names with its variables, and chooses hosts by patterns.
//!
//! Must not know what the files mean; `osier-inventory` parses them.

use crate::{
    args::{Extra, InventoryArgs},
    inventory_files as files, vault,
};
use osier_inventory::{
    Host, Inventory, Named, Problem, Variables, Vault, is_encrypted, split_pairs, split_pattern, variables,
};
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::{Map, Value};
use std::{fs, path::Path};

/// Reads the inventory that the arguments name, with the variables they set. What Ansible would warn of is warned of.
pub(crate) fn read(args: &InventoryArgs, ui: &Ui) -> Result<Inventory, Failure> {
    let vault = vault::passwords(&args.vault, ui)?;
    let (mut sources, mut folders) = (Vec::new(), Vec::new());
    for word in &args.inventory {
        let (more, folder) = files::hosts(word, &vault)?;
        sources.extend(more);
        folders.extend(folder);
    }
    let named = Named::read(&sources).map_err(mistakes)?;
    let beside: Result<_, Failure> = folders.iter().map(|folder| files::variables(folder, &named, &vault)).collect();
    let here = files::variables(Path::new(""), &named, &vault)?;
    let (extra, extra_is_secret) = extra(&args.extra_vars, &vault)?;
    let variables = Variables { beside: beside?, here, extra, extra_is_secret, vault };
    let inventory = named.merge(&variables).map_err(mistakes)?;
    inventory.remarks().iter().for_each(|remark| ui.warn(remark));
    Ok(inventory)
}

/// All variables that the command line sets, and whether a file of them was encrypted; of those of one name the last counts.
fn extra(all: &[Extra], vault: &Vault) -> Result<(Map<String, Value>, bool), Failure> {
    let (mut extra, mut is_secret) = (Map::new(), false);
    for one in all {
        match one {
            Extra::Text(text) if text.starts_with('{') => extra.extend(variables("-e", text).map_err(mistakes)?),
            Extra::Text(text) => extra.extend(pairs(text)?),
            Extra::File(path) => {
                let text = fs::read_to_string(path).map_err(|e| {
                    let error =
                        anyhow::Error::new(e).context(format!("read the variables of '-e' from '{}'", path.display()));
                    Failure::new(ExitKind::Usage, error)
                })?;
                is_secret |= is_encrypted(&text);
                let text = vault::opened(path, text, vault)?;
                extra.extend(variables(&path.display().to_string(), &text).map_err(mistakes)?);
            }
        }
    }
    Ok((extra, is_secret))
}

/// The variables of a line of pairs. It may hold a password, so no word of it is shown.
fn pairs(line: &str) -> Result<Map<String, Value>, Failure> {
    let pairs = split_pairs(line).map_err(|word| {
        Failure::usage(format!("read '-e': its word {word} is no NAME=VALUE, or has no end"))
            .hint("a value with blanks stands in quotation marks of its own: -e \"NAME='a value'\"")
            .hint("'@FILE' names a file, and '{\"NAME\": VALUE}' is JSON")
    })?;
    if pairs.is_empty() {
        return Err(Failure::usage("read '-e': it is empty"));
    }
    Ok(pairs.into_iter().map(|(name, value)| (name, value.into())).collect())
}

/// The hosts to work on: all, or those that `--limit` means, in the inventory's order.
pub(crate) fn select<'a>(inventory: &'a Inventory, limit: Option<&str>) -> Result<Vec<&'a Host>, Failure> {
    let hosts = limited(inventory, "all", limit)?;
    if hosts.is_empty() { Err(Failure::usage("the inventory has no hosts")) } else { Ok(hosts) }
}

/// The hosts that a pattern means, as far as the limit has them, in the pattern's order.
pub(crate) fn limited<'a>(
    inventory: &'a Inventory,
    pattern: &str,
    limit: Option<&str>,
) -> Result<Vec<&'a Host>, Failure> {
    let mut hosts = chosen(inventory, &split_pattern(pattern))?;
    let Some(limit) = limit else { return Ok(hosts) };
    let within = chosen(inventory, &parts(limit)?)?;
    hosts.retain(|host| within.iter().any(|w| w.name() == host.name()));
    if hosts.is_empty() { Err(Failure::usage(format!("'{limit}' leaves no host"))) } else { Ok(hosts) }
}

fn chosen<'a>(inventory: &'a Inventory, parts: &[String]) -> Result<Vec<&'a Host>, Failure> {
    let hosts = inventory.select_parts(parts);
    hosts.map_err(|e| Failure::new(ExitKind::Usage, e).hint("patterns name hosts and groups of the inventory"))
}

/// The parts of a limit; `@FILE` stands for the lines of a file, as Ansible writes one for hosts that failed.
fn parts(limit: &str) -> Result<Vec<String>, Failure> {
    let mut parts = Vec::new();
    for part in split_pattern(limit) {
        match part.strip_prefix('@') {
            None => parts.push(part),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|e| {
                    let error = anyhow::Error::new(e).context(format!("read the hosts of '--limit' from '{path}'"));
                    Failure::new(ExitKind::Usage, error)
                })?;
                parts.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned));
            }
        }
    }
    Ok(parts)
}

fn mistakes(problems: Vec<Problem>) -> Failure {
    let list = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
    Failure::usage(format!("read the inventory:\n  {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::VaultArgs;
    use osier_ui::Output;
    use std::os::unix::fs::PermissionsExt;

    fn read(path: &Path, extra: &[(&str, &str)]) -> Result<Inventory, Failure> {
        let extra_vars = extra.iter().map(|(n, v)| one(n, v)).collect();
        let inventory = vec![path.to_owned()];
        super::read(&InventoryArgs { inventory, extra_vars, vault: VaultArgs::default() }, &Ui::new(Output::Text, true))
    }

    fn one(name: &str, value: &str) -> Extra {
        Extra::Text(format!("{name}={value}"))
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
            let inventory = read(&path, extra).unwrap();
            inventory.hosts().iter().map(|h| h.var("level").unwrap().as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(level(&[]), ["masters", "slaves", "b"]);
        assert_eq!(level(&[("level", "mine")]), ["mine", "mine", "mine"]);
    }

    #[test]
    fn the_command_line_sets_variables_of_any_kind_and_the_last_counts() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("vars.yml", "a: 1\nb: [x]\nc: file\n"), ("wrong.yml", "a: 1\n- b\n")]);
        let file = |name: &str| Extra::File(dir.path().join(name));
        let many = Extra::Text(r#"{"a": {"deep": true}}"#.to_owned());
        let extra = |all: &[Extra]| extra(all, &Vault::default()).map(|(extra, _)| extra);
        let read = extra(&[one("a", "0"), file("vars.yml"), one("c", "mine"), many]).unwrap();
        assert_eq!(Value::from(read), serde_json::json!({"a": {"deep": true}, "b": ["x"], "c": "mine"}));
        let wrong = extra(&[file("wrong.yml")]).unwrap_err();
        assert!(wrong.code() == 2 && wrong.message().contains("wrong.yml:2: "), "{wrong:?}");
        let missing = extra(&[file("nowhere")]).unwrap_err();
        assert!(missing.code() == 2 && missing.message().contains("nowhere'"), "{missing:?}");
    }

    #[test]
    fn a_broken_line_is_named_by_file_and_line_and_a_missing_file_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("inventory", "[masters]\nm\n[slaves\na\n")]);
        let path = dir.path().join("inventory");
        let broken = read(&path, &[]).unwrap_err();
        assert_eq!(broken.code(), 2);
        assert!(broken.message().contains(&format!("{}:3: ", path.display())), "{}", broken.message());
        let missing = read(&dir.path().join("nowhere"), &[]).unwrap_err();
        assert!(missing.code() == 2 && missing.message().contains("nowhere'"), "{missing:?}");
    }

    #[test]
    fn an_unknown_host_in_the_limit_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &FILES);
        let inventory = read(&dir.path().join("inventory"), &[]).unwrap();
        let names = |l| select(&inventory, l).unwrap().iter().map(|h| h.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(None), ["m", "a", "b"]);
        assert_eq!(names(Some("all:!slaves")), ["m"]);
        let unknown = select(&inventory, Some("nobody")).unwrap_err();
        assert!(unknown.code() == 2 && unknown.message().contains("nobody"));
    }

    #[test]
    fn a_limit_may_be_a_file_and_keeps_the_inventorys_order() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &FILES);
        write(dir.path(), &[("failed", "b\n\n m \n")]);
        let inventory = read(&dir.path().join("inventory"), &[]).unwrap();
        let names = |limit: &str| select(&inventory, Some(limit)).map(|hosts| hosts.iter().map(|h| h.name()).collect());
        assert_eq!(names("b,m").unwrap(), ["m", "b"]);
        let file = format!("@{}", dir.path().join("failed").display());
        assert_eq!(names(&file).unwrap(), ["m", "b"]);
        assert_eq!(names(&format!("slaves,{file},!m")).unwrap(), ["a", "b"]);
        let missing: Result<Vec<&str>, _> = names("@nowhere");
        assert!(missing.unwrap_err().message().contains("read the hosts of '--limit' from 'nowhere'"));
    }

    fn program(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_program_that_fails_is_named_with_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts.sh");
        for (text, part) in [
            ("#!/bin/sh\necho no token >&2\nexit 3\n", "no token"),
            ("#!/bin/sh\necho '[]'\n", "not a JSON object of groups"),
            ("#!/no/such/program\n", "run '"),
        ] {
            program(&path, text);
            let failure = read(&path, &[]).unwrap_err();
            let said = format!("{} {:?}", failure.message(), failure.causes());
            assert!(failure.code() == 2 && said.contains(part) && said.contains("hosts.sh"), "{said}");
        }
        // Executable, but no program.
        program(&path, "a x=1\n");
        assert_eq!(read(&path, &[]).unwrap().hosts().len(), 1);
    }
}
