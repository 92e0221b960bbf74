//! Clients that send nonsense, too much, too slowly, or go away: a clear error for that request, and nobody else notices.

use crate::{
    fake::Fake,
    world::{World, until},
};
use http::{Method, StatusCode};
use osier_engine::full;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends a request as it stands and reads its whole answer: the status, and the message of an error.
async fn raw(address: SocketAddr, line: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{line}: {answer}"));
    let json: Value = answer.split_once("\r\n\r\n").and_then(|(_, b)| serde_json::from_str(b).ok()).unwrap_or_default();
    (status, json["message"].as_str().unwrap_or_default().to_owned())
}

/// The cluster answers as ever, and at once.
async fn is_well(world: &World) {
    let start = Instant::now();
    world.get("/containers/json?all=1").await;
    assert!(start.elapsed() < Duration::from_secs(5), "ps took {:?}", start.elapsed());
}

#[tokio::test]
async fn containers_may_be_called_like_parts_of_paths() {
    let fakes = [Fake::start("n1").await, Fake::start("v1.41").await];
    let names = ["con", "s", "v1", "v1.24", "40", "json", "create", "prune", "containers", "attach", "n1", "%41"];
    for name in names {
        fakes[1].has(name);
    }
    let world = World::of(&fakes.each_ref()).await;
    for name in names {
        let escaped = name.replace('%', "%25");
        for path in [
            "/containers/{}/json",
            "/v1.41/containers/{}/json",
            "/v1.30/containers/v1.41%2F{}/json",
            "/containers/v1.41/{}/json",
        ] {
            let path = path.replace("{}", &escaped);
            let inspect = world.get(&path).await;
            assert_eq!(inspect["Name"], format!("/{name}"), "{path}");
        }
        let (status, body) = world.ask(Method::POST, &format!("/containers/{escaped}/stop"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}: {body}");
    }
    assert_eq!(fakes[1].asked(Method::POST, "/stop").len(), names.len());
    assert!(fakes[0].asked(Method::POST, "/stop").is_empty());
}

#[tokio::test]
async fn odd_paths_and_queries_are_refused_and_reach_no_engine() {
    let fake = Fake::start("n1").await;
    fake.has("web");
    let world = World::of(&[&fake]).await;
    let before = fake.asked(Method::POST, "").len();
    let long = "x".repeat(20_000);
    for (line, expected) in [
        ("GET /containers/%/json", 400),
        ("GET /containers/%2/json", 400),
        ("GET /containers/%zz/json", 400),
        ("GET /containers/%ff%fe/json", 400),
        ("GET /containers/../json", 400),
        ("GET /containers/%2e%2e/json", 400),
        ("GET /containers/web%2F..%2Fweb/json", 404),
        ("GET /containers/%00/json", 404),
        ("GET /containers/web%00/json", 404),
        ("GET /containers/%2F/json", 404),
        ("GET /containers/n1%2F/json", 404),
        ("GET /containers/web%0d%0aX:%20y/json", 404),
        ("GET /containers/%F0%9F%90%B3/json", 404),
        (&format!("GET /containers/{long}/json"), 404),
        ("POST /containers//start", 404),
        ("POST /containers/%20/start", 404),
        ("DELETE /containers/", 404),
        ("DELETE /containers/*", 404),
        ("GET /v1.41", 404),
        ("GET /v1.999/info", 400),
        ("GET /v0.1/info", 400),
        ("GET /v99999.1/info", 404),
        ("GET /containers/json?filters=%zz", 400),
        ("GET /containers/json?all=%ff", 400),
        ("POST /images/%00/tag?repo=x", 404),
        ("GET /exec/%00/json", 404),
        ("GET /networks/%00", 404),
        ("GET /volumes/%00", 404),
        ("OPTIONS *", 200),
        ("TRACE /info", 404),
        ("CONNECT d:1", 404),
        ("BREW /containers/json", 404),
    ] {
        let (status, message) = raw(world.address, line, b"").await;
        assert_eq!(status, expected, "{line}: {message}");
        assert_eq!(message.is_empty(), expected == 200, "{line}");
    }
    // A proxy's form of the same request is the same request.
    let (status, _) = raw(world.address, "GET http://somewhere/v1.41/containers/json?all=1", b"").await;
    assert_eq!(status, 200);
    assert_eq!(fake.asked(Method::POST, "").len(), before);
    is_well(&world).await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let fake = Fake::start("n1").await;
    fake.has("web");
    let world = World::of(&[&fake]).await;
    let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
    let arrays = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
    let bad: [&[u8]; 9] =
        [b"", b"{", b"{\"Image\":", b"{\"Image\":\"\xff\"}", b"\0", b"nonsense", b"{} {}", &deep, &arrays];
    for path in ["/containers/create", "/networks/create", "/volumes/create", "/networks/bridge/connect"] {
        for body in bad {
            let (status, message) = raw(world.address, &format!("POST {path}"), body).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(20)]);
            assert!((400..500).contains(&status) && !message.is_empty(), "{path} {shown}: {status} {message}");
        }
    }
    // JSON of the wrong shape is the engine's to refuse, or the manager's; it breaks nothing.
    for body in [
        "null",
        "1",
        "[]",
        "\"x\"",
        "{\"HostConfig\":5,\"Labels\":[],\"Name\":{},\"Driver\":1,\"Container\":[]}",
        "{\"Image\":{},\"Labels\":{\"a\":1},\"EndpointConfig\":[]}",
        "{\"NetworkingConfig\":[],\"DriverOpts\":5,\"IPAM\":[],\"Container\":\"\"}",
        "{\"NetworkingConfig\":{\"EndpointsConfig\":{\"a\":1,\"b\":[]}},\"Env\":{},\"HostConfig\":{\"Binds\":[1],\"Mounts\":[1,[]]}}",
        "{\"HostConfig\":{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"99999\"}],\"x\":1},\"NanoCpus\":-1,\"Memory\":1e300}}",
    ] {
        for path in [
            "/containers/create",
            "/networks/create",
            "/volumes/create",
            "/networks/bridge/connect",
            "/osier/v1/explain",
        ] {
            let (status, message) = raw(world.address, &format!("POST {path}"), body.as_bytes()).await;
            assert!(status < 500, "{path} {body}: {status} {message}");
        }
    }
    // As the engine does, the last of two equal members is taken.
    let (status, _) =
        raw(world.address, "POST /containers/create?name=twice", b"{\"Image\":\"a\",\"Image\":\"busybox\"}").await;
    assert_eq!(status, 201);
    is_well(&world).await;
}

