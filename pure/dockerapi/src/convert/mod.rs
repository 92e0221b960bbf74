//! Between the version that a client speaks and the one that an engine is spoken to in: what a request has to say
//! instead, which requests only newer engines understand, and what an answer has to look like.
//!
//! An engine is asked in the client's own version where it knows it, and then does all this itself. The tables here are
//! for the rest: an engine older than the client, or one whose oldest version is newer than the client's, and answers
//! that come from the cache. They follow the version history of the Docker API, from 1.24 to 1.51.
//!
//! What an older engine would silently leave out, although the user meant it, is a [`Need`]: a request to create is only
//! placed on engines that speak the version, and any other request is refused with words.

mod answer;
mod call;
mod create;

pub use answer::{container_inspect, info};
pub use call::{
    VolumePrune, connect_need, container_need, network_create, network_need, prunes_named_volumes, volume_prune,
};
pub use create::{create, needs_version};

use crate::version::ApiVersion;
use serde_json::Value;

/// A request cannot be said in a version as old as an engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} needs API {since}")]
pub struct Need {
    /// The oldest version that can say it.
    pub since: ApiVersion,
    /// What needs it, in the user's words.
    pub what: &'static str,
}

/// A member that came with a version.
struct Member {
    since: ApiVersion,
    /// The way to it; `*` stands for every element or member.
    path: &'static [&'static str],
    is_used: fn(&Value) -> bool,
    what: &'static str,
}

/// A member that is used when it holds anything but Go's zero value, which clients send for what the user left out.
const fn member(minor: u16, path: &'static [&'static str], what: &'static str) -> Member {
    Member { since: ApiVersion::v1(minor), path, is_used: |value| !is_empty(value), what }
}

/// The newest need of these that the body has. What the client's own version does not know is no need: an engine that
/// spoke that version would leave it out as well.
fn newest_need(table: &[Member], body: &Value, client: ApiVersion) -> Option<Need> {
    let used = table.iter().filter(|m| m.since <= client && any(body, m.path, m.is_used));
    used.max_by_key(|m| m.since).map(|m| Need { since: m.since, what: m.what })
}

/// Whether the test holds for anything that the path leads to.
fn any(value: &Value, path: &[&str], test: fn(&Value) -> bool) -> bool {
    match path.split_first() {
        None => test(value),
        Some((&"*", rest)) => match value {
            Value::Array(list) => list.iter().any(|v| any(v, rest, test)),
            Value::Object(map) => map.values().any(|v| any(v, rest, test)),
            _ => false,
        },
        Some((key, rest)) => value.get(key).is_some_and(|v| any(v, rest, test)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
