//! Ansible's INI dialect: sections of hosts, `[group:children]` and `[group:vars]`, read into a draft.
//!
//! Must not know variable files or precedence. One line is one statement; a line that is wrong becomes a problem and
//! reading goes on, so that every mistake of a file is found at once. Format: Ansible's `ini` inventory plugin.

use crate::{
    Problem,
    draft::{Draft, UNGROUPED},
    literal, range, words,
};
use serde_json::Map;

/// Reads one file of hosts into a draft that may have hosts and groups of other files.
pub(crate) struct Reader<'a> {
    path: &'a str,
    draft: &'a mut Draft,
    problems: Vec<Problem>,
    /// Children named before their own section, by line and parent; they join when it comes.
    children: Vec<(usize, String, usize)>,
    /// Sections of variables before any other section of their group, by line.
    vars: Vec<(usize, usize)>,
}

#[derive(Clone, Copy)]
enum Section {
    Hosts(usize),
    Children(usize),
    Vars(usize),
    /// Its header was wrong: what follows would only be found wrong again.
    Skipped,
}

impl<'a> Reader<'a> {
    /// Reads a text; the problems are all that is wrong with it.
    pub(crate) fn read(path: &'a str, text: &str, draft: &'a mut Draft) -> Vec<Problem> {
        let mut reader = Self { path, draft, problems: vec![], children: vec![], vars: vec![] };
        reader.lines(text);
        for (line, child, parent) in std::mem::take(&mut reader.children) {
            let parent = &reader.draft.groups[parent].name;
            let message = format!("[{parent}:children] names group '{child}', which has no section of its own");
            reader.problem(line, message);
        }
        for (line, group) in std::mem::take(&mut reader.vars) {
            let group = &reader.draft.groups[group].name;
            let message = format!("[{group}:vars] sets variables of group '{group}', which has no hosts or children");
            reader.problem(line, message);
        }
        reader.problems
    }

    fn lines(&mut self, text: &str) {
        let mut section = Section::Hosts(UNGROUPED);
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let result = match header(line) {
                Some((group, kind)) => self.open(number, group, kind),
                None if line.starts_with('[') && line.ends_with(']') => Err(format!(
                    "'{line}' is not a section ([group], [group:children] or [group:vars], without blanks)"
                )),
                None => self.statement(number, line, section).map(|()| section),
            };
            match result {
                Ok(next) => section = next,
                Err(message) => {
                    if header(line).is_some() || line.ends_with(']') {
                        section = Section::Skipped;
                    }
                    self.problem(number, message);
                }
            }
        }
    }

    fn problem(&mut self, line: usize, message: String) {
        self.problems.push(Problem { path: self.path.to_owned(), line, message });
    }

    fn open(&mut self, line: usize, group: &str, kind: Option<&str>) -> Result<Section, String> {
        match kind {
            None | Some("hosts") => Ok(Section::Hosts(self.declare(group))),
            Some("children") => Ok(Section::Children(self.declare(group))),
            Some("vars") => {
                let known = self.draft.group(group);
                let index = self.draft.add_group(group);
                if known.is_none() {
                    self.vars.push((line, index));
                }
                Ok(Section::Vars(index))
            }
            Some(kind) => {
                Err(format!("section '[{group}:{kind}]' is none of [{group}], [{group}:children], [{group}:vars]"))
            }
        }
    }

    /// The group of a section of hosts or children; who named it as a child before gets it now.
    fn declare(&mut self, name: &str) -> usize {
        let group = self.draft.add_group(name);
        self.vars.retain(|(_, g)| *g != group);
        let (now, later) = std::mem::take(&mut self.children).into_iter().partition(|(_, n, _)| n == name);
        self.children = later;
        for (line, _, parent) in now {
            if let Err(message) = self.draft.adopt(parent, group) {
                self.problem(line, message);
            }
        }
        group
    }

    fn statement(&mut self, number: usize, line: &str, section: Section) -> Result<(), String> {
        match section {
            Section::Skipped => Ok(()),
            Section::Hosts(group) => self.host(line, group),
            Section::Vars(group) => {
                let (name, text) = assignment(line)?;
                self.draft.set_group_var(group, name, literal::value(text.trim()))
            }
            Section::Children(parent) => {
                let name = line.split('#').next().unwrap_or_default().trim_end();
                if name.is_empty() || name.contains(|c: char| c.is_whitespace() || matches!(c, ':' | ']')) {
                    return Err(format!("'{line}' is not the name of a group"));
                }
                match self.draft.group(name) {
                    Some(child) => self.draft.adopt(parent, child),
                    None => {
                        self.children.push((number, name.to_owned(), parent));
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
        let vars = vars.collect::<Result<Map<_, _>, _>>()?;
        names.iter().try_for_each(|name| self.draft.set_host(name, group, port, &vars))
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
