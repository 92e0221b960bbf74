//! `GET /events`: the events of all engines as one stream, past ones first where the client asks for them.

use super::{Answer, Api, Call};
use crate::{hub::Event, refusal::Refusal, stream::JsonStream};
use futures::future::join_all;
use http::{HeaderValue, Method, Response, header};
use osier_dockerapi::{
    event::{EventFilter, decorate, time_nanos},
    filters::Filters,
    path::upstream,
    version::MAX,
};
use osier_engine::body::{BodySender, channel};
use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// How long engines may take to tell their past.
const HISTORY: Duration = Duration::from_secs(5);
/// How long a client may take to read one event before it is cut off.
const SLOW_READER: Duration = Duration::from_secs(10);

impl Api {
    /// See the module.
    pub(super) async fn events(&self, call: Call) -> Answer {
        let filter = EventFilter::new(Filters::parse(call.query.get("filters"))?)?;
        let since = call.query.get("since").filter(|t| !t.is_empty()).map(nanos).transpose()?;
        let until = call.query.get("until").filter(|t| !t.is_empty()).map(nanos).transpose()?;
        // Listen before asking for the past, so that nothing falls between the two.
        let live = self.cluster.hub.subscribe();
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let past = match since {
            Some(since) => self.history(since, until.unwrap_or(now).min(now)).await,
            None => Vec::new(),
        };
        let (sender, body) = channel(16);
        let hub = self.cluster.hub.clone();
        tokio::spawn(async move {
            let end = until.map(|until| Duration::from_nanos(u64::try_from((until - now).max(0)).unwrap_or(u64::MAX)));
            let deadline = async {
                match end {
                    Some(end) => tokio::time::sleep(end).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = tell(past, live, &filter, &sender) => {}
                () = sender.closed() => {}
                () = hub.closed() => {}
                () = deadline => {}
            }
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// What the engines remember of this time, in order.
    async fn history(&self, since: i128, until: i128) -> Vec<Event> {
        let engines = self.cluster.healthy();
        let asked = engines.iter().map(|engine| async move {
            let (Ok(client), Some(facts)) = (engine.client(), engine.facts()) else { return Vec::new() };
            let query = format!("since={}&until={}", seconds(since), seconds(until));
            let path = upstream(facts.api.nearest(MAX), &["events"], &query);
            let mut events = Vec::new();
            let read = async {
                let Ok(response) = client.call(Method::GET, &path, None).await else { return };
                let mut stream = JsonStream::new(response.into_body());
                while let Ok(Some(mut event)) = stream.next().await {
                    decorate(&mut event, &facts.owner, &facts.node);
                    events.push(Event::new(event));
                }
            };
            // What an engine told before it got stuck is told on.
            let _ = tokio::time::timeout(HISTORY, read).await;
            events
        });
        let mut events: Vec<Event> = join_all(asked).await.into_iter().flatten().collect();
        events.sort_by_key(|e| time_nanos(&e.value));
        events
    }
}

async fn tell(past: Vec<Event>, mut live: Receiver<Arc<Event>>, filter: &EventFilter, sender: &BodySender) {
    // The live stream may repeat the end of the past: what is not newer than an engine's last past event was told.
    let mut told: HashMap<String, i128> = HashMap::new();
    for event in &past {
        let last = told.entry(engine(event)).or_default();
        *last = (*last).max(time_nanos(&event.value));
        if filter.passes(&event.value) && !send(event, sender).await {
            return;
        }
    }
    loop {
        match live.recv().await {
            Ok(event) if told.get(&engine(&event)).is_some_and(|last| time_nanos(&event.value) <= *last) => {}
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

fn engine(event: &Event) -> String {
    event.value["node"]["Name"].as_str().unwrap_or_default().to_owned()
}

/// Reads a time as clients write it, `seconds[.fraction]` since 1970 or RFC 3339, in nanoseconds.
fn nanos(text: &str) -> Result<i128, Refusal> {
    let bad = || Refusal::bad_request(format!("invalid time '{text}'"));
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time.unix_timestamp_nanos());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().map_err(|_| bad())?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let fraction: i64 = digits.parse().map_err(|_| bad())?;
    Ok(i128::from(whole) * 1_000_000_000 + i128::from(fraction))
}

/// Writes a time as engines read it.
fn seconds(nanos: i128) -> String {
    let nanos = nanos.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_and_written_back() {
        for (text, expected) in [
            ("7", "7.000000000"),
            ("7.5", "7.500000000"),
            ("7.000000001", "7.000000001"),
            ("1970-01-01T00:00:07Z", "7.000000000"),
        ] {
            assert_eq!(seconds(nanos(text).unwrap()), expected, "{text}");
        }
        for bad in ["x", "7.x", "-", "1h"] {
            assert!(nanos(bad).is_err(), "{bad}");
        }
    }
}
