//! What a run ends with: the whole table, or only what is not green in it.

use crate::run::{Outcome, Row};
use osier_ui::Table;

/// How much of a reason is shown where there is little room, at its beginning and at its end.
const SHOWN: usize = 500;
/// How many reasons are shown there.
const REASONS: usize = 20;

/// One line per scenario, one column per host; below it, why the red ones are red.
pub fn table(rows: &[Row], hosts: &[String]) -> String {
    let mut head = vec!["AREA", "SCENARIO"];
    head.extend(hosts.iter().map(String::as_str));
    let mut table = Table::new(&head);
    for row in rows {
        let cells = [area(row), row.name.to_owned()].into_iter().chain(row.outcomes.iter().map(word));
        table.row(cells);
    }
    let reasons = failures(rows, hosts).map(|(what, why)| format!("\n\n{what}:\n  {why}"));
    format!("{table}{}\n\n{}", reasons.collect::<String>(), sentence(rows))
}

/// Only what is red, and how many rows are what: for a log that may be cut, so the most telling comes last.
pub fn red(rows: &[Row], hosts: &[String]) -> String {
    let mut text = String::new();
    let all: Vec<_> = failures(rows, hosts).collect();
    for (what, why) in all.iter().take(REASONS) {
        text.push_str(&format!("{what}:\n  {}\n", shortened(why)));
    }
    if let Some(more) = all.len().checked_sub(REASONS).filter(|more| *more > 0) {
        text.push_str(&format!("and {more} more\n"));
    }
    text + &sentence(rows)
}

/// Every scenario that failed on a host, and why.
fn failures<'a>(rows: &'a [Row], hosts: &'a [String]) -> impl Iterator<Item = (String, &'a str)> {
    rows.iter().flat_map(move |row| {
        hosts.iter().zip(&row.outcomes).filter_map(move |(host, outcome)| match outcome {
            Outcome::Failed(why) => Some((format!("{} {} ({}) on {host}", area(row), row.name, row.api), why.as_str())),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    })
}

fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= 2 * SHOWN {
        return text.to_owned();
    }
    let (head, tail): (String, String) =
        (text.chars().take(SHOWN).collect(), text.chars().skip(length - SHOWN).collect());
    format!("{head} … {tail}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Area;

    #[test]
    fn what_is_red_is_told_in_few_words() {
        let row = |name, outcomes| Row { area: Area::Events, name, api: "GET /events", outcomes };
        let long = format!("begin{}end", "ä".repeat(50_000));
        let mut rows = vec![
            row("good", vec![Outcome::Passed, Outcome::Passed]),
            row("bad", vec![Outcome::Passed, Outcome::Failed(long)]),
            row("absent", vec![Outcome::Skipped("compose 1".into()), Outcome::Passed]),
        ];
        let hosts = ["engine".to_owned(), "manager".to_owned()];
        let text = red(&rows, &hosts);
        assert!(text.starts_with("events bad (GET /events) on manager:\n  begin") && text.len() < 3000, "{text}");
        assert!(text.ends_with("end\n3 scenarios: 1 green, 1 red, 1 skipped"), "{text}");
        assert!(!text.contains("good") && !text.contains("on engine"), "{text}");
        rows.extend(std::iter::repeat_n(rows[1].clone(), 400));
        let text = red(&rows, &hosts);
        assert!(text.len() < 50_000 && text.contains("\nand 381 more\n403 scenarios: "), "{}", text.len());
        assert_eq!(red(&rows[..1], &hosts), "1 scenarios: 1 green, 0 red, 0 skipped");
    }
}
