//! Engines that are not as they should be: each is told with its reason, and harms nobody else.

use crate::{
    fake::Fake,
    twisted::{Twist, Twisted},
    world::{World, until},
};
use futures::future::join_all;
use http::{Method, StatusCode};
use osier_engine::Client;
use osier_manager::Target;
use osier_pki::{Authority, Identity, Subject};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Waits until the node at an address has this trouble, and tells all that is known of it.
async fn trouble(world: &World, target: &Target, reason: &str) -> Value {
    let mut node = Value::Null;
    until(&format!("{} is {reason}", target.address()), async || {
        node = world.node_at(target).await;
        node["error"]["reason"] == reason
    })
    .await;
    assert!(node["error"]["message"].is_string() && node["error"]["retry_in_seconds"].as_u64() <= Some(60), "{node}");
    node
}

#[tokio::test]
async fn what_is_wrong_is_always_told() {
    let fakes = [
        Fake::start("good").await,
        Fake::start("label").await,
        Fake::start("manager").await,
        Fake::start("old").await,
        Fake::start("page").await,
        Fake::start("gone").await,
        Fake::start("silent").await,
        Fake::start("curly").await,
    ];
    fakes[1].state.lock().unwrap().labels = vec!["tier".into()];
    fakes[2].state.lock().unwrap().cpus = 0;
    fakes[3].state.lock().unwrap().api = "1.22";
    fakes[4].prepare(Method::GET, "/version", StatusCode::OK, json!("<html>"));
    fakes[5].stop();
    fakes[6].hang(true);
    let curly = Twisted::before(&fakes[7]).await;
    curly.twist("/info", Twist::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"ID\": "));
    let nowhere = Target { name: Some("nowhere".into()), host: "no..where".into(), port: 1, server_name: "x".into() };
    let world = World::start().await;
    let mut targets: Vec<Target> = fakes[..7].iter().map(Fake::target).collect();
    targets.extend([curly.target(), nowhere]);
    world.cluster.set_members(targets.iter().cloned().collect());
    world.healthy(1).await;
    let reasons = ["label", "not-an-engine", "version", "not-an-engine", "refused", "timeout", "not-an-engine", "dns"];
    for (target, reason) in targets[1..].iter().zip(reasons) {
        let node = trouble(&world, target, reason).await;
        assert_eq!(node["status"], "pending", "{node}");
    }
    let rows = world.rows().await;
    let errors: Vec<&String> = rows.iter().filter(|(k, _)| k.ends_with("Error")).map(|(_, v)| v).collect();
    assert!(errors.len() == reasons.len() && errors.iter().all(|e| e.contains("; next attempt in ")), "{errors:?}");
    // Mended, it is taken.
    fakes[1].state.lock().unwrap().labels = vec!["tier=x".into()];
    world.healthy(2).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::create("ours", now).unwrap();
    let identity = |name: &str| {
        let subject = Subject { name: name.into(), dns: vec![name.into()], addresses: Vec::new() };
        Identity::from_issued(authority.cert_pem(), &authority.issue(&subject, now).unwrap()).unwrap()
    };
    let fake = Fake::start_tls("n1", identity("n1").server().unwrap()).await;
    let plain = Fake::start("n2").await;
    let world = World::with(Some(identity("manager").client().unwrap())).await;
    let named = |name: &str| Target { name: Some("n1".into()), server_name: name.into(), ..fake.target() };
    world.cluster.set_members([named("other"), plain.target()].into());
    let node = trouble(&world, &fake.target(), "tls").await;
    assert!(node["error"]["message"].as_str().unwrap().contains("\"other\""), "{node}");
    trouble(&world, &plain.target(), "tls").await;
    world.cluster.set_members([named("n1")].into());
    world.healthy(1).await;
}

