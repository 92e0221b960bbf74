//! The list of images: each image once for the whole cluster, filtered and shaped as one engine would.

use super::{
    reference::{Reference, familiar, find, id},
    strings,
};
use crate::{
    filters::{Filters, FiltersError},
    moment,
    row::labels,
    version::{ApiVersion, EMPTY_NAMES, NO_LEGACY_FILTER, NO_VIRTUAL_SIZE},
};
use serde_json::{Value, json};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// The filters that a list of images knows.
const KNOWN: [&str; 8] = ["before", "dangling", "label", "label!", "node", "reference", "since", "until"];

/// What a client wants to see.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Also images that only other images are made of.
    pub all: bool,
    /// The version in which the client is answered.
    pub version: ApiVersion,
    /// Old clients' way to filter by reference.
    pub legacy_filter: Option<String>,
    /// The filters.
    pub filters: Filters,
    /// The time of the request in nanoseconds since 1970.
    pub now: i128,
}

/// A list of images cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The filters cannot be applied.
    #[error(transparent)]
    Filters(#[from] FiltersError),
    /// `before` or `since` names an image that is not there.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// `reference` is no shell pattern.
    #[error("syntax error in pattern")]
    Pattern,
}

/// One image, and what it is called where the filters look.
struct Entry<'a> {
    row: Value,
    tags: BTreeSet<&'a str>,
    digests: BTreeSet<&'a str>,
    /// Whether a node has images that are made of it.
    is_parent: bool,
}

/// Lists the images of all nodes, each once, newest first. `images` are the nodes' own rows, those of intermediate
/// images among them, with their node's name.
pub fn list<'a>(
    images: impl Iterator<Item = (&'a str, &'a Value)> + Clone,
    options: ListOptions,
) -> Result<Vec<Value>, ListError> {
    let ListOptions { all, version, legacy_filter, filters, now } = options;
    let filters = filters.only(&KNOWN)?;
    let dangling = filters.boolean("dangling")?;
    let rows: Vec<Shared<'_>> = images.clone().map(|(_, row)| Shared(row)).collect();
    let created = |key: &str| match filters.get(key).next() {
        None => Ok(None),
        Some(word) => {
            let found = find(word, &rows).and_then(|row| row["Created"].as_i64());
            found.map(Some).ok_or_else(|| ListError::NoSuchImage(Reference::parse(word).familiar()))
        }
    };
    let (before, since) = (created("before")?, created("since")?);
    let until = filters.get("until").next().map(|text| {
        let bad = || FiltersError::Value { key: "until".into(), value: text.to_owned() };
        moment::parse(text, now).map(|nanos| nanos.div_euclid(1_000_000_000)).ok_or_else(bad)
    });
    let until = until.transpose()?.map(|t| i64::try_from(t).unwrap_or(i64::MAX));
    let legacy = legacy_filter.filter(|f| !f.is_empty() && version < NO_LEGACY_FILTER);
    let patterns = filters.get("reference").chain(legacy.as_deref()).map(|p| glob(p).ok_or(ListError::Pattern));
    let patterns: Vec<regex::Regex> = patterns.collect::<Result<_, _>>()?;

    let mut kept = Vec::new();
    for mut entry in merge(images.filter(|(node, _)| filters.any("node", |n| n == *node))).into_values() {
        if !patterns.is_empty() {
            // The other names of an image that fits are not shown.
            entry.tags.retain(|reference| is_referenced(reference, &patterns));
            entry.digests.retain(|reference| is_referenced(reference, &patterns));
        }
        let nameless = entry.tags.is_empty() && entry.digests.is_empty();
        let shown = match dangling {
            _ if nameless && !patterns.is_empty() => false,
            Some(true) => entry.tags.is_empty() && !entry.is_parent,
            Some(false) => !nameless,
            None => !nameless || all || !entry.is_parent,
        };
        let made = entry.row["Created"].as_i64().unwrap_or_default();
        let labels = labels(entry.row.get("Labels"));
        let keep = shown
            && before.is_none_or(|t| made < t)
            && since.is_none_or(|t| made > t)
            && until.is_none_or(|t| made < t)
            && filters.labels("label", |name| labels.get(name).map(String::as_str));
        if keep {
            kept.push(entry.shaped(version));
        }
    }
    kept.sort_by_key(|row| Reverse(row["Created"].as_i64()));
    Ok(kept)
}

fn merge<'a>(images: impl Iterator<Item = (&'a str, &'a Value)> + Clone) -> BTreeMap<&'a str, Entry<'a>> {
    let parents: BTreeSet<&str> = images.clone().filter_map(|(_, row)| row["ParentId"].as_str()).collect();
    let mut merged: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for (_, row) in images {
        let fresh = || Entry {
            row: row.clone(),
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
            is_parent: parents.contains(id(row)),
        };
        let entry = merged.entry(id(row)).or_insert_with(fresh);
        entry.tags.extend(strings(row, "RepoTags"));
        entry.digests.extend(strings(row, "RepoDigests"));
    }
    merged
}

impl Entry<'_> {
    /// The row as engines write it in this version.
    fn shaped(self, version: ApiVersion) -> Value {
        let Self { mut row, tags, digests, .. } = self;
        let nameless = tags.is_empty() && digests.is_empty() && version < EMPTY_NAMES;
        let (tags, digests) = match nameless {
            true => (json!(["<none>:<none>"]), json!(["<none>@<none>"])),
            false => (json!(tags), json!(digests)),
        };
        if let Some(object) = row.as_object_mut() {
            object.insert("RepoTags".to_owned(), tags);
            object.insert("RepoDigests".to_owned(), digests);
            if version >= NO_VIRTUAL_SIZE {
                object.shift_remove("VirtualSize");
            } else if let Some(size) = object.get("Size").cloned() {
                object.entry("VirtualSize").or_insert(size);
            }
        }
        row
    }
}

