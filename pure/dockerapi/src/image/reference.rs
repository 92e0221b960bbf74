//! What a word for an image means: `[registry/]repository[:tag][@digest]`, an id, or the beginning of one.

use super::strings;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A word for an image, taken apart as engines do.
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

    /// The reference as engines write it in their messages: familiar, and with the tag that it stands for.
    pub fn familiar(&self) -> String {
        match (self.tag, self.digest) {
            (tag, Some(digest)) => {
                let tag = tag.map(|t| format!(":{t}")).unwrap_or_default();
                format!("{}{tag}@{digest}", self.repository)
            }
            (tag, None) => format!("{}:{}", self.repository, tag.unwrap_or("latest")),
        }
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

/// A repository as users write it. Only official images of the default registry lose their `library/`.
pub(super) fn familiar(repository: &str) -> &str {
    let local = ["docker.io/", "index.docker.io/"].iter().find_map(|p| repository.strip_prefix(p));
    let short = local.unwrap_or(repository);
    short.strip_prefix("library/").filter(|name| !name.contains('/')).unwrap_or(short)
}

/// Whether the word is an id or its beginning, with or without the algorithm.
pub(super) fn is_id_prefix(word: &str, id: &str) -> bool {
    let digits = word.strip_prefix("sha256:").unwrap_or(word);
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex && id.strip_prefix("sha256:").unwrap_or(id).starts_with(digits)
}

/// The id of an image's list row.
pub fn id(row: &Value) -> &str {
    row["Id"].as_str().unwrap_or_default()
}

/// The name that a request gives an image with its parameters `repo` and `tag`, either of which may hold the tag.
pub fn target(repository: &str, tag: &str) -> String {
    let reference = Reference::parse(repository);
    if tag.is_empty() || reference.is_tagged() {
        return reference.familiar();
    }
    format!("{}:{tag}", reference.repository)
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

/// Finds the images that a word means among many nodes' list rows, for each node. A name or a full id anywhere counts for
/// more than the beginning of an id elsewhere, and a beginning that several ids share means nothing, as on one engine.
pub fn find_on<'a, R: AsRef<Value>>(word: &str, nodes: &[&'a [R]]) -> Vec<Option<&'a Value>> {
    let reference = Reference::parse(word);
    let exactly = |rows: &&'a [R]| {
        let mut rows = rows.iter().map(AsRef::as_ref);
        rows.find(|row| id(row) == word || reference.names(row))
    };
    let exact: Vec<Option<&Value>> = nodes.iter().map(exactly).collect();
    if exact.iter().any(Option::is_some) {
        return exact;
    }
    let found: Vec<Option<&Value>> = nodes.iter().map(|rows| find(word, rows)).collect();
    let all: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|rows| rows.iter())
        .map(|row| id(row.as_ref()))
        .filter(|id| is_id_prefix(word, id))
        .collect();
    if all.len() > 1 { vec![None; nodes.len()] } else { found }
}

/// The ids of one node's images by their tags.
fn tagged<R: AsRef<Value>>(rows: &[R]) -> BTreeMap<&str, &str> {
    let rows = rows.iter().map(AsRef::as_ref);
    rows.flat_map(|row| strings(row, "RepoTags").map(move |tag| (tag, id(row)))).collect()
}

/// The tags that one node's images got between two lists of them, with the ids of the images they name now.
pub fn retagged<R: AsRef<Value>>(before: &[R], after: &[R]) -> BTreeMap<String, String> {
    let before = tagged(before);
    let new = tagged(after).into_iter().filter(|(tag, id)| before.get(tag) != Some(id));
    new.map(|(tag, id)| (tag.to_owned(), id.to_owned())).collect()
}

/// Those of these tags that name other images on a node with this list.
pub fn outdated<R: AsRef<Value>>(given: &BTreeMap<String, String>, rows: &[R]) -> Vec<String> {
    let old = tagged(rows).into_iter().filter(|(tag, id)| given.get(*tag).is_some_and(|new| new != id));
    old.map(|(tag, _)| tag.to_owned()).collect()
}

/// Whether the image of this list row was pulled from a registry or pushed to one, so that other nodes can pull it.
pub fn is_from_registry(row: &Value) -> bool {
    strings(row, "RepoDigests").next().is_some()
}

