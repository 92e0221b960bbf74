//! `osier logs` of containers: what several of them said, on whichever nodes they are, in the order of time.
//!
//! Must not know how an engine writes its streams; `osier-fleet` takes them apart and puts lines in order. Where containers are
//! followed by what a filter means, those that start later, or again, are read from their start on.

use crate::{
    client::{Manager, ManagerArgs, Place},
    ps::{list, parse_filter},
    stream::JsonStream,
};
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use http::Method;
use http_body_util::BodyExt;
use osier_fleet::{Channel, Frames, Tail, stamped};
use osier_ui::{ExitKind, Failure, Said, Ui, merged};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Lines on their way to the terminal.
const WAITING: usize = 1024;
/// How long after its start a container is looked for: the manager tells of it a moment before it shows it.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked for again where the manager does not show it.
const LOOKS: u32 = 5;
/// Nanoseconds of a second.
const NANOS: i128 = 1_000_000_000;
/// How long before an engine tells of a container's start, at the most, that one may have written already, in nanoseconds.
const BEFORE: i128 = 10 * NANOS;

/// Which containers of which cluster.
#[derive(Debug, Clone, Args)]
pub struct ContainerLogsArgs {
    /// The containers to show instead of services, by name or id (several words, or repeated)
    #[arg(short, long, value_name = "NAME", num_args = 1.., conflicts_with_all = ["unit", "limit"])]
    container: Vec<String>,
    /// Show the containers that this means, as 'docker ps' has it, such as label=tier=web or node=NAME (repeatable); with
    /// '-f' also those that start later
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter, conflicts_with_all = ["unit", "limit"])]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    manager: ManagerArgs,
}

impl ContainerLogsArgs {
    /// Whether any containers are asked for.
    pub fn is_wanted(&self) -> bool {
        !(self.container.is_empty() && self.filter.is_empty())
    }
}

/// A container whose log is shown.
#[derive(Debug, Clone)]
struct Source {
    id: String,
    /// `node/name`.
    name: Arc<str>,
    tty: bool,
}

/// A line of a container.
struct Line {
    container: Arc<str>,
    channel: Channel,
    /// When, as its engine writes it.
    stamp: String,
    text: String,
}

/// Shows what they said. `place` knows the clusters of this machine, by their names.
pub async fn run_container_logs(
    args: ContainerLogsArgs,
    tail: Tail,
    ui: &Ui,
    place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
) -> Result<(), Failure> {
    let manager = args.manager.manager(place).await?;
    let grows = tail.follow && !args.filter.is_empty();
    // Before they are listed: what starts in between is missed by none of the two.
    let starts = if grows { Some(starts(&manager).await?) } else { None };
    let sources = sources(&manager, &args).await?;
    if sources.is_empty() && !grows {
        return Err(Failure::message_only(ExitKind::Failed, "no container is meant").hint("'osier ps -a' shows all"));
    }
    let mut width = sources.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
    let (tell, told) = mpsc::channel(WAITING);
    let show = merged(told, sources.len(), tail.follow, |_, line: Line| {
        let name = &*line.container;
        width = width.max(name.chars().count());
        match (ui.is_json(), line.channel) {
            (true, channel) => {
                let stream = if channel == Channel::Out { "stdout" } else { "stderr" };
                ui.line(json!({ "time": line.stamp, "container": name, "stream": stream, "message": line.text }));
            }
            (false, Channel::Out) => ui.line(format_args!("{name:width$} | {}", line.text)),
            (false, Channel::Err) => ui.note(format_args!("{name:width$} ! {}", line.text)),
        }
    });
    let mut followed = Followed { manager: &manager, args: &args, tail, tell, ui, all: BTreeMap::new(), begun: 0 };
    let work = async move {
        let done = followed.run(sources, starts).await;
        drop(followed);
        done
    };
    tokio::select! {
        (done, ()) = async { tokio::join!(work, show) } => done,
        // Whoever follows stops when there is enough.
        () = ui.reader_leaves(), if tail.follow => Ok(()),
    }
}

