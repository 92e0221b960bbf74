//! The token service of a manager, with `join` and `list` as its clients.

use crate::{
    program::{Bench, ask, file, free_address, row},
    wait::{equal, until},
};
use http::Method;
use osier_engine::{
    Client, Hijacker, json_response,
    server::{Handler, Listener, serve},
};
use osier_pki::{Authority, Subject};
use std::{future::pending, sync::Arc};
use time::OffsetDateTime;

const TOKEN: &str = "feba5683f4a1645b68365f562f81694f";

#[tokio::test]
async fn engines_join_are_listed_leave_and_expire() {
    let bench = Bench::new();
    let address = free_address();
    let (_service, _) = bench.manager("s", &format!("swarm manage -H {address} 127.0.0.1:1")).await;
    let url = format!("token://{address}/{TOKEN}");
    let list = || {
        let said = bench.run(&format!("swarm list {url}"));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        said.out
    };
    assert_eq!(list(), "");
    let mut polite = bench.start(&format!("swarm join --addr 127.0.0.1:1 --heartbeat 1s --ttl 1h {url}"));
    let mut killed = bench.start(&format!("swarm join --addr [::1]:2 --heartbeat 1s --ttl 4s {url}"));
    until("both have joined", async || equal(list(), "127.0.0.1:1\n[::1]:2\n")).await;
    assert!(polite.log().contains("Registering on the discovery service every 1s..."), "{}", polite.log());
    let (_manager, cluster) = bench.manager("m", &format!("swarm manage --heartbeat 1s {url}")).await;
    until("the manager follows", async || row(&cluster, "Nodes").await.as_deref() == Some("2")).await;
    killed.signal("KILL");
    killed.end();
    until("its time is up", async || equal(list(), "127.0.0.1:1\n")).await;
    until("the manager knows", async || row(&cluster, "Nodes").await.as_deref() == Some("1")).await;
    polite.stop();
    assert_eq!(list(), "", "it took itself out");
    until("the manager knows", async || row(&cluster, "Nodes").await.as_deref() == Some("0")).await;
    // The classic's other calls.
    let client = Client::tcp(address.parse().unwrap());
    let (_, _, made) = ask(&client, Method::POST, "/v1/clusters").await.unwrap();
    assert_eq!(made.len(), 32);
}

#[tokio::test]
async fn a_service_that_is_away_is_no_reason_to_end() {
    let bench = Bench::new();
    let address = free_address();
    let url = format!("token://http://{address}/v1/{TOKEN}");
    let said = bench.run(&format!("swarm list --timeout 5s {url}"));
    assert_eq!(said.code, Some(1), "{}", said.err);
    // One that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said =
        bench.run(&format!("swarm list --timeout 100ms token://http://{}/{TOKEN}", silent.local_addr().unwrap()));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("Timed out"), "{}", said.err);
    let mut join = bench.start(&format!("swarm join --addr 127.0.0.1:1 --heartbeat 1s {url}"));
    until("it has tried", async || join.log().contains("the token service at")).await;
    let (_service, _) = bench.manager("s", &format!("swarm manage -H {address} 127.0.0.1:1")).await;
    until("it has joined", async || bench.run(&format!("swarm list {url}")).out == "127.0.0.1:1\n").await;
    join.stop();
}

struct Foreign;

impl Handler for Foreign {
    async fn handle(
        &self,
        request: http::Request<osier_engine::Body>,
        _: Hijacker,
    ) -> http::Response<osier_engine::Body> {
        let known = request.uri().path() == format!("/base/clusters/{TOKEN}");
        let status = if known { http::StatusCode::OK } else { http::StatusCode::NOT_FOUND };
        json_response(status, &["h:1"])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_are_spoken_to_over_tls() {
    let bench = Bench::new();
    let ca = Authority::create("public", OffsetDateTime::now_utc()).unwrap();
    let subject = Subject { name: "service".into(), dns: Vec::new(), addresses: vec![[127, 0, 0, 1].into()] };
    let issued = ca.issue(&subject, OffsetDateTime::now_utc()).unwrap();
    let folder = bench.path("");
    let (cert, key) = (file(&folder, "c", issued.cert_pem), file(&folder, "k", issued.key_pem));
    let pair = osier_pki::KeyPair::read_files(cert.as_ref(), key.as_ref()).unwrap();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::Tls(socket, pair.server().unwrap());
    let server = tokio::spawn(serve(listener, Arc::new(Foreign), pending()));
    let bundle = file(&folder, "bundle", ca.cert_pem());
    let list = |path: &str| {
        let line = format!("swarm list token://https://{address}/{path}{TOKEN}");
        let (bundle, bench) = (bundle.clone(), &bench);
        // The server runs on this thread.
        tokio::task::block_in_place(|| bench.run_with(&line, &[("SSL_CERT_FILE", &bundle)]))
    };
    let said = list("base/");
    assert_eq!((said.code, said.out.as_str()), (Some(0), "h:1\n"), "{}", said.err);
    let said = list("");
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("Discovery service returned 404 HTTP status code"), "{}", said.err);
    // Whoever this machine does not trust is not believed.
    let stranger = Authority::create("stranger", OffsetDateTime::now_utc()).unwrap();
    std::fs::write(&bundle, stranger.cert_pem()).unwrap();
    assert_eq!(list("base/").code, Some(1));
    server.abort();
}
