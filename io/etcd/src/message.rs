//! The gateway's messages: only the members that are used here.

use crate::{Lease, Listing};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};

/// One key with its value. Bytes that are not UTF-8 are replaced: nobody who follows the layout writes any.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeyValue {
    /// The key.
    #[serde(deserialize_with = "read_bytes")]
    pub key: String,
    /// Its value.
    #[serde(default, deserialize_with = "read_bytes")]
    pub value: String,
    /// The number of its lease, 0 without one.
    #[serde(default, deserialize_with = "read_number")]
    lease: i64,
}

impl KeyValue {
    /// Whether it lasts as long as this lease.
    pub fn is_under(&self, lease: Lease) -> bool {
        self.lease == lease.0
    }
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "read_number")]
    revision: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

impl From<Listed> for Listing {
    fn from(listed: Listed) -> Self {
        Self { revision: listed.header.revision, entries: listed.kvs }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Transaction {
    header: Header,
    #[serde(default)]
    pub(crate) succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Debug, Deserialize)]
struct Response {
    response_range: Option<Found>,
}

#[derive(Debug, Deserialize)]
struct Found {
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

impl From<Transaction> for Listing {
    fn from(done: Transaction) -> Self {
        let found = done.responses.into_iter().filter_map(|r| r.response_range);
        Self { revision: done.header.revision, entries: found.flat_map(|f| f.kvs).collect() }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Granted {
    #[serde(rename = "ID", deserialize_with = "read_number")]
    pub(crate) id: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Kept {
    /// Absent, hence 0, when the lease has ended.
    #[serde(rename = "TTL", default, deserialize_with = "read_number")]
    pub(crate) ttl: i64,
}

/// One document of a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Streamed<T> {
    pub(crate) result: Option<T>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Watched {
    #[serde(default)]
    pub(crate) canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default, deserialize_with = "read_number")]
    compact_revision: i64,
    #[serde(default)]
    pub(crate) events: Vec<serde::de::IgnoredAny>,
}

impl Watched {
    /// Why etcd ended the watch.
    pub(crate) fn reason(&self) -> String {
        match (self.cancel_reason.as_str(), self.compact_revision) {
            ("", 0) => "etcd cancelled it".into(),
            ("", revision) => format!("the history before revision {revision} is gone"),
            (reason, _) => reason.to_owned(),
        }
    }
}

/// Asks for one key.
pub(crate) fn key(key: &str) -> Value {
    json!({"key": encode(key)})
}

/// Asks for all keys that begin so.
pub(crate) fn prefix(prefix: &str) -> Value {
    json!({"key": encode(prefix), "range_end": encode(after(prefix))})
}

/// The first key behind all that begin with the prefix; a zero byte means all keys there are.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

/// Sets a key under a lease.
pub(crate) fn put(key: &str, value: &str, lease: i64) -> Value {
    json!({"key": encode(key), "value": encode(value), "lease": lease.to_string()})
}

/// Sets a key under a lease if it does not exist, and asks for it if it does.
pub(crate) fn create(name: &str, value: &str, lease: i64) -> Value {
    json!({
        "compare": [{"key": encode(name), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
        "success": [{"request_put": put(name, value, lease)}],
        "failure": [{"request_range": key(name)}],
    })
}

/// Asks for a lease of so many seconds.
pub(crate) fn grant(seconds: u64) -> Value {
    json!({"TTL": seconds.to_string()})
}

/// Names a lease.
pub(crate) fn lease(id: i64) -> Value {
    json!({"ID": id.to_string()})
}

/// Asks to be told of changes of all keys that begin so, from this revision on.
pub(crate) fn watch(keys: &str, revision: i64) -> Value {
    let mut create = prefix(keys);
    create["start_revision"] = revision.to_string().into();
    json!({"create_request": create})
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_gateway_reads() {
        assert_eq!(prefix("/a/"), json!({"key": "L2Ev", "range_end": "L2Ew"}));
        let watched = watch("a", 7);
        assert_eq!(watched, json!({"create_request": {"key": "YQ==", "range_end": "Yg==", "start_revision": "7"}}));
        assert_eq!((after(""), after("a")), (vec![0], b"b".to_vec()));
    }

    #[test]
    fn answers_are_read_with_whatever_is_left_out() {
        let listed: Listed = serde_json::from_value(json!({"header": {"revision": "3", "more": 1}})).unwrap();
        assert_eq!(Listing::from(listed), Listing { revision: 3, entries: Vec::new() });
        let kept: Streamed<Kept> = serde_json::from_value(json!({"result": {"ID": "1"}})).unwrap();
        assert_eq!(kept.result.unwrap().ttl, 0);
        let bad = json!({"header": {"revision": "3"}, "kvs": [{"key": "%"}]});
        assert!(serde_json::from_value::<Listed>(bad).is_err());
    }
}
