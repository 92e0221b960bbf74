//! Images of the whole cluster: which one a word means on a node, and the list that shows each image once.

use crate::{
    filters::{Filters, FiltersError},
    row::labels,
};
use serde_json::Value;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Docker's reserved word for a missing repository, tag or digest in old answers.
const NONE: &str = "<none>";

/// A word for an image: `[registry/]repository[:tag][@digest]`, or an id or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    word: &'a str,
    repository: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Reads a word; every word means something.
    pub fn parse(word: &'a str) -> Self {
        let (rest, digest) = word.split_once('@').map_or((word, None), |(r, d)| (r, Some(d)));
        // A colon before the last slash belongs to a registry's port.
        let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
        let (repository, tag) = colon.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
        Self { word, repository: familiar(repository), tag, digest }
    }

    /// The repository in its familiar form, without the default registry.
    pub fn repository(&self) -> &'a str {
        self.repository
    }

    /// Whether it says which image of the repository is meant.
    pub fn is_tagged(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    /// Whether this reference, with the tag `latest` where it has none, names the image of this list row.
    fn names(&self, row: &Value) -> bool {
        match self.digest {
            Some(digest) => strings(row, "RepoDigests")
                .map(Reference::parse)
                .any(|r| r.repository == self.repository && r.digest == Some(digest)),
            None => strings(row, "RepoTags")
                .map(Reference::parse)
                .any(|r| r.repository == self.repository && r.tag == Some(self.tag.unwrap_or("latest"))),
        }
    }

    /// Whether a container was made from this image, told by the container's own words for it.
    pub fn is_ancestor(&self, image: &str, image_id: &str) -> bool {
        let theirs = Reference::parse(image);
        let same_tag = self.tag.is_none() || self.tag == Some(theirs.tag.unwrap_or("latest"));
        let named = theirs.repository == self.repository && same_tag && self.digest == theirs.digest;
        named || is_id_prefix(self.word, image_id)
    }
}

/// A repository as users write it.
fn familiar(repository: &str) -> &str {
    let local = ["docker.io/", "index.docker.io/"].iter().find_map(|p| repository.strip_prefix(p));
    let short = local.unwrap_or(repository);
    short.strip_prefix("library/").unwrap_or(short)
}

/// Whether the word is an id or its beginning, with or without the algorithm.
fn is_id_prefix(word: &str, id: &str) -> bool {
    let digits = word.strip_prefix("sha256:").unwrap_or(word);
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex && id.strip_prefix("sha256:").unwrap_or(id).starts_with(digits)
}

fn strings<'a>(row: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    row[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The id of an image's list row.
pub fn id(row: &Value) -> &str {
    row["Id"].as_str().unwrap_or_default()
}

/// Finds the image that a word means among one node's list rows: a full id, a reference, or the beginning of an id.
pub fn find<'a, R: AsRef<Value>>(word: &str, rows: &'a [R]) -> Option<&'a Value> {
    let reference = Reference::parse(word);
    let rows = || rows.iter().map(AsRef::as_ref);
    rows().find(|row| id(row) == word || reference.names(row)).or_else(|| {
        let mut hits = rows().filter(|row| is_id_prefix(word, id(row)));
        let hit = hits.next()?;
        hits.all(|other| id(other) == id(hit)).then_some(hit)
    })
}

/// The filters that a list of images knows.
const KNOWN: [&str; 8] = ["before", "dangling", "label", "label!", "node", "reference", "since", "until"];

/// Lists the images of all nodes, each once, newest first. `images` are list rows with their node's name; `all` adds the
/// ones without a name.
pub fn list<'a>(
    images: impl Iterator<Item = (&'a str, &'a Value)> + Clone,
    all: bool,
    filters: Filters,
) -> Result<Vec<Value>, FiltersError> {
    let filters = filters.only(&KNOWN)?;
    let dangling = filters.boolean("dangling")?;
    let created = |key: &str| match filters.get(key).next() {
        None => Ok(None),
        Some(word) => {
            let rows: Vec<Wrapped<'_>> = images.clone().map(|(_, row)| Wrapped(row)).collect();
            let found = find(word, &rows).and_then(|row| row["Created"].as_i64());
            found.map(Some).ok_or_else(|| FiltersError::Value { key: key.to_owned(), value: word.to_owned() })
        }
    };
    let (before, since) = (created("before")?, created("since")?);
    let until = filters.get("until").next().map(|text| {
        text.parse::<i64>().map_err(|_| FiltersError::Value { key: "until".into(), value: text.to_owned() })
    });
    let until = until.transpose()?;
    let mut merged: BTreeMap<&str, Value> = BTreeMap::new();
    for (_, row) in images.filter(|(node, _)| filters.any("node", |n| n == *node)) {
        match merged.get_mut(id(row)) {
            Some(seen) => ["RepoTags", "RepoDigests"].iter().for_each(|key| unite(seen, row, key)),
            None => drop(merged.insert(id(row), row.clone())),
        }
    }
    let keep = |row: &Value| {
        let made = row["Created"].as_i64().unwrap_or_default();
        let labels = labels(row.get("Labels"));
        let named = is_named(row);
        dangling.map_or(all || named, |dangling| dangling != has_tag(row))
            && before.is_none_or(|t| made < t)
            && since.is_none_or(|t| made > t)
            && until.is_none_or(|t| made < t)
            && filters.labels("label", |name| labels.get(name).map(String::as_str))
            && filters.any("reference", |pattern| is_referenced(row, pattern))
    };
    let mut rows: Vec<Value> = merged.into_values().filter(keep).collect();
    rows.sort_by_key(|row| Reverse(row["Created"].as_i64()));
    Ok(rows)
}

