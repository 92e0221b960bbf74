//! What the host files of an inventory say, before variables are merged: hosts, groups, who is whose child.
//!
//! Must not know any file format. Names become indices, so that a tree of groups needs no shared ownership.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The group that every host and group is in.
pub(crate) const ALL: usize = 0;
/// The group of hosts that are in no other.
pub(crate) const UNGROUPED: usize = 1;

/// Hosts and groups in the order in which they were first named.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) hosts: Vec<DraftHost>,
    pub(crate) groups: Vec<DraftGroup>,
    host_index: BTreeMap<String, usize>,
    group_index: BTreeMap<String, usize>,
}

#[derive(Clone)]
pub(crate) struct DraftHost {
    pub(crate) name: String,
    pub(crate) vars: Map<String, Value>,
}

#[derive(Clone)]
pub(crate) struct DraftGroup {
    pub(crate) name: String,
    pub(crate) hosts: Vec<usize>,
    pub(crate) children: Vec<usize>,
    pub(crate) vars: Map<String, Value>,
    /// `ansible_group_priority`; among groups of one depth the higher wins.
    pub(crate) priority: i64,
}

impl Draft {
    pub(crate) fn new() -> Self {
        let mut draft =
            Self { hosts: vec![], groups: vec![], host_index: BTreeMap::new(), group_index: BTreeMap::new() };
        draft.add_group("all");
        draft.add_group("ungrouped");
        draft.groups[ALL].children.push(UNGROUPED);
        draft
    }

    /// The group of this name.
    pub(crate) fn group(&self, name: &str) -> Option<usize> {
        self.group_index.get(name).copied()
    }

    /// The group of this name, made if need be.
    pub(crate) fn add_group(&mut self, name: &str) -> usize {
        if let Some(&index) = self.group_index.get(name) {
            return index;
        }
        let group =
            DraftGroup { name: name.to_owned(), hosts: vec![], children: vec![], vars: Map::new(), priority: 1 };
        self.groups.push(group);
        self.group_index.insert(name.to_owned(), self.groups.len() - 1);
        self.groups.len() - 1
    }

    /// The host of this name, made if need be, as a member of a group; and whether it is new.
    pub(crate) fn add_host(&mut self, name: &str, group: usize) -> (usize, bool) {
        let known = self.host_index.get(name).copied();
        let index = known.unwrap_or(self.hosts.len());
        if known.is_none() {
            self.hosts.push(DraftHost { name: name.to_owned(), vars: Map::new() });
            self.host_index.insert(name.to_owned(), index);
        }
        if known.is_none() || !self.groups[group].hosts.contains(&index) {
            self.groups[group].hosts.push(index);
        }
        (index, known.is_none())
    }

    /// Makes a group the child of another; `false` where that would close a loop.
    pub(crate) fn add_child(&mut self, parent: usize, child: usize) -> bool {
        if child == ALL || self.below(child).contains(&parent) {
            return false;
        }
        if !self.groups[parent].children.contains(&child) {
            self.groups[parent].children.push(child);
        }
        true
    }

    /// As [`Self::add_child`]; says why not.
    pub(crate) fn adopt(&mut self, parent: usize, child: usize) -> Result<(), String> {
        if self.add_child(parent, child) {
            return Ok(());
        }
        let (parent, child) = (&self.groups[parent].name, &self.groups[child].name);
        Err(format!("group '{child}' cannot be a child of '{parent}', which is inside it"))
    }

    /// Sets a variable of a group; `ansible_group_priority` is the group's priority.
    pub(crate) fn set_group_var(&mut self, group: usize, name: String, value: Value) -> Result<(), String> {
        let group = &mut self.groups[group];
        if name == "ansible_group_priority" {
            let priority = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            group.priority = priority.ok_or("ansible_group_priority must be a whole number")?;
        } else {
            group.vars.insert(name, value);
        }
        Ok(())
    }

    /// Adds a host to a group and sets variables of it. The port behind a name that was listed before does not count, as
    /// in Ansible.
    pub(crate) fn set_host(
        &mut self,
        name: &str,
        group: usize,
        port: Option<u16>,
        vars: &Map<String, Value>,
    ) -> Result<(), String> {
        let (host, new) = self.add_host(name, group);
        if let Some(port) = port.filter(|_| new) {
            self.hosts[host].vars.insert("ansible_port".to_owned(), port.into());
        }
        self.set_host_vars(name, vars)
    }

