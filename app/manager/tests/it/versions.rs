//! One cluster of old and new engines: what a client says in its version reaches each engine in its own, or goes where it
//! can be said.

use crate::{fake::Fake, world::World};
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// An engine of API 1.41 called `old`, and one of 1.51 called `new`.
async fn two_generations() -> ([Fake; 2], World) {
    let fakes = [Fake::start("old").await, Fake::start("new").await];
    fakes[1].state.lock().unwrap().api = "1.51";
    let world = World::of(&fakes.each_ref()).await;
    (fakes, world)
}

fn sent(fake: &Fake, end: &str) -> Value {
    serde_json::from_slice(&fake.asked(Method::POST, end).last().unwrap().body).unwrap()
}

#[tokio::test]
async fn a_create_goes_where_it_is_understood() {
    let ([old, new], world) = two_generations().await;
    let body = json!({"Image": "busybox", "HostConfig": {"Annotations": {"a": "b"}}});
    for _ in 0..3 {
        let (status, answer) = world.ask(Method::POST, "/v1.51/containers/create", Some(body.clone())).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    assert_eq!((old.count(), new.count()), (0, 3));
    new.stop();
    crate::world::until("it is gone", async || world.status("Status", "Unhealthy").await == 1).await;
    let (status, answer) = world.ask(Method::POST, "/v1.51/containers/create", Some(body.clone())).await;
    assert_ne!(status, StatusCode::CREATED);
    assert!(answer["message"].as_str().unwrap().contains("an annotation needs API 1.43"), "{answer}");
    // To a client of 1.41 it means nothing, on any engine.
    assert_eq!(world.create("", body).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn an_old_engine_makes_the_sources_of_mounts_too() {
    let (fakes, world) = two_generations().await;
    let mount = json!({"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"CreateMountpoint": true}});
    let body = json!({"Image": "busybox", "HostConfig": {"Mounts": [mount]}});
    for node in ["old", "new"] {
        let path = format!("/v1.51/containers/create?name={node}%2Fweb-{node}");
        assert_eq!(world.ask(Method::POST, &path, Some(body.clone())).await.0, StatusCode::CREATED);
    }
    let [old, new] = fakes.each_ref().map(|fake| sent(fake, "/containers/create")["HostConfig"].clone());
    assert_eq!((&old["Binds"], &old["Mounts"]), (&json!(["/a:/b:rw"]), &json!([])));
    assert_eq!(new, body["HostConfig"]);
}

#[tokio::test]
async fn what_an_old_engine_would_leave_out_is_refused_with_words() {
    let ([old, new], world) = two_generations().await;
    old.has("a");
    new.has("b");
    crate::world::until("both are listed", async || world.names("").await.len() == 2).await;
    let stop =
        async |name: &str| world.ask(Method::POST, &format!("/v1.51/containers/{name}/stop?signal=INT"), None).await;
    let (status, answer) = stop("a").await;
    let message = "stopping with a signal needs API 1.42, but the engine of node old speaks 1.41 at most";
    assert_eq!((status, answer), (StatusCode::BAD_REQUEST, json!({ "message": message })));
    assert!(old.asked(Method::POST, "/stop").is_empty());
    assert_eq!(stop("b").await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_network_is_made_where_it_is_understood_and_its_name_is_given_once() {
    let ([old, new], world) = two_generations().await;
    for fake in [&old, &new] {
        fake.prepare(Method::POST, "/networks/create", StatusCode::CREATED, json!({"Id": "n"}));
    }
    let make = async |body: Value| world.ask(Method::POST, "/v1.51/networks/create", Some(body)).await;
    assert_eq!(make(json!({"Name": "six", "EnableIPv4": false})).await.0, StatusCode::CREATED);
    assert_eq!(sent(&new, "/networks/create")["Name"], "six");
    assert_eq!(make(json!({"Name": "old/lan"})).await.0, StatusCode::CREATED);
    assert_eq!(sent(&old, "/networks/create"), json!({"Name": "lan", "CheckDuplicate": true}));
    assert_eq!(make(json!({"Name": "x", "Driver": "overlay"})).await.0, StatusCode::FORBIDDEN);
    let (status, answer) = make(json!({})).await;
    assert_eq!((status, &answer["message"]), (StatusCode::BAD_REQUEST, &json!("invalid name: name is empty")));
}

#[tokio::test]
async fn pruning_keeps_volumes_that_somebody_named_on_old_engines_too() {
    let ([old, new], world) = two_generations().await;
    let nameless = "0123456789abcdef".repeat(4);
    let volumes = json!({"Volumes": [{"Name": "data", "Driver": "local"}, {"Name": nameless, "Driver": "local"}]});
    old.prepare(Method::GET, "/volumes", StatusCode::OK, volumes);
    old.prepare(Method::DELETE, &format!("/volumes/{nameless}"), StatusCode::OK, Value::Null);
    new.prepare(Method::POST, "/volumes/prune", StatusCode::OK, json!({"VolumesDeleted": ["x"], "SpaceReclaimed": 5}));
    let (status, answer) = world.ask(Method::POST, "/v1.51/volumes/prune", None).await;
    assert_eq!((status, &answer["SpaceReclaimed"]), (StatusCode::OK, &json!(5)), "{answer}");
    assert_eq!(old.asked(Method::DELETE, "").len(), 1);
    assert!(old.asked(Method::POST, "/prune").is_empty());
    // To a client of 1.41, all means all.
    old.prepare(
        Method::POST,
        "/volumes/prune",
        StatusCode::OK,
        json!({"VolumesDeleted": ["data"], "SpaceReclaimed": 1}),
    );
    assert_eq!(world.ask(Method::POST, "/v1.41/volumes/prune", None).await.0, StatusCode::OK);
    assert_eq!(old.asked(Method::POST, "/prune").len(), 1);
}
