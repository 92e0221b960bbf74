//! The stream of events: whoever asks for the past and stays misses nothing and hears nothing twice.

use crate::{
    fake::Fake,
    world::{World, until},
};
use futures::future::join_all;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use osier_engine::empty;
use serde_json::Value;
use std::time::Duration;

/// Events of each engine.
const EVENTS: usize = 150;

/// Reads events until so many of `end` came, and tells the actors' ids in their order.
async fn listen(world: &World, end: usize) -> Vec<String> {
    let request = http::Request::get("/events?since=1").body(empty()).unwrap();
    let mut body = world.client.send(request).await.unwrap().into_body();
    let (mut text, mut ids) = (String::new(), Vec::new());
    while ids.iter().filter(|id: &&String| id.ends_with("last")).count() < end {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.unwrap();
        text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap());
        while let Some((line, rest)) = text.split_once('\n') {
            let event: Value = serde_json::from_str(line).unwrap();
            if event["Type"] == "volume" {
                ids.push(event["Actor"]["ID"].as_str().unwrap().to_owned());
            }
            text = rest.to_owned();
        }
    }
    ids
}

#[tokio::test]
async fn whoever_joins_while_things_happen_hears_each_event_once() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let tell = async {
        for number in 0..EVENTS {
            for fake in &fakes {
                fake.tell("volume", "create", &format!("{}-{number}", fake.name));
            }
            tokio::task::yield_now().await;
        }
        fakes.iter().for_each(|fake| fake.tell("volume", "create", &format!("{}-last", fake.name)));
    };
    let join = join_all((0..20).map(|pause| {
        let world = &world;
        async move {
            for _ in 0..pause * 5 {
                tokio::task::yield_now().await;
            }
            listen(world, 2).await
        }
    }));
    let ((), heard) = tokio::join!(tell, join);
    for ids in heard {
        let mut distinct = ids.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((ids.len(), distinct.len()), (2 * (EVENTS + 1), 2 * (EVENTS + 1)));
    }
}

#[tokio::test]
async fn times_are_taken_in_every_form_and_must_be_in_order() {
    let world = World::start().await;
    for (query, status) in [
        ("since=x", 400),
        ("until=7.x", 400),
        ("since=9&until=8", 400),
        ("since=9999999999&until=1", 400),
        ("since=1.5&until=2.000000001", 200),
        ("since=2h&until=1h30m", 200),
        ("since=1970-01-01&until=1970-01-02T00:00:00Z", 200),
        ("until=0", 200),
    ] {
        let (got, _) = world.ask(Method::GET, &format!("/events?{query}"), None).await;
        assert_eq!(got, StatusCode::from_u16(status).unwrap(), "{query}");
    }
}

#[tokio::test]
async fn a_manager_that_stops_waits_for_no_stream_without_an_end() {
    let fake = Fake::start("n1").await;
    fake.has("web");
    let world = World::of(&[&fake]).await;
    let open = async |path: &str| {
        let request = http::Request::get(path).body(empty()).unwrap();
        world.client.send(request).await.unwrap().into_body()
    };
    let mut events = open("/events").await;
    let mut whole = open("/containers/web/logs?stdout=1").await;
    let mut endless = Vec::new();
    for path in ["/containers/web/logs?stdout=1&follow=1", "/containers/web/stats", "/containers/web/stats?stream=true"]
    {
        let mut body = open(path).await;
        body.frame().await.unwrap().unwrap();
        endless.push(body);
    }
    world.cluster.end_streams();
    for body in &mut endless {
        let broken = async { while body.frame().await.expect("it does not look complete").is_ok() {} };
        tokio::time::timeout(Duration::from_secs(20), broken).await.unwrap();
    }
    assert!(events.frame().await.is_none());
    until("the others are given up", async || fake.state.lock().unwrap().following == 1).await;
    for _ in 0..1000 {
        whole.frame().await.unwrap().unwrap();
    }
}
