//! From sources to an inventory: reads every file, then merges each host's variables by Ansible's precedence.
//!
//! Must not know file formats beyond which reader takes which kind. The order, later ones winning (Ansible's
//! documentation, "Understanding variable precedence"): `[all:vars]`, `group_vars/all`, `[group:vars]` of all groups,
//! `group_vars/` of all groups, host lines, `host_vars/`. Among groups: parents before children, then lower priority
//! before higher, then by name. A value replaces the whole earlier one.

use crate::{Group, Host, Inventory, Problem, Source, SourceKind, draft::ALL, ini::Reader, yaml};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Vars = Map<String, Value>;

pub(crate) fn build(sources: &[Source]) -> Result<Inventory, Vec<Problem>> {
    let mut reader = Reader::new();
    let (mut of_groups, mut of_hosts) = (BTreeMap::<&str, Vars>::new(), BTreeMap::<&str, Vars>::new());
    let mut problems = Vec::new();
    for source in sources {
        let file = match &source.kind {
            SourceKind::Hosts => {
                reader.read(&source.path, &source.text);
                continue;
            }
            SourceKind::GroupVars(group) => of_groups.entry(group).or_default(),
            SourceKind::HostVars(host) => of_hosts.entry(host).or_default(),
        };
        match yaml::variables(&source.text) {
            Ok(vars) => file.extend(vars),
            Err(mistakes) => problems.extend(mistakes.into_iter().map(|(line, message)| Problem {
                path: source.path.clone(),
                line,
                message,
            })),
        }
    }
    let (draft, mistakes) = reader.finish();
    problems.extend(mistakes);
    if !problems.is_empty() {
        let order: BTreeMap<&str, usize> = sources.iter().enumerate().map(|(i, s)| (s.path.as_str(), i)).collect();
        problems.sort_by_key(|p| (order.get(p.path.as_str()).copied(), p.line));
        return Err(problems);
    }

    let none = Vars::new();
    let group_file = |group: usize| of_groups.get(draft.groups[group].name.as_str()).unwrap_or(&none);
    let mut hosts = Vec::with_capacity(draft.hosts.len());
    for (host, groups) in draft.hosts.iter().zip(draft.groups_of_hosts()) {
        let ini = groups.iter().map(|&g| &draft.groups[g].vars);
        let files = groups.iter().map(|&g| group_file(g));
        let host_file = of_hosts.get(host.name.as_str()).unwrap_or(&none);
        let layers = [&draft.groups[ALL].vars, group_file(ALL)].into_iter().chain(ini).chain(files);
        let mut vars = Vars::new();
        for layer in layers.chain([&host.vars, host_file]) {
            vars.extend(layer.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        let mut names: Vec<String> = groups.iter().map(|&g| draft.groups[g].name.clone()).collect();
        names.sort();
        hosts.push(Host { name: host.name.clone(), groups: names, vars });
    }
    let name_of = |hosts: &[usize]| hosts.iter().map(|&h| draft.hosts[h].name.clone()).collect();
    let groups = draft.groups.iter().enumerate().map(|(index, group)| Group {
        name: group.name.clone(),
        hosts: name_of(&group.hosts),
        children: group.children.iter().map(|&c| draft.groups[c].name.clone()).collect(),
        members: draft.members(index),
    });
    Ok(Inventory { hosts, groups: groups.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, kind: SourceKind, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), kind }
    }

    #[test]
    fn every_mistake_of_every_file_is_reported_with_its_line() {
        let hosts = "\
[web]
a b
c[1:
d x='1
[missing:vars]
x=1
=2
nothing
[loop:children]
inner
[inner:children]
loop
absent
two words
all
[bad section]
skipped, not reported
[web:hots]
skipped too
[web:vars]
ansible_group_priority=high
";
        let sources = [
            source("hosts", SourceKind::Hosts, hosts),
            source("group_vars/web", SourceKind::GroupVars("web".to_owned()), "a: [\n"),
            source("host_vars/a", SourceKind::HostVars("a".to_owned()), "k: !vault |\n  33\n"),
        ];
        let problems: Vec<String> = build(&sources).unwrap_err().iter().map(Problem::to_string).collect();
        let expected = [
            "hosts:2: 'b' is not a variable (name=value)",
            "hosts:3: cannot read host 'c[1:': the range is not closed with ']'",
            "hosts:4: close the quotation mark",
            "hosts:5: [missing:vars] sets variables of group 'missing', which has no hosts or children",
            "hosts:7: '=2' has no name before '='",
            "hosts:8: 'nothing' is not a variable (name=value)",
            "hosts:12: group 'loop' cannot be a child of 'inner', which is inside it",
            "hosts:13: [inner:children] names group 'absent', which has no section of its own",
            "hosts:14: 'two words' is not the name of a group",
            "hosts:15: group 'all' cannot be a child of 'inner', which is inside it",
            "hosts:16: '[bad section]' is not a section ([group], [group:children] or [group:vars], without blanks)",
            "hosts:18: section '[web:hots]' is none of [web], [web:children], [web:vars]",
            "hosts:21: ansible_group_priority must be a whole number",
        ];
        assert_eq!(problems[..expected.len()], expected);
        assert!(problems[expected.len()].starts_with("group_vars/web:1: cannot read YAML"), "{problems:?}");
        assert!(problems[expected.len() + 1].starts_with("host_vars/a:1: the value is encrypted"), "{problems:?}");
        assert_eq!(problems.len(), expected.len() + 2);
    }

    #[test]
    fn an_empty_inventory_has_its_two_groups_and_no_host() {
        let inventory = build(&[]).unwrap();
        assert!(inventory.hosts().is_empty());
        assert_eq!(inventory.groups().iter().map(Group::name).collect::<Vec<_>>(), ["all", "ungrouped"]);
    }
}
