//! The table that a run ends with.

use crate::run::{Outcome, Row};
use osier_ui::Table;

/// One line per scenario, one column per host; below it, why the red ones are red.
pub fn table(rows: &[Row], hosts: &[String]) -> String {
    let mut head = vec!["AREA", "SCENARIO"];
    head.extend(hosts.iter().map(String::as_str));
    let mut table = Table::new(&head);
    for row in rows {
        let cells = [area(row), row.name.to_owned()].into_iter().chain(row.outcomes.iter().map(word));
        table.row(cells);
    }
    let mut text = table.to_string();
    for row in rows {
        for (host, outcome) in hosts.iter().zip(&row.outcomes) {
            if let Outcome::Failed(why) = outcome {
                text.push_str(&format!("\n\n{} {} ({}) on {host}:\n  {why}", area(row), row.name, row.api));
            }
        }
    }
    text.push_str(&format!("\n\n{}", sentence(rows)));
    text
}

/// How many rows are what.
pub fn sentence(rows: &[Row]) -> String {
    let green = rows.iter().filter(|r| r.is_green()).count();
    let red = rows.iter().filter(|r| r.is_red()).count();
    format!("{} scenarios: {green} green, {red} red, {} skipped", rows.len(), rows.len() - green - red)
}

fn area(row: &Row) -> String {
    format!("{:?}", row.area).to_lowercase()
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed(_) => "FAILED".to_owned(),
        Outcome::Skipped(what) => format!("no {what}"),
    }
}