/// The tags that one node's images have in this repository.
pub fn tags_of<R: AsRef<Value>>(repository: &str, rows: &[R]) -> BTreeSet<String> {
    let wanted = familiar(repository);
    let references = rows.iter().flat_map(|row| strings(row.as_ref(), "RepoTags")).map(Reference::parse);
    references.filter(|r| r.repository == wanted).filter_map(|r| Some(r.tag?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn words_mean_what_they_mean_to_an_engine() {
        let rows = samples();
        for (word, expected) in [
            ("busybox", Some("sha256:aaaa11")),
            ("docker.io/library/busybox:latest", Some("sha256:aaaa11")),
            ("index.docker.io/busybox", Some("sha256:aaaa11")),
            ("library/busybox", Some("sha256:aaaa11")),
            ("reg:5000/library/busybox", None),
            ("tool", None),
            ("tool:1", Some("sha256:aaaa11")),
            ("reg:5000/team/app:2", Some("sha256:bbbb22")),
            ("reg:5000/team/app", None),
            ("reg:5000/team/app@sha256:dd", Some("sha256:bbbb22")),
            ("reg:5000/team/app:9@sha256:dd", Some("sha256:bbbb22")),
            ("aaaa", Some("sha256:cccc33")),
            ("aaaa1", Some("sha256:aaaa11")),
            ("sha256:bbbb", Some("sha256:bbbb22")),
            ("sha256:", None),
            ("aa", Some("sha256:aaaa11")),
            ("sha256:bbbb22", Some("sha256:bbbb22")),
            ("<none>:<none>", None),
            ("", None),
        ] {
            assert_eq!(find(word, &rows).map(id), expected, "{word}");
        }
    }

    #[test]
    fn ambiguous_beginnings_of_ids_mean_nothing() {
        let rows = [json!({"Id": "sha256:ab1"}), json!({"Id": "sha256:ab2"})].map(std::sync::Arc::new);
        assert_eq!(find("ab", &rows), None);
        assert_eq!(find("ab2", &rows).map(id), Some("sha256:ab2"));
    }

    #[test]
    fn a_word_means_one_thing_on_all_nodes() {
        let rows = |rows: Vec<Value>| rows.into_iter().map(std::sync::Arc::new).collect::<Vec<_>>();
        let first = rows(vec![json!({"Id": "sha256:ab1", "RepoTags": ["cd:latest", "a:1"]})]);
        let second = rows(vec![json!({"Id": "sha256:ab2", "RepoTags": ["a:1"]}), json!({"Id": "sha256:cd1"})]);
        let found = |word: &str| {
            let found = find_on(word, &[first.as_slice(), second.as_slice()]);
            found.into_iter().map(|row| row.map_or("-", |row| &id(row)[7..])).collect::<Vec<_>>().join(" ")
        };
        for (word, expected) in [
            ("a:1", "ab1 ab2"),
            ("ab1", "ab1 -"),
            ("sha256:ab2", "- ab2"),
            ("ab", "- -"),
            ("cd", "ab1 -"),
            ("cd1", "- cd1"),
            ("x", "- -"),
        ] {
            assert_eq!(found(word), expected, "{word}");
        }
    }

    #[test]
    fn ancestors_are_told_by_name_or_id() {
        for (word, yes) in [("nginx", true), ("nginx:1", true), ("nginx:2", false), ("ab", true), ("ba", false)] {
            assert_eq!(Reference::parse(word).is_ancestor("nginx:1", "sha256:abcd"), yes, "{word}");
        }
    }

    #[test]
    fn messages_show_the_familiar_form() {
        for (word, shown) in [
            ("docker.io/library/busybox", "busybox:latest"),
            ("reg:5000/a", "reg:5000/a:latest"),
            ("library/a/b:1", "library/a/b:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(Reference::parse(word).familiar(), shown);
        }
    }

    #[test]
    fn targets_are_whole_names() {
        for (repository, tag, name) in
            [("a", "", "a:latest"), ("a:1", "", "a:1"), ("docker.io/library/a", "2", "a:2"), ("r:5/a", "2", "r:5/a:2")]
        {
            assert_eq!(target(repository, tag), name);
        }
    }

    #[test]
    fn tags_belong_to_one_repository() {
        let rows = samples();
        assert_eq!(tags_of("docker.io/library/busybox", &rows).into_iter().collect::<Vec<_>>(), ["latest"]);
        assert!(tags_of("reg:5000/team", &rows).is_empty());
    }

    #[test]
    fn a_name_that_moved_is_outdated_where_it_did_not() {
        let image = |id: &str, tags: &[&str]| json!({"Id": id, "RepoTags": tags});
        let list = |rows: Vec<Value>| rows.into_iter().map(std::sync::Arc::new).collect::<Vec<_>>();
        let before = list(vec![image("1", &["a:1", "b:1"]), image("2", &["c:1"])]);
        let after = list(vec![image("1", &["b:1"]), image("3", &["a:1", "d:1"])]);
        let given = retagged(&before, &after);
        assert_eq!(given, [("a:1".into(), "3".into()), ("d:1".into(), "3".into())].into());
        assert_eq!(outdated(&given, &before), ["a:1"]);
        assert!(outdated(&given, &after).is_empty() && retagged(&after, &after).is_empty());
    }

    proptest! {
        #[test]
        fn no_word_makes_it_panic(word in ".*") {
            find(&word, &samples());
            let reference = Reference::parse(&word);
            reference.is_ancestor(&word, &word);
            tags_of(&word, &samples());
        }

        #[test]
        fn a_reference_is_taken_apart_where_it_was_put_together(
            registry in prop::option::of("[a-z]{1,5}(\\.[a-z]{2,3})?:[1-9][0-9]{1,4}"),
            path in "[a-z0-9]{1,6}(/[a-z0-9]{1,6}){0,2}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}"),
            digest in prop::option::of("[0-9a-f]{64}"),
        ) {
            let repository = registry.map_or(path.clone(), |r| format!("{r}/{path}"));
            let tagged = tag.as_ref().map_or(repository.clone(), |t| format!("{repository}:{t}"));
            let digest = digest.map(|d| format!("sha256:{d}"));
            let word = digest.as_ref().map_or(tagged.clone(), |d| format!("{tagged}@{d}"));
            let read = Reference::parse(&word);
            prop_assert_eq!(read.repository(), familiar(&repository));
            prop_assert_eq!(read.tag, tag.as_deref());
            prop_assert_eq!(read.digest, digest.as_deref());
            let row = json!({"Id": "sha256:1", "RepoTags": [format!("{repository}:{}", tag.as_deref().unwrap_or("latest"))],
                             "RepoDigests": digest.map(|d| format!("{repository}@{d}")).into_iter().collect::<Vec<_>>()});
            prop_assert!(read.names(&row));
            // The same word means the same however it is spelt.
            let spelt = format!("docker.io/{word}");
            let default = Reference::parse(&spelt);
            prop_assert_eq!(default.repository(), familiar(&repository));
        }
    }
}
