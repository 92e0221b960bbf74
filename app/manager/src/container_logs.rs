//! `osier logs` of containers: what several of them said, on whichever nodes they are, in the order of time.
//!
//! Must not know how an engine writes its streams; `osier-fleet` takes them apart and puts lines in order.

use crate::{
    client::{Manager, ManagerArgs, Place},
    ps::{list, parse_filter},
};
use clap::Args;
use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use osier_fleet::{Channel, Frames, Tail, stamped};
use osier_ui::{ExitKind, Failure, Said, Ui, merged};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::sync::mpsc;

/// Lines on their way to the terminal.
const WAITING: usize = 1024;

/// Which containers of which cluster.
#[derive(Debug, Clone, Args)]
pub struct ContainerLogsArgs {
    /// The containers to show instead of services, by name or id (several words, or repeated)
    #[arg(short, long, value_name = "NAME", num_args = 1.., conflicts_with_all = ["unit", "limit"])]
    container: Vec<String>,
    /// Show the containers that this means, as 'docker ps' has it, such as label=tier=web or node=NAME (repeatable)
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
struct Source {
    id: String,
    /// `node/name`.
    name: String,
    tty: bool,
}

/// Shows what they said. `place` knows the clusters of this machine, by their names.
pub async fn run_container_logs(
    args: ContainerLogsArgs,
    tail: Tail,
    ui: &Ui,
    place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
) -> Result<(), Failure> {
    let manager = args.manager.manager(place).await?;
    let mut wanted = args.container.clone();
    if !args.filter.is_empty() {
        wanted.extend(list(&manager, true, &args.filter).await?.iter().map(|row| row.text("Id").to_owned()));
    }
    let (mut sources, mut seen) = (Vec::new(), BTreeSet::new());
    for name in &wanted {
        let source = inspect(&manager, name).await?;
        if seen.insert(source.id.clone()) {
            sources.push(source);
        }
    }
    if sources.is_empty() {
        return Err(Failure::message_only(ExitKind::Failed, "no container is meant").hint("'osier ps -a' shows all"));
    }
    let width = sources.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
    let (tell, told) = mpsc::channel(WAITING);
    let read = async {
        let one = |(at, source)| {
            let (manager, tell) = (&manager, tell.clone());
            async move {
                let done = read(manager, source, tail, at, &tell).await;
                let _ = tell.send(Said::End(at)).await;
                done
            }
        };
        let done = join_all(sources.iter().enumerate().map(one)).await;
        drop(tell);
        done
    };
    let show = merged(told, sources.len(), tail.follow, |at, line: Line| {
        let name = &sources[at].name;
        match (ui.is_json(), line.channel) {
            (true, channel) => {
                let stream = if channel == Channel::Out { "stdout" } else { "stderr" };
                ui.line(json!({ "time": line.stamp, "container": name, "stream": stream, "message": line.text }));
            }
            (false, Channel::Out) => ui.line(format_args!("{name:width$} | {}", line.text)),
            (false, Channel::Err) => ui.note(format_args!("{name:width$} ! {}", line.text)),
        }
    });
    let (done, ()) = tokio::join!(read, show);
    let failed: Vec<&str> =
        done.iter().zip(&sources).filter(|(d, _)| d.is_err()).map(|(_, s)| s.name.as_str()).collect();
    done.iter().filter_map(|d| d.as_ref().err()).for_each(|failure| ui.failure(failure));
    if failed.is_empty() {
        return Ok(());
    }
    let text = format!("the logs of {} of {} containers broke off: {}", failed.len(), sources.len(), failed.join(", "));
    Err(Failure::message_only(ExitKind::Failed, text))
}

/// A line of a container.
struct Line {
    channel: Channel,
    /// When, as its engine writes it.
    stamp: String,
    text: String,
}

async fn inspect(manager: &Manager, name: &str) -> Result<Source, Failure> {
    let path = format!("/containers/{}/json", name.split('/').map(encoded).collect::<Vec<_>>().join("/"));
    let found: Value = manager.json(Method::GET, &path, None).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (node, own) = (text(&found["Node"]["Name"]), text(&found["Name"]));
    let own = own.trim_start_matches('/');
    let name = if node.is_empty() || own.contains('/') { own.to_owned() } else { format!("{node}/{own}") };
    Ok(Source { id: text(&found["Id"]), name, tty: found["Config"]["Tty"].as_bool().unwrap_or(false) })
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

async fn read(
    manager: &Manager,
    source: &Source,
    tail: Tail,
    at: usize,
    tell: &mpsc::Sender<Said<Line>>,
) -> Result<(), Failure> {
    let lines = tail.lines.map_or_else(|| "all".to_owned(), |n| n.to_string());
    let since = tail.since.map(|since| format!("&since={since}")).unwrap_or_default();
    let (id, follow) = (encoded(&source.id), u8::from(tail.follow));
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={follow}&tail={lines}{since}");
    let mut body = manager.body(Method::GET, &path).await?;
    let (mut frames, mut latest) = (Frames::new(source.tty), 0);
    loop {
        let mut lines = Vec::new();
        let mut on_line = |channel, line: &str| {
            // A line that was cut for its length has its time on its first part only.
            let (time, text) = stamped(line).unwrap_or((latest, line));
            let stamp = line[..line.len() - text.len()].trim_end().to_owned();
            latest = time;
            lines.push((time, Line { channel, stamp, text: text.to_owned() }));
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
            if tell.send(Said::Line(at, time, line)).await.is_err() {
                return Ok(());
            }
        }
        if is_end {
            return Ok(());
        }
    }
}