#[tokio::test]
async fn of_two_engines_with_one_id_or_name_one_stays() {
    let (first, clone, namesake) = (Fake::start("n1").await, Fake::start("n2").await, Fake::start("n3").await);
    clone.state.lock().unwrap().id = "n1-id".into();
    namesake.state.lock().unwrap().host = "n1".into();
    let alias = Twisted::before(&first).await;
    let world = World::of(&[&first]).await;
    let all = [first.target(), clone.target(), namesake.target(), alias.target()];
    world.cluster.set_members(all.into());
    let refused = [
        trouble(&world, &clone.target(), "duplicate-id").await,
        trouble(&world, &alias.target(), "duplicate-id").await,
        trouble(&world, &namesake.target(), "duplicate-name").await,
    ];
    let holder = first.target().address();
    for (node, why) in refused.iter().zip(["cloned disk", "under another address", "is called 'n1' already"]) {
        let message = node["error"]["message"].as_str().unwrap();
        assert!(message.contains(&holder) && message.contains(why), "{message}");
    }
    assert_eq!(world.node_at(&first.target()).await["status"], "healthy");
    // When the first leaves, one of each pair takes its place at once.
    world.cluster.set_members([clone.target(), namesake.target()].into());
    let start = Instant::now();
    world.healthy(2).await;
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn another_engine_at_a_known_address_takes_nothing_over() {
    let fake = Fake::start("n1").await;
    let old = fake.has("old");
    let world = World::of(&[&fake]).await;
    fake.stop();
    {
        let mut state = fake.state.lock().unwrap();
        state.id = "another".into();
        state.containers.remove(&old);
    }
    fake.has("new");
    fake.restart().await;
    until("the other engine is taken", async || world.node_at(&fake.target()).await["id"] == "another").await;
    until("its containers are there", async || world.names("").await == ["/n1/new"]).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_loses_no_event_and_ages_stay_right() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    fake.tell("image", "pull", "i1");
    // An hour back: what happens now happened before the last event, by its times.
    fake.state.lock().unwrap().clock = -3600;
    let id = fake.has("web");
    until("it is listed", async || world.names("").await == ["/n1/web"]).await;
    {
        let mut state = fake.state.lock().unwrap();
        let started = OffsetDateTime::now_utc() - time::Duration::seconds(3600 + 300);
        let container = state.containers.get_mut(&id).unwrap();
        container["State"]["StartedAt"] = started.format(&Rfc3339).unwrap().into();
        container["Seconds"] = started.unix_timestamp().into();
    }
    fake.end_events(false);
    until("the clock is noticed", async || world.node_at(&fake.target()).await["clock_skew_seconds"] == 3600).await;
    assert_eq!(world.status("Warning", "its clock is 1 h 0 min behind the manager's").await, 1);
    until("the age is right", async || world.get("/containers/json").await[0]["Status"] == "Up 5 minutes").await;
    let row = &world.get("/containers/json").await[0];
    let age = OffsetDateTime::now_utc().unix_timestamp() - row["Created"].as_i64().unwrap();
    assert!((300..330).contains(&age), "{age}");
    // Told while nobody listens.
    let events = world.client.send(http::Request::get("/events").body(osier_engine::empty()).unwrap()).await.unwrap();
    fake.end_events(false);
    fake.tell("image", "tag", "meanwhile");
    use http_body_util::BodyExt;
    let mut body = events.into_body();
    let mut text = String::new();
    while !text.contains("\"meanwhile\"") {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await;
        let chunk = frame.unwrap_or_else(|_| panic!("not told: {text}")).unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(!text.contains("\"i1\"") && text.matches("\"meanwhile\"").count() <= 2, "{text}");
    fake.state.lock().unwrap().clock = 0;
    fake.end_events(false);
    until("the clock is right", async || {
        world.status("Warning", "").await == 0 && world.node_at(&fake.target()).await["clock_skew_seconds"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_restarted_engine_leaves_a_gap_that_is_told() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    fake.tell("image", "pull", "i1");
    let events = world.client.send(http::Request::get("/events").body(osier_engine::empty()).unwrap()).await.unwrap();
    until("the engine is heard", async || !fake.asked(Method::GET, "/images/json").is_empty()).await;
    fake.end_events(true);
    until("the manager listens again", async || fake.asked(Method::GET, "/events").len() == 2).await;
    fake.tell("image", "tag", "i2");
    use http_body_util::BodyExt;
    let (mut body, mut text) = (events.into_body(), String::new());
    while !text.contains("\"i2\"") {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await;
        text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().unwrap().into_data().unwrap()).unwrap());
    }
    assert!(text.find("engine_gap") < text.find("\"i2\"") && text.contains("engine_gap"), "{text}");
}

#[tokio::test]
async fn an_event_stream_that_keeps_breaking_is_followed_ever_more_slowly() {
    let fake = Fake::start("n1").await;
    let wire = Twisted::before(&fake).await;
    wire.twist("/events", Twist::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnonsense!"));
    let world = World::start().await;
    world.cluster.set_members([wire.target()].into());
    world.healthy(1).await;
    until("the reason is told although it answers", async || {
        let node = world.node_at(&wire.target()).await;
        node["status"] == "healthy" && node["error"]["retry_in_seconds"].as_u64() >= Some(2)
    })
    .await;
    let asked = fake.asked(Method::GET, "/_ping").len();
    assert!(asked < 12, "{asked} attempts");
}

#[tokio::test]
async fn bad_answers_are_errors_of_their_request_alone() {
    let (bad, good) = (Fake::start("bad").await, Fake::start("good").await);
    let id = bad.has("twisted");
    good.has("straight");
    let wire = Twisted::before(&bad).await;
    let world = World::start().await;
    world.cluster.set_members([wire.target(), good.target()].into());
    world.healthy(2).await;
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let long: &'static str = Box::leak("x".repeat(1 << 16).into_boxed_str());
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    for (what, twist) in [
        ("dies before its answer", Twist::Bytes("")),
        ("dies within its answer", Twist::Bytes(leak(format!("{ok}content-length: 100\r\n\r\n{{\"Id\":")))),
        ("dies within a chunk", Twist::Bytes(leak(format!("{ok}transfer-encoding: chunked\r\n\r\nff\r\n{{\"Id\":")))),
        ("is no HTTP", Twist::Bytes("SSH-2.0-OpenSSH_9.2\r\n")),
        ("is no JSON", Twist::Bytes(leak(format!("{ok}content-length: 6\r\n\r\n<html>")))),
        ("tells more than it said", Twist::Bytes(leak(format!("{ok}content-length: 2\r\n\r\n{{}}garbage")))),
        ("has a broken length", Twist::Bytes(leak(format!("{ok}content-length: many\r\n\r\n{{}}")))),
        ("has a broken chunk", Twist::Bytes(leak(format!("{ok}transfer-encoding: chunked\r\n\r\nzz\r\n")))),
        ("has endless headers", Twist::Endless("HTTP/1.1 200 OK\r\nx: ", long)),
        ("has many headers", Twist::Endless("HTTP/1.1 200 OK\r\n", "x-y: z\r\n")),
    ] {
        wire.twist(&format!("/containers/{id}/json"), twist);
        let start = Instant::now();
        let path = format!("/containers/{id}/json");
        let asked = world.ask(Method::GET, &path, None);
        let (status, body) = tokio::time::timeout(Duration::from_secs(10), asked).await.expect(what);
        if what == "tells more than it said" {
            assert_eq!(status, StatusCode::OK, "{what}");
        } else {
            assert_eq!(status, StatusCode::BAD_GATEWAY, "{what}: {body}");
            let message = body["message"].as_str().unwrap();
            let (plain, foreign) = (message.starts_with("node bad "), ["client error", "SendRequest", "body from"]);
            assert!(plain && foreign.iter().all(|words| !message.contains(words)), "{what}: {message}");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{what} took {:?}", start.elapsed());
        let start = Instant::now();
        assert_eq!(world.get("/containers/straight/json").await["Name"], "/straight");
        assert_eq!(world.names("").await.len(), 2, "nothing is lost when an engine {what}");
        assert!(start.elapsed() < Duration::from_secs(1), "{what}: others took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_engine_that_is_killed_during_a_call_is_named_in_plain_words() {
    let (bad, good) = (Fake::start("bad").await, Fake::start("good").await);
    let wire = Twisted::before(&bad).await;
    let world = World::start().await;
    world.cluster.set_members([wire.target(), good.target()].into());
    world.healthy(2).await;
    wire.twist("/images/busybox", Twist::Bytes(""));
    good.prepare(Method::DELETE, "/images/busybox", StatusCode::OK, json!([{"Untagged": "busybox:latest"}]));
    let (status, body) = world.ask(Method::DELETE, "/images/busybox", None).await;
    let message = body["message"].as_str().unwrap();
    // Closed or reset: that is the kernel's choice.
    let lost = "node bad was lost during the call: the connection ";
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{message}");
    assert!(message.starts_with(lost) && message.ends_with("\n(removed on good)"), "{message}");
    wire.twist("/containers/create", Twist::Bytes(""));
    let (status, body) = world.create("bad%2Fx", json!({"Image": "busybox"})).await;
    let message = body["message"].as_str().unwrap();
    assert!(status == StatusCode::BAD_GATEWAY && message.starts_with(lost), "{message}");
    // An engine behind its node's proxy.
    good.has("web");
    until("the container is known", async || world.names("").await.len() == 1).await;
    let id = good.state.lock().unwrap().containers.keys().next().unwrap().clone();
    let behind = json!({"message": "talk to unix:///run/docker.sock: the connection broke"});
    good.prepare(Method::POST, &format!("/containers/{id}/kill"), StatusCode::BAD_GATEWAY, behind);
    let (status, body) = world.ask(Method::POST, "/containers/web/kill", None).await;
    let told = "node good gave no answer: talk to unix:///run/docker.sock: the connection broke";
    assert_eq!((status, &body["message"]), (StatusCode::BAD_GATEWAY, &json!(told)));
}

#[tokio::test]
async fn calls_that_an_engine_never_answers_end_and_delay_no_others() {
    let (bad, good) = (Fake::start("bad").await, Fake::start("good").await);
    let wire = Twisted::before(&bad).await;
    let twists = [
        Twist::Silence,
        Twist::Stuck("HTTP/1.1 200 OK\r\ncontent-len"),
        Twist::Stuck("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"Id\":"),
    ];
    let ids: Vec<String> = (0..twists.len()).map(|i| bad.has(&format!("twisted{i}"))).collect();
    bad.has("other");
    good.has("straight");
    let world = World::start().await;
    world.cluster.set_members([wire.target(), good.target()].into());
    world.healthy(2).await;
    for (id, twist) in ids.iter().zip(twists) {
        wire.twist(&format!("/containers/{id}/json"), twist);
    }
    let hanging = ids.iter().map(|id| {
        let path = format!("/containers/{id}/json");
        let world = &world;
        async move { world.ask(Method::GET, &path, None).await }
    });
    let hanging = join_all(hanging);
    tokio::pin!(hanging);
    let others = async {
        let start = Instant::now();
        for path in ["/containers/other/json", "/containers/straight/json", "/info", "/containers/json", "/images/json"]
        {
            world.get(path).await;
        }
        assert_eq!(world.create("", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
        start.elapsed()
    };
    tokio::select! {
        _ = &mut hanging => panic!("nobody answered"),
        took = others => assert!(took < Duration::from_secs(1), "the others took {took:?}"),
    }
    // The engine answers everything else, so it is not lost: each call's own deadline ends it.
    let answers = tokio::time::timeout(Duration::from_secs(45), hanging).await.unwrap();
    for (status, body) in answers {
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{body}");
    }
    assert_eq!(world.node_at(&wire.target()).await["status"], "healthy");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_call_with_it() {
    let fake = Fake::start("n1").await;
    fake.has("web");
    let wire = Twisted::before(&fake).await;
    wire.twist("/top", Twist::Silence);
    let world = World::start().await;
    world.cluster.set_members([wire.target()].into());
    world.healthy(1).await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(b"GET /containers/web/top HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until("the engine is asked", async || wire.waiting() == 1).await;
    client.set_zero_linger().unwrap();
    drop(client);
    until("the engine's call has ended", async || wire.waiting() == 0).await;
    assert_eq!(world.node_at(&wire.target()).await["status"], "healthy");
    let answer = Client::tcp(world.address).call(Method::GET, "/containers/web/json", None).await;
    assert!(answer.is_ok());
}

#[tokio::test]
async fn who_waited_for_a_container_finds_what_it_waited_for() {
    let fake = Fake::start("n1").await;
    let id = fake.has("web");
    let world = World::of(&[&fake]).await;
    assert_eq!(world.names("?all=1").await, ["/n1/web"]);
    // The event is still on its way.
    fake.prepare(Method::POST, &format!("/containers/{id}/wait"), StatusCode::OK, json!({"StatusCode": 3}));
    fake.state.lock().unwrap().containers.remove(&id);
    let path = format!("/containers/{id}/wait?condition=removed");
    assert_eq!(world.ask(Method::POST, &path, None).await, (StatusCode::OK, json!({"StatusCode": 3})));
    assert_eq!(world.names("?all=1").await, Vec::<String>::new());
    assert_eq!(world.ask(Method::POST, &path, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_engine_that_prunes_already_is_waited_for() {
    let fakes = [Fake::start("n1").await, Fake::start("n2").await];
    let world = World::of(&fakes.each_ref()).await;
    let busy = json!({"message": "a prune operation is already running"});
    let pruned = |what: &str, id: &str| json!({what: [id], "SpaceReclaimed": 1});
    for (kind, what) in [("containers", "ContainersDeleted"), ("volumes", "VolumesDeleted")] {
        let path = format!("/{kind}/prune");
        fakes[0].prepare(Method::POST, &path, StatusCode::CONFLICT, busy.clone());
        fakes[1].prepare(Method::POST, &path, StatusCode::OK, pruned(what, "b"));
        let done = async {
            until("it was asked again", async || fakes[0].asked(Method::POST, &path).len() > 1).await;
            fakes[0].prepare(Method::POST, &path, StatusCode::OK, pruned(what, "a"));
        };
        let ask = format!("/v1.41{path}");
        let ((status, answer), ()) = tokio::join!(world.ask(Method::POST, &ask, None), done);
        assert_eq!((status, &answer["SpaceReclaimed"]), (StatusCode::OK, &json!(2)), "{answer}");
        assert_eq!((answer[what].as_array().map(Vec::len), fakes[1].asked(Method::POST, &path).len()), (Some(2), 1));
    }
}
