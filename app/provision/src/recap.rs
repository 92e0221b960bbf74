//! What became of each host, as the user sees it in the end, and the exit code made of it.
//!
//! Must not know what was done.

use osier_ui::{ExitKind, Failure, Table, Ui};
use serde_json::{Value, json};

/// What became of one host.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was as it shall be.
    Unchanged,
    /// So many steps changed it.
    Changed(usize),
    /// These steps would change it.
    Planned(Vec<String>),
    /// Nothing was done there, because the run had stopped.
    Skipped,
    /// It could not be reached, or something failed there.
    Failed(Failure),
}

impl Outcome {
    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Unchanged => "ok".to_owned(),
            Self::Changed(n) => format!("changed ({n} {})", steps(*n)),
            Self::Planned(list) => format!("would change ({} {})", list.len(), steps(list.len())),
            Self::Skipped => "not started".to_owned(),
            Self::Failed(failure) => format!("{}: {}", word(failure), failure.message()),
        }
    }

    /// Whether there was no way to it, or no longer.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Failed(failure) if is_unreachable(failure))
    }
}

fn steps(n: usize) -> &'static str {
    if n == 1 { "step" } else { "steps" }
}

fn is_unreachable(failure: &Failure) -> bool {
    failure.code() == ExitKind::SomeHostsUnreachable as u8
}

fn word(failure: &Failure) -> &'static str {
    if is_unreachable(failure) { "unreachable" } else { "failed" }
}

/// Prints failures with their causes and hints, then the recap; fails if a host failed, or has a plan.
pub(crate) fn finish(ui: &Ui, outcomes: &[(String, Outcome)]) -> Result<(), Failure> {
    for (_, outcome) in outcomes {
        if let Outcome::Failed(failure) = outcome {
            ui.failure(failure);
        }
    }
    if ui.is_json() {
        ui.json(&json!({ "hosts": outcomes.iter().map(|(host, o)| as_json(host, o)).collect::<Vec<_>>() }));
    } else {
        let mut table = Table::new(&["HOST", "RESULT"]);
        for (host, outcome) in outcomes {
            let result = match outcome {
                Outcome::Failed(failure) => word(failure).to_owned(),
                other => other.summary(),
            };
            table.row([host, &result]);
        }
        ui.line(table);
    }
    verdict(outcomes)
}

/// The worst decides the exit code.
pub(crate) fn verdict(outcomes: &[(String, Outcome)]) -> Result<(), Failure> {
    let failures = |unreachable: bool| {
        let matching = move |o: &Outcome| matches!(o, Outcome::Failed(f) if is_unreachable(f) == unreachable);
        outcomes.iter().filter(move |(_, o)| matching(o)).map(|(host, _)| host.as_str()).collect::<Vec<_>>()
    };
    let all = outcomes.len();
    let sentence = |list: &[&str], what| format!("{} of {all} hosts {what}: {}", list.len(), list.join(", "));
    let (failed, unreachable) = (failures(false), failures(true));
    let mut sentences = Vec::new();
    if !failed.is_empty() {
        sentences.push(sentence(&failed, "failed"));
    }
    if !unreachable.is_empty() {
        sentences.push(sentence(&unreachable, "cannot be reached"));
    }
    let skipped: Vec<&str> =
        outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Skipped)).map(|(host, _)| host.as_str()).collect();
    if !skipped.is_empty() {
        sentences.push(sentence(&skipped, "not started"));
    }
    if !sentences.is_empty() {
        let kind = if failed.is_empty() && !unreachable.is_empty() {
            ExitKind::SomeHostsUnreachable
        } else {
            ExitKind::SomeHostsFailed
        };
        return Err(Failure::message_only(kind, sentences.join("; ")));
    }
    let planned = outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Planned(_))).count();
    if planned > 0 {
        let text = format!("{planned} of {all} hosts would change");
        return Err(Failure::message_only(ExitKind::PlanHasChanges, text));
    }
    Ok(())
}

fn as_json(host: &str, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Unchanged => json!({ "host": host, "result": "ok", "changed": 0 }),
        Outcome::Changed(n) => json!({ "host": host, "result": "changed", "changed": n }),
        Outcome::Planned(steps) => json!({ "host": host, "result": "planned", "changed": 0, "steps": steps }),
        Outcome::Skipped => json!({ "host": host, "result": "skipped", "changed": 0 }),
        Outcome::Failed(f) => json!({
            "host": host, "result": word(f), "error": f.message(), "causes": f.causes(), "hints": f.hints(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: ExitKind) -> Outcome {
        Outcome::Failed(Failure::message_only(kind, "x"))
    }

    fn code(outcomes: Vec<Outcome>) -> u8 {
        let named: Vec<_> = outcomes.into_iter().map(|o| ("h".to_owned(), o)).collect();
        verdict(&named).err().map_or(0, |f| f.code())
    }

    #[test]
    fn the_exit_code_says_the_worst() {
        use ExitKind::{SomeHostsFailed, SomeHostsUnreachable};
        assert_eq!(code(vec![Outcome::Unchanged, Outcome::Changed(2)]), 0);
        assert_eq!(code(vec![Outcome::Unchanged, Outcome::Planned(vec!["a".into()])]), 5);
        assert_eq!(code(vec![failed(SomeHostsUnreachable), Outcome::Planned(vec!["a".into()])]), 4);
        assert_eq!(code(vec![failed(SomeHostsUnreachable), failed(SomeHostsFailed)]), 3);
        assert_eq!(code(vec![failed(SomeHostsUnreachable), Outcome::Skipped]), 4);
        assert_eq!(code(vec![Outcome::Changed(1), Outcome::Skipped]), 3);
    }

    #[test]
    fn scripts_get_everything_that_people_do() {
        let failure =
            Failure::new(ExitKind::SomeHostsUnreachable, anyhow::anyhow!("timed out").context("connect")).hint("look");
        let value = as_json("a", &Outcome::Failed(failure));
        let expected = json!({"host": "a", "result": "unreachable", "error": "connect", "causes": ["timed out"], "hints": ["look"]});
        assert_eq!(value, expected);
    }
}