struct Shared<'a>(&'a Value);

impl AsRef<Value> for Shared<'_> {
    fn as_ref(&self) -> &Value {
        self.0
    }
}

/// Whether one of the shell patterns fits the reference or its repository.
fn is_referenced(reference: &str, patterns: &[regex::Regex]) -> bool {
    let (whole, repository) = (familiar(reference), Reference::parse(reference).repository());
    patterns.iter().any(|glob| glob.is_match(whole) || glob.is_match(repository))
}

/// A shell pattern as a regular expression (Go's `path.Match`); the default registry may be spelt out in it.
fn glob(pattern: &str) -> Option<regex::Regex> {
    let mut regex = String::from("^");
    let mut chars = familiar(pattern).chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' | ']' | '-' => regex.push(c),
            '\\' => regex.push_str(&regex::escape(&chars.next()?.to_string())),
            other => regex.push_str(&regex::escape(&other.to_string())),
        }
    }
    regex.push('$');
    regex::RegexBuilder::new(&regex).size_limit(1 << 20).build().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};
    use crate::version::MAX;
    use proptest::prelude::*;

    fn listed_as(version: ApiVersion, all: bool, legacy: &str, filters: &str) -> Result<Vec<Value>, ListError> {
        let rows = samples();
        let other = json!({"Id": "sha256:aaaa11", "RepoTags": ["busybox:1.36"], "Created": 1, "Labels": {"a": "1"}});
        let images = rows.iter().map(|r| ("node-1", r.as_ref())).chain([("node-2", &other)]);
        let filters = Filters::parse(Some(filters)).unwrap();
        let legacy_filter = Some(legacy.to_owned());
        list(images, ListOptions { all, version, legacy_filter, filters, now: 10_000_000_000 })
    }

    fn listed(all: bool, filters: &str) -> Result<String, ListError> {
        let rows = listed_as(MAX, all, "", filters)?;
        let rows: Vec<String> =
            rows.iter().map(|row| format!("{}:{}", &id(row)[7..9], strings(row, "RepoTags").count())).collect();
        Ok(rows.join(" "))
    }

    #[test]
    fn images_are_listed_once_with_all_their_names() {
        for (all, filters, expected) in [
            (false, "", "dd:0 cc:1 bb:1 aa:3"),
            (true, "", "dd:0 cc:1 bb:1 aa:3 ee:0"),
            (false, r#"{"dangling":["true"]}"#, "dd:0"),
            (false, r#"{"dangling":["false"]}"#, "cc:1 bb:1 aa:3"),
            (false, r#"{"label":["a=1"]}"#, "aa:3"),
            (false, r#"{"node":["node-2"]}"#, "aa:1"),
            (false, r#"{"reference":["busy*"]}"#, "aa:2"),
            (false, r#"{"reference":["docker.io/library/busybox"]}"#, "aa:2"),
            (false, r#"{"reference":["*:2"]}"#, ""),
            (false, r#"{"reference":["*:1", "aaaa"]}"#, "cc:1 aa:1"),
            (true, r#"{"reference":["reg:5000/*/app:[0-9]"]}"#, "bb:1"),
            (false, r#"{"before":["aaaa:latest"]}"#, "bb:1 aa:3"),
            (false, r#"{"since":["tool:1"]}"#, "dd:0 cc:1 bb:1"),
            (false, r#"{"until":["2"]}"#, "aa:3"),
            (false, r#"{"until":["7s"]}"#, "bb:1 aa:3"),
        ] {
            assert_eq!(listed(all, filters).unwrap(), expected, "{filters}");
        }
    }

    #[test]
    fn refusals_are_worded_as_engines_do() {
        for (bad, message) in [
            (r#"{"dangling":["x"]}"#, "invalid filter 'dangling=x'"),
            (r#"{"before":["nothing"]}"#, "No such image: nothing:latest"),
            (r#"{"bogus":["x"]}"#, "invalid filter 'bogus'"),
            (r#"{"until":["x"]}"#, "invalid filter 'until=x'"),
            (r#"{"reference":["["]}"#, "syntax error in pattern"),
        ] {
            assert_eq!(listed(false, bad).unwrap_err().to_string(), message, "{bad}");
        }
    }

    #[test]
    fn rows_have_the_shape_of_the_clients_version() {
        let of = |version: &str| listed_as(version.parse().unwrap(), false, "", "").unwrap();
        let (old, new) = (of("1.41"), of("1.44"));
        assert_eq!((&old[0]["RepoTags"], &new[0]["RepoTags"]), (&json!(["<none>:<none>"]), &json!([])));
        assert_eq!((&old[3]["VirtualSize"], new[3].get("VirtualSize")), (&json!(7), None));
        let legacy = |version: &str| listed_as(version.parse().unwrap(), false, "busybox", "").unwrap().len();
        assert_eq!((legacy("1.24"), legacy("1.41")), (1, 4));
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in ".*") {
            if let Some(glob) = glob(&pattern) {
                is_referenced("reg:5000/a/b:1", &[glob]);
            }
        }
    }
}
