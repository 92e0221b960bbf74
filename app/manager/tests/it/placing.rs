//! What users wish about the place of a container is done, and kept with the container.

use crate::{
    fake::Fake,
    world::{World, open_state, until},
};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_manager::Engines;
use osier_scheduler::{Filter, Policy, Strategy};
use serde_json::{Value, json};

fn env(entries: &[&str]) -> Value {
    json!({"Image": "busybox", "Env": entries})
}

async fn zones() -> ([Fake; 2], World) {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].state.lock().unwrap().labels = ["zone=eu", "disk=ssd"].map(str::to_owned).into();
    fakes[1].state.lock().unwrap().labels = ["zone=us", "containerslots=2"].map(str::to_owned).into();
    let world = World::of(&fakes.each_ref()).await;
    (fakes, world)
}

/// What the engine was asked to create last.
fn created(fake: &Fake) -> Value {
    let asked = fake.asked(Method::POST, "/containers/create");
    serde_json::from_slice(&asked.last().unwrap().body).unwrap()
}

#[tokio::test]
async fn wishes_decide_and_stay_in_the_labels() {
    let (fakes, world) = zones().await;
    for wish in ["constraint:zone==us", "constraint:node==n2-id", "affinity:container==first", "whitelist:node==n2|n9"]
    {
        let first = if wish.starts_with("constraint:zone") { "first" } else { "" };
        let (status, answer) = world.create(first, env(&["A=b", wish])).await;
        // The last of them finds no slot left.
        let full = wish.starts_with("affinity") || wish.starts_with("whitelist");
        assert_eq!(status == StatusCode::SERVICE_UNAVAILABLE, full, "{wish}: {answer}");
    }
    assert_eq!((fakes[0].count(), fakes[1].count()), (0, 2));
    let sent = created(&fakes[1]);
    assert_eq!(sent["Env"], json!(["A=b"]));
    assert_eq!(sent["Labels"]["com.docker.swarm.constraints"], "[\"node==n2-id\"]");
    assert_eq!(sent["Labels"]["com.docker.swarm.id"].as_str().unwrap().len(), 64);
    for soft in ["constraint:zone==~mars", "affinity:image==~none*", "whitelist:node==~n9"] {
        assert_eq!(world.create("", env(&[soft])).await.0, StatusCode::CREATED, "{soft}");
    }
    assert_eq!(fakes[0].count(), 3, "the other node has no slots");
    let near =
        json!({"Image": "busybox", "Labels": {"com.docker.swarm.affinities": "[\"container==first\"]", "role": "db"}});
    let (_, refused) = world.create("", near).await;
    assert_eq!(
        refused["message"],
        "Unable to find a node that satisfies the following conditions \n[available container slots]\n\
         [container==first (soft=false)]\n(n1: affinity container==first; n2: 2 of its 2 container slots are used)"
    );
}

#[tokio::test]
async fn members_count_however_they_are_spelt() {
    let (fakes, world) = zones().await;
    let body = json!({"image": "busybox", "env": ["constraint:zone==us"], "hostconfig": {"binds": ["n2/data:/data"]}});
    for path in ["/osier/v1/explain", "/containers/create"] {
        let (status, answer) = world.ask(Method::POST, path, Some(body.clone())).await;
        assert!(status.is_success(), "{path}: {answer}");
    }
    let sent = created(&fakes[1]);
    assert_eq!((&sent["Env"], &sent["HostConfig"]["Binds"]), (&json!([]), &json!(["data:/data"])));
    let volume = json!({"name": "n1/logs", "labels": {"a": "1"}});
    assert_eq!(world.ask(Method::POST, "/volumes/create", Some(volume)).await.0, StatusCode::CREATED);
    assert_eq!(fakes[0].state.lock().unwrap().volumes["logs"]["Labels"], json!({"a": "1"}));
}

