//! Many engines behave as one: placing, names, versions, execs, events, networks.

use crate::{
    fake::Fake,
    world::{World, until},
};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_engine::empty;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn creates_at_the_same_time_spread() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    let world = World::of(&fakes.each_ref()).await;
    let creates = (0..30).map(|_| world.create("", json!({"Image": "busybox"})));
    for (status, body) in join_all(creates).await {
        assert_eq!((status, &body["Novelty"]), (StatusCode::CREATED, &json!(true)), "{body}");
    }
    assert_eq!(fakes.each_ref().map(Fake::count), [10, 10, 10]);
    assert_eq!(world.names("?all=1").await.len(), 30, "what was created is listed at once");
}

#[tokio::test]
async fn reservations_are_kept_and_shown() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let body = json!({"Image": "busybox", "HostConfig": {"NanoCpus": 3_000_000_000_u64, "Memory": 1 << 30}});
    let statuses = [0, 1, 2].map(|_| world.create("", body.clone()));
    let [a, b, c] = join_all(statuses).await.try_into().unwrap();
    assert_eq!((a.0, b.0), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(c.0, StatusCode::SERVICE_UNAVAILABLE);
    let message = c.1["message"].as_str().unwrap();
    assert!(
        message.starts_with("no resources available to schedule container\n(n1: it has too little CPU left"),
        "{message}"
    );
    assert_eq!(world.status("Reserved CPUs", "3 / 4").await, 2);
    assert_eq!(world.status("Reserved Memory", "1 GiB / 7.823 GiB").await, 2);
}

#[tokio::test]
async fn a_published_port_is_given_once_per_node() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let body = json!({"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}});
    let answers = join_all((0..3).map(|_| world.create("", body.clone()))).await;
    let full = answers.iter().find(|(status, _)| *status != StatusCode::CREATED).unwrap();
    assert!(full.1["message"].as_str().unwrap().contains("\n[port 8080 (Bridge mode)]\n"), "{full:?}");
    assert_eq!(fakes.each_ref().map(Fake::count), [1, 1]);
    assert_eq!(world.create("", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn one_name_is_given_once_in_the_cluster() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let answers = join_all((0..8).map(|_| world.create("web", json!({"Image": "busybox"})))).await;
    let count = |status| answers.iter().filter(|(s, _)| *s == status).count();
    assert_eq!((count(StatusCode::CREATED), count(StatusCode::CONFLICT)), (1, 7));
    let conflict = answers.iter().find(|(s, _)| *s == StatusCode::CONFLICT).unwrap();
    assert!(conflict.1["message"].as_str().unwrap().contains("The container name \"/web\" is already in use"));
    assert_eq!(fakes[0].count() + fakes[1].count(), 1);
}

#[tokio::test]
async fn a_name_that_a_container_is_being_renamed_to_is_nobody_elses() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let ids = [fakes[0].has("a"), fakes[1].has("b")];
    let world = World::of(&fakes.each_ref()).await;
    for turn in 0..10 {
        let name = format!("web-{turn}");
        let rename =
            async |id: &str| world.ask(Method::POST, &format!("/containers/{id}/rename?name={name}"), None).await.0;
        let (first, second, (created, _)) =
            tokio::join!(rename(&ids[0]), rename(&ids[1]), world.create(&name, json!({"Image": "busybox"})));
        let done = [first, second, created].iter().filter(|s| s.is_success()).count();
        assert_eq!(done, 1, "{first} {second} {created}");
    }
}

#[tokio::test]
async fn one_network_name_is_given_once_in_the_cluster() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    let world = World::of(&fakes.each_ref()).await;
    let creates = (0..8).map(|_| world.ask(Method::POST, "/networks/create", Some(json!({"Name": "back"}))));
    let answers = join_all(creates).await;
    let count = |status| answers.iter().filter(|(s, _)| *s == status).count();
    assert_eq!((count(StatusCode::CREATED), count(StatusCode::CONFLICT)), (1, 7), "{answers:?}");
    let again = world.ask(Method::POST, "/networks/create", Some(json!({"Name": "back"}))).await;
    assert_eq!(again.0, StatusCode::CONFLICT, "the name stays taken: {}", again.1);
}

#[tokio::test]
async fn names_are_found_in_every_form_and_paths_stay_whole() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    for (fake, name) in
        [(&fakes[0], "con"), (&fakes[0], "v1.41"), (&fakes[1], "web"), (&fakes[0], "twin"), (&fakes[1], "twin")]
    {
        fake.has(name);
    }
    let world = World::of(&fakes.each_ref()).await;
    for name in ["con", "v1.41", "n2/web", "web", "n1%2Ftwin"] {
        let (status, _) = world.ask(Method::POST, &format!("/v1.41/containers/{name}/stop?t=1"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}");
    }
    let stops = [fakes[0].asked(Method::POST, "/stop"), fakes[1].asked(Method::POST, "/stop")].concat();
    assert_eq!(stops.len(), 5);
    for stop in stops {
        let segments: Vec<&str> = stop.path.split('/').collect();
        assert!(
            matches!(segments.as_slice(), ["", "v1.41", "containers", id, "stop"] if id.len() == 64),
            "{}",
            stop.path
        );
        assert_eq!(stop.query, "t=1");
    }
    let (status, body) = world.ask(Method::GET, "/containers/twin/json", None).await;
    assert_eq!(
        (status, body["message"].as_str()),
        (StatusCode::BAD_REQUEST, Some("'twin' is ambiguous, it may be n1/twin or n2/twin"))
    );
    let inspected = world.get("/containers/web/json").await;
    assert_eq!((&inspected["Node"]["Name"], &inspected["Name"]), (&json!("n2"), &json!("/web")));
}

#[tokio::test]
async fn a_container_can_be_sent_to_a_node_and_next_to_another() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    for name in ["n2/a", "n2/b", "n2%2Fc"] {
        assert_eq!(world.create(name, json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
    }
    let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "container:a"}});
    assert_eq!(world.create("d", body).await.0, StatusCode::CREATED);
    assert_eq!((fakes[0].count(), fakes[1].count()), (0, 4));
    let names: BTreeSet<String> = world.names("").await.into_iter().collect();
    assert_eq!(names, ["/n2/a", "/n2/b", "/n2/c", "/n2/d"].map(str::to_owned).into());
}

