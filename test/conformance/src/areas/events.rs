//! The event stream, live and of the past.

use crate::{
    failure::{Failure, holds, same},
    reply::Stream,
    scenario::scenarios,
    target::{Target, filters, moment, now, text},
};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// As far back as anything here happened.
const PAST: Duration = Duration::from_secs(600);
/// How long an event may take from an engine to a reader.
const WAY: Duration = Duration::from_secs(2);

scenarios! { Events:
    "GET /events" => a_containers_life_is_told_live,
    "GET /events?since" => the_past_is_told_again,
    "GET /events?since" => the_past_and_the_present_join,
    "GET /events?until" => until_ends_the_stream,
    "GET /events?filters" => filter_by_type,
    "GET /events?filters" => filter_by_event,
    "GET /events?filters" => filter_by_container_name_and_id,
    "GET /events?filters" => filter_by_label,
    "GET /events?filters" => filter_by_image,
    "GET /events?filters" => networks_tell_their_events,
    "GET /events?filters" => volumes_tell_their_events,
    "GET /events?filters" => images_tell_their_events,
    "GET /events" => an_event_tells_who_what_and_when,
    "GET /events" => exec_and_rename_are_told,
    "GET /events" => malformed_filters_are_refused,
    "GET /events" => a_bad_time_is_refused,
}

/// What happens from now on. Engines answer before they listen, so something is made to `happen` until it is told.
async fn live(
    t: &Target,
    wanted: Value,
    mut happen: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<Stream, Failure> {
    let mut stream = t.open(Method::GET, &format!("/events?{}", filters(wanted)), &[], None).await?;
    same("the status", stream.status, 200)?;
    let look = async || {
        happen().await?;
        Ok(if stream.has_begun(WAY).await? { Ok(()) } else { Err("nothing".to_owned()) })
    };
    t.until("an event is told", look).await?;
    Ok(stream)
}

/// The events of the last minutes, up to now. What a call did has happened when the call was answered.
async fn past(t: &Target, wanted: Value) -> Result<Vec<Value>, Failure> {
    let (since, until) = (moment(now() - PAST), moment(now()));
    t.get(&format!("/events?since={since}&until={until}&{}", filters(wanted))).await?.is(200)?.values()
}

fn actions(events: &[Value]) -> Vec<String> {
    events.iter().map(|e| text(&e["Action"])).collect()
}

async fn a_containers_life_is_told_live(t: &Target) -> Result<(), Failure> {
    let before = async || {
        let id = t.container("before", json!({})).await?;
        t.delete(&format!("/containers/{id}")).await?.is(204).map(drop)
    };
    let mut stream = live(t, json!({"container": [t.name("before"), t.name("one")]}), before).await?;
    let id = t.started("one", json!({})).await?;
    t.post(&format!("/containers/{id}/kill")).await?.is(204)?;
    t.delete(&format!("/containers/{id}?force=1")).await?.is(204)?;
    for action in ["create", "start", "kill", "die", "destroy"] {
        stream.value(action, |e| e["Action"] == action && e["Actor"]["ID"] == id.as_str()).await?;
    }
    Ok(())
}

async fn the_past_is_told_again(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "exit 3").await?;
    let told = async || {
        let events = past(t, json!({"container": [id], "type": ["container"]})).await?;
        let found = actions(&events);
        let whole = ["create", "start", "die"].iter().all(|a| found.contains(&(*a).to_owned()));
        Ok(if whole { Ok(events) } else { Err(format!("{found:?}")) })
    };
    let events = t.until("create, start and die are told", told).await?;
    let times: Vec<i64> = events.iter().filter_map(|e| e["timeNano"].as_i64()).collect();
    holds("in order", times.windows(2).all(|w| w[0] <= w[1]) && times.len() == events.len(), times)?;
    let die = events.iter().find(|e| e["Action"] == "die").cloned().unwrap_or_default();
    same("exitCode", &die["Actor"]["Attributes"]["exitCode"], "3")
}

async fn the_past_and_the_present_join(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    let path = format!("/events?since={}&{}", moment(now() - PAST), filters(json!({"container": [id]})));
    let mut stream = t.open(Method::GET, &path, &[], None).await?;
    stream.value("start", |e| e["Action"] == "start").await?;
    t.post(&format!("/containers/{id}/pause")).await?.is(204)?;
    stream.value("pause", |e| e["Action"] == "pause").await.map(drop)
}

async fn until_ends_the_stream(t: &Target) -> Result<(), Failure> {
    // Where the tag takes longer than it may, it says nothing about the stream.
    for seconds in [4, 16, 64] {
        let end = now() + Duration::from_secs(seconds);
        let path = format!("/events?until={}&{}", moment(end), filters(json!({"type": ["image"]})));
        let stream = t.open(Method::GET, &path, &[], None).await?;
        t.tagged("own").await?;
        let in_time = now() + WAY < end;
        let events = stream.whole().await?.values()?;
        let told = actions(&events).contains(&"tag".to_owned());
        if in_time {
            return holds("what happened is told", told, events);
        }
    }
    holds("a tag takes less than a minute", false, ())
}

async fn filter_by_type(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    t.started("one", json!({"HostConfig": {"Binds": [format!("{name}:/data")]}})).await?;
    for kind in ["container", "volume"] {
        let events = past(t, json!({"type": [kind]})).await?;
        holds(format_args!("only {kind}"), !events.is_empty() && events.iter().all(|e| e["Type"] == kind), events)?;
    }
    Ok(())
}

