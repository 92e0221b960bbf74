//! Asking an engine what it is, and whether it can be one of the cluster's.

use super::{CallError, Engine, Facts, lost::Lost};
use bytes::Bytes;
use http::{Method, header};
use osier_dockerapi::{
    inspect::NodeFacts,
    row::Owner,
    version::{self, ApiVersion},
};
use osier_engine::{Error as ClientError, body::collect};
use osier_nodes::{Clock, Reason};
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use time::{
    OffsetDateTime, PrimitiveDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

/// How long an engine may take for the smallest answer there is.
const PROBE: Duration = Duration::from_secs(2);
/// How long it may take for its own description.
pub(super) const HELLO: Duration = Duration::from_secs(5);
/// The largest description that is read.
const DESCRIPTION: usize = 4 << 20;
/// The time in a `Date` header (RFC 9110, 5.6.7).
const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

impl Engine {
    /// Asks for the smallest answer there is, and tells the engine's time in it.
    pub(super) async fn probe(&self) -> Result<Option<OffsetDateTime>, CallError> {
        let call = async { self.client()?.call(Method::GET, "/_ping", None).await.map_err(CallError::Client) };
        let answer = tokio::time::timeout(PROBE, call).await.map_err(|_| CallError::Deadline(PROBE))??;
        let date = answer.headers().get(header::DATE).and_then(|d| d.to_str().ok());
        Ok(date.and_then(|d| PrimitiveDateTime::parse(d, DATE).ok()).map(PrimitiveDateTime::assume_utc))
    }

    /// Asks what the engine is.
    pub(super) async fn describe(&self, address: SocketAddr) -> Result<Facts, Lost> {
        // Without a version in the path: which ones the engine knows is only asked here.
        let asked = OffsetDateTime::now_utc();
        let info = self.ask("/info").await.map_err(Lost::call("ask the engine for its description"))?;
        let answered = OffsetDateTime::now_utc();
        let version = self.ask("/version").await.map_err(Lost::call("ask the engine for its version"))?;
        let time = info["SystemTime"].as_str().and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
        let clock = time.map(|engine| Clock::measure(asked, answered, engine)).unwrap_or_default();
        self.read_facts(address, clock, info, &version)
    }

    async fn ask(&self, path: &str) -> Result<Value, CallError> {
        let client = self.client()?;
        let talk = |source| CallError::Client(ClientError::Talk { endpoint: client.name(), source });
        let call = async {
            let answer = client.call(Method::GET, path, None).await?;
            let bytes: Bytes = collect(answer.into_body(), DESCRIPTION).await.map_err(talk)?;
            serde_json::from_slice(&bytes).map_err(|e| talk(e.into()))
        };
        tokio::time::timeout(HELLO, call).await.map_err(|_| CallError::Deadline(HELLO))?
    }

    fn read_facts(&self, address: SocketAddr, clock: Clock, info: Value, version: &Value) -> Result<Facts, Lost> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (cpus, memory) = (info["NCPU"].as_u64().unwrap_or(0), info["MemTotal"].as_u64().unwrap_or(0));
        let here = self.target.address();
        if cpus == 0 || memory == 0 {
            let text =
                format!("cannot get resources for this engine, make sure {here} is a Docker Engine, not a manager");
            return Err(Lost::verdict(Reason::NotAnEngine, text));
        }
        if info["SystemStatus"].as_array().is_some_and(|rows| rows.iter().any(|row| row[0] == "Strategy")) {
            let text = format!("the address {here} is a cluster's manager, not an engine");
            return Err(Lost::verdict(Reason::NotAnEngine, text));
        }
        let mut labels = labels(&info)?;
        for (label, key) in [
            ("storagedriver", "Driver"),
            ("kernelversion", "KernelVersion"),
            ("operatingsystem", "OperatingSystem"),
            ("ostype", "OSType"),
        ] {
            let value = text(&info, key);
            if !value.is_empty() {
                labels.insert(label.to_owned(), value);
            }
        }
        let host = text(&info, "Name");
        let name = self.target.name.clone().unwrap_or_else(|| host.clone());
        if name.is_empty() {
            return Err(Lost::verdict(Reason::NotAnEngine, "the engine does not say its host's name".into()));
        }
        Ok(Facts {
            owner: Owner { node: name, ip: address.ip(), cluster_networks: Default::default() },
            node: NodeFacts { id: text(&info, "ID"), address: here, cpus, memory, labels: labels.clone() },
            own_labels: labels,
            host,
            api: api(version)?,
            server_version: text(version, "Version"),
            clock,
            info,
        })
    }
}

