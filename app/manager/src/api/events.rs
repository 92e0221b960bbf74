//! `GET /events`: the events of all engines as one stream, past ones first where the client asks for them.

use super::{Answer, Api, Call};
use crate::{engine::Engine, hub::Event, refusal::Refusal, stream::JsonStream};
use futures::future::join_all;
use http::{HeaderValue, Method, Response, header};
use osier_dockerapi::{
    event::{EventFilter, decorate, identity, time_nanos},
    filters::Filters,
    moment,
    path::upstream,
    version::MAX,
};
use osier_engine::body::{BodySender, channel};
use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// How long engines may take to tell their past.
const HISTORY: Duration = Duration::from_secs(5);
/// How long a client may take to read one event before it is cut off.
const SLOW_READER: Duration = Duration::from_secs(10);

impl Api {
    /// See the module.
    pub(super) async fn events(&self, call: Call) -> Answer {
        let filter = EventFilter::new(Filters::parse(call.query.get("filters"))?);
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let time = |key: &str| {
            let text = call.query.get(key).filter(|text| !text.is_empty());
            let bad = |text: &str| Refusal::bad_request(format!("invalid time '{text}' in '{key}'"));
            text.map(|text| moment::parse(text, now).ok_or_else(|| bad(text))).transpose()
        };
        let (since, until) = (time("since")?, time("until")?);
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            let [since, until] = ["since", "until"].map(|key| call.query.get(key).unwrap_or_default());
            let message = format!("`since` time ({since}) cannot be after `until` time ({until})");
            return Err(Refusal::bad_request(message));
        }
        // Listen before asking for the past, so that nothing falls between the two.
        let (recent, live) = self.cluster.hub.subscribe();
        let (sender, body) = channel(16);
        let (hub, engines) = (self.cluster.hub.clone(), self.cluster.healthy());
        tokio::spawn(async move {
            let past = match since {
                Some(since) => past(&engines, since, until.unwrap_or(i128::MAX), now, recent).await,
                None => Vec::new(),
            };
            let end = until.map(|until| Duration::from_nanos(u64::try_from((until - now).max(0)).unwrap_or(u64::MAX)));
            let deadline = async {
                match end {
                    Some(end) => tokio::time::sleep(end).await,
                    None => pending().await,
                }
            };
            let told = tell_past(&past, &filter, &sender).await;
            let Some(told) = told.filter(|_| end != Some(Duration::ZERO)) else { return };
            tokio::select! {
                () = tell_live(live, &told, &filter, &sender) => {}
                () = sender.closed() => {}
                () = hub.closed() => {}
                () = deadline => {}
            }
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// What happened in this time, in order: as the engines remember it, and as it was told here.
async fn past(
    engines: &[Arc<Engine>],
    since: i128,
    until: i128,
    now: i128,
    mut recent: Vec<Arc<Event>>,
) -> Vec<Arc<Event>> {
    let asked = engines.iter().map(|engine| remembered(engine, since, until.min(now)));
    let mut events = join_all(asked).await.concat();
    recent.retain(|event| (since..=until).contains(&time_nanos(&event.value)));
    events.append(&mut recent);
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert(identity(&event.value)));
    events.sort_by_key(|event| time_nanos(&event.value));
    events
}

/// What one engine remembers of this time, which is ours.
async fn remembered(engine: &Engine, since: i128, until: i128) -> Vec<Arc<Event>> {
    let (Ok(client), Some(facts)) = (engine.client(), engine.facts()) else { return Vec::new() };
    // The engine looks at its own clock; the times that it tells are by that clock too.
    let skew = facts.clock.skew.whole_nanoseconds();
    let query = format!("since={}&until={}", seconds(since - skew), seconds(until - skew));
    let path = upstream(facts.api.nearest(MAX), &["events"], &query);
    let mut events = Vec::new();
    let read = async {
        let Ok(response) = client.call(Method::GET, &path, None).await else { return };
        let mut stream = JsonStream::new(response.into_body());
        while let Ok(Some(mut event)) = stream.next().await {
            decorate(&mut event, &facts.owner, &facts.node);
            events.push(Arc::new(Event::new(event)));
        }
    };
    // What an engine told before it got stuck is told on.
    let _ = tokio::time::timeout(HISTORY, read).await;
    events
}

/// Tells the past, and returns which events it held; `None` when the reader is gone.
async fn tell_past(past: &[Arc<Event>], filter: &EventFilter, sender: &BodySender) -> Option<HashSet<u64>> {
    for event in past.iter().filter(|event| filter.passes(&event.value)) {
        if !send(event, sender).await {
            return None;
        }
    }
    Some(past.iter().map(|event| identity(&event.value)).collect())
}

async fn tell_live(mut live: Receiver<Arc<Event>>, told: &HashSet<u64>, filter: &EventFilter, sender: &BodySender) {
    loop {
        match live.recv().await {
            // The live stream may repeat the end of the past.
            Ok(event) if told.contains(&identity(&event.value)) => {}
            Ok(event) => {
                if filter.passes(&event.value) && !send(&event, sender).await {
                    return;
                }
            }
            Err(RecvError::Lagged(missed)) => {
                return sender.fail(format!("{missed} events were lost, the reader is too slow")).await;
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn send(event: &Event, sender: &BodySender) -> bool {
    let sent = tokio::time::timeout(SLOW_READER, sender.send(event.bytes.clone())).await;
    sent.is_ok_and(|sent| sent.is_ok())
}

/// Writes a time as engines read it; before 1970 nothing happened.
fn seconds(nanos: i128) -> String {
    let nanos = nanos.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}
