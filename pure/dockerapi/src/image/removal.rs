//! Whether an engine would refuse to remove an image, told beforehand, so that the nodes that would are asked first and a
//! refusal leaves the image everywhere. What is told wrongly costs no more than that order: engines decide.

use super::{
    reference::{Reference, id, is_id_prefix},
    strings,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a node's containers make of one of its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// A container that runs is made of it.
    pub running: bool,
    /// A container that does not run is made of it.
    pub stopped: bool,
    /// Another image is made of it.
    pub parent: bool,
}

/// Whether the engine would refuse to remove the image of this list row by this word.
pub fn is_refused(word: &str, row: &Value, used: Use, force: bool) -> bool {
    let names: BTreeSet<&str> = strings(row, "RepoTags").collect();
    if !is_id_prefix(word, id(row)) {
        // Losing one of several names harms nobody; force takes the last one and leaves the image.
        return !force && names.len() <= 1 && (used.running || used.stopped);
    }
    let repositories = strings(row, "RepoTags").chain(strings(row, "RepoDigests"));
    let repositories: BTreeSet<&str> = repositories.map(|name| Reference::parse(name).repository()).collect();
    let several = names.len() > 1 || repositories.len() > 1;
    used.running || used.parent || (!force && (used.stopped || several))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn engines_refuse_what_is_in_use() {
        let one = json!({"Id": "sha256:abc", "RepoTags": ["a:1"], "RepoDigests": ["a@sha256:0"]});
        let two = json!({"Id": "sha256:abc", "RepoTags": ["a:1", "a:2"]});
        let apart = json!({"Id": "sha256:abc", "RepoTags": ["a:1"], "RepoDigests": ["b@sha256:0"]});
        let nameless = json!({"Id": "sha256:abc", "RepoTags": ["<none>:<none>"], "RepoDigests": null});
        let free = Use::default();
        let (running, stopped) = (Use { running: true, ..free }, Use { stopped: true, ..free });
        let parent = Use { parent: true, ..free };
        for (word, row, used, unforced, forced) in [
            ("a:1", &one, free, false, false),
            ("a:1", &one, stopped, true, false),
            ("a:1", &one, running, true, false),
            ("a:1", &one, parent, false, false),
            ("a:1", &two, running, false, false),
            ("abc", &one, free, false, false),
            ("abc", &one, stopped, true, false),
            ("abc", &one, running, true, true),
            ("sha256:abc", &one, parent, true, true),
            ("abc", &two, free, true, false),
            ("abc", &apart, free, true, false),
            ("abc", &nameless, free, false, false),
            ("abc", &nameless, running, true, true),
        ] {
            assert_eq!(is_refused(word, row, used, false), unforced, "{word} {row} {used:?}");
            assert_eq!(is_refused(word, row, used, true), forced, "{word} {row} {used:?} forced");
        }
    }

    proptest! {
        #[test]
        fn force_never_makes_it_worse(word in ".*", tags in prop::collection::vec(".*", 0..3), running: bool, stopped: bool) {
            let row = json!({"Id": "sha256:abc", "RepoTags": tags});
            let used = Use { running, stopped, parent: false };
            prop_assert!(!is_refused(&word, &row, used, true) || is_refused(&word, &row, used, false));
        }
    }
}