/// The versions it speaks, if one of them is among ours.
fn api(version: &Value) -> Result<version::Range, Lost> {
    let api = |key: &str| version[key].as_str().and_then(|v| v.parse::<ApiVersion>().ok());
    let Some(max) = api("ApiVersion") else {
        return Err(Lost::verdict(Reason::NotAnEngine, "the engine does not say which API it speaks".into()));
    };
    let range = version::Range { min: api("MinAPIVersion").unwrap_or(version::MIN).min(max), max };
    let (oldest, newest) = (version::MIN, version::MAX);
    if range.max < oldest || range.min > newest {
        let text = format!("the engine speaks API {} to {max}, and none of {oldest} to {newest}", range.min);
        return Err(Lost::verdict(Reason::Version, text));
    }
    Ok(range)
}

/// The labels that the engine was started with. One called `node` would shadow the node's own name.
fn labels(info: &Value) -> Result<BTreeMap<String, String>, Lost> {
    let entries = info["Labels"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let pairs = entries.map(|entry| match entry.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => {
            let text = format!("the engine's label '{entry}' is not of the form key=value; start dockerd with another");
            Err(Lost::verdict(Reason::Label, text))
        }
    });
    pairs.filter(|pair| !matches!(pair, Ok((key, _)) if key == "node")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Target, picture::Marker};
    use osier_nodes::Refresh;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    fn read(info: Value, version: &Value) -> Result<Facts, Lost> {
        let target = Target { name: None, host: "h".into(), port: 1, server_name: "h".into() };
        let engine = Engine::new(target, Refresh::default(), false, Marker::new(&Arc::default()));
        engine.read_facts(([127, 0, 0, 1], 1).into(), Clock::default(), info, version)
    }

    fn info() -> Value {
        json!({"ID": "X", "Name": "n1", "NCPU": 4, "MemTotal": 8, "Labels": ["tier=x", "node=y", "empty="], "Driver": "overlay2"})
    }

    #[test]
    fn an_engine_is_taken_as_it_says_it_is() {
        let facts = read(info(), &json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10"})).unwrap();
        let labels = [("empty", ""), ("storagedriver", "overlay2"), ("tier", "x")];
        assert_eq!(facts.node.labels, labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!((facts.owner.node.as_str(), facts.api.max.to_string().as_str()), ("n1", "1.41"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let version = json!({"ApiVersion": "1.41"});
        let with = |key: &str, value: Value| {
            let mut info = info();
            info[key] = value;
            info
        };
        for (info, version, reason) in [
            (with("NCPU", json!(0)), &version, Reason::NotAnEngine),
            (with("SystemStatus", json!([["Strategy", "spread"]])), &version, Reason::NotAnEngine),
            (with("Name", json!("")), &version, Reason::NotAnEngine),
            (json!("hello"), &version, Reason::NotAnEngine),
            (info(), &json!({}), Reason::NotAnEngine),
            (with("Labels", json!(["tier"])), &version, Reason::Label),
            (info(), &json!({"ApiVersion": "1.22"}), Reason::Version),
            (info(), &json!({"ApiVersion": "1.99", "MinAPIVersion": "1.90"}), Reason::Version),
        ] {
            let trouble = read(info, version).unwrap_err().trouble();
            assert_eq!(trouble.reason, reason, "{}", trouble.text);
        }
    }

    #[test]
    fn the_time_of_an_answer_is_read() {
        let date = PrimitiveDateTime::parse("Sun, 06 Nov 1994 08:49:37 GMT", DATE).unwrap();
        assert_eq!(date.assume_utc().unix_timestamp(), 784_111_777);
    }

    proptest! {
        #[test]
        fn no_description_makes_it_panic(key in "NCPU|Labels|Name|SystemStatus", value in ".*", number in any::<u64>()) {
            for value in [json!(value), json!([value]), json!(number), json!([[value]])] {
                let mut info = info();
                info[&key] = value.clone();
                let _ = read(info, &json!({"ApiVersion": value}));
            }
        }
    }
}