#[tokio::test]
async fn each_engine_is_spoken_to_in_a_version_it_knows() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].state.lock().unwrap().api = "1.51";
    let world = World::of(&fakes.each_ref()).await;
    let version = world.get("/version").await;
    assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.51"), &json!("1.24")));
    fakes[0].has("new");
    fakes[1].has("old");
    until("both are listed", async || world.names("").await.len() == 2).await;
    for name in ["new", "old"] {
        let (status, _) = world.ask(Method::POST, &format!("/v1.45/containers/{name}/pause"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    let path = |fake: &Fake| fake.asked(Method::POST, "/pause")[0].path.split('/').nth(1).unwrap().to_owned();
    assert_eq!((path(&fakes[0]).as_str(), path(&fakes[1]).as_str()), ("v1.45", "v1.41"));
    for (path, status) in [("/v1.23/info", StatusCode::BAD_REQUEST), ("/v1.52/info", StatusCode::BAD_REQUEST)] {
        let (got, body) = world.ask(Method::GET, path, None).await;
        assert!(got == status && body["message"].as_str().unwrap().starts_with("client version"), "{body}");
    }
}

#[tokio::test]
async fn old_engines_get_further_networks_one_by_one() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "a"},
        "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {"Aliases": ["x"]}}}});
    let (status, answer) = world.create("web", body.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let connect = &fake.asked(Method::POST, "/networks/b/connect")[0];
    let sent: Value = serde_json::from_slice(&connect.body).unwrap();
    assert_eq!(sent, json!({"Container": answer["Id"], "EndpointConfig": {"Aliases": ["x"]}}));
    fake.prepare(Method::POST, "/networks/b/connect", StatusCode::FORBIDDEN, json!({"message": "no"}));
    let (status, answer) = world.create("other", body).await;
    assert_eq!((status, &answer["message"]), (StatusCode::FORBIDDEN, &json!("no")));
    assert_eq!(fake.count(), 1, "half a container is not left behind");
}

#[tokio::test]
async fn an_exec_finds_its_engine_even_after_the_manager_restarted() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[1].has("web");
    let world = World::of(&fakes.each_ref()).await;
    let (status, exec) = world.ask(Method::POST, "/containers/web/exec", Some(json!({"Cmd": ["true"]}))).await;
    assert_eq!(status, StatusCode::CREATED);
    let id = exec["Id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/exec/{id}/json")).await["ExitCode"], 7);
    let another = World::of(&fakes.each_ref()).await;
    assert_eq!(another.get(&format!("/exec/{id}/json")).await["ExitCode"], 7);
    assert_eq!(another.ask(Method::GET, "/exec/nothing/json", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn events_of_all_engines_are_one_stream_with_its_past() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    fakes[0].tell("container", "start", "c1");
    fakes[1].tell("container", "die", "c2");
    fakes[1].tell("image", "pull", "i1");
    let filters = "filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
    let path = format!("/events?since=1&until=99999999999&{filters}");
    let request = http::Request::get(path).body(empty()).unwrap();
    let mut body = world.client.send(request).await.unwrap().into_body();
    let mut text = String::new();
    let mut told = 0;
    use http_body_util::BodyExt;
    while text.lines().count() < 3 {
        let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        if text.lines().count() == 2 && told == 0 {
            told = 1;
            fakes[0].tell("container", "stop", "c3");
        }
    }
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|e| format!("{} {}", e["Action"].as_str().unwrap(), e["node"]["Name"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, ["start n1", "die n2", "stop n1"]);
    assert_eq!(events[0]["from"], "busybox node:n1");
}

#[tokio::test]
async fn the_clusters_network_is_one_and_nobody_prunes_it() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    for fake in &fakes {
        let network = json!({"Id": format!("{}-osier", fake.name), "Name": "osier", "Driver": "osier", "Scope": "local", "Containers": {}});
        let mut state = fake.state.lock().unwrap();
        state.networks.push(network.clone());
        state.prepared.insert((Method::GET, "/networks/osier".into()), (StatusCode::OK, network));
    }
    let world = World::of(&fakes.each_ref()).await;
    let list = world.get("/networks").await;
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n1/bridge", "n2/bridge", "osier"]);
    let id = list[2]["Id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/networks/{id}")).await["Name"], "osier");
    assert_eq!(world.get(&format!("/networks/{}", &id[..12])).await["Id"], id);
    assert_eq!(world.ask(Method::DELETE, "/networks/osier", None).await.0, StatusCode::FORBIDDEN);
    let (status, pruned) = world.ask(Method::POST, "/networks/prune", None).await;
    assert_eq!((status, &pruned["NetworksDeleted"]), (StatusCode::OK, &json!(["n1/bridge", "n2/bridge"])));
    assert!(fakes.iter().all(|f| f.asked(Method::DELETE, "-osier").is_empty()));
}

