//! Images of the whole cluster: which one a word means on a node, the list that shows each image once, and what many
//! nodes' progress looks like as one.

mod list;
mod progress;
mod push;
mod reference;
mod removal;

pub use list::{ListError, ListOptions, list};
pub use progress::{Progress, Told, platform_mismatch};
pub use push::{PushStep, push_plan};
pub use reference::{Reference, find, find_on, id, is_from_registry, outdated, retagged, tags_of, target};
pub use removal::{Use, is_refused};

use serde_json::Value;

/// Docker's reserved word for a missing repository, tag or digest in old answers.
const NONE: &str = "<none>";

fn strings<'a>(row: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    row[key].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|text| !text.starts_with(NONE))
}

#[cfg(test)]
fn samples() -> Vec<std::sync::Arc<Value>> {
    use serde_json::json;
    [
        json!({"Id": "sha256:aaaa11", "RepoTags": ["busybox:latest", "tool:1"], "Created": 1, "Labels": {"a": "1"},
               "Size": 7}),
        json!({"Id": "sha256:bbbb22", "RepoTags": ["reg:5000/team/app:2"], "Created": 2, "Labels": null,
               "RepoDigests": ["reg:5000/team/app@sha256:dd"]}),
        json!({"Id": "sha256:cccc33", "RepoTags": ["aaaa:latest"], "Created": 3, "ParentId": "sha256:eeee55"}),
        json!({"Id": "sha256:dddd44", "RepoTags": [], "RepoDigests": ["<none>@<none>"], "Created": 4}),
        json!({"Id": "sha256:eeee55", "RepoTags": ["<none>:<none>"], "RepoDigests": null, "Created": 0}),
    ]
    .map(std::sync::Arc::new)
    .into()
}
