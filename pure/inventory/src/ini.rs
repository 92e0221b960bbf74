//! Ansible's INI dialect: sections of hosts, `[group:children]` and `[group:vars]`, read into a draft.
//!
//! Must not know variable files or precedence. One line is one statement; a line that is wrong becomes a problem and
//! reading goes on, so that every mistake of a file is found at once. Format: Ansible's `ini` inventory plugin.

use crate::{
    Problem,
    draft::{ALL, Draft, UNGROUPED},
    literal, range, words,
};
use std::collections::BTreeSet;

/// Reads host files one after the other into one draft.
pub(crate) struct Reader {
    draft: Draft,
    problems: Vec<Problem>,
    /// Groups that have a section of hosts or children.
    declared: BTreeSet<usize>,
    /// Children named before their own section; they join when it comes.
    children: Vec<(Place, String, usize)>,
    /// Sections of variables before any other section of their group.
    vars: Vec<(Place, usize)>,
}

#[derive(Clone)]
struct Place {
    path: String,
    line: usize,
}

#[derive(Clone, Copy)]
enum Section {
    Hosts(usize),
    Children(usize),
    Vars(usize),
    /// Its header was wrong: what follows would only be found wrong again.
    Skipped,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let declared = BTreeSet::from([ALL, UNGROUPED]);
        Self { draft: Draft::new(), problems: vec![], declared, children: vec![], vars: vec![] }
    }

    /// Reads one file.
    pub(crate) fn read(&mut self, path: &str, text: &str) {
        let mut section = Section::Hosts(UNGROUPED);
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let place = Place { path: path.to_owned(), line: index + 1 };
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let result = match header(line) {
                Some((group, kind)) => self.open(&place, group, kind),
                None if line.starts_with('[') && line.ends_with(']') => Err(format!(
                    "'{line}' is not a section ([group], [group:children] or [group:vars], without blanks)"
                )),
                None => self.statement(&place, line, section).map(|()| section),
            };
            match result {
                Ok(next) => section = next,
                Err(message) => {
                    if header(line).is_some() || line.ends_with(']') {
                        section = Section::Skipped;
                    }
                    self.problem(place, message);
                }
            }
        }
    }

    /// The draft, and all that is wrong with it.
    pub(crate) fn finish(mut self) -> (Draft, Vec<Problem>) {
        for (place, child, parent) in std::mem::take(&mut self.children) {
            let parent = &self.draft.groups[parent].name;
            let message = format!("[{parent}:children] names group '{child}', which has no section of its own");
            self.problem(place, message);
        }
        for (place, group) in std::mem::take(&mut self.vars) {
            if !self.declared.contains(&group) {
                let group = &self.draft.groups[group].name;
                let message =
                    format!("[{group}:vars] sets variables of group '{group}', which has no hosts or children");
                self.problem(place, message);
            }
        }
        self.draft.finish();
        (self.draft, self.problems)
    }

    fn problem(&mut self, place: Place, message: String) {
        self.problems.push(Problem { path: place.path, line: place.line, message });
    }

    fn open(&mut self, place: &Place, group: &str, kind: Option<&str>) -> Result<Section, String> {
        match kind {
            None | Some("hosts") => Ok(Section::Hosts(self.declare(group))),
            Some("children") => Ok(Section::Children(self.declare(group))),
            Some("vars") => {
                let group = self.draft.add_group(group);
                self.vars.push((place.clone(), group));
                Ok(Section::Vars(group))
            }
            Some(kind) => {
                Err(format!("section '[{group}:{kind}]' is none of [{group}], [{group}:children], [{group}:vars]"))
            }
        }
    }

    fn declare(&mut self, name: &str) -> usize {
        let group = self.draft.add_group(name);
        if self.declared.insert(group) {
            let (now, later) = std::mem::take(&mut self.children).into_iter().partition(|(_, n, _)| n == name);
            self.children = later;
            for (place, _, parent) in now {
                if let Err(message) = self.adopt(parent, group) {
                    self.problem(place, message);
                }
            }
        }
        group
    }

    fn adopt(&mut self, parent: usize, child: usize) -> Result<(), String> {
        if self.draft.add_child(parent, child) {
            return Ok(());
        }
        let (parent, child) = (&self.draft.groups[parent].name, &self.draft.groups[child].name);
        Err(format!("group '{child}' cannot be a child of '{parent}', which is inside it"))
    }

    fn statement(&mut self, place: &Place, line: &str, section: Section) -> Result<(), String> {
        match section {
            Section::Skipped => Ok(()),
            Section::Hosts(group) => self.host(line, group),
            Section::Vars(group) => self.group_variable(line, group),
            Section::Children(parent) => {
                let name = line.split('#').next().unwrap_or_default().trim_end();
                if name.is_empty() || name.contains(|c: char| c.is_whitespace() || matches!(c, ':' | ']')) {
                    return Err(format!("'{line}' is not the name of a group"));
                }
                match self.draft.group(name).filter(|g| self.declared.contains(g)) {
                    Some(child) => self.adopt(parent, child),
                    None => {
                        self.children.push((place.clone(), name.to_owned(), parent));
                        Ok(())
                    }
                }
            }
        }
    }

    fn host(&mut self, line: &str, group: usize) -> Result<(), String> {
        let words = words::split_words_and_comment(line).map_err(|e| e.to_string())?;
        let Some((first, assignments)) = words.split_first() else { return Ok(()) };
        let (names, port) = range::expand(first).map_err(|reason| format!("cannot read host '{first}': {reason}"))?;
        let vars = assignments.iter().map(|word| assignment(word).map(|(name, text)| (name, literal::value(text))));
        let vars = vars.collect::<Result<Vec<_>, _>>()?;
        for name in names {
            let (host, new) = self.draft.add_host(&name, group);
            let known = &mut self.draft.hosts[host].vars;
            // A port behind a name that was listed before does not count, as in Ansible.
            if let Some(port) = port.filter(|_| new) {
                known.insert("ansible_port".to_owned(), port.into());
            }
            known.extend(vars.iter().cloned());
        }
        Ok(())
    }

    fn group_variable(&mut self, line: &str, group: usize) -> Result<(), String> {
        let (name, text) = assignment(line)?;
        let value = literal::value(text.trim());
        let group = &mut self.draft.groups[group];
        if name == "ansible_group_priority" {
            let priority = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            group.priority = priority.ok_or("ansible_group_priority must be a whole number")?;
        } else {
            group.vars.insert(name, value);
        }
        Ok(())
    }
}

/// The parts of `[group]` or `[group:kind]`, where the line is one; a comment may follow.
fn header(line: &str) -> Option<(&str, Option<&str>)> {
    let (inside, rest) = line.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim_start();
    let (group, kind) = inside.split_once(':').map_or((inside, None), |(g, k)| (g, Some(k)));
    let word = kind.is_none_or(|k| !k.is_empty() && k.chars().all(|c| c.is_alphanumeric() || c == '_'));
    let named = !group.is_empty() && !group.contains(char::is_whitespace);
    (word && named && (rest.is_empty() || rest.starts_with('#'))).then_some((group, kind))
}

fn assignment(text: &str) -> Result<(String, &str), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not a variable (name=value)"))?;
    let name = name.trim();
    if name.is_empty() { Err(format!("'{text}' has no name before '='")) } else { Ok((name.to_owned(), value)) }
}
