//! A manager that is started by hand: where it listens, with whom it speaks, and how it ends.

use crate::{
    program::{Bench, ask, file, free_address, row},
    wait::until,
};
use http::{Method, Request, StatusCode};
use osier_engine::{Client, body::collect, empty};
use osier_pki::{Authority, Identity, KeyPair, Subject};
use std::{os::unix::fs::PermissionsExt, path::Path};
use time::OffsetDateTime;

#[tokio::test]
async fn plain_http_is_said_and_sockets_are_private() {
    let bench = Bench::new();
    let address = free_address();
    let (mut daemon, client) = bench
        .manager(
            "s",
            &format!("swarm --experimental manage --strategy binpack -f health -f port -H {address} 127.0.0.1:1"),
        )
        .await;
    assert!(daemon.log().contains("plain HTTP"), "{}", daemon.log());
    assert_eq!(std::fs::metadata(bench.path("s")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(row(&client, "Strategy").await.as_deref(), Some("binpack"));
    assert_eq!(row(&client, "Filters").await.as_deref(), Some("health, port"));
    until("the engine is a member", async || row(&client, "Nodes").await.as_deref() == Some("1")).await;
    let tcp = Client::tcp(address.parse().unwrap());
    let (status, headers, _) = ask(&tcp, Method::GET, "/_ping").await.unwrap();
    assert_eq!((status, &headers["docker-experimental"]), (StatusCode::OK, &"true".parse().unwrap()));
    assert!(!headers.contains_key("access-control-allow-origin"));
    daemon.stop();
    assert!(ask(&tcp, Method::GET, "/_ping").await.is_none());
}

#[tokio::test]
async fn a_folder_of_state_is_one_managers() {
    let bench = Bench::new();
    let line = "osier manage --state state 127.0.0.1:1";
    let (daemon, _client) = bench.manager("s", line).await;
    let second = bench.run(&format!("{line} -H unix://{}", bench.path("t").display()));
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("manager.lock") && second.err.contains("another manager"), "{second:?}");
    // One that was killed holds nothing.
    drop(daemon);
    let (_daemon, _client) = bench.manager("u", line).await;
}

#[tokio::test]
async fn streams_of_events_end_when_the_manager_does() {
    let bench = Bench::new();
    let (mut daemon, client) = bench.manager("s", "osier manage 127.0.0.1:1").await;
    let request = Request::builder().uri("/events").body(empty()).unwrap();
    let stream = client.send(request).await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    daemon.signal("TERM");
    // Not cut off: the manager said that this was all.
    collect(stream.into_body(), 1000).await.unwrap();
    assert!(daemon.end().success());
}

#[tokio::test]
async fn web_pages_are_let_in_where_the_user_wants_it() {
    let bench = Bench::new();
    let (_daemon, client) = bench.manager("s", "swarm manage --cors 127.0.0.1:1").await;
    for method in [Method::OPTIONS, Method::GET] {
        let (status, headers, _) = ask(&client, method, "/v1.40/version").await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert_eq!(headers["access-control-allow-methods"], "GET, POST, DELETE, PUT, OPTIONS, HEAD");
        assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("X-Registry-Auth"));
    }
}

/// Writes a CA and a certificate into a folder, and gives the flags that name them.
fn certificates(ca: &Authority, folder: &Path, name: &str) -> String {
    std::fs::create_dir(folder).unwrap();
    let addresses = vec![[127, 0, 0, 1].into()];
    let subject = Subject { name: name.into(), dns: Vec::new(), addresses };
    let issued = ca.issue(&subject, OffsetDateTime::now_utc()).unwrap();
    let ca = file(folder, "ca.pem", ca.cert_pem());
    let (cert, key) = (file(folder, "cert.pem", issued.cert_pem), file(folder, "key.pem", issued.key_pem));
    format!("--tlscacert {ca} --tlscert {cert} --tlskey {key}")
}

#[tokio::test]
async fn tls_is_as_strict_as_the_flags_say() {
    let bench = Bench::new();
    let ca = Authority::create("ours", OffsetDateTime::now_utc()).unwrap();
    let other = Authority::create("other", OffsetDateTime::now_utc()).unwrap();
    let flags = certificates(&ca, &bench.path("manager"), "manager");
    certificates(&ca, &bench.path("client"), "client");
    certificates(&other, &bench.path("stranger"), "stranger");
    let ours = Identity::read(&bench.path("client")).unwrap().client().unwrap();
    let stranger = bench.path("stranger");
    let stranger =
        KeyPair::read_files(&stranger.join("cert.pem"), &stranger.join("key.pem")).unwrap().client().unwrap();
    for (flag, strangers) in [("--tlsverify", false), ("--tls", true)] {
        let address = free_address();
        let daemon = bench.start(&format!("swarm manage {flag} {flags} -H tcp://{address} 127.0.0.1:1"));
        let socket = address.parse().unwrap();
        let client = |tls| Client::tls(socket, "127.0.0.1", tls).unwrap();
        let trusted = client(ours.clone());
        until("the manager answers", async || ask(&trusted, Method::GET, "/_ping").await.is_some()).await;
        assert!(!daemon.log().contains("plain HTTP"), "{}", daemon.log());
        assert_eq!(ask(&client(stranger.clone()), Method::GET, "/_ping").await.is_some(), strangers, "{flag}");
        let plain = ask(&Client::tcp(socket), Method::GET, "/_ping").await;
        assert!(plain.is_none_or(|(status, ..)| status == StatusCode::BAD_REQUEST), "no TLS at all");
    }
}
