//! Managed plugins: each engine has its own, and the cluster shows them together.

use super::{
    Answer, Api, Call,
    fanout::{Ask, successes, unanimous},
};
use http::{Method, StatusCode};
use osier_dockerapi::route::PluginVerb;
use osier_engine::{empty_response, json_response};
use serde_json::Value;
use std::time::Duration;

/// How long an engine may take to tell its plugins.
const TELL: Duration = Duration::from_secs(10);
/// How long it may take to start, stop or remove one.
const CHANGE: Duration = Duration::from_secs(60);

impl Api {
    /// `GET /plugins`: each plugin once, however many nodes have it.
    pub(super) async fn plugin_list(&self, call: Call) -> Answer {
        let ask = Ask { version: call.version, query: &call.raw_query, ..Ask::get(TELL) };
        let answers = successes(self.ask_as(self.cluster.healthy(), &["plugins"], ask).await)?;
        let mut all: Vec<Value> = Vec::new();
        for (_, answer) in answers {
            let Value::Array(plugins) = answer else { continue };
            let new = |plugin: &Value, all: &[Value]| {
                !all.iter().any(|known| known["Name"] == plugin["Name"] && known["Enabled"] == plugin["Enabled"])
            };
            for plugin in plugins {
                if new(&plugin, &all) {
                    all.push(plugin);
                }
            }
        }
        Ok(json_response(StatusCode::OK, &all))
    }

    /// Everything that names one plugin, on every node that has it.
    pub(super) async fn plugin(&self, mut call: Call, name: &str, verb: Option<PluginVerb>) -> Answer {
        let mut segments = vec!["plugins"];
        segments.extend(name.split('/'));
        let inspect = [segments.as_slice(), &["json"]].concat();
        let ask = Ask { version: call.version, ..Ask::get(TELL) };
        let holders = successes(self.ask_as(self.cluster.healthy(), &inspect, ask).await)?;
        if verb == Some(PluginVerb::Inspect) {
            let first = holders.into_iter().next().map(|(_, plugin)| plugin).unwrap_or_default();
            return Ok(json_response(StatusCode::OK, &first));
        }
        segments.extend(verb.map(PluginVerb::segment));
        let body = if verb == Some(PluginVerb::Set) { Some(call.json().await?) } else { None };
        let method = if verb.is_some() { Method::POST } else { Method::DELETE };
        let ask = Ask { version: call.version, method, query: &call.raw_query, body: body.as_ref(), deadline: CHANGE };
        let engines = holders.into_iter().map(|(engine, _)| engine).collect();
        let answers = unanimous(self.ask_as(engines, &segments, ask).await)?;
        let said = answers.into_iter().map(|(_, answer)| answer).find(|answer| !answer.is_null());
        Ok(match said {
            Some(said) => json_response(StatusCode::OK, &said),
            None if verb == Some(PluginVerb::Set) => empty_response(StatusCode::NO_CONTENT),
            None => empty_response(StatusCode::OK),
        })
    }
}