#[tokio::test]
async fn a_wish_that_is_none_is_refused_and_nothing_is_blocked() {
    let (fakes, world) = zones().await;
    for (wish, message) in [
        ("constraint:r==us", "error from constraint filter: Key 'r' is invalid"),
        ("constraint:zone==/(/", "error from constraint filter: Value '/(/' is invalid: unclosed group"),
        ("affinity:container", "error from affinity filter: One of operator ==, != is expected"),
        ("reschedule:always", "invalid reschedule policy: always"),
    ] {
        let (status, answer) = world.create("", env(&[wish])).await;
        assert_eq!((status, &answer["message"]), (StatusCode::BAD_REQUEST, &json!(message)), "{wish}");
    }
    let (status, _) = world.create("", env(&["constraint:zone==/"])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.create("", env(&[])).await.0, StatusCode::CREATED);
    assert_eq!(fakes[0].count() + fakes[1].count(), 1);
}

#[tokio::test]
async fn dependencies_are_placed_together() {
    let (fakes, world) = zones().await;
    fakes[1].has("db");
    until("it is known", async || world.names("").await.len() == 1).await;
    let linked = json!({"Image": "busybox", "HostConfig": {"Links": ["db:store"]}});
    assert_eq!(world.create("", linked).await.0, StatusCode::CREATED);
    let link = created(&fakes[1])["HostConfig"]["Links"][0].as_str().unwrap().to_owned();
    assert!(link.len() == 64 + ":store".len() && link.ends_with(":store"), "{link}");
    let (status, refused) = world.create("", json!({"Image": "busybox", "HostConfig": {"VolumesFrom": ["db"]}})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("\n[available container slots]\n[--volumes-from=db]\n"), "{message}");
    let (status, _) = world.create("", json!({"Image": "busybox", "HostConfig": {"VolumesFrom": ["nobody"]}})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_link_on_the_overlay_leads_to_any_node() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let peer = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "osier"}});
    assert_eq!(world.create("n1%2Fpeer", peer).await.0, StatusCode::CREATED);
    let asker = json!({"Image": "busybox", "HostConfig": {"Links": ["n1/peer"]}});
    assert_eq!(world.create("n2%2Fasker", asker).await.0, StatusCode::CREATED);
    assert_eq!(created(&fakes[1])["HostConfig"]["Links"], json!(["peer:peer"]));
}

#[tokio::test]
async fn an_engine_s_own_error_decides_what_is_tried_next() {
    let (fakes, world) = zones().await;
    let windows = json!({"message": "image operating system \"linux\" cannot be used on this platform"});
    fakes[0].prepare(Method::POST, "/containers/create", StatusCode::INTERNAL_SERVER_ERROR, windows.clone());
    let (status, answer) = world.create("", env(&["constraint:node==n1"])).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.starts_with(windows["message"].as_str().unwrap()) && message.contains("ostype==linux"),
        "{message}"
    );
    fakes[0].prepare(Method::POST, "/containers/create", StatusCode::BAD_REQUEST, json!({"message": "bad parameter"}));
    let (status, answer) = world.create("", env(&["constraint:node==n1"])).await;
    assert_eq!((status, &answer["message"]), (StatusCode::BAD_REQUEST, &json!("bad parameter")));
    assert_eq!(fakes[0].asked(Method::POST, "/containers/create").len(), 2, "nothing is tried twice without reason");
}

fn uses(volume: &str) -> Value {
    json!({"Image": "busybox", "HostConfig": {"Binds": [format!("{volume}:/data")]}})
}

