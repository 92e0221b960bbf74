//! From sources to an inventory: reads every file, then merges each host's variables by Ansible's precedence.
//!
//! Must not know file formats beyond which reader takes which kind. The order, later ones winning (the default of
//! Ansible's setting `precedence`): `[all:vars]`, `[group:vars]` of all groups, `group_vars/all`, `group_vars/` of all
//! groups, host lines, `host_vars/`, the command line. Among groups: parents before children, then lower priority before
//! higher, then by name. Of files, those beside an earlier inventory come before those beside a later one, and those of
//! the working folder after both. A value replaces the whole earlier one.

use crate::{
    Group, Host, Inventory, Problem, Source, SourceKind, Variables,
    draft::{ALL, Draft, UNGROUPED},
    ini, range, script,
    tree::Tree,
    vault::{Vault, is_encrypted},
    yaml::{self, Kind},
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

type Vars = Map<String, Value>;

/// Hosts and groups as the files of hosts name them, before files of variables are known.
pub struct Named {
    draft: Draft,
    remarks: Vec<Problem>,
    /// Where it was read.
    paths: Vec<String>,
    /// The files that name the draft's hosts first, in its order.
    files: Vec<Option<String>>,
    /// Names of hosts and groups alike that were remarked on.
    shared: BTreeSet<String>,
}

impl Named {
    /// Reads sources of hosts; reports every mistake of every one at once. Sources of variables are passed over.
    pub fn read(sources: &[Source]) -> Result<Self, Vec<Problem>> {
        let (named, mut problems) = Self::read_all(sources);
        if problems.is_empty() {
            return Ok(named);
        }
        sort(&mut problems, sources);
        Err(problems)
    }

    /// The names of all groups: files in `group_vars` with these names count.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.draft.groups.iter().map(|g| g.name.as_str())
    }

    /// The names of all hosts: files in `host_vars` with these names count.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.draft.hosts.iter().map(|h| h.name.as_str())
    }

    /// Reads files of variables and merges all; reports every mistake of every file at once.
    pub fn merge(self, variables: &Variables) -> Result<Inventory, Vec<Problem>> {
        let mut problems = Vec::new();
        let beside: Vec<Layer> =
            variables.beside.iter().map(|s| Layer::read(s, &variables.vault, &mut problems)).collect();
        let here = Layer::read(&variables.here, &variables.vault, &mut problems);
        if problems.is_empty() {
            return Ok(self.inventory(&beside, &here, variables));
        }
        // A file that lies beside the inventory may lie in the working folder as well.
        let mut told = BTreeSet::new();
        problems.retain(|problem| told.insert(problem.to_string()));
        Err(problems)
    }

    fn read_all(sources: &[Source]) -> (Self, Vec<Problem>) {
        let mut named = Self {
            draft: Draft::new(),
            remarks: Vec::new(),
            paths: Vec::new(),
            files: Vec::new(),
            shared: BTreeSet::new(),
        };
        let mut problems = Vec::new();
        for source in sources {
            named.read_one(source, &mut problems);
            named.paths.push(source.path.clone());
            let file = (source.kind != SourceKind::List).then(|| source.path.clone());
            named.files.resize(named.draft.hosts.len(), file);
            named.remark_on_names(source);
        }
        named.draft.finish();
        (named, problems)
    }

    fn read_one(&mut self, source: &Source, problems: &mut Vec<Problem>) {
        let problem = |message| Problem { path: source.path.clone(), line: 1, message };
        match &source.kind {
            SourceKind::Hosts => self.read_file(source, problems),
            SourceKind::Script(asked) => {
                let read = script::read(&source.text, asked, &mut self.draft);
                problems.extend(read.err().map(problem));
            }
            SourceKind::List => {
                for word in source.text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                    let (name, port) = range::address(word);
                    if !self.draft.has_host(name) {
                        let set = self.draft.set_host(name, UNGROUPED, port, &Vars::new());
                        problems.extend(set.err().map(problem));
                    }
                }
            }
            SourceKind::GroupVars(_) | SourceKind::HostVars(_) => {}
        }
    }

    /// Remarks on hosts that have the name of a group since this source was read.
    fn remark_on_names(&mut self, source: &Source) {
        for name in self.draft.shared_names().filter(|name| !self.shared.contains(*name)).collect::<BTreeSet<_>>() {
            let line = source.text.lines().position(|line| line.contains(name)).map_or(1, |index| index + 1);
            let message = format!("'{name}' is a host and a group: what is set for the host is the group's");
            self.remarks.push(Problem { path: source.path.clone(), line, message });
        }
        self.shared = self.draft.shared_names().map(str::to_owned).collect();
    }

    /// A file is YAML where its name may be one's and it holds a mapping, and INI otherwise.
    fn read_file(&mut self, source: &Source, problems: &mut Vec<Problem>) {
        let Source { path, text, .. } = source;
        let problem = |line, message| Problem { path: path.clone(), line, message };
        let extension = Path::new(path).extension().map(|e| e.to_string_lossy().into_owned());
        let may_be_yaml = extension.as_deref().is_none_or(|e| matches!(e, "yml" | "yaml" | "json"));
        if extension.as_deref() == Some("toml") {
            let message =
                "inventories in TOML are not supported; 'ansible-inventory --list --yaml' turns one into YAML";
            return problems.push(problem(1, message.to_owned()));
        }
        let mut mistakes = Vec::new();
        if may_be_yaml || is_encrypted(text) {
            match yaml::read(text) {
                Ok(Some(node)) => match node.kind {
                    Kind::Mapping(groups) if !groups.is_empty() => {
                        let (draft, remarks) = (&mut self.draft, &mut self.remarks);
                        return Tree { path, draft, problems, remarks }.read(groups);
                    }
                    _ => {}
                },
                Ok(None) => {}
                Err(refused) => mistakes = refused,
            }
        }
        if is_encrypted(text) {
            return problems.extend(mistakes.into_iter().map(|(line, message)| problem(line, message)));
        }
        let mut draft = self.draft.clone();
        let found = ini::Reader::read(path, text, &mut draft);
        if found.is_empty() {
            self.draft = draft;
        } else if mistakes.is_empty() || !(extension.is_some() || looks_like_yaml(text)) {
            // What was read still counts, so that later files are not found wrong for it.
            self.draft = draft;
            problems.extend(found);
        } else {
            problems.extend(mistakes.into_iter().map(|(line, message)| problem(line, message)));
        }
    }

    fn inventory(self, beside: &[Layer], here: &Layer, variables: &Variables) -> Inventory {
        let draft = &self.draft;
        let is_sealed = self.paths.iter().any(|path| variables.vault.is_of(path));
        let name = |group: usize| draft.groups[group].name.as_str();
        let mut hosts = Vec::with_capacity(draft.hosts.len());
        for ((host, groups), file) in draft.hosts.iter().zip(draft.groups_of_hosts()).zip(&self.files) {
            let (mut vars, mut secret) = (Vars::new(), BTreeSet::new());
            let mut add = |layer: &Vars, is_secret: bool| {
                for (name, value) in layer {
                    vars.insert(name.clone(), value.clone());
                    if is_secret {
                        secret.insert(name.clone())
                    } else {
                        secret.remove(name)
                    };
                }
            };
            let folders = || beside.iter().chain([here]);
            add(&draft.groups[ALL].vars, is_sealed);
            groups.iter().for_each(|&g| add(&draft.groups[g].vars, is_sealed));
            folders().flat_map(|f| f.group(name(ALL))).for_each(|(vars, is)| add(vars, *is));
            for folder in folders() {
                groups.iter().flat_map(|&g| folder.group(name(g))).for_each(|(vars, is)| add(vars, *is));
            }
            add(&host.vars, is_sealed);
            folders().flat_map(|f| f.host(&host.name)).for_each(|(vars, is)| add(vars, *is));
            add(&variables.extra, variables.extra_is_secret);
            let mut names: Vec<String> = groups.iter().map(|&g| name(g).to_owned()).collect();
            names.sort();
            let (name, file, vault) = (host.name.clone(), file.clone(), variables.vault.clone());
            hosts.push(Host { name, groups: names, vars, file, secret, vault });
        }
        let name_of = |hosts: &[usize]| hosts.iter().map(|&h| draft.hosts[h].name.clone()).collect();
        let groups = draft.groups.iter().enumerate().map(|(index, group)| Group {
            name: group.name.clone(),
            hosts: name_of(&group.hosts),
            children: group.children.iter().map(|&c| draft.groups[c].name.clone()).collect(),
            members: draft.members(index),
        });
        Inventory { hosts, groups: groups.collect(), remarks: self.remarks.clone() }
    }
}