#[tokio::test]
async fn a_network_of_the_cluster_is_made_and_removed_on_all_nodes() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    for fake in &fakes {
        let network =
            json!({"Id": format!("{}-osier", fake.name), "Name": "osier", "Driver": "osier", "Scope": "local"});
        fake.state.lock().unwrap().networks.push(network);
    }
    let world = World::of(&fakes.each_ref()).await;
    let has = |fake: &Fake| fake.state.lock().unwrap().networks.iter().any(|n| n["Name"] == "back");
    // What the agents do: whoever hears of a network has its engine make it, some time later.
    let agents = async {
        until("some node has the network", async || fakes.iter().any(has)).await;
        // The manager looks at those that lack it, more than once: its answer waits for them.
        let without: Vec<&Fake> = fakes.iter().filter(|fake| !has(fake)).collect();
        let looks = || without.iter().map(|fake| fake.asked(Method::GET, "/networks").len()).sum::<usize>();
        let before = looks();
        until("the manager waits for the others", async || looks() > before + without.len()).await;
        for fake in without {
            let network =
                json!({"Id": format!("{}-back", fake.name), "Name": "back", "Driver": "osier", "Scope": "local"});
            fake.state.lock().unwrap().networks.push(network);
        }
    };
    // Nothing is said of a driver: where every node has an agent, the network is on all.
    let create = async {
        let answer = world.ask(Method::POST, "/networks/create", Some(json!({"Name": "back"}))).await;
        (answer, fakes.iter().all(has))
    };
    let ((answer, everywhere), ()) = tokio::join!(create, agents);
    assert!(everywhere, "the answer came before all nodes had it");
    let asked: Vec<_> = fakes.iter().flat_map(|f| f.asked(Method::POST, "/networks/create")).collect();
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!((asked.len(), &body["Driver"]), (1, &json!("osier")));
    let list = world.get("/networks").await;
    let shown: Vec<&Value> = list.as_array().unwrap().iter().filter(|n| n["Name"] == "back").collect();
    assert_eq!((shown.len(), &shown[0]["Id"]), (1, &answer.1["Id"]));
    let again = world.ask(Method::POST, "/networks/create", Some(json!({"Name": "back"}))).await;
    assert_eq!(again.0, StatusCode::CONFLICT);

    let active = json!({"message": "has active endpoints"});
    fakes.iter().for_each(|f| f.prepare(Method::DELETE, "/networks/back", StatusCode::FORBIDDEN, active.clone()));
    let (status, refused) = world.ask(Method::DELETE, "/networks/back", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let asked: usize = fakes.iter().map(|f| f.asked(Method::DELETE, "back").len()).sum();
    assert!(asked == 1 && fakes.iter().all(has), "one node's no is for all");
    for fake in &fakes {
        fake.state.lock().unwrap().prepared.remove(&(Method::DELETE, "/networks/back".into()));
    }
    let (_, pruned) = world.ask(Method::POST, "/networks/prune", None).await;
    assert!(pruned["NetworksDeleted"].as_array().unwrap().contains(&json!("back")), "{pruned}");
    assert!(!fakes.iter().any(has));
}

#[tokio::test]
async fn what_is_not_served_is_refused_in_the_engines_shape() {
    let world = World::start().await;
    for (method, path, status) in [
        (Method::GET, "/nonsense", StatusCode::NOT_FOUND),
        (Method::GET, "/services", StatusCode::SERVICE_UNAVAILABLE),
        (Method::GET, "/containers/json?filters=x", StatusCode::BAD_REQUEST),
        (Method::GET, "/containers/json?filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D", StatusCode::BAD_REQUEST),
        (Method::POST, "/containers/create", StatusCode::BAD_REQUEST),
        (Method::GET, "/containers/nobody/json", StatusCode::NOT_FOUND),
        (Method::POST, "/images/create?fromImage=x", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let (got, body) = world.ask(method, path, None).await;
        assert_eq!(got, status, "{path}");
        assert!(body["message"].is_string(), "{path}: {body}");
    }
    let (status, _) = world.send(Method::HEAD, "/_ping", empty()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.get("/containers/json?all=1").await, json!([]));
}