struct Wrapped<'a>(&'a Value);

impl AsRef<Value> for Wrapped<'_> {
    fn as_ref(&self) -> &Value {
        self.0
    }
}

fn unite(seen: &mut Value, row: &Value, key: &str) {
    let all: BTreeSet<&str> = strings(seen, key).chain(strings(row, key)).collect();
    let all: Vec<Value> = all.into_iter().map(Value::from).collect();
    if let Some(object) = seen.as_object_mut() {
        object.insert(key.to_owned(), all.into());
    }
}

fn has_tag(row: &Value) -> bool {
    strings(row, "RepoTags").any(|t| !t.starts_with(NONE))
}

fn is_named(row: &Value) -> bool {
    has_tag(row) || strings(row, "RepoDigests").any(|d| !d.starts_with(NONE))
}

/// Whether a shell pattern fits one of the image's references, or a repository of it (Go's `path.Match`).
fn is_referenced(row: &Value, pattern: &str) -> bool {
    let Some(glob) = glob(familiar(pattern)) else { return false };
    let references = strings(row, "RepoTags").chain(strings(row, "RepoDigests"));
    references
        .map(|r| (familiar(r), Reference::parse(r).repository))
        .any(|(r, repo)| glob.is_match(r) || glob.is_match(repo))
}

fn glob(pattern: &str) -> Option<regex::Regex> {
    let mut regex = String::from("^");
    let mut chars = pattern.chars();
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
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    fn rows() -> Vec<Arc<Value>> {
        [
            json!({"Id": "sha256:aaaa11", "RepoTags": ["busybox:latest", "tool:1"], "Created": 1, "Labels": {"a": "1"}}),
            json!({"Id": "sha256:bbbb22", "RepoTags": ["reg:5000/team/app:2"], "Created": 2, "Labels": null,
                   "RepoDigests": ["reg:5000/team/app@sha256:dd"]}),
            json!({"Id": "sha256:cccc33", "RepoTags": ["aaaa:latest"], "Created": 3}),
            json!({"Id": "sha256:dddd44", "RepoTags": [], "RepoDigests": ["<none>@<none>"], "Created": 4}),
        ]
        .map(Arc::new)
        .into()
    }

    #[test]
    fn words_mean_what_they_mean_to_an_engine() {
        let rows = rows();
        for (word, expected) in [
            ("busybox", Some("sha256:aaaa11")),
            ("docker.io/library/busybox:latest", Some("sha256:aaaa11")),
            ("tool", None),
            ("tool:1", Some("sha256:aaaa11")),
            ("reg:5000/team/app:2", Some("sha256:bbbb22")),
            ("reg:5000/team/app", None),
            ("reg:5000/team/app@sha256:dd", Some("sha256:bbbb22")),
            ("aaaa", Some("sha256:cccc33")),
            ("aaaa1", Some("sha256:aaaa11")),
            ("sha256:bbbb", Some("sha256:bbbb22")),
            ("sha256:", None),
            ("aa", Some("sha256:aaaa11")),
            ("sha256:bbbb22", Some("sha256:bbbb22")),
            ("", None),
        ] {
            assert_eq!(find(word, &rows).map(id), expected, "{word}");
        }
    }

    #[test]
    fn ancestors_are_told_by_name_or_id() {
        for (word, yes) in [("nginx", true), ("nginx:1", true), ("nginx:2", false), ("ab", true), ("ba", false)] {
            assert_eq!(Reference::parse(word).is_ancestor("nginx:1", "sha256:abcd"), yes, "{word}");
        }
    }

    fn listed(all: bool, filters: &str) -> Result<Vec<String>, FiltersError> {
        let rows = rows();
        let other = json!({"Id": "sha256:aaaa11", "RepoTags": ["busybox:1.36"], "Created": 1, "Labels": {"a": "1"}});
        let images = rows.iter().map(|r| ("node-1", r.as_ref())).chain([("node-2", &other)]);
        let list = list(images, all, Filters::parse(Some(filters)).unwrap())?;
        Ok(list.iter().map(|row| format!("{}:{}", &id(row)[7..9], strings(row, "RepoTags").count())).collect())
    }

    #[test]
    fn images_are_listed_once_with_all_their_names() {
        for (all, filters, expected) in [
            (false, "", "cc:1 bb:1 aa:3"),
            (true, "", "dd:0 cc:1 bb:1 aa:3"),
            (false, r#"{"dangling":["true"]}"#, "dd:0"),
            (false, r#"{"dangling":["false"]}"#, "cc:1 bb:1 aa:3"),
            (false, r#"{"label":["a=1"]}"#, "aa:3"),
            (false, r#"{"node":["node-2"]}"#, "aa:1"),
            (false, r#"{"reference":["busy*"]}"#, "aa:3"),
            (false, r#"{"reference":["*:2"]}"#, ""),
            (false, r#"{"reference":["reg:5000/*/app:[0-9]"]}"#, "bb:1"),
            (false, r#"{"before":["aaaa:latest"]}"#, "bb:1 aa:3"),
            (false, r#"{"since":["tool:1"]}"#, "cc:1 bb:1"),
        ] {
            assert_eq!(listed(all, filters).unwrap().join(" "), expected, "{filters}");
        }
        for bad in [r#"{"dangling":["x"]}"#, r#"{"before":["nothing"]}"#, r#"{"bogus":["x"]}"#] {
            assert!(listed(false, bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_word_makes_it_panic(word in ".*") {
            let rows = rows();
            find(&word, &rows);
            is_referenced(&rows[0], &word);
        }
    }
}
