//! `osier logs` of hosts: what their services said, as one journal in the order of time.
//!
//! Must not know how the journal's entries are written; `osier-fleet` reads them and puts them in order.

use super::{Fleet, Stop, args::ServiceLogsArgs};
use crate::{
    recap::{self, Outcome},
    remote::{self, Remote, on_each},
};
use osier_fleet::{Record, Tail, record};
use osier_ssh::{Command, Stream};
use osier_ui::{ExitKind, Failure, Said, Ui, merged};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::mpsc;

/// The services that are shown where none is named.
const OURS: [&str; 2] = ["osier-agent", "osier-manager"];
/// Lines on their way to the terminal.
const WAITING: usize = 1024;

/// Shows what services of all hosts said.
pub async fn run_service_logs(args: ServiceLogsArgs, tail: Tail, ui: &Ui) -> Result<(), Failure> {
    let fleet = Fleet::read(&args.hosts, ui)?;
    let units = if args.unit.is_empty() { OURS.map(str::to_owned).to_vec() } else { args.unit };
    let (width, sources) = (fleet.width(), fleet.remotes.len());
    let reader = ui.clone();
    let stop =
        if tail.follow { Stop::listen_to(async move { reader.reader_leaves().await })? } else { Stop::listen()? };
    let command = command(&units, tail);
    let (tell, told) = mpsc::channel(WAITING);
    let names: Vec<String> = fleet.remotes.iter().map(|r| r.name.clone()).collect();
    // All at once: the lines of one that waited for its turn would come too late.
    let forks = if tail.follow { u16::MAX } else { fleet.forks };
    let work = async {
        let done = on_each(fleet.remotes.iter().enumerate(), forks, async |(at, remote): (usize, &Remote)| {
            let done = on_one((at, remote), &command, &stop, tell.clone(), ui).await;
            // Whoever follows stops when there is enough; else not all was shown.
            let done = done.and_then(|ended| if ended || tail.follow { Ok(()) } else { Err(Stop::failure()) });
            let _ = tell.send(Said::End(at)).await;
            done
        })
        .await;
        drop(tell);
        done
    };
    let show = merged(told, sources, tail.follow, |at, record| print(ui, &names[at], width, &record));
    let (done, ()) = tokio::join!(work, show);
    remote::close(fleet.remotes).await;
    let outcome = |(name, done): (String, Result<(), Failure>)| match done {
        Ok(()) => (name, Outcome::Unchanged),
        Err(failure) => {
            ui.failure(&failure);
            (name, Outcome::Failed(failure))
        }
    };
    recap::verdict(&names.into_iter().zip(done).map(outcome).collect::<Vec<_>>())
}

fn command(units: &[String], tail: Tail) -> Command<'static> {
    let mut words: Vec<String> = ["journalctl", "--no-pager", "--quiet", "--output=json"].map(str::to_owned).into();
    words.extend(units.iter().map(|unit| format!("--unit={unit}")));
    words.push(tail.lines.map_or_else(|| "--lines=all".to_owned(), |n| format!("--lines={n}")));
    words.extend(tail.since.map(|since| format!("--since=@{since}")));
    words.extend(tail.follow.then(|| "--follow".to_owned()));
    Command::new(words).as_root()
}

async fn on_one(
    (at, remote): (usize, &Remote),
    command: &Command<'_>,
    stop: &Stop,
    tell: mpsc::Sender<Said<Record>>,
    ui: &Ui,
) -> Result<bool, Failure> {
    // Lines are read without waiting for the terminal; so they are kept here until it takes them.
    let (keep, mut kept) = mpsc::unbounded_channel();
    let pass = async {
        while let Some(record) = kept.recv().await {
            let record: Record = record;
            if tell.send(Said::Line(at, record.micros, record)).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let on_line = |stream: Stream, line: &str| match (stream, record(line)) {
            (Stream::Out, Some(record)) => drop(keep.send(record)),
            (Stream::Out, None) => {}
            (Stream::Err, _) => ui.note(format_args!("{} ! {line}", remote.name)),
        };
        let code = remote.ssh.stream_until(command, stop.wait(), on_line).await.map_err(remote::failure);
        drop(keep);
        code
    };
    match tokio::join!(read, pass).0? {
        None => Ok(false),
        Some(0) => Ok(true),
        Some(code) => {
            let text = format!("read the journal of '{}' (journalctl ended with code {code})", remote.name);
            Err(Failure::message_only(ExitKind::SomeHostsFailed, text))
        }
    }
}

fn print(ui: &Ui, host: &str, width: usize, record: &Record) {
    let time = OffsetDateTime::from_unix_timestamp_nanos(record.micros.saturating_mul(1000)).ok();
    let stamp = time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default();
    if ui.is_json() {
        let (unit, message) = (&record.unit, &record.message);
        let value =
            json!({ "time": stamp, "host": host, "unit": unit, "priority": record.priority, "message": message });
        return ui.line(value);
    }
    // To the millisecond, so that lines align.
    let short = time.map(|t| t.replace_nanosecond(t.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(t));
    let short = short.map(|t| {
        let (h, m, s) = t.to_hms();
        format!("{}T{h:02}:{m:02}:{s:02}.{:03}Z", t.date(), t.millisecond())
    });
    for line in record.message.lines() {
        let line = osier_fleet::harmless(line);
        ui.line(format_args!("{} {host:width$} {} | {line}", short.as_deref().unwrap_or("?"), record.unit));
    }
}
