//! Images: which nodes have them, and how they get to the others.

use crate::{
    fake::Fake,
    world::{World, until},
};
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
    until("the engine saw the upload end", async || {
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
async fn what_several_nodes_say_alike_is_told_once() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    let world = World::of(&fakes.each_ref()).await;
    let says = |fake: &Fake, words: &str| {
        let answer = json!({ "message": words });
        fake.prepare(Method::POST, "/volumes/create", StatusCode::INTERNAL_SERVER_ERROR, answer.clone());
        fake.prepare(Method::POST, "/images/create", StatusCode::INTERNAL_SERVER_ERROR, answer);
    };
    let told = async |path: &str| {
        let body = json!({"Name": "nas", "Driver": "nfs"});
        world.ask(Method::POST, path, Some(body)).await.1["message"].as_str().unwrap().to_owned()
    };
    fakes.iter().for_each(|fake| says(fake, "no such plugin"));
    for path in ["/volumes/create", "/images/create?fromImage=a"] {
        assert_eq!(told(path).await, "no such plugin", "{path}");
    }
    says(&fakes[1], "the disk is full");
    for path in ["/volumes/create", "/images/create?fromImage=a"] {
        assert_eq!(told(path).await, "n1, n3: no such plugin\nn2: the disk is full", "{path}");
    }
    // Where one node pulls, the others are named also when they say the same.
    says(&fakes[1], "no such plugin");
    fakes[0].state.lock().unwrap().prepared.clear();
    let (_, pulled) = world.send(Method::POST, "/images/create?fromImage=a", full("")).await;
    assert_eq!(lines(&pulled).last().unwrap()["error"], "n2, n3: no such plugin");
}

#[tokio::test]
async fn a_pull_that_very_many_refuse_is_answered() {
    let names: Vec<String> = (0..70).map(|i| format!("n{i:02}")).collect();
    let fakes = futures::future::join_all(names.iter().map(|name| Fake::start(name))).await;
    let refusal = json!({"message": "no such repository"});
    fakes.iter().for_each(|f| f.prepare(Method::POST, "/images/create", StatusCode::NOT_FOUND, refusal.clone()));
    let world = World::of(&fakes.iter().collect::<Vec<_>>()).await;
    let (status, answer) = world.ask(Method::POST, "/images/create?fromImage=nosuch&tag=1", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(answer["message"].as_str().unwrap().contains("no such repository"), "{answer}");
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
    let image = json!({"Id": "sha256:a99", "RepoTags": ["app:1"], "RepoDigests": ["app@sha256:0"], "Created": 1});
    fakes[1].state.lock().unwrap().images.push(image);
    fakes[1].tell("image", "tag", "sha256:a99");
    fakes[0].prepare(Method::POST, "/images/create", StatusCode::NOT_FOUND, json!({"message": "no registry"}));
    until("the image is known", async || world.get("/images/json").await.as_array().unwrap().len() == 2).await;
    assert_eq!(create().await.0, StatusCode::CREATED);
    assert_eq!((fakes[0].count(), fakes[1].count()), (0, 2));
    assert_eq!(fakes[0].asked(Method::POST, "/images/create")[0].query, "fromImage=app%3A1");
    // Without another node, what was said first is said.
    let (status, body) = world.create("n1/x", json!({"Image": "app:1"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        body["message"].as_str().unwrap().starts_with("No such image: app:1; get it on n1: no registry (elsewhere: "),
        "{body}"
    );
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

/// Waits until the manager knows what the fakes have.
async fn known(world: &World, images: usize) {
    until("the images are known", async || world.get("/images/json?all=1").await.as_array().unwrap().len() == images)
        .await;
}

fn gets(fake: &Fake, image: Value) {
    let id = image["Id"].as_str().unwrap().to_owned();
    fake.state.lock().unwrap().images.push(image);
    fake.tell("image", "tag", &id);
}

#[tokio::test]
async fn a_push_goes_from_a_node_that_has_the_tag() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    gets(&fakes[0], json!({"Id": "sha256:a1", "RepoTags": ["reg:5000/team/app:1"], "Created": 1}));
    gets(
        &fakes[1],
        json!({"Id": "sha256:a2", "RepoTags": ["reg:5000/team/app:2", "reg:5000/team/app:3"], "Created": 2}),
    );
    known(&world, 3).await;
    let path = "/images/reg:5000/team/app/push";
    for fake in &fakes {
        fake.prepare(Method::POST, path, StatusCode::OK, json!({"status": format!("from {}", fake.name)}));
    }
    let push = async |query: &str| {
        let (status, answer) = world.send(Method::POST, &format!("/v1.41{path}{query}"), full("")).await;
        assert_eq!(status, StatusCode::OK);
        lines(&answer).iter().map(|l| l["status"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(push("?tag=1").await, "from n1");
    assert_eq!(push("?tag=3").await, "from n2");
    // All tags: what the first node lacks is added by others.
    assert_eq!(push("").await, "from n2, from n1");
    let asked = |fake: &Fake| fake.asked(Method::POST, "/push").into_iter().map(|a| a.query).collect::<Vec<_>>();
    assert_eq!(
        (asked(&fakes[0]), asked(&fakes[1])),
        (vec!["tag=1".into(), "tag=1".into()], vec!["tag=3".into(), String::new()])
    );
    // What nobody has, an engine refuses.
    assert_eq!(world.ask(Method::POST, "/images/nothing/push?tag=1", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn images_are_saved_from_a_node_that_has_them_all() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    gets(&fakes[0], json!({"Id": "sha256:a1", "RepoTags": ["one:latest"], "Created": 1}));
    gets(&fakes[1], json!({"Id": "sha256:a2", "RepoTags": ["two:latest"], "Created": 2}));
    known(&world, 3).await;
    fakes[1].prepare(Method::GET, "/images/get", StatusCode::OK, json!("archive"));
    assert_eq!(
        world.ask(Method::GET, "/images/get?names=busybox&names=two", None).await,
        (StatusCode::OK, json!("archive"))
    );
    let (status, body) = world.ask(Method::GET, "/images/get?names=one&names=two", None).await;
    assert_eq!(
        (status, body),
        (
            StatusCode::NOT_FOUND,
            json!({"message": "Unable to find a healthy engine containing all images: [one two] (one is on n1; two is on n2)"}),
        )
    );
}

#[tokio::test]
async fn an_image_that_came_a_moment_ago_is_found() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    fakes[1].prepare(Method::GET, "/images/fresh:1/json", StatusCode::OK, json!({"Id": "sha256:f1"}));
    fakes[1].prepare(Method::GET, "/images/fresh:1/history", StatusCode::OK, json!([{"Id": "sha256:f1"}]));
    assert_eq!(world.get("/images/fresh:1/history").await, json!([{"Id": "sha256:f1"}]));
    // Where nobody has it, an engine's own words are told, once.
    for fake in &fakes {
        fake.prepare(
            Method::GET,
            "/images/gone/json",
            StatusCode::NOT_FOUND,
            json!({"message": "No such image: gone:latest"}),
        );
    }
    let refused = world.ask(Method::GET, "/images/gone/json", None).await;
    assert_eq!(refused, (StatusCode::NOT_FOUND, json!({"message": "No such image: gone:latest"})));
}

#[tokio::test]
async fn images_of_a_node_that_does_not_answer_are_listed_and_not_used() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    gets(&fakes[1], json!({"Id": "sha256:a1", "RepoTags": ["built:1"], "Created": 1}));
    known(&world, 2).await;
    fakes[1].stop();
    world.healthy(1).await;
    assert_eq!(world.get("/images/json").await.as_array().unwrap().len(), 2);
    let missing = json!({"message": "No such image: built:1"});
    fakes[0].prepare(Method::GET, "/images/built:1/json", StatusCode::NOT_FOUND, missing);
    // A client that is told so pulls the image, or builds it anew.
    let told = json!({"message": "No such image: built:1 (only unhealthy nodes have it: n2)"});
    assert_eq!(world.ask(Method::GET, "/images/built:1/json", None).await, (StatusCode::NOT_FOUND, told));
}

#[tokio::test]
async fn conflicts_stay_conflicts_and_say_where() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    fakes[0].prepare(Method::DELETE, "/images/busybox", StatusCode::CONFLICT, json!({"message": "in use"}));
    fakes[1].prepare(Method::DELETE, "/images/busybox", StatusCode::OK, json!([{"Untagged": "busybox:latest"}]));
    let refused = world.ask(Method::DELETE, "/images/busybox", None).await;
    assert_eq!(refused, (StatusCode::CONFLICT, json!({"message": "n1: in use\n(removed on n2)"})));
    // What is gone already on one node is no failure of removing it from all.
    fakes[0].prepare(Method::DELETE, "/images/busybox", StatusCode::NOT_FOUND, json!({"message": "No such image"}));
    let removed = world.ask(Method::DELETE, "/images/busybox?noprune=1", None).await;
    assert_eq!(removed, (StatusCode::OK, json!([{"Untagged": "busybox:latest"}])));
    assert_eq!(fakes[1].asked(Method::DELETE, "/images/busybox")[1].query, "noprune=1");
}

#[tokio::test]
async fn an_image_in_use_on_one_node_stays_on_all() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let id = fakes[1].has("user");
    let world = World::of(&fakes.each_ref()).await;
    until("the container is known", async || world.names("?all=1").await.len() == 1).await;
    let removed = json!([{"Untagged": "busybox:latest"}]);
    fakes[0].prepare(Method::DELETE, "/images/busybox", StatusCode::OK, removed.clone());
    fakes[1].prepare(Method::DELETE, "/images/busybox", StatusCode::CONFLICT, json!({"message": "it is used"}));
    let remove = async |query: &str| world.ask(Method::DELETE, &format!("/images/busybox{query}"), None).await;
    let asked = || fakes.each_ref().map(|f| f.asked(Method::DELETE, "/images/busybox").len());
    let told = json!({"message": "n2: it is used\n(left on n1)"});
    assert_eq!(remove("").await, (StatusCode::CONFLICT, told.clone()));
    assert_eq!(asked(), [0, 1]);
    fakes[1].state.lock().unwrap().containers.get_mut(&id).unwrap()["State"]["Status"] = "exited".into();
    fakes[1].tell("container", "die", &id);
    until("its end is known", async || world.names("").await.is_empty()).await;
    assert_eq!(remove("").await, (StatusCode::CONFLICT, told));
    assert_eq!(asked(), [0, 2]);
    // Force is the engines' to judge, each for itself.
    assert_eq!(remove("?force=1").await.1["message"], "n2: it is used\n(removed on n1)");
    // What is known may be out of date: the engine decides.
    fakes[1].prepare(Method::DELETE, "/images/busybox", StatusCode::OK, removed.clone());
    assert_eq!(remove("").await, (StatusCode::OK, removed));
}

#[tokio::test]
async fn a_tag_is_given_to_one_image() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    let image = |id: &str| json!({"Id": id, "RepoTags": ["app:1"], "Created": 1});
    for (fake, id) in fakes.iter().zip(["sha256:0a1", "sha256:0b2", "sha256:0a1"]) {
        fake.state.lock().unwrap().images = vec![image(id)];
        fake.prepare(Method::POST, "/images/sha256:0a1/tag", StatusCode::CREATED, Value::Null);
    }
    let world = World::of(&fakes.each_ref()).await;
    known(&world, 2).await;
    let tag = async |word: &str| world.ask(Method::POST, &format!("/images/{word}/tag?repo=new&tag=2"), None).await;
    assert_eq!(tag("app:1").await.0, StatusCode::CREATED);
    let asked = || fakes.each_ref().map(|f| f.asked(Method::POST, "/tag").len());
    assert_eq!(asked(), [1, 0, 1], "the image of the first node is meant, wherever it is");
    assert_eq!(fakes[2].asked(Method::POST, "/tag")[0].query, "repo=new&tag=2");
    fakes[2].prepare(Method::POST, "/images/sha256:0a1/tag", StatusCode::CONFLICT, json!({"message": "no"}));
    let told = json!({"message": "n3: no\n(tagged on n1)"});
    assert_eq!(tag("0a1").await, (StatusCode::CONFLICT, told));
    // The beginning of two ids means neither.
    let missing = (StatusCode::NOT_FOUND, json!({"message": "No such image: 0:latest"}));
    assert_eq!(tag("0").await, missing);
    assert_eq!(world.ask(Method::DELETE, "/images/0", None).await, missing);
    assert_eq!(asked(), [2, 0, 2]);
}

#[tokio::test]
async fn what_all_refuse_is_refused_and_what_is_not_for_a_node_is_skipped() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let away = Fake::start("n3").await;
    let world = World::of(&[&fakes[0], &fakes[1], &away]).await;
    away.stop();
    world.healthy(2).await;
    let mismatch = "cannot load windows image on linux";
    fakes[0].prepare(Method::POST, "/images/load", StatusCode::INTERNAL_SERVER_ERROR, json!({"message": mismatch}));
    let (_, answer) = world.send(Method::POST, "/images/load?quiet=1", full("x")).await;
    let told = lines(&answer);
    let says =
        |node: &str, text: &str| told.iter().any(|l| l["id"] == node && l["status"].as_str().unwrap().contains(text));
    assert!(says("n1", "Load skipped because image is for windows and engine is running linux"), "{told:?}");
    assert!(says("n3", "Loading image... : skipped, the node does not answer: "), "{told:?}");
    assert!(told.iter().all(|line| line.get("error").is_none()), "{told:?}");
    assert_eq!(fakes[1].asked(Method::POST, "/images/load")[0].query, "quiet=1");
    let denied = json!({"message": "pull access denied for nginx"});
    for fake in &fakes {
        fake.prepare(Method::POST, "/images/create", StatusCode::NOT_FOUND, denied.clone());
    }
    let refused = world.ask(Method::POST, "/images/create?fromImage=nginx&tag=1", None).await;
    assert_eq!(refused, (StatusCode::NOT_FOUND, denied));
}

#[tokio::test]
async fn disk_usage_and_prunes_add_up() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[1].state.lock().unwrap().api = "1.51";
    let world = World::of(&fakes.each_ref()).await;
    let usage = json!({"LayersSize": 5, "Images": [{"Id": "sha256:1"}], "Containers": [{"Names": ["/web"]}],
                       "Volumes": [{"Name": "data", "Driver": "local"}], "BuildCache": null, "BuilderSize": 0});
    for fake in &fakes {
        fake.prepare(Method::GET, "/system/df", StatusCode::OK, usage.clone());
        let pruned = json!({"ContainersDeleted": ["c1"], "SpaceReclaimed": 3});
        fake.prepare(Method::POST, "/containers/prune", StatusCode::OK, pruned);
    }
    let total = world.get("/v1.44/system/df?type=container").await;
    assert_eq!(total["Containers"], json!([{"Names": ["/n1/web"]}, {"Names": ["/n2/web"]}]));
    assert_eq!((&total["Images"], &total["LayersSize"], &total["BuildCache"]), (&Value::Null, &json!(0), &Value::Null));
    assert!(fakes[1].asked(Method::GET, "/system/df")[0].path.starts_with("/v1.44/"));
    assert_eq!(world.ask(Method::GET, "/system/df?type=cake", None).await.0, StatusCode::BAD_REQUEST);
    let filters = "/containers/prune?filters=%7B%22until%22:%5B%221h%22%5D%7D";
    let (_, pruned) = world.ask(Method::POST, filters, None).await;
    assert_eq!(pruned, json!({"ContainersDeleted": ["c1", "c1"], "SpaceReclaimed": 6}));
    assert!(fakes[0].asked(Method::POST, "/containers/prune")[0].query.contains("until"));
}

#[tokio::test]
async fn an_image_that_no_registry_has_is_copied_from_node_to_node() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes[0].prepare(Method::POST, "/containers/create", StatusCode::NOT_FOUND, json!({"message": "No such image"}));
    fakes[1].has("load");
    let world = World::of(&fakes.each_ref()).await;
    gets(&fakes[1], json!({"Id": "sha256:a1", "RepoTags": ["built:1"], "Created": 1}));
    known(&world, 2).await;
    fakes[1].prepare(Method::GET, "/images/get", StatusCode::OK, json!("archive"));
    world.create("", json!({"Image": "built:1"})).await;
    assert_eq!(fakes[0].asked(Method::POST, "/images/load")[0].body, b"\"archive\"");
    assert_eq!(fakes[1].asked(Method::GET, "/images/get")[0].query, "names=built%3A1");
    assert!(fakes[0].asked(Method::POST, "/images/create").is_empty());
}

#[tokio::test]
async fn what_belongs_to_a_build_meets_on_its_engine() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    for fake in &fakes {
        fake.prepare(Method::POST, "/build", StatusCode::OK, json!({"stream": fake.name}));
        fake.prepare(Method::POST, "/build/cancel", StatusCode::OK, json!({}));
    }
    fakes[0].has("load");
    let world = World::of(&fakes.each_ref()).await;
    let build = async |query: &str| {
        let (status, answer) = world.ask(Method::POST, &format!("/build?{query}"), None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["stream"].as_str().unwrap().to_owned()
    };
    // The upload may come before its build.
    assert_eq!(tokio::join!(build("buildid=upload-request:b1"), build("buildid=b1&t=app")), ("n2".into(), "n2".into()));
    world.ask(Method::POST, "/build/cancel?id=b1", None).await;
    assert_eq!(fakes[1].asked(Method::POST, "/build/cancel").len(), 1);
    // The same image is built where its layers are, other images where there is room.
    for name in ["more", "yet-more"] {
        fakes[1].has(name);
    }
    until("the containers are known", async || world.names("?all=1").await.len() == 3).await;
    assert_eq!((build("t=app").await, build("t=other").await), ("n2".to_owned(), "n1".to_owned()));
    for (path, message) in [("/session", "no session ID provided"), ("/build/cancel", "build ID not provided")] {
        let refused = world.ask(Method::POST, path, None).await;
        assert_eq!(refused, (StatusCode::BAD_REQUEST, json!({"message": message})));
    }
}

#[tokio::test]
async fn a_name_means_one_image_everywhere() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await];
    let world = World::of(&fakes.each_ref()).await;
    let old = json!({"Id": "sha256:01d", "RepoTags": ["app:1"], "Created": 1});
    for fake in &fakes {
        gets(fake, old.clone());
        fake.prepare(Method::DELETE, "/images/app:1", StatusCode::OK, json!([{"Untagged": "app:1"}]));
    }
    for node in ["n1", "n2", "n3"] {
        let there = format!("/images/json?filters=%7B%22node%22:%5B%22{node}%22%5D,%22reference%22:%5B%22app%22%5D%7D");
        until("all have it", async || world.get(&there).await.as_array().unwrap().len() == 1).await;
    }
    fakes[2].stop();
    world.healthy(2).await;
    let there = "%7B%22constraint:node%22:%22=n1%22%7D";
    let (status, _) = world.ask(Method::POST, &format!("/build?t=app:1&buildargs={there}"), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(fakes[0].asked(Method::POST, "/build")[0].query, "t=app%3A1&buildargs=%7B%7D");
    let untagged = |fake: &Fake| fake.asked(Method::DELETE, "/images/app:1").len();
    assert_eq!((untagged(&fakes[0]), untagged(&fakes[1])), (0, 1));
    assert_eq!(fakes[1].asked(Method::DELETE, "/images/app:1")[0].query, "force=1&noprune=1");
    fakes[2].restart().await;
    until("the node that was away has lost the name", async || untagged(&fakes[2]) == 1).await;
}

/// The most memory that this process ever held, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_images_pass_through_and_are_not_kept() {
    const SIZE: u64 = 256 << 20;
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    fakes.iter().for_each(|fake| fake.state.lock().unwrap().flood = SIZE);
    let world = World::of(&fakes.each_ref()).await;
    let before = peak();
    // As `docker save | docker load` do it.
    let request = http::Request::get("/images/get?names=busybox").body(full("")).unwrap();
    let saved = world.client.send(request).await.unwrap().into_body();
    let (status, _) = world.send(Method::POST, "/images/load", saved).await;
    assert_eq!(status, StatusCode::OK);
    for fake in &fakes {
        assert_eq!(fake.state.lock().unwrap().loaded, SIZE, "{}", fake.name);
    }
    let grown = peak() - before;
    assert!(grown < SIZE / 2, "grew by {} MiB", grown >> 20);
}