#[tokio::test]
async fn a_declared_volume_is_made_where_its_first_container_lands_and_ties_the_others() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].has("load");
    let world = World::of(&fakes.each_ref()).await;
    until("the load is known", async || world.names("").await.len() == 1).await;
    let wanted = json!({"Name": "data", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "1"}});
    let (status, declared) = world.ask(Method::POST, "/volumes/create", Some(wanted.clone())).await;
    assert_eq!(
        (status, &declared["Name"], &declared["Options"]["type"]),
        (StatusCode::CREATED, &json!("data"), &json!("tmpfs"))
    );
    assert_eq!(world.ask(Method::POST, "/volumes/create", Some(wanted)).await.1, declared, "twice is once");
    assert_eq!(world.get("/volumes/data").await, declared);
    let names = async || {
        let list = world.get("/volumes").await;
        list["Volumes"].as_array().unwrap().iter().map(|v| v["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["data"]);
    assert!(fakes.iter().all(|f| f.state.lock().unwrap().volumes.is_empty()));
    // A create that fails leaves the volume declared.
    fakes[1].prepare(Method::POST, "/containers/create", StatusCode::BAD_REQUEST, json!({"message": "no"}));
    assert_eq!(world.create("", uses("data")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!((names().await, fakes[1].state.lock().unwrap().volumes.len()), (vec!["data".to_owned()], 0));
    fakes[1].state.lock().unwrap().prepared.clear();
    // All of these at once meet on one node.
    let answers = join_all((0..5).map(|_| world.create("", uses("data")))).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::CREATED), "{answers:?}");
    assert_eq!((fakes[0].count(), fakes[1].count()), (1, 5));
    assert_eq!(fakes[1].state.lock().unwrap().volumes["data"]["Options"]["type"], "tmpfs");
    assert_eq!(names().await, ["n2/data"]);
    // Its node away, nothing else will do.
    fakes[1].stop();
    until("the loss is seen", async || world.status("Status", "Unhealthy").await == 1).await;
    assert_eq!(names().await, ["n2/data"]);
    let dangling = world.get("/volumes?filters=%7B%22dangling%22:%5B%22true%22%5D%7D").await;
    assert_eq!(dangling["Volumes"], json!([]), "its containers use it");
    let (status, refused) = world.create("", uses("data")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused["message"], "the data of volume 'data' is on node n2, which does not answer");
    assert_eq!(world.ask(Method::DELETE, "/volumes/data", None).await.0, StatusCode::CONFLICT);
    assert_eq!(world.create("", uses("other")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn volumes_of_a_node_that_does_not_answer_are_remembered() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let create = async |body: Value| world.ask(Method::POST, "/volumes/create", Some(body)).await;
    for name in ["n1/here", "n2/data", "n2/idle"] {
        assert_eq!(create(json!({"Name": name})).await.0, StatusCode::CREATED);
    }
    assert_eq!(create(json!({"Name": "nas", "Driver": "nfs"})).await.0, StatusCode::CREATED);
    assert_eq!(create(json!({"Name": "soon"})).await.0, StatusCode::CREATED);
    fakes[1].stop();
    world.healthy(1).await;
    let list = async |filters: &str| {
        let list = world.get(&format!("/volumes{filters}")).await;
        list["Volumes"].as_array().unwrap().iter().map(|v| v["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["n1/here", "n2/data", "n2/idle", "nas", "soon"]);
    assert_eq!(list("?filters=%7B%22node%22:%5B%22n2%22%5D%7D").await, ["n2/data", "n2/idle"]);
    let away = json!({"message": "the data of volume 'data' is on node n2, which does not answer"});
    for path in ["/volumes/data", "/volumes/n2%2Fdata"] {
        assert_eq!(world.ask(Method::GET, path, None).await, (StatusCode::SERVICE_UNAVAILABLE, away.clone()), "{path}");
    }
    assert_eq!(world.ask(Method::GET, "/volumes/n2%2Fnothing", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.ask(Method::DELETE, "/volumes/data", None).await, (StatusCode::CONFLICT, away));
    // It is there already, and is not declared anew.
    let (status, again) = create(json!({"Name": "data"})).await;
    assert_eq!((status, &again["Status"]["Node"]), (StatusCode::CREATED, &json!("Host Down")));
    fakes[0].prepare(
        Method::POST,
        "/volumes/prune",
        StatusCode::OK,
        json!({"VolumesDeleted": null, "SpaceReclaimed": 0}),
    );
    let (_, pruned) = world.ask(Method::POST, "/v1.41/volumes/prune", None).await;
    assert_eq!(pruned["VolumesDeleted"], json!(["soon"]));
    assert_eq!(list("").await, ["n1/here", "n2/data", "n2/idle", "nas"]);
    // Also where nobody answers at all.
    fakes[0].stop();
    world.healthy(0).await;
    assert_eq!(list("?filters=%7B%22dangling%22:%5B%22true%22%5D%7D").await.len(), 5);
    assert_eq!(world.ask(Method::GET, "/volumes/data", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    fakes[1].restart().await;
    world.healthy(1).await;
    assert_eq!(world.get("/volumes/data").await["Mountpoint"], "/somewhere");
}

#[tokio::test]
async fn volumes_are_where_they_are_said_to_be() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let create = async |body: Value| world.ask(Method::POST, "/volumes/create", Some(body)).await;
    let count = || fakes.each_ref().map(|f| f.state.lock().unwrap().volumes.len());
    assert_eq!(create(json!({"Name": "n2/data"})).await.0, StatusCode::CREATED);
    assert_eq!(count(), [0, 1]);
    assert_eq!(create(json!({"Name": "nas", "Driver": "nfs"})).await.0, StatusCode::CREATED);
    assert_eq!(count(), [1, 2]);
    let listed = json!({"Name": "own", "Labels": {"com.docker.swarm.whitelists": "[\"node==n1\"]"}});
    assert_eq!(create(listed).await.0, StatusCode::CREATED);
    assert_eq!(count(), [2, 2]);
    for _ in 0..3 {
        assert_eq!(world.create("", uses("data")).await.0, StatusCode::CREATED);
    }
    assert_eq!(world.create("", uses("n1/own")).await.0, StatusCode::CREATED);
    assert_eq!((fakes[0].count(), fakes[1].count()), (1, 3));
    assert_eq!(created(&fakes[0])["HostConfig"]["Binds"][0], "own:/data");
    let (status, refused) = world.create("", uses("n1/data")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{refused}");
    for (body, status) in [
        (json!({"Name": "a b"}), StatusCode::BAD_REQUEST),
        (json!([]), StatusCode::BAD_REQUEST),
        (json!({"Name": "n9/x"}), StatusCode::NOT_FOUND),
        (json!({"Name": "data"}), StatusCode::CREATED),
    ] {
        assert_eq!(create(body.clone()).await.0, status, "{body}");
    }
    assert_eq!(count(), [2, 2], "what exists is not declared again");
    assert_eq!(create(json!({"Name": "n1/data"})).await.0, StatusCode::CREATED);
    let (status, ambiguous) = world.ask(Method::GET, "/volumes/data", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(ambiguous["message"], "volume data is ambiguous, it may be n1/data or n2/data");
    assert_eq!(world.get("/volumes/n1%2Fdata").await["Name"], "data");
    assert_eq!(world.ask(Method::DELETE, "/volumes/data", None).await, (StatusCode::BAD_REQUEST, ambiguous));
    assert_eq!(count(), [3, 2], "nothing of either is gone");
    for name in ["n1%2Fdata", "n2%2Fdata"] {
        let (status, _) = world.ask(Method::DELETE, &format!("/volumes/{name}"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}");
    }
    assert_eq!(count(), [2, 1]);
    assert_eq!(create(json!({"Name": "soon"})).await.0, StatusCode::CREATED);
    assert_eq!(world.ask(Method::DELETE, "/volumes/soon", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.ask(Method::DELETE, "/volumes/soon", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.ask(Method::GET, "/volumes/soon", None).await.0, StatusCode::NOT_FOUND);
    for fake in &fakes {
        fake.prepare(
            Method::POST,
            "/volumes/prune",
            StatusCode::OK,
            json!({"VolumesDeleted": null, "SpaceReclaimed": 0}),
        );
    }
    for (name, label) in [("red", "color"), ("plain", "other")] {
        assert_eq!(create(json!({"Name": name, "Labels": {label: "1"}})).await.0, StatusCode::CREATED);
    }
    let prune = "/v1.41/volumes/prune?filters=%7B%22label%22%3A%5B%22color%22%5D%7D";
    let (_, pruned) = world.ask(Method::POST, prune, None).await;
    assert_eq!(pruned["VolumesDeleted"], json!(["red"]));
    assert_eq!(world.get("/volumes/plain").await["Name"], "plain");
}

#[tokio::test]
async fn what_would_become_of_a_container_is_explained() {
    let (fakes, world) = zones().await;
    fakes[0].has("web");
    until("it is known", async || world.names("").await.len() == 1).await;
    let explain = async |body: Value| world.ask(Method::POST, "/osier/v1/explain?name=new", Some(body)).await;
    let (status, report) = explain(env(&["affinity:container==~web"])).await;
    assert_eq!((status, &report["node"], &report["softened"]), (StatusCode::OK, &json!("n1"), &json!(false)));
    assert_eq!((&report["nodes"][0]["containers"], &report["nodes"][0]["score"]), (&json!(1), &json!(-800)));
    assert_eq!(
        report["nodes"][1],
        json!({"name": "n2", "fits": false, "score": null, "containers": null, "by": "affinity",
               "why": "affinity container==~web", "image": "here"})
    );
    let (status, report) = explain(env(&["constraint:zone==mars"])).await;
    assert_eq!((status, &report["node"]), (StatusCode::OK, &Value::Null));
    assert!(report["error"].as_str().unwrap().contains("\n[zone==mars]\n"), "{report}");
    assert_eq!(explain(env(&["constraint:z"])).await.0, StatusCode::BAD_REQUEST);
    let (_, taken) = world.ask(Method::POST, "/osier/v1/explain?name=web", Some(env(&[]))).await;
    assert!(taken["error"].as_str().unwrap().starts_with("Conflict. The container name \"/web\" is already in use by"));
    assert_eq!((&taken["node"], &taken["nodes"][0]["fits"]), (&Value::Null, &json!(true)));
    let lost = json!({"Image": "none:1", "HostConfig": {"NetworkMode": "nowhere"}});
    let (_, report) = explain(lost).await;
    assert_eq!((&report["nodes"][0]["image"], &report["node"]), (&json!("missing"), &json!("n2")));
    assert_eq!(
        report["warnings"],
        json!([
            "no node has the network nowhere, so the container could not be started",
            "no node has the image none:1, which 'docker run' would pull first"
        ])
    );
    for (tag, digests, way) in
        [("built:1", json!([]), "copied from n2"), ("nginx:1", json!(["nginx@sha256:1"]), "pulled")]
    {
        let id = format!("sha256:{tag}");
        let image = json!({"Id": id, "RepoTags": [tag], "RepoDigests": digests, "Created": 1});
        fakes[1].state.lock().unwrap().images.push(image);
        fakes[1].tell("image", "tag", &id);
        let mut ways = Value::Null;
        until("the image is known", async || {
            let (_, report) = explain(json!({ "Image": tag })).await;
            ways = json!([report["nodes"][0]["image"], report["nodes"][1]["image"], report["warnings"]]);
            report["warnings"] == json!([])
        })
        .await;
        assert_eq!(ways, json!(["here", way, []]), "{tag}");
    }
    for fake in &fakes {
        assert!(fake.state.lock().unwrap().asked.iter().all(|asked| asked.method == Method::GET), "nothing is done");
    }
    assert_eq!(fakes[0].count() + fakes[1].count(), 1, "nothing was created");
}

/// A manager of these engines that places containers like this.
async fn under(policy: Policy, fakes: &[Fake]) -> World {
    let world = World::under(policy, None).await;
    world.cluster.set_members(fakes.iter().map(Fake::target).collect());
    world.healthy(fakes.len()).await;
    world
}

#[tokio::test]
async fn of_several_declared_volumes_all_are_made_or_none() {
    let fakes = [Fake::start("n1").await];
    let world = World::of(&fakes.each_ref()).await;
    for name in ["first", "second"] {
        let declared = world.ask(Method::POST, "/volumes/create", Some(json!({ "Name": name }))).await;
        assert_eq!(declared.0, StatusCode::CREATED);
    }
    let both = json!({"Image": "busybox", "HostConfig": {"Binds": ["first:/a", "second:/b"]}});
    let volumes = || fakes[0].state.lock().unwrap().volumes.keys().cloned().collect::<Vec<_>>();
    fakes[0].state.lock().unwrap().refused_volume = "second".into();
    let refused = world.create("", both.clone()).await;
    assert_eq!(refused, (StatusCode::BAD_REQUEST, json!({"message": "no such option"})));
    assert_eq!((volumes(), fakes[0].count()), (Vec::<String>::new(), 0));
    fakes[0].state.lock().unwrap().refused_volume.clear();
    assert_eq!(world.create("", both).await.0, StatusCode::CREATED);
    assert_eq!(volumes(), ["first", "second"]);
}

#[tokio::test]
async fn where_volumes_are_is_known_after_a_restart_too() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let state = open_state(&folder.path().join("manager.json")).await;
        let world = World::with(Engines { state, ..None.into() }).await;
        world.cluster.set_members(fakes.iter().map(Fake::target).collect());
        world
    };
    let world = start().await;
    world.healthy(2).await;
    for name in ["data", "soon"] {
        let (status, _) = world.ask(Method::POST, "/volumes/create", Some(json!({ "Name": name }))).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    assert_eq!(world.create("n2%2Fuser", uses("data")).await.0, StatusCode::CREATED);
    drop(world);
    fakes[1].stop();
    let world = start().await;
    world.healthy(1).await;
    assert_eq!(world.get("/volumes/soon").await["Name"], "soon");
    let (status, refused) = world.create("", uses("data")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{refused}");
    assert!(refused["message"].as_str().unwrap().starts_with("the data of volume 'data' is on node n2, "), "{refused}");
    // Whoever knows that the data is lost says so.
    assert_eq!(world.ask(Method::DELETE, "/volumes/data?force=1", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.create("", uses("data")).await.0, StatusCode::CREATED);
    assert_eq!(fakes[0].count(), 1);
}

#[tokio::test]
async fn shares_are_cores_where_the_operator_wants_it() {
    let fakes = [Fake::start("n1").await];
    let world = under(Policy { cpu_shares_as_cpus: true, ..Policy::default() }, &fakes).await;
    let shares = |shares: u64| json!({"Image": "busybox", "HostConfig": {"CpuShares": shares}});
    assert_eq!(world.create("", shares(3)).await.0, StatusCode::CREATED);
    assert_eq!(created(&fakes[0])["HostConfig"]["CpuShares"], 768);
    assert_eq!(world.status("Reserved CPUs", "3 / 4").await, 1);
    assert_eq!(world.create("", shares(2)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.create("", shares(1)).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn the_operator_s_policy_is_in_force() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let filters = vec![Filter::Health, Filter::Whitelist];
    let world =
        under(Policy { strategy: Strategy::Binpack, filters, create_retry: 2, ..Policy::default() }, &fakes).await;
    assert_eq!(
        world.rows().await[1..3],
        [("Strategy", "binpack"), ("Filters", "health, whitelist")].map(|(k, v)| (k.into(), v.into()))
    );
    for _ in 0..3 {
        assert_eq!(world.create("", env(&["constraint:zone==mars"])).await.0, StatusCode::CREATED);
    }
    assert_eq!(fakes.each_ref().map(Fake::count), [3, 0], "all on one node, and nobody asked about zones");
    let broken = json!({"message": "disk trouble"});
    fakes[0].prepare(Method::POST, "/containers/create", StatusCode::INTERNAL_SERVER_ERROR, broken.clone());
    let before = fakes[0].asked(Method::POST, "/containers/create").len();
    assert_eq!(world.create("", env(&[])).await, (StatusCode::INTERNAL_SERVER_ERROR, broken));
    assert_eq!(fakes[0].asked(Method::POST, "/containers/create").len() - before, 3);
}
