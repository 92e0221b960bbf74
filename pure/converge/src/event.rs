//! What the host reports while it converges: one JSON object per line.
//!
//! Must not know what a step does, nor hold a secret.

use serde::{Deserialize, Serialize};

/// One line of the report. `plan` comes first, `done` last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What is going to happen; no step means that the host is as it shall be.
    Plan {
        /// The steps in order.
        steps: Vec<PlannedStep>,
        /// What is worth a word besides.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
        /// Whether packages of the bundle that the document names must lie there first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bundle: bool,
    },
    /// A step began.
    Started {
        /// Its text.
        step: String,
    },
    /// A step ended and changed the host.
    Changed {
        /// Its text.
        step: String,
    },
    /// A step failed.
    Failed {
        /// Its text.
        step: String,
        /// What was being done and why it failed, outermost first.
        causes: Vec<String>,
    },
    /// It is over.
    Done {
        /// How many steps changed the host.
        changed: usize,
        /// How many steps failed.
        failed: usize,
        /// How many steps were not tried, because one before them failed.
        skipped: usize,
    },
}

/// One step, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What it does.
    pub text: String,
    /// The lines of a file that change, unless they are secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

impl Event {
    /// The event as one line without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }

    /// Reads one line; `None` where it is not an event (programs may print between them).
    pub fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_survive_their_line() {
        let steps = vec![PlannedStep { text: "write '/a'\n".into(), diff: Some("+x".into()) }];
        let plan = Event::Plan { steps, warnings: vec!["mind".into()], bundle: true };
        let line = plan.to_line();
        assert!(line.starts_with(r#"{"event":"plan""#) && !line.contains('\n'), "{line}");
        assert_eq!(Event::from_line(&line), Some(plan));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_ignored(line in "\\PC*") {
            let _ = Event::from_line(&line);
        }
    }
}