#[tokio::test]
async fn filters_that_are_no_filters_are_refused() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let nested = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for path in ["/containers/json", "/images/json", "/networks", "/volumes", "/events"] {
        for filters in [
            "nonsense",
            "[]",
            "1",
            "null",
            "\"x\"",
            "{",
            "{\"name\"}",
            "{\"name\":1}",
            "{\"name\":{\"x\":1}}",
            "{\"name\":[1]}",
            "{\"name\":[[\"x\"]]}",
            "{\"label\":{\"x\":{}}}",
            "{\"no such filter\":[\"x\"]}",
            &nested,
        ] {
            // Engines pass over a filter of events that they do not know.
            if path == "/events" && filters.contains("no such filter") {
                continue;
            }
            let escaped: String = filters.bytes().map(|b| format!("%{b:02x}")).collect();
            let (status, message) = raw(world.address, &format!("GET {path}?filters={escaped}"), b"").await;
            let shown: String = filters.chars().take(30).collect();
            assert_eq!(status, 400, "{path} {shown}: {message}");
            assert!(!message.is_empty(), "{path} {shown}");
        }
    }
    is_well(&world).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let head =
        format!("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{{\"Image\":", 1_u64 << 40);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    let image = "x".repeat(17 << 20);
    let (status, body) =
        world.send(Method::POST, "/containers/create", full(json!({"Image": image}).to_string())).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{}", String::from_utf8_lossy(&body));
    assert!(fake.asked(Method::POST, "/containers/create").is_empty());
    // What is within it is read.
    let labels = json!({"Image": "busybox", "Labels": {"x": "y".repeat(2 << 20)}});
    assert_eq!(world.create("large", labels).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn uploads_that_stand_still_hold_nobody_else() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let mut slow = Vec::new();
    for path in ["/containers/create", "/images/load", "/networks/create"] {
        for _ in 0..40 {
            let mut stream = TcpStream::connect(world.address).await.unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n{{\"Image\":\"bu");
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    is_well(&world).await;
    assert_eq!(world.create("web", json!({"Image": "busybox"})).await.0, StatusCode::CREATED);
    drop(slow);
    is_well(&world).await;
    assert_eq!(fake.count(), 1);
}

/// How much of what clients sent to this port the kernel holds, because it was not read yet.
fn unread(port: u16) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let rows = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The columns are: number, local and remote address, state, tx_queue:rx_queue.
    let queues = rows.filter(|row| row[1].ends_with(&local)).filter_map(|row| row[4].split_once(':'));
    queues.map(|(_, received)| u64::from_str_radix(received, 16).unwrap()).sum()
}

#[tokio::test]
async fn few_large_bodies_are_held_at_a_time_and_small_ones_pass_by() {
    let fake = Fake::start("n1").await;
    let world = World::of(&[&fake]).await;
    let large = json!({"Image": "busybox", "Labels": {"x": "y".repeat(2 << 20)}}).to_string();
    let head = format!("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n", large.len());
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&large.as_bytes()[..3 << 19]).await.unwrap();
        held.push(stream);
    }
    until("the manager has read what the four sent", async || unread(world.address.port()) == 0).await;
    let waiting = world.create("fifth", serde_json::from_str(&large).unwrap());
    tokio::pin!(waiting);
    // The four have what there is; the fifth does not come through.
    let small = async {
        for n in 0..20 {
            let (status, body) = world.create(&format!("small-{n}"), json!({"Image": "busybox"})).await;
            assert_eq!(status, StatusCode::CREATED, "{body}");
        }
    };
    tokio::select! { biased; () = small => {}, answer = &mut waiting => panic!("the fifth came through: {answer:?}") }
    drop(held);
    assert_eq!(waiting.await.0, StatusCode::CREATED);
    assert_eq!(fake.count(), 21);
}

#[tokio::test]
async fn a_follower_that_goes_away_is_followed_no_more() {
    let fake = Fake::start("n1").await;
    fake.has("web");
    let world = World::of(&[&fake]).await;
    let mut followers = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(b"GET /containers/web/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 64]).await.unwrap();
        followers.push(stream);
    }
    assert_eq!(fake.state.lock().unwrap().following, 20);
    is_well(&world).await;
    drop(followers);
    until("the engine is left alone", async || fake.state.lock().unwrap().following == 0).await;
    is_well(&world).await;
}

#[tokio::test]
async fn a_client_that_ended_its_input_gets_its_answer() {
    let fake = Fake::start("n1").await;
    fake.has("web");
    let world = World::of(&[&fake]).await;
    for (line, expected) in [
        ("GET /containers/json", "n1/web"),
        ("GET /containers/web/json", "\"Name\":\"/web\""),
        ("POST /containers/web/stop", "204"),
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 20") && answer.contains(expected), "{line}: {answer}");
    }
}