async fn filter_by_event(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    same("only start", actions(&past(t, json!({"event": ["start"], "container": [id]})).await?), ["start"])?;
    let both = actions(&past(t, json!({"event": ["start", "create"], "container": [id]})).await?);
    same("either", both, ["create", "start"])
}

async fn filter_by_container_name_and_id(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.started("two", json!({})).await?;
    for word in [t.name("one"), id.clone(), id[..12].to_owned()] {
        let events = past(t, json!({"container": [word], "event": ["start"]})).await?;
        same(format_args!("the events of {word}"), events.len(), 1)?;
        same("whose", &events[0]["Actor"]["ID"], id.as_str())?;
    }
    Ok(())
}

async fn filter_by_label(t: &Target) -> Result<(), Failure> {
    let label = t.name("label");
    let id = t.started("one", json!({"Labels": {label.clone(): "x"}})).await?;
    t.started("two", json!({})).await?;
    for wanted in [label.clone(), format!("{label}=x")] {
        let events = past(t, json!({"label": [wanted], "event": ["start"]})).await?;
        same("the number of events", events.len(), 1)?;
        same("whose", &events[0]["Actor"]["ID"], id.as_str())?;
    }
    same("with another value", past(t, json!({"label": [format!("{label}=y")]})).await?.len(), 0)
}

async fn filter_by_image(t: &Target) -> Result<(), Failure> {
    let image = t.tagged("own").await?;
    t.started("one", json!({"Image": image})).await?;
    let (repository, _) = image.split_once(':').unwrap_or_default();
    for wanted in [image.as_str(), repository] {
        let events = past(t, json!({"image": [wanted], "type": ["container"], "event": ["start"]})).await?;
        same(format_args!("starts of {wanted}"), events.len(), 1)?;
    }
    Ok(())
}

async fn networks_tell_their_events(t: &Target) -> Result<(), Failure> {
    let network = t.network("lan", json!({})).await?;
    let id = t.started("one", json!({"HostConfig": {"NetworkMode": t.name("lan")}})).await?;
    t.delete(&format!("/containers/{id}?force=1")).await?.is(204)?;
    t.delete(&format!("/networks/{network}")).await?.is(204)?;
    let told = async || {
        let found = actions(&past(t, json!({"type": ["network"], "network": [network]})).await?);
        let whole = ["create", "connect", "disconnect", "destroy"].iter().all(|a| found.contains(&(*a).to_owned()));
        Ok(if whole { Ok(()) } else { Err(format!("{found:?}")) })
    };
    t.until("the network's life is told", told).await
}

async fn volumes_tell_their_events(t: &Target) -> Result<(), Failure> {
    let name = t.name("data");
    t.later(format!("/volumes/{name}?force=1"));
    let id = t.started("one", json!({"HostConfig": {"Binds": [format!("{name}:/data")]}})).await?;
    t.delete(&format!("/containers/{id}?force=1")).await?.is(204)?;
    t.delete(&format!("/volumes/{name}")).await?.is(204)?;
    let told = async || {
        let found = actions(&past(t, json!({"type": ["volume"], "volume": [name]})).await?);
        let whole = ["create", "mount", "unmount", "destroy"].iter().all(|a| found.contains(&(*a).to_owned()));
        Ok(if whole { Ok(()) } else { Err(format!("{found:?}")) })
    };
    t.until("the volume's life is told", told).await
}

async fn images_tell_their_events(t: &Target) -> Result<(), Failure> {
    let before = async || t.tagged("before").await.map(drop);
    let mut stream = live(t, json!({"type": ["image"]}), before).await?;
    let image = t.tagged("own").await?;
    t.delete(&format!("/images/{image}")).await?.is(200)?;
    stream.value("tag", |e| e["Action"] == "tag" && e["Actor"]["Attributes"]["name"] == image.as_str()).await?;
    stream.value("untag", |e| e["Action"] == "untag").await.map(drop)
}

async fn an_event_tells_who_what_and_when(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Labels": {"a": "b"}})).await?;
    let event = past(t, json!({"container": [id], "event": ["start"]})).await?.pop().unwrap_or_default();
    same("Type", &event["Type"], "container")?;
    same("scope", &event["scope"], "local")?;
    same("the old members", [&event["status"], &event["id"]], [&json!("start"), &json!(id)])?;
    let attributes = &event["Actor"]["Attributes"];
    same("the image", &attributes["image"], t.image())?;
    same("the name", &attributes["name"], t.name("one").as_str())?;
    same("the label", &attributes["a"], "b")?;
    let (seconds, nanos) = (event["time"].as_i64(), event["timeNano"].as_i64());
    same("the two times", nanos.map(|n| n / 1_000_000_000), seconds)
}

async fn exec_and_rename_are_told(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.exec(&id, "true").await?;
    t.remove_container_later(&t.name("renamed"));
    t.post(&format!("/containers/{id}/rename?name={}", t.name("renamed"))).await?.is(204)?;
    let told = async || {
        let found = actions(&past(t, json!({"container": [id]})).await?);
        let has = |word: &str| found.iter().any(|a| a.starts_with(word));
        Ok(if has("exec_create: sh") && has("exec_start") && has("exec_die") && has("rename") {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        })
    };
    t.until("exec and rename are told", told).await
}

async fn malformed_filters_are_refused(t: &Target) -> Result<(), Failure> {
    t.get("/events?until=1&filters=x").await?.rejects("")?;
    t.get("/events?until=1&filters=%7B%22type%22%3A7%7D").await?.rejects("")
}

async fn a_bad_time_is_refused(t: &Target) -> Result<(), Failure> {
    t.get("/events?since=yesterday&until=1").await?.rejects("")?;
    t.get("/events?until=tomorrow").await?.rejects("")
}
