//! Asking several engines the same thing, and what comes of it when they do not agree.

use super::Api;
use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
};
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Each engine's answer, in the order of the nodes' names.
pub(super) type Answers = Vec<(Arc<Engine>, Result<Value, CallError>)>;

impl Api {
    /// Makes one call to each of these engines at the same time.
    pub(super) async fn ask(
        &self,
        engines: Vec<Arc<Engine>>,
        method: Method,
        segments: &[&str],
        query: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Answers {
        let calls = engines.iter().map(|e| e.while_healthy(e.json(method.clone(), segments, query, body, deadline)));
        let answers = join_all(calls).await;
        engines.into_iter().zip(answers).collect()
    }
}

/// The answers of the engines that gave one. None at all is a refusal: the worst of theirs.
pub(super) fn successes(answers: Answers) -> Result<Vec<(Arc<Engine>, Value)>, Refusal> {
    if answers.iter().all(|(_, answer)| answer.is_err()) {
        return Err(refusal(answers));
    }
    Ok(answers.into_iter().filter_map(|(engine, answer)| Some((engine, answer.ok()?))).collect())
}

/// All answers, or a refusal that says which engines failed and how.
pub(super) fn unanimous(answers: Answers) -> Result<Vec<(Arc<Engine>, Value)>, Refusal> {
    if answers.iter().any(|(_, answer)| answer.is_err()) {
        return Err(refusal(answers));
    }
    successes(answers)
}

fn refusal(answers: Answers) -> Refusal {
    let failed = answers.into_iter().filter_map(|(engine, answer)| Some((engine.name(), answer.err()?)));
    let failed: Vec<(String, Refusal)> = failed.map(|(node, error)| (node, error.into())).collect();
    let status = failed.iter().map(|(_, r)| r.status).max();
    match (failed.as_slice(), status) {
        ([(_, only)], _) => only.clone(),
        (several, Some(status)) => {
            let lines: Vec<String> = several.iter().map(|(node, r)| format!("{node}: {}", r.message)).collect();
            Refusal::new(status, lines.join("\n"))
        }
        (_, None) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "No healthy node available in the cluster"),
    }
}

/// Adds numbers and joins lists.
pub(super) fn add(sum: &mut Value, value: Value) {
    match (&mut *sum, value) {
        (Value::Array(all), Value::Array(more)) => all.extend(more),
        (Value::Null, value) => *sum = value,
        (Value::Number(a), Value::Number(b)) => {
            *sum = a.as_i64().unwrap_or(0).saturating_add(b.as_i64().unwrap_or(0)).into();
        }
        _ => {}
    }
}