/// Reads sources of all kinds, the variables as if they lay beside one inventory.
pub(crate) fn build(sources: &[Source]) -> Result<Inventory, Vec<Problem>> {
    let (named, mut problems) = Named::read_all(sources);
    let layer = Layer::read(sources, &Vault::default(), &mut problems);
    if problems.is_empty() {
        return Ok(named.inventory(&[layer], &Layer::default(), &Variables::default()));
    }
    sort(&mut problems, sources);
    Err(problems)
}

fn sort(problems: &mut [Problem], sources: &[Source]) {
    let order: BTreeMap<&str, usize> = sources.iter().enumerate().map(|(i, s)| (s.path.as_str(), i)).collect();
    problems.sort_by_key(|p| (order.get(p.path.as_str()).copied(), p.line));
}

/// Whether the first line that says anything is one of YAML or JSON and not of INI.
fn looks_like_yaml(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with(['#', ';']));
    first
        .is_some_and(|l| l.starts_with("---") || l.starts_with(['{', '%']) || (l.ends_with(':') && !l.starts_with('[')))
}

/// The variables of one folder's files, by group and by host.
#[derive(Default)]
struct Layer {
    groups: BTreeMap<String, Vec<FileVars>>,
    hosts: BTreeMap<String, Vec<FileVars>>,
}