    /// Whether there is a host of this name.
    pub(crate) fn has_host(&self, name: &str) -> bool {
        self.host_index.contains_key(name)
    }

    /// Sets variables of a host, if there is one of this name. Where a group has the same name they are the group's, as
    /// in Ansible.
    pub(crate) fn set_host_vars(&mut self, name: &str, vars: &Map<String, Value>) -> Result<(), String> {
        let mut vars = vars.iter().map(|(k, v)| (k.clone(), v.clone()));
        match (self.group(name), self.host_index.get(name)) {
            (Some(group), _) => vars.try_for_each(|(name, value)| self.set_group_var(group, name, value)),
            (None, Some(&host)) => {
                self.hosts[host].vars.extend(vars);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// The names that both a host and a group have.
    pub(crate) fn shared_names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|h| h.name.as_str()).filter(|name| self.group_index.contains_key(*name))
    }

    /// Adds what the files leave unsaid: `all` holds every group that is nobody's child, behind those that the files put
    /// there, and `ungrouped` holds exactly the hosts that are in no other group.
    pub(crate) fn finish(&mut self) {
        let mut has_parent = vec![false; self.groups.len()];
        let mut grouped = vec![false; self.hosts.len()];
        for (index, group) in self.groups.iter().enumerate() {
            group.children.iter().for_each(|&c| has_parent[c] = true);
            if index != ALL && index != UNGROUPED {
                group.hosts.iter().for_each(|&h| grouped[h] = true);
            }
        }
        let orphans = (UNGROUPED..self.groups.len()).filter(|&g| !has_parent[g]);
        self.groups[ALL].children.extend(orphans);
        let named = std::mem::take(&mut self.groups[UNGROUPED].hosts);
        let mut ungrouped: Vec<usize> = named.into_iter().filter(|&h| !grouped[h]).collect();
        let listed: BTreeSet<usize> = ungrouped.iter().copied().collect();
        ungrouped.extend((0..self.hosts.len()).filter(|h| !grouped[*h] && !listed.contains(h)));
        self.groups[UNGROUPED].hosts = ungrouped;
    }

    /// A group and all groups below it, nearest first.
    pub(crate) fn below(&self, group: usize) -> Vec<usize> {
        let mut seen = BTreeSet::from([group]);
        let mut order = vec![group];
        let mut next = 0;
        while let Some(&g) = order.get(next) {
            order.extend(self.groups[g].children.iter().filter(|&&c| seen.insert(c)));
            next += 1;
        }
        order
    }

    /// The hosts of a group and of all groups below it, each once.
    pub(crate) fn members(&self, group: usize) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let hosts = self.below(group).into_iter().flat_map(|g| self.groups[g].hosts.iter().copied());
        hosts.filter(|&h| seen.insert(h)).collect()
    }

    /// For every host the groups it is in, directly or through children, without `all`: the order in which their
    /// variables apply, so that later ones win (depth, then priority, then name).
    pub(crate) fn groups_of_hosts(&self) -> Vec<Vec<usize>> {
        let depths = self.depths();
        let mut of_hosts = vec![Vec::new(); self.hosts.len()];
        for group in UNGROUPED..self.groups.len() {
            self.members(group).into_iter().for_each(|h| of_hosts[h].push(group));
        }
        for groups in &mut of_hosts {
            groups.sort_by_key(|&g| (depths[g], self.groups[g].priority, &self.groups[g].name));
        }
        of_hosts
    }

    /// The longest way from `all` to each group.
    fn depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.groups.len()];
        let mut waiting = vec![0_usize; self.groups.len()];
        self.groups.iter().flat_map(|g| &g.children).for_each(|&c| waiting[c] += 1);
        let mut ready: Vec<usize> = (0..self.groups.len()).filter(|&g| waiting[g] == 0).collect();
        while let Some(group) = ready.pop() {
            for &child in &self.groups[group].children {
                depths[child] = depths[child].max(depths[group] + 1);
                waiting[child] -= 1;
                if waiting[child] == 0 {
                    ready.push(child);
                }
            }
        }
        depths
    }
}
