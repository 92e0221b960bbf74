//! Images: which nodes have them, and how they get to the others.

use crate::{fake::Fake, world::World};
use http::{Method, StatusCode};
use osier_engine::{body, full};
use serde_json::{Value, json};

fn lines(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[tokio::test]
async fn an_engine_that_refuses_a_load_does_not_truncate_the_others() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    fakes[1].prepare(Method::POST, "/images/load", StatusCode::INTERNAL_SERVER_ERROR, json!({"message": "disk full"}));
    let world = World::of(&fakes.each_ref()).await;
    let (sender, upload) = body::channel(1);
    tokio::spawn(async move {
        for i in 0..200_u8 {
            sender.send(vec![i; 64 << 10]).await.unwrap();
        }
    });
    let (status, answer) = world.send(Method::POST, "/images/load", upload).await;
    assert_eq!(status, StatusCode::OK);
    for fake in [&fakes[0], &fakes[2]] {
        let loads = fake.asked(Method::POST, "/images/load");
        assert_eq!(loads[0].body.len(), 200 * (64 << 10), "{}", fake.name);
    }
    let lines = lines(&answer);
    assert_eq!(lines.iter().filter(|l| l["stream"] == "Loaded image: x:1\n").count(), 1);
    // An engine that stops reading may also be noticed by the broken connection, before its answer is read.
    assert!(lines.last().unwrap()["error"].as_str().unwrap().starts_with("n2: "), "{:?}", lines.last());
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_complete() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let (sender, upload) = body::channel(1);
    tokio::spawn(async move {
        sender.send(vec![1; 64 << 10]).await.unwrap();
        sender.fail("the client's disk broke").await;
    });
    let request = http::Request::post("/images/load").body(upload).unwrap();
    // The client sees its own failure; the engine must see one too.
    let _ = world.client.send(request).await;
    crate::world::until("the engine saw the upload end", async || {
        fake.asked(Method::POST, "/images/load").iter().all(|l| l.body.starts_with(b"broken"))
    })
    .await;
}

#[tokio::test]
async fn a_pull_goes_to_all_and_tells_who_failed() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[1].prepare(Method::POST, "/images/create", StatusCode::NOT_FOUND, json!({"message": "no such repository"}));
    let world = World::of(&fakes.each_ref()).await;
    let (status, answer) = world.send(Method::POST, "/images/create?fromImage=nginx&tag=1", full("")).await;
    let lines = lines(&answer);
    assert_eq!(status, StatusCode::OK);
    assert!(lines.iter().all(|l| l.get("error").is_some() || l["id"] == "n1" || l["id"] == "n2"));
    assert!(lines.iter().any(|l| l["status"] == "Pulling nginx:1... : Status: Downloaded"));
    assert_eq!(lines.last().unwrap()["errorDetail"]["message"], "n2: no such repository");
    assert_eq!(fakes[0].asked(Method::POST, "/images/create")[0].query, "fromImage=nginx&tag=1");
}

#[tokio::test]
async fn a_missing_image_is_pulled_or_the_container_goes_where_it_is() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let missing = json!({"message": "No such image: app:1"});
    fakes[0].prepare(Method::POST, "/containers/create", StatusCode::NOT_FOUND, missing.clone());
    fakes[1].has("load");
    let world = World::of(&fakes.each_ref()).await;
    let create = async || world.create("", json!({"Image": "app:1"})).await;
    // Nobody has it: the client is told, so that it pulls.
    assert_eq!(create().await, (StatusCode::NOT_FOUND, missing));
    // The other node has it and a pull fails: the container goes there.
    let image = json!({"Id": "sha256:a99", "RepoTags": ["app:1"], "Created": 1});
    fakes[1].state.lock().unwrap().images.push(image);
    fakes[1].tell("image", "tag", "sha256:a99");
    fakes[0].prepare(Method::POST, "/images/create", StatusCode::NOT_FOUND, json!({"message": "no registry"}));
    crate::world::until("the image is known", async || world.get("/images/json").await.as_array().unwrap().len() == 2)
        .await;
    assert_eq!(create().await.0, StatusCode::CREATED);
    assert_eq!((fakes[0].count(), fakes[1].count()), (0, 2));
    assert_eq!(fakes[0].asked(Method::POST, "/images/create")[0].query, "fromImage=app%3A1");
    // Without another node, what was said first is said.
    let (status, body) = world.create("n1/x", json!({"Image": "app:1"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["message"].as_str().unwrap().starts_with("No such image: app:1 (on n1; elsewhere: "), "{body}");
}

#[tokio::test]
async fn images_are_listed_once_and_removed_everywhere() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    for fake in &fakes {
        fake.prepare(Method::DELETE, "/images/busybox", StatusCode::OK, json!([{"Untagged": "busybox:latest"}]));
    }
    let world = World::of(&fakes.each_ref()).await;
    assert_eq!(world.get("/images/json").await.as_array().unwrap().len(), 1);
    let (status, removed) = world.ask(Method::DELETE, "/images/busybox?force=1", None).await;
    assert_eq!((status, removed), (StatusCode::OK, json!([{"Untagged": "busybox:latest"}])));
    for fake in &fakes {
        assert_eq!(fake.asked(Method::DELETE, "/images/busybox")[0].query, "force=1");
    }
    assert_eq!(world.ask(Method::DELETE, "/images/nothing", None).await.0, StatusCode::NOT_FOUND);
}
