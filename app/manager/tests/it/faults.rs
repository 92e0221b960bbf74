//! Engines that hang, die and come back, leave and join.

use crate::{
    fake::Fake,
    twisted::{Twist, Twisted},
    world::{World, until},
};
use http::{Method, StatusCode};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn an_engine_that_hangs_slows_nobody_and_is_found_out() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].has("good");
    fakes[1].has("stuck");
    let world = World::of(&fakes.each_ref()).await;
    fakes[1].hang(true);
    let start = Instant::now();
    assert_eq!(world.names("").await.len(), 2);
    assert!(start.elapsed() < Duration::from_secs(1), "ps took {:?}", start.elapsed());
    let stuck = world.ask(Method::GET, "/containers/stuck/top", None);
    let (status, body) = stuck.await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{body}");
    assert!(body["message"].as_str().unwrap().starts_with("node n2 was lost during the call: "), "{body}");
    assert_eq!(world.status("Status", "Unhealthy").await, 1);
    let rows = world.rows().await;
    let error = &rows.iter().find(|(k, _)| k.ends_with("Error")).unwrap().1;
    assert!(error.starts_with("reach the engine: no answer within 2 s (timeout; next attempt in "), "{error}");
    assert_eq!(world.names("").await, ["/n1/good"]);
    let rows = world.get("/containers/json?all=1").await;
    let down = rows.as_array().unwrap().iter().find(|r| r["Names"][0] == "/n2/stuck").unwrap();
    assert_eq!(down["Status"], "Host Down");
    for _ in 0..3 {
        assert_eq!(world.create("", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
    }
    assert_eq!(fakes[0].count(), 4);
    let (status, _) = world.ask(Method::POST, "/containers/stuck/stop", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    fakes[1].hang(false);
    world.healthy(2).await;
}

#[tokio::test]
async fn an_engine_that_dies_is_noticed_at_once_and_read_again_when_it_is_back() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let gone = fakes[1].has("gone");
    let world = World::of(&fakes.each_ref()).await;
    fakes[1].stop();
    let start = Instant::now();
    until("the loss is noticed", async || world.status("Status", "Unhealthy").await == 1).await;
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    let rows = world.rows().await;
    let error = rows.iter().find(|(k, _)| k.ends_with("Error")).unwrap();
    assert!(error.1.contains("refused"), "{error:?}");
    assert_eq!(world.create("", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
    assert_eq!(fakes[0].count(), 1);
    // What happens meanwhile is told by no event.
    fakes[1].state.lock().unwrap().containers.remove(&gone);
    fakes[1].has("fresh");
    fakes[1].restart().await;
    world.healthy(2).await;
    let names = world.names("?all=1").await;
    assert!(names.contains(&"/n2/fresh".to_owned()) && !names.contains(&"/n2/gone".to_owned()), "{names:?}");
    assert_eq!(world.status("Error", "").await, 0);
}

#[tokio::test]
async fn a_call_waits_for_an_engine_that_is_started_anew_and_not_for_one_that_stays_away() {
    let fake = Fake::start("n1").await;
    let id = fake.has("web");
    let world = World::of(&[&fake]).await;
    let lost = async || world.status("Status", "Unhealthy").await == 1;
    fake.stop();
    until("the loss is noticed", lost).await;
    let path = format!("/containers/{id}/json");
    let (answer, ()) = tokio::join!(world.ask(Method::GET, &path, None), fake.restart());
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    fake.stop();
    until("the loss is noticed again", lost).await;
    let (status, body) = world.ask(Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body["message"].as_str().unwrap().contains("unhealthy node n1"), "{body}");
}

#[tokio::test]
async fn a_create_goes_elsewhere_when_its_node_cannot_be_reached() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[1].has("one");
    let world = World::of(&fakes.each_ref()).await;
    // The next one would go to n1, which is gone before the manager can know.
    fakes[0].stop();
    let (status, body) = world.create("web", json!({"Image": "busybox"})).await;
    assert_eq!((status, fakes[1].count()), (StatusCode::CREATED, 2), "{body}");
}

#[tokio::test]
async fn a_container_whose_node_was_lost_as_it_was_made_is_not_said_to_be_none() {
    let fake = Fake::start("n1").await;
    let wire = Twisted::before(&fake).await;
    let world = World::start().await;
    world.cluster.set_members([wire.target()].into());
    world.healthy(1).await;
    // The engine makes it, and is gone before anybody can ask about it.
    wire.twist("/containers/json?all=1&filters", Twist::Bytes(""));
    wire.twist("/_ping", Twist::Bytes(""));
    let (status, body) = world.create("web", json!({"Image": "busybox"})).await;
    assert_eq!((status, fake.count()), (StatusCode::CREATED, 1), "{body}");
    let id = body["Id"].as_str().unwrap();
    let (status, body) = world.ask(Method::POST, &format!("/containers/{id}/start"), None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body["message"].as_str().unwrap().contains("made on node n1"), "{body}");
    let (status, _) = world.ask(Method::POST, "/containers/another/start", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn events_keep_the_cache_true() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let id = fake.has("web");
    until("it is listed", async || world.names("").await == ["/n1/web"]).await;
    fake.state.lock().unwrap().containers.get_mut(&id).unwrap()["State"]["Status"] = "exited".into();
    fake.tell("container", "die", &id);
    until("its end is seen", async || world.names("").await.is_empty()).await;
    let (status, _) = world.ask(Method::DELETE, "/containers/web", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(world.names("?all=1").await.is_empty(), "what was removed is gone at once");
}

#[tokio::test]
async fn members_come_and_go_and_two_of_one_name_are_not_both_taken() {
    let (one, two, twin) = (Fake::start("n1").await, Fake::start("n2").await, Fake::start("n1").await);
    one.has("a");
    two.has("b");
    let world = World::of(&[&one, &two]).await;
    world.cluster.set_members([two.target()].into());
    assert_eq!(world.names("").await, ["/n2/b"]);
    world.cluster.set_members([one.target(), two.target(), twin.target()].into());
    until("one of the two is refused", async || {
        let rows = world.rows().await;
        rows.iter().any(|(k, v)| k.ends_with("Error") && v.contains("under another address"))
    })
    .await;
    world.healthy(2).await;
}
