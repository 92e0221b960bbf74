//! What executable inventories print: JSON with one member by each group, and `_meta.hostvars`.
//!
//! Must not start anything. Format: Ansible's `script` inventory plugin ("Developing dynamic inventory"). A group is a
//! mapping with `hosts` (a list), `vars` and `children` (a list), or a list of hosts, or else the variables of a host that
//! is named like the group, in which Ansible takes no text for a template.

use crate::{draft::Draft, yaml};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The hosts whose variables an executable inventory must be asked for (`--host NAME`), since what it printed for
/// `--list` does not have them; none where it has `_meta`.
///
/// Fails where that is not a JSON object of groups; the message says why.
pub fn hosts_to_ask(list: &str) -> Result<Vec<String>, String> {
    let groups = groups(list)?;
    if groups.contains_key("_meta") {
        return Ok(Vec::new());
    }
    let mut draft = Draft::new();
    read(list, &BTreeMap::new(), &mut draft)?;
    Ok(draft.hosts.into_iter().map(|h| h.name).collect())
}

fn groups(list: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(list) {
        Ok(Value::Object(groups)) => Ok(groups),
        Ok(_) => Err("what it printed is not a JSON object of groups".to_owned()),
        Err(e) => Err(format!("what it printed is not JSON: {e}")),
    }
}

/// Reads what was printed into a draft; `asked` has what `--host NAME` printed, by the host's name.
pub(crate) fn read(list: &str, asked: &BTreeMap<String, String>, draft: &mut Draft) -> Result<(), String> {
    let groups = groups(list)?;
    let mut named = Vec::new();
    for (group, data) in &groups {
        if group != "_meta" {
            read_group(group, data, draft, &mut named)?;
        }
    }
    let meta = match groups.get("_meta") {
        None => None,
        Some(meta) => match meta.get("hostvars") {
            Some(Value::Object(hosts)) => Some(hosts),
            _ => return Err("'_meta' has no mapping 'hostvars'".to_owned()),
        },
    };
    for name in named {
        let vars = match (meta, asked.get(&name)) {
            (Some(meta), _) => meta.get(&name).cloned(),
            (None, Some(text)) if !text.trim().is_empty() => Some(
                serde_json::from_str(text)
                    .map_err(|e| format!("what it printed for host '{name}' is not JSON: {e}"))?,
            ),
            (None, _) => None,
        };
        let vars = match vars {
            None => continue,
            Some(Value::Object(vars)) => vars,
            Some(_) => return Err(format!("the variables of host '{name}' are not an object")),
        };
        draft.set_host_vars(&name, &vars)?;
    }
    Ok(())
}

fn read_group(group: &str, data: &Value, draft: &mut Draft, named: &mut Vec<String>) -> Result<(), String> {
    if group.is_empty() {
        return Err("a group has no name".to_owned());
    }
    let index = draft.add_group(group);
    let members = match data {
        Value::Object(map) if ["hosts", "vars", "children"].iter().any(|k| map.contains_key(*k)) => map.clone(),
        Value::Object(_) => Map::from_iter([
            ("hosts".to_owned(), Value::from(vec![group])),
            ("vars".to_owned(), yaml::distrusted(data.clone())),
        ]),
        data => Map::from_iter([("hosts".to_owned(), data.clone())]),
    };
    let names = |member: &str| match members.get(member) {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => names
            .iter()
            .map(|n| n.as_str().filter(|n| !n.is_empty()).map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| format!("'{member}' of group '{group}' holds something that is no name")),
        Some(_) => Err(format!("'{member}' of group '{group}' is not a list")),
    };
    for name in names("hosts")? {
        draft.add_host(&name, index);
        named.push(name);
    }
    match members.get("vars") {
        None => {}
        Some(Value::Object(vars)) => {
            for (name, value) in vars {
                draft.set_group_var(index, name.clone(), value.clone())?;
            }
        }
        Some(_) => return Err(format!("'vars' of group '{group}' is not an object")),
    }
    for name in names("children")? {
        let child = draft.add_group(&name);
        draft.adopt(index, child)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_asked_for_only_without_meta() {
        assert_eq!(hosts_to_ask(r#"{"web": ["a", "b"], "c": {"x": 1}}"#), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(hosts_to_ask(r#"{"web": ["a"], "_meta": {"hostvars": {}}}"#), Ok(vec![]));
    }

    #[test]
    fn what_is_no_inventory_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "not JSON"),
            ("[]", "object of groups"),
            (r#"{"web": {"hosts": "a"}}"#, "'hosts' of group 'web' is not a list"),
            (r#"{"web": {"hosts": [1]}}"#, "no name"),
            (r#"{"web": {"vars": 1}}"#, "'vars' of group 'web'"),
            (r#"{"web": {"children": ["web"]}}"#, "cannot be a child"),
            (r#"{"": []}"#, "no name"),
            (r#"{"_meta": {}}"#, "hostvars"),
            (r#"{"web": ["a"], "_meta": {"hostvars": {"a": 1}}}"#, "not an object"),
            (r#"{"web": {"vars": {"ansible_group_priority": "high"}}}"#, "whole number"),
        ] {
            let error = read(text, &BTreeMap::new(), &mut Draft::new()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let asked = BTreeMap::from([("a".to_owned(), "x".to_owned())]);
        assert!(read(r#"{"web": ["a"]}"#, &asked, &mut Draft::new()).unwrap_err().contains("for host 'a'"));
    }
}
