//! Running scenarios against hosts: a few at a time, each with a deadline, each cleaned up after.

use crate::{
    failure::Failure,
    scenario::{Area, Scenario},
    target::Session,
};
use futures::{StreamExt, stream};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// How long one scenario may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How many scenarios run on one host at a time: enough to fill the waiting for containers, few enough that an engine on
/// a small machine keeps up.
const AT_A_TIME: usize = 4;

/// How a scenario ended on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "why")]
pub enum Outcome {
    /// As an engine does it.
    Passed,
    /// Otherwise.
    Failed(String),
    /// The client it drives is not here.
    Skipped(String),
}

/// One scenario on every host.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its area.
    pub area: Area,
    /// Its name.
    pub name: &'static str,
    /// The calls it is about.
    pub api: &'static str,
    /// How it ended, host by host.
    pub outcomes: Vec<Outcome>,
}

impl Row {
    /// Whether it passed everywhere.
    pub fn is_green(&self) -> bool {
        self.outcomes.iter().all(|o| *o == Outcome::Passed)
    }

    /// Whether it failed anywhere.
    pub fn is_red(&self) -> bool {
        self.outcomes.iter().any(|o| matches!(o, Outcome::Failed(_)))
    }
}

/// Runs these scenarios on every host, the hosts side by side; `done` hears of each row as it ends on a host.
pub async fn run(sessions: &[Arc<Session>], scenarios: &[&'static Scenario], done: impl Fn(&str)) -> Vec<Row> {
    let columns = sessions.iter().map(|session| {
        let done = &done;
        let each = stream::iter(scenarios).map(async move |scenario| {
            let outcome = one(session, scenario).await;
            done(scenario.name);
            outcome
        });
        each.buffered(AT_A_TIME).collect::<Vec<Outcome>>()
    });
    let mut columns: Vec<_> = futures::future::join_all(columns).await.into_iter().map(Vec::into_iter).collect();
    let row = |scenario: &&'static Scenario| Row {
        area: scenario.area,
        name: scenario.name,
        api: scenario.api,
        outcomes: columns.iter_mut().filter_map(Iterator::next).collect(),
    };
    scenarios.iter().map(row).collect()
}

async fn one(session: &Arc<Session>, scenario: &'static Scenario) -> Outcome {
    let target = session.target();
    let ran = tokio::time::timeout(DEADLINE, (scenario.run)(&target)).await;
    let ran = ran.unwrap_or(Err(Failure::Late { what: "the scenario's end".into(), seconds: DEADLINE.as_secs() }));
    let cleaned = tokio::time::timeout(DEADLINE, target.clean()).await;
    let cleaned = cleaned.unwrap_or(Err(Failure::Late { what: "cleaning up".into(), seconds: DEADLINE.as_secs() }));
    match (ran, cleaned) {
        (Ok(()), Ok(())) => Outcome::Passed,
        (Ok(()), Err(failure)) => Outcome::Failed(format!("cleaning up: {}", failure.chain())),
        (Err(Failure::Absent(what)), _) => Outcome::Skipped(what),
        (Err(failure), _) => Outcome::Failed(failure.chain()),
    }
}
