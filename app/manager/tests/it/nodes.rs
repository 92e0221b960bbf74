//! Nodes whose operator takes them out of work and lets them back.

use crate::{
    fake::Fake,
    world::{World, open_state, until},
};
use http::{Method, StatusCode};
use osier_engine::full;
use osier_manager::Engines;
use serde_json::{Value, json};
use std::path::Path;

async fn change(world: &World, node: &str, verb: &str) -> (StatusCode, Vec<Value>) {
    let (status, bytes) = world.send(Method::POST, &format!("/osier/v1/nodes/{node}/{verb}"), full("")).await;
    let values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
    (status, values.map(Result::unwrap).collect())
}

async fn manager(file: &Path, fakes: &[&Fake]) -> World {
    let engines = Engines { state: open_state(file).await, ..None.into() };
    let world = World::with(engines).await;
    world.cluster.set_members(fakes.iter().map(|f| f.target()).collect());
    until("all nodes answer", async || {
        let nodes = world.get("/osier/v1/nodes").await;
        nodes.as_array().unwrap().iter().all(|n| n["status"] == "healthy")
    })
    .await;
    world
}

async fn status(fake: &Fake, id: &str) -> String {
    fake.state.lock().unwrap().containers[id]["State"]["Status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manager.json");
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].has("here");
    let mut world = manager(&file, &fakes.each_ref()).await;
    let (answer, reports) = change(&world, "n1", "cordon").await;
    assert_eq!((answer, &reports[0]["availability"]), (StatusCode::OK, &json!("cordoned")));
    for restart in [false, true] {
        if restart {
            drop(world);
            world = manager(&file, &fakes.each_ref()).await;
        }
        assert_eq!(world.status("Status", "Healthy, cordoned").await, 1, "also after a restart");
        for _ in 0..3 {
            assert_eq!(world.create("", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
        }
        let (answer, body) = world.create("n1/web", json!({"Image": "busybox"})).await;
        assert_ne!(answer, StatusCode::CREATED, "{body}");
        assert_eq!(world.ask(Method::POST, "/containers/here/stop", None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(world.ask(Method::POST, "/containers/here/start", None).await.0, StatusCode::NO_CONTENT);
    }
    assert_eq!((fakes[0].count(), fakes[1].count()), (1, 6));
    assert_eq!(change(&world, "n1", "activate").await.0, StatusCode::OK);
    assert_eq!(world.create("n1/web", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
    let (answer, body) = change(&world, "n9", "cordon").await;
    assert_eq!((answer, &body[0]["message"]), (StatusCode::NOT_FOUND, &json!("No such node: n9")));
}

#[tokio::test]
async fn a_drained_node_stops_its_containers_and_starts_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manager.json");
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let ids = ["a", "b", "passing", "ended"].map(|name| fakes[0].has(name));
    {
        let mut state = fakes[0].state.lock().unwrap();
        state.containers.get_mut(&ids[2]).unwrap()["HostConfig"] = json!({"AutoRemove": true});
        state.containers.get_mut(&ids[3]).unwrap()["State"]["Status"] = "exited".into();
    }
    let world = manager(&file, &fakes.each_ref()).await;
    let (answer, steps) = change(&world, "n1", "drain").await;
    assert_eq!((answer, &steps[0]), (StatusCode::OK, &json!({"step": "now", "node": "n1", "availability": "drained"})));
    assert_eq!(steps.iter().filter(|s| s["step"] == "done" && s["what"] == "stopped").count(), 3, "{steps:?}");
    for id in &ids {
        assert_eq!(status(&fakes[0], id).await, "exited");
    }
    assert_eq!(world.names("").await.len(), 0);
    world.ask(Method::POST, "/images/create?fromImage=x", None).await;
    let pulls = fakes.each_ref().map(|f| f.asked(Method::POST, "/images/create").len());
    assert_eq!(pulls, [0, 1], "a drained node gets no images");
    // The manager starts anew, and somebody's restart policy brings a container back: it is stopped once more.
    drop(world);
    fakes[0].state.lock().unwrap().containers.get_mut(&ids[0]).unwrap()["State"]["Status"] = "running".into();
    let world = manager(&file, &fakes.each_ref()).await;
    until("it is stopped again", async || status(&fakes[0], &ids[0]).await == "exited").await;
    let (_, steps) = change(&world, "n1", "activate").await;
    assert_eq!(steps.iter().filter(|s| s["what"] == "started").count(), 2, "{steps:?}");
    let states = [status(&fakes[0], &ids[0]).await, status(&fakes[0], &ids[1]).await];
    assert_eq!(states, ["running", "running"]);
    assert_eq!([status(&fakes[0], &ids[2]).await, status(&fakes[0], &ids[3]).await], ["exited", "exited"]);
    assert_eq!(world.get("/osier/v1/nodes/n1").await["stopped"], json!([]));
}

#[tokio::test]
async fn a_node_that_is_away_is_seen_to_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start("n1").await;
    let id = fake.has("a");
    let world = manager(&folder.path().join("manager.json"), &[&fake]).await;
    fake.stop();
    until("the loss is noticed", async || world.get("/osier/v1/nodes/n1").await["status"] == "unhealthy").await;
    let (_, steps) = change(&world, "n1", "drain").await;
    assert_eq!(steps[1]["step"], "later", "{steps:?}");
    fake.restart().await;
    until("it is drained", async || status(&fake, &id).await == "exited").await;
    // What refuses to start is told, stays remembered, and does not stand in the way of the others.
    let start = format!("/containers/{id}/start");
    fake.prepare(Method::POST, &start, StatusCode::INTERNAL_SERVER_ERROR, json!({"message": "no"}));
    let (_, steps) = change(&world, "n1", "activate").await;
    assert_eq!(steps.last().unwrap()["why"], "no", "{steps:?}");
    fake.state.lock().unwrap().prepared.clear();
    assert_eq!(world.get("/osier/v1/nodes/n1").await["stopped"], json!([id]));
    change(&world, "n1", "activate").await;
    assert_eq!(status(&fake, &id).await, "running");
}

#[tokio::test]
async fn the_operators_labels_hold_at_once_and_outlive_the_manager() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manager.json");
    let fake = Fake::start("n1").await;
    fake.state.lock().unwrap().labels = vec!["disk=hdd".into()];
    let world = manager(&file, &[&fake]).await;
    let label =
        async |world: &World, body: Value| world.ask(Method::POST, "/osier/v1/nodes/n1/labels", Some(body)).await;
    let (answer, node) = label(&world, json!({"set": {"disk": "ssd", "zone": "a"}})).await;
    assert_eq!(
        (answer, &node["labels"]["disk"], &node["labels"]["zone"]),
        (StatusCode::OK, &json!("ssd"), &json!("a"))
    );
    drop(world);
    let world = manager(&file, &[&fake]).await;
    assert_eq!(world.get("/osier/v1/nodes/n1").await["labels"]["zone"], "a");
    let (_, node) = label(&world, json!({"remove": ["disk", "zone"]})).await;
    assert_eq!((&node["labels"]["disk"], &node["labels"]["zone"]), (&json!("hdd"), &Value::Null));
    for bad in [json!({"set": {"node": "x"}}), json!({"set": {"a b": "x"}}), json!({"set": 1}), json!({"more": 1})] {
        assert_eq!(label(&world, bad).await.0, StatusCode::BAD_REQUEST);
    }
}
