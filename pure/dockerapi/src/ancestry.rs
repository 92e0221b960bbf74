//! Which images come from which: what the list filter `ancestor` means on one node.

use crate::image;
use serde_json::Value;
use std::collections::BTreeSet;

/// The ids of the image that a word means among one node's list rows and of all images made from it, as far as the rows
/// tell their parents.
pub(crate) fn descendants<R: AsRef<Value>>(word: &str, rows: &[R]) -> BTreeSet<String> {
    let mut family: BTreeSet<String> = image::find(word, rows).map(image::id).map(str::to_owned).into_iter().collect();
    loop {
        let child = |row: &&Value| {
            let parent = row["ParentId"].as_str().unwrap_or_default();
            family.contains(parent) && !family.contains(image::id(row))
        };
        let children: Vec<String> =
            rows.iter().map(AsRef::as_ref).filter(child).map(|row| image::id(row).to_owned()).collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn children_and_their_children_are_found_and_circles_end() {
        let row = |id: &str, tag: &str, parent: &str| {
            Arc::new(json!({"Id": format!("sha256:{id}"), "RepoTags": [tag], "ParentId": format!("sha256:{parent}")}))
        };
        let rows = [row("a", "base:1", "c"), row("b", "mid:1", "a"), row("c", "top:1", "b"), row("d", "other:1", "")];
        let ids = |word: &str| descendants(word, &rows).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(ids("mid:1"), "sha256:a sha256:b sha256:c");
        assert_eq!((ids("other:1").as_str(), ids("none:1").as_str()), ("sha256:d", ""));
    }
}
