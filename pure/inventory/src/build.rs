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
