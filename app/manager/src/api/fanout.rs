//! Asking several engines the same thing, and what comes of it when they do not agree.

use super::Api;
use crate::{
    engine::{CallError, Engine},
    refusal::Refusal,
};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_dockerapi::{
    refusals::{self, Refused},
    version::{ApiVersion, MAX},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Each engine's answer, in the order of the nodes' names.
pub(super) type Answers = Vec<(Arc<Engine>, Result<Value, CallError>)>;

/// What is asked of each engine.
pub(super) struct Ask<'a> {
    /// The version the answer is to have, as far as the engine speaks it.
    pub(super) version: ApiVersion,
    pub(super) method: Method,
    pub(super) query: &'a str,
    pub(super) body: Option<&'a Value>,
    pub(super) deadline: Duration,
}

impl Ask<'_> {
    /// Asks for something in the newest version.
    pub(super) fn get(deadline: Duration) -> Self {
        Self { version: MAX, method: Method::GET, query: "", body: None, deadline }
    }
}

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
        self.ask_as(engines, segments, Ask { version: MAX, method, query, body, deadline }).await
    }

    /// As [`Api::ask`], in the version of the client, whose answer it is to become.
    pub(super) async fn ask_as(&self, engines: Vec<Arc<Engine>>, segments: &[&str], ask: Ask<'_>) -> Answers {
        let Ask { version, method, query, body, deadline } = ask;
        let call = |e: &'_ Arc<Engine>| {
            let (e, method) = (e.clone(), method.clone());
            async move { e.while_healthy(e.json_as(version, method, segments, query, body, deadline)).await }
        };
        let answers = join_all(engines.iter().map(call)).await;
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

/// All answers, or a refusal that says which engines failed and how, which others did it, as `done` calls that, and on
/// which of them it was `left`.
pub(super) fn complete(answers: Answers, done: &str, left: Vec<String>) -> Result<Vec<(Arc<Engine>, Value)>, Refusal> {
    let (mut did, mut failed) = (Vec::new(), Vec::new());
    for (engine, answer) in answers {
        match answer {
            Ok(answer) => did.push((engine, answer)),
            Err(error) => failed.push((engine.name(), Refusal::from(error))),
        }
    }
    let refused: Vec<Refused<'_>> = failed.iter().map(|(node, refusal)| refusal.of(node)).collect();
    let names = did.iter().map(|(engine, _)| engine.name()).collect();
    match refusals::partial(&refused, &[(done, names), ("left", left)]) {
        Some((status, message)) => Err(Refusal::new(status, message)),
        None => Ok(did),
    }
}

fn refusal(answers: Answers) -> Refusal {
    let failed = answers.into_iter().filter_map(|(engine, answer)| Some((engine.name(), answer.err()?)));
    joint(failed.map(|(node, error)| (node, error.into())).collect())
}

/// One refusal for several nodes': with the worst status, and each text once.
pub(super) fn joint(failed: Vec<(String, Refusal)>) -> Refusal {
    let refused: Vec<Refused<'_>> = failed.iter().map(|(node, refusal)| refusal.of(node)).collect();
    match refusals::joint(&refused) {
        Some((status, message)) => Refusal::new(status, message),
        None => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "No healthy node available in the cluster"),
    }
}
