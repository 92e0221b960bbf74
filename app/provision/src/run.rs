//! One run over hosts: all are asked before any is touched, then made what their documents say, batch by batch.
//!
//! Must not know what the documents are made of, nor clusters.

use crate::{
    args::{ChangeArgs, HostArgs},
    bundle::Offline,
    deliver::{Delivery, Program, Supply, deliver},
    documents,
    preflight::{self, Needs, Report},
    recap::{self, Outcome},
    remote::{self, Remote, on_each},
};
use osier_converge::{Desired, Digest};
use osier_fleet::{Serial, batches};
use osier_ui::{ExitKind, Failure, Progress, Ui};
use std::collections::BTreeMap;

/// One run over hosts.
pub(crate) struct Run<'a> {
    pub(crate) remotes: Vec<Remote>,
    forks: u16,
    serial: Option<Serial>,
    pub(crate) program: Program,
    /// Where packages come from, if not from the hosts' own sources.
    pub(crate) offline: Option<Offline>,
    delivery: Delivery<'a>,
    pub(crate) progress: Progress,
}

impl<'a> Run<'a> {
    pub(crate) fn begin(
        hosts: &HostArgs,
        change: &ChangeArgs,
        remotes: Vec<Remote>,
        ui: &'a Ui,
    ) -> Result<Self, Failure> {
        let program = Program::read(change.binary.as_deref())?;
        let delivery = Delivery { check: change.check, diff: change.diff, ui };
        let (forks, serial) = (hosts.forks, change.serial.clone());
        Ok(Self { remotes, forks, serial, program, offline: None, delivery, progress: ui.progress() })
    }

    /// Asks every host; none is touched.
    pub(crate) async fn preflight(&self) -> Vec<(&Remote, Result<Report, Failure>)> {
        on_each(&self.remotes, self.forks, async |remote| {
            self.progress.doing(&remote.name, "preflight");
            (remote, preflight::ask(remote).await)
        })
        .await
    }

    /// Takes Osier off all hosts, or off those that are of the cluster with this CA.
    pub(crate) async fn clear(
        &self,
        reports: Vec<(&Remote, Result<Report, Failure>)>,
        purge: bool,
        only: Option<Digest>,
    ) -> Result<BTreeMap<String, Outcome>, Failure> {
        let needs = Needs { machine: self.program.machine.clone(), ..Needs::default() };
        let mut outcomes = BTreeMap::new();
        let mut ready = Vec::new();
        for (remote, report) in reports {
            match report {
                Ok(report) if report.machine != needs.machine => {
                    let judged = report.judge(&remote.name, &needs);
                    outcomes.extend(judged.err().map(|f| (remote.name.clone(), self.failed(&remote.name, f))));
                }
                Ok(report) if only.is_some() && report.ca.is_some() && report.ca != only => {
                    let failure = Failure::message_only(ExitKind::SomeHostsFailed, "it belongs to another cluster now");
                    outcomes.insert(remote.name.clone(), self.failed(&remote.name, failure));
                }
                Ok(report) if !report.traces => {
                    self.progress.done(&remote.name, "ok");
                    outcomes.insert(remote.name.clone(), Outcome::Unchanged);
                }
                Ok(report) => ready.push((remote, documents::destroy(purge, &report.taken)?, report)),
                Err(failure) => drop(outcomes.insert(remote.name.clone(), self.failed(&remote.name, failure))),
            }
        }
        outcomes.extend(self.deliver(&ready).await);
        Ok(outcomes)
    }

    /// Makes each host what its document says, batch by batch.
    pub(crate) async fn deliver(&self, ready: &[(&Remote, Desired, Report)]) -> Vec<(String, Outcome)> {
        let mut outcomes = Vec::new();
        let mut goes_on = true;
        for batch in batches(self.serial.as_ref(), ready.len()) {
            let batch = &ready[batch];
            if !goes_on {
                outcomes.extend(batch.iter().map(|(remote, ..)| (remote.name.clone(), Outcome::Skipped)));
                continue;
            }
            let delivered = self.deliver_to(batch).await;
            let failed = delivered.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).count();
            goes_on = osier_fleet::goes_on(batch.len(), failed);
            outcomes.extend(delivered);
        }
        outcomes
    }

    async fn deliver_to(&self, ready: &[(&Remote, Desired, Report)]) -> Vec<(String, Outcome)> {
        on_each(ready, self.forks, async |(remote, desired, report): &(&Remote, Desired, Report)| {
            let supply = Supply {
                program: &self.program,
                installed: report.binary == Some(self.program.sha256),
                bundle: self.offline.as_ref().map(|bundle| (bundle, report.target())),
            };
            let done = deliver(remote, desired, &supply, &self.delivery, &self.progress).await;
            let outcome = done.unwrap_or_else(Outcome::Failed);
            self.progress.done(&remote.name, outcome.summary());
            (remote.name.clone(), outcome)
        })
        .await
    }

    pub(crate) fn failed(&self, host: &str, failure: Failure) -> Outcome {
        let outcome = Outcome::Failed(failure);
        self.progress.done(host, outcome.summary());
        outcome
    }

    /// Closes the connections and says what became of each host, in the inventory's order.
    pub(crate) async fn finish(
        self,
        before: Vec<(String, Outcome)>,
        mut outcomes: BTreeMap<String, Outcome>,
        ui: &Ui,
    ) -> Result<(), Failure> {
        let names: Vec<String> = self.remotes.iter().map(|r| r.name.clone()).collect();
        remote::close(self.remotes).await;
        drop(self.progress);
        let ordered = names.into_iter().filter_map(|n| outcomes.remove(&n).map(|o| (n, o)));
        let ordered: Vec<_> = before.into_iter().chain(ordered).collect();
        recap::finish(ui, &ordered)
    }
}