/// Listens to the starts of containers from now on.
async fn starts(manager: &Manager) -> Result<Starts, Failure> {
    let path = format!("/events?filters={}", encoded(r#"{"type":["container"],"event":["start"]}"#));
    Ok(Starts { events: manager.stream(Method::GET, &path, None).await?, manager: manager.name().to_owned() })
}

/// The containers that are meant now, each once.
async fn sources(manager: &Manager, args: &ContainerLogsArgs) -> Result<Vec<Source>, Failure> {
    let mut wanted = args.container.clone();
    wanted.extend(meant(manager, args).await?);
    let (mut sources, mut seen) = (Vec::new(), BTreeSet::new());
    for name in &wanted {
        let source = inspect(manager, name).await?;
        if seen.insert(source.id.clone()) {
            sources.push(source);
        }
    }
    Ok(sources)
}

/// The ids of the containers that the filters mean.
async fn meant(manager: &Manager, args: &ContainerLogsArgs) -> Result<BTreeSet<String>, Failure> {
    if args.filter.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = list(manager, true, &args.filter).await?;
    Ok(rows.iter().map(|row| row.text("Id").to_owned()).collect())
}

/// The containers whose logs are read, those that started later among them.
struct Followed<'a> {
    manager: &'a Manager,
    args: &'a ContainerLogsArgs,
    tail: Tail,
    tell: mpsc::Sender<Said<Line>>,
    ui: &'a Ui,
    all: BTreeMap<String, Known>,
    /// How many readings have begun: each is a source of its own to whoever merges them.
    begun: usize,
}

/// A container that is or was read.
struct Known {
    source: Source,
    is_read: bool,
    /// What is shown up to this moment, in nanoseconds since 1970.
    latest: i128,
    /// It started again, at this moment, before its former output was read to the end.
    started: Option<i128>,
}

/// A container that started, when, and how often it was looked for since.
struct News {
    time: i128,
    looks: u32,
}

impl Followed<'_> {
    /// Reads them to their ends; where `starts` tells of others, for as long as it does.
    async fn run(&mut self, sources: Vec<Source>, mut starts: Option<Starts>) -> Result<(), Failure> {
        let (mut readings, mut failed, total) = (FuturesUnordered::new(), Vec::new(), sources.len());
        for source in sources {
            let since = self.tail.since.map(|since| since.to_string());
            let known = Known { source: source.clone(), is_read: true, latest: 0, started: None };
            self.all.insert(source.id.clone(), known);
            readings.push(read(self.manager, self.reading(source, self.tail.lines, since), self.tell.clone()));
        }
        let (mut news, mut look): (BTreeMap<String, News>, _) = (BTreeMap::new(), Instant::now());
        loop {
            let mut begin = Vec::new();
            tokio::select! {
                Some(over) = readings.next() => {
                    if let Err(failure) = over.done {
                        self.ui.failure(&failure);
                        failed.push(over.source.name.to_string());
                    }
                    if let Some(known) = self.all.get_mut(&over.source.id) {
                        known.is_read = false;
                        known.latest = known.latest.max(over.latest);
                        begin.extend(known.started.take().map(|started| (over.source, started)));
                    }
                }
                start = next(&mut starts), if starts.is_some() => {
                    let (id, time) = start?;
                    if news.is_empty() {
                        look = Instant::now() + LOOK;
                    }
                    news.entry(id).or_insert(News { time, looks: 0 });
                }
                () = sleep_until(look), if !news.is_empty() => {
                    look = Instant::now() + LOOK;
                    let meant = meant(self.manager, self.args).await?;
                    for (id, start) in std::mem::take(&mut news) {
                        if let Some(known) = self.all.get(&id) {
                            begin.push((known.source.clone(), start.time));
                        } else if meant.contains(&id) {
                            // One that is gone already has nothing to say any more.
                            begin.extend(inspect(self.manager, &id).await.ok().map(|source| (source, start.time)));
                        } else if start.looks < LOOKS {
                            news.insert(id, News { looks: start.looks + 1, ..start });
                        }
                    }
                }
                else => break,
            }
            for (source, started) in begin {
                let reading = self.begin(source, started);
                readings.extend(reading.map(|reading| read(self.manager, reading, self.tell.clone())));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let text = format!("the logs of {} of {total} containers broke off: {}", failed.len(), failed.join(", "));
        Err(Failure::message_only(ExitKind::Failed, text))
    }

    fn reading(&mut self, source: Source, lines: Option<u32>, since: Option<String>) -> Reading {
        self.begun += 1;
        Reading { at: self.begun - 1, source, lines, since, follow: self.tail.follow }
    }

    /// What to read of a container that started; nothing yet where its former output is still read.
    fn begin(&mut self, source: Source, started: i128) -> Option<Reading> {
        let new = || Known { source: source.clone(), is_read: false, latest: 0, started: None };
        let known = self.all.entry(source.id.clone()).or_insert_with(new);
        if known.is_read {
            known.started.get_or_insert(started);
            return None;
        }
        known.is_read = true;
        let since = if known.latest > 0 { known.latest + 1 } else { (started - BEFORE).max(0) };
        Some(self.reading(source, None, Some(format!("{}.{:09}", since / NANOS, since % NANOS))))
    }
}

/// The manager's word of containers that start.
struct Starts {
    events: JsonStream,
    /// The manager, as the user knows it.
    manager: String,
}

/// The next container that starts, and when: its id, and nanoseconds since 1970.
async fn next(starts: &mut Option<Starts>) -> Result<(String, i128), Failure> {
    let Some(starts) = starts else { return std::future::pending().await };
    loop {
        let lost = || format!("hear of containers that start from the manager at {}", starts.manager);
        let event = starts.events.next().await.map_err(|e| Failure::from(anyhow::anyhow!("{e}").context(lost())))?;
        let Some(event) = event else { return Err(Failure::message_only(ExitKind::Failed, lost())) };
        if let (Some(id), Some(time)) = (event["Actor"]["ID"].as_str(), event["timeNano"].as_i64()) {
            return Ok((id.to_owned(), time.max(0).into()));
        }
    }
}

async fn inspect(manager: &Manager, name: &str) -> Result<Source, Failure> {
    let path = format!("/containers/{}/json", name.split('/').map(encoded).collect::<Vec<_>>().join("/"));
    let found: Value = manager.json(Method::GET, &path, None).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (node, own) = (text(&found["Node"]["Name"]), text(&found["Name"]));
    let own = own.trim_start_matches('/');
    let name = if node.is_empty() || own.contains('/') { own.to_owned() } else { format!("{node}/{own}") };
    Ok(Source { id: text(&found["Id"]), name: name.into(), tty: found["Config"]["Tty"].as_bool().unwrap_or(false) })
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What is to be read of a container.
struct Reading {
    /// Which source of lines it is.
    at: usize,
    source: Source,
    /// So many of the last lines; all where it is not given.
    lines: Option<u32>,
    /// From when on, as engines take it.
    since: Option<String>,
    follow: bool,
}

/// What was read of a container.
struct Over {
    source: Source,
    /// The time of the last line, in nanoseconds since 1970.
    latest: i128,
    done: Result<(), Failure>,
}

async fn read(manager: &Manager, reading: Reading, tell: mpsc::Sender<Said<Line>>) -> Over {
    let mut latest = 0;
    let done = read_lines(manager, &reading, &tell, &mut latest).await;
    let _ = tell.send(Said::End(reading.at)).await;
    Over { source: reading.source, latest, done }
}

async fn read_lines(
    manager: &Manager,
    Reading { at, source, lines, since, follow }: &Reading,
    tell: &mpsc::Sender<Said<Line>>,
    latest: &mut i128,
) -> Result<(), Failure> {
    let lines = lines.map_or_else(|| "all".to_owned(), |n| n.to_string());
    let since = since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
    let (id, follow) = (encoded(&source.id), u8::from(*follow));
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={follow}&tail={lines}{since}");
    let mut body = manager.body(Method::GET, &path).await?;
    let mut frames = Frames::new(source.tty);
    loop {
        let mut lines = Vec::new();
        let mut on_line = |channel, line: &str| {
            // A line that was cut for its length has its time on its first part only.
            let (time, text) = stamped(line).unwrap_or((*latest, line));
            let stamp = line[..line.len() - text.len()].trim_end().to_owned();
            *latest = time;
            lines.push((time, Line { container: source.name.clone(), channel, stamp, text: text.to_owned() }));
        };
        let broken = |e: anyhow::Error| Failure::from(e.context(format!("read the log of '{}'", source.name)));
        let piece = body.frame().await;
        let is_end = piece.is_none();
        match piece {
            None => frames.finish(&mut on_line),
            Some(piece) => {
                if let Ok(data) = piece.map_err(|e| broken(e.into()))?.into_data() {
                    frames.push(&data, &mut on_line).map_err(|e| broken(e.into()))?;
                }
            }
        }
        for (time, line) in lines {
            if tell.send(Said::Line(*at, time, line)).await.is_err() {
                return Ok(());
            }
        }
        if is_end {
            return Ok(());
        }
    }
}