/// The variables of a file, and whether all of it was encrypted.
type FileVars = (Vars, bool);

impl Layer {
    fn read(sources: &[Source], vault: &Vault, problems: &mut Vec<Problem>) -> Self {
        let mut layer = Self::default();
        for source in sources {
            let file = match &source.kind {
                SourceKind::GroupVars(group) => layer.groups.entry(group.clone()).or_default(),
                SourceKind::HostVars(host) => layer.hosts.entry(host.clone()).or_default(),
                _ => continue,
            };
            match yaml::variables(&source.text) {
                Ok(vars) => file.push((vars, vault.is_of(&source.path))),
                Err(mistakes) => problems.extend(mistakes.into_iter().map(|(line, message)| Problem {
                    path: source.path.clone(),
                    line,
                    message,
                })),
            }
        }
        layer
    }

    fn group(&self, name: &str) -> &[FileVars] {
        self.groups.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn host(&self, name: &str) -> &[FileVars] {
        self.hosts.get(name).map(Vec::as_slice).unwrap_or_default()
    }
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
            source("host_vars/a", SourceKind::HostVars("a".to_owned()), "k: !vault [33]\n"),
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
        assert!(problems[expected.len() + 1].starts_with("host_vars/a:1: the tag '!vault'"), "{problems:?}");
        assert_eq!(problems.len(), expected.len() + 2);
    }

    #[test]
    fn an_empty_inventory_has_its_two_groups_and_no_host() {
        let inventory = build(&[]).unwrap();
        assert!(inventory.hosts().is_empty());
        assert_eq!(inventory.groups().iter().map(Group::name).collect::<Vec<_>>(), ["all", "ungrouped"]);
    }
}
