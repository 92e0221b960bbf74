//! One entry of a host's journal, as `journalctl --output=json` prints it (systemd, "Journal JSON Format").
//!
//! Must not know how the journal is asked. A message that is no UTF-8 comes as a list of its bytes, one that is too long
//! as null.

use serde_json::{Map, Value};

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Microseconds since 1970, by the host's clock.
    pub micros: i128,
    /// The service, without `.service`; where there is none, the program.
    pub unit: String,
    /// How serious it is: 0 (emergency) to 7 (debug), where it says so.
    pub priority: Option<u8>,
    /// What it said; more than one line at times.
    pub message: String,
}

/// Reads a line of JSON; `None` where it is none of the journal's.
pub fn record(line: &str) -> Option<Record> {
    let entry: Map<String, Value> = serde_json::from_str(line).ok()?;
    let text = |name: &str| match entry.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned())
        }
        _ => None,
    };
    // systemd's own words about a service carry its name in UNIT.
    let unit = ["UNIT", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER"].into_iter().find_map(text).unwrap_or_default();
    Some(Record {
        micros: text("__REALTIME_TIMESTAMP")?.parse().ok()?,
        unit: unit.strip_suffix(".service").unwrap_or(&unit).to_owned(),
        priority: text("PRIORITY").and_then(|p| p.parse().ok()),
        message: text("MESSAGE").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_of_the_journal_are_read() {
        let line = r#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000000001","PRIORITY":"6","_SYSTEMD_UNIT":"osier-agent.service","MESSAGE":"it runs"}"#;
        let (unit, message) = ("osier-agent".to_owned(), "it runs".to_owned());
        assert_eq!(record(line), Some(Record { micros: 1_700_000_000_000_001, unit, priority: Some(6), message }));
        let of_systemd = r#"{"__REALTIME_TIMESTAMP":"1","_SYSTEMD_UNIT":"init.scope","UNIT":"docker.service","MESSAGE":[72,105,255]}"#;
        let read = record(of_systemd).unwrap();
        assert_eq!((read.unit.as_str(), read.message.as_str(), read.priority), ("docker", "Hi\u{fffd}", None));
        let program = record(r#"{"__REALTIME_TIMESTAMP":"1","SYSLOG_IDENTIFIER":"sudo","MESSAGE":null}"#).unwrap();
        assert_eq!((program.unit.as_str(), program.message.as_str()), ("sudo", ""));
        for wrong in ["", "-- No entries --", "[]", "{}", r#"{"__REALTIME_TIMESTAMP":"x"}"#] {
            assert_eq!(record(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".*") {
            let _ = record(&line);
        }
    }
}
