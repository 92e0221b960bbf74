//! The edges of the API: methods, slashes, swarm mode, plugins, and networks by id.

use crate::{
    fake::Fake,
    world::{World, until},
};
use http::{Method, StatusCode};
use osier_engine::empty;
use serde_json::{Value, json};

#[tokio::test]
async fn what_an_engine_does_not_serve_is_not_served() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    for (method, path, status) in [
        (Method::OPTIONS, "/nonsense", 200),
        (Method::HEAD, "/_ping", 200),
        (Method::HEAD, "/info", 404),
        (Method::POST, "/_ping", 404),
        (Method::GET, "/containers/json/", 404),
        (Method::GET, "/networks/", 200),
        (Method::POST, "/containers/json", 404),
        (Method::PATCH, "/info", 404),
        (Method::GET, "/swarm", 503),
        (Method::GET, "/swarm/x", 404),
        (Method::POST, "/swarm/leave", 503),
        (Method::POST, "/swarm/init", 503),
        (Method::PUT, "/volumes/x", 503),
        (Method::POST, "/plugins/pull?remote=x", 501),
        (Method::POST, "/commit", 400),
    ] {
        let (got, body) = world.send(method.clone(), path, empty()).await;
        assert_eq!(got.as_u16(), status, "{method} {path}: {}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn plugins_are_those_of_all_engines_and_changed_where_they_are() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let plugin = json!({"Id": "1", "Name": "a/b:1", "Enabled": false});
    fakes[0].prepare(Method::GET, "/plugins", StatusCode::OK, json!([]));
    fakes[1].prepare(Method::GET, "/plugins", StatusCode::OK, json!([plugin]));
    fakes[1].prepare(Method::GET, "/plugins/a/b:1/json", StatusCode::OK, plugin.clone());
    fakes[1].prepare(Method::POST, "/plugins/a/b:1/enable", StatusCode::OK, Value::Null);
    assert_eq!(world.get("/plugins").await, json!([plugin]));
    assert_eq!(world.get("/plugins/a/b:1/json").await, plugin);
    let (status, _) = world.ask(Method::POST, "/plugins/a/b:1/enable?timeout=0", None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(fakes[0].asked(Method::POST, "/enable").is_empty());
    assert_eq!(world.ask(Method::GET, "/plugins/other/json", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn networks_are_known_by_the_beginning_of_their_ids() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    for (fake, id) in [(&fakes[0], "ee01"), (&fakes[1], "ee02")] {
        let id = format!("{id:0<64}");
        let network = json!({"Id": id, "Name": "osier", "Driver": "osier", "Scope": "local"});
        fake.state.lock().unwrap().networks.push(network);
    }
    let lan = json!({"Id": format!("{:0<64}", "ff01"), "Name": "lan", "Driver": "bridge", "Scope": "local"});
    fakes[1].state.lock().unwrap().networks.push(lan);
    let world = World::of(&fakes.each_ref()).await;
    let list = world.get("/networks").await;
    let shown =
        list.as_array().unwrap().iter().find(|n| n["Name"] == "osier").unwrap()["Id"].as_str().unwrap().to_owned();
    // The cluster's id, short or long, and an engine's own.
    for word in [shown.as_str(), &shown[..12], &shown[..7], "ee01"] {
        let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": word}});
        assert_eq!(world.create("", body).await.0, StatusCode::CREATED, "{word}");
    }
    let sent = fakes.iter().flat_map(|f| f.asked(Method::POST, "/containers/create"));
    let modes: Vec<String> = sent
        .map(|a| serde_json::from_slice::<Value>(&a.body).unwrap()["HostConfig"]["NetworkMode"].to_string())
        .collect();
    assert_eq!(modes, ["\"osier\""; 4]);
    // A network of one node ties to it.
    for _ in 0..2 {
        let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "ff01"}});
        assert_eq!(world.create("", body).await.0, StatusCode::CREATED);
    }
    let tied = fakes[1]
        .asked(Method::POST, "/containers/create")
        .iter()
        .filter(|a| a.body.windows(4).any(|w| w == b"ff01"))
        .count();
    assert_eq!(tied, 2);
}

#[tokio::test]
async fn what_is_left_of_a_lost_container_can_be_taken_off_a_network() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    fake.prepare(Method::POST, "/networks/n1-bridge/disconnect", StatusCode::OK, Value::Null);
    let disconnect = async |force: bool| {
        let body = json!({"Container": "ghost", "Force": force});
        world.ask(Method::POST, "/networks/bridge/disconnect", Some(body)).await.0
    };
    assert_eq!(disconnect(false).await, StatusCode::NOT_FOUND);
    assert_eq!(disconnect(true).await, StatusCode::OK);
    assert_eq!(fake.asked(Method::POST, "/disconnect").len(), 1);
    assert_eq!(world.ask(Method::DELETE, "/networks/bridge", None).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn of_containers_made_in_one_second_the_later_one_comes_first() {
    let fake = Fake::start("n1").await;
    for (name, fraction) in [("first", "1"), ("second", "2")] {
        let id = fake.has(name);
        let mut state = fake.state.lock().unwrap();
        state.containers.get_mut(&id).unwrap()["Created"] = format!("1970-01-01T00:00:01.{fraction}Z").into();
    }
    let world = World::of(&[&fake]).await;
    until("both are read", async || world.names("").await == ["/n1/second", "/n1/first"]).await;
    assert_eq!(world.names("?limit=1").await, ["/n1/second"]);
    assert_eq!(world.names("?filters=%7B%22since%22%3A%5B%22first%22%5D%7D").await, ["/n1/second"]);
}

#[tokio::test]
async fn an_own_name_and_a_taken_one_are_told_apart_in_a_rename() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].has("web");
    fakes[1].has("db");
    let world = World::of(&fakes.each_ref()).await;
    let (status, answer) = world.ask(Method::POST, "/containers/web/rename?name=db", None).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["message"].as_str().unwrap().starts_with("Error when allocating new name: Conflict."), "{answer}");
    // What is wrong with its own name is the engine's to say.
    let _ = world.ask(Method::POST, "/containers/web/rename?name=web", None).await;
    assert_eq!(fakes[0].asked(Method::POST, "/rename").len(), 1);
}
