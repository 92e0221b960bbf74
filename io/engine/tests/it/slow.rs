//! Clients that are slow, silent, gone or too many: none takes what the others need.

use crate::site::{CHUNK, Pages, Site, ask, is_well, read_until, rest, send, until};
use osier_engine::server::{Limits, Listener, serve_within};
use osier_pki::{Authority, Identity, Subject};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// Long enough for a loaded machine, short enough for a test.
const SHORT: Duration = Duration::from_millis(300);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n")
}

#[tokio::test]
async fn a_head_has_to_arrive_in_time_and_an_idle_connection_has_more() {
    let (_site, address) = Site::start(Limits { head: SHORT, ..Limits::default() }).await;
    let mut idle = send(address, get("/echo")).await;
    read_until(&mut idle, "\r\n\r\n").await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(send(address, "GET /echo HTT").await);
    }
    is_well(address).await;
    for mut slow in slow {
        assert_eq!(rest(&mut slow).await, "");
    }
    // A byte now and then does not help.
    let mut drip = send(address, "GET /echo HTTP/1.1\r\n").await;
    let start = Instant::now();
    while drip.write_all(b"X: y\r\n").await.is_ok() {
        assert!(start.elapsed() < SHORT * 20, "the server waits for ever");
        tokio::time::sleep(SHORT / 10).await;
    }
    idle.write_all(get("/echo").as_bytes()).await.unwrap();
    assert!(read_until(&mut idle, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_running_call_is_not() {
    let (site, address) = Site::start(Limits { idle: SHORT, head: SHORT, ..Limits::default() }).await;
    let mut waiting = send(address, get("/later")).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    let answer = ask(address, get("/echo")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    site.now.notify_one();
    assert!(read_until(&mut waiting, "later").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_client_that_only_ended_its_input_gets_its_answer() {
    let (site, address) = Site::start(Limits::default()).await;
    let mut client = send(address, get("/later")).await;
    client.shutdown().await.unwrap();
    until("the call runs", || site.was_asked("/later")).await;
    site.now.notify_one();
    assert!(rest(&mut client).await.ends_with("\r\n\r\nlater"));
    let mut client = send(address, "POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\nhi").await;
    client.shutdown().await.unwrap();
    assert!(rest(&mut client).await.ends_with("\r\n\r\nhi"));
    // A body that broke off is never complete.
    let mut client = send(address, "POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\nhi").await;
    client.shutdown().await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_client_that_is_gone_ends_its_call() {
    let limits = Limits { half_closed: SHORT, ..Limits::default() };
    let (site, address) = Site::start(limits).await;
    for (n, path) in ["/later", "/quiet"].into_iter().enumerate() {
        let client = send(address, get(path)).await;
        until("the call runs", || site.was_asked(path)).await;
        drop(client);
        until("the call is given up", || site.left() > n).await;
    }
    // One that still has bytes to read, and one that was cut off, are noticed without waiting.
    let (site, address) = Site::start(Limits::default()).await;
    let mut client = send(address, get("/endless")).await;
    client.read_exact(&mut vec![0; CHUNK]).await.unwrap();
    drop(client);
    until("the stream is given up", || site.left() == 1).await;
    let client = send(address, get("/later")).await;
    until("the call runs", || site.was_asked("/later")).await;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until("the call is given up", || site.left() == 2).await;
}

#[tokio::test]
async fn a_slow_reader_stops_its_source_and_nobody_else() {
    let (site, address) = Site::start(Limits::default()).await;
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(send(address, get("/endless")).await);
    }
    let mut last = (usize::MAX, Instant::now());
    until("the sources stand still", || {
        if last.0 != site.chunks() {
            last = (site.chunks(), Instant::now());
        }
        last.1.elapsed() > SHORT
    })
    .await;
    // What the two sockets hold, and little more.
    let each = site.chunks() * CHUNK / readers.len();
    assert!(each < 16 << 20, "{each} bytes per reader");
    is_well(address).await;
    let before = site.chunks();
    readers[0].read_exact(&mut vec![0; 32 << 20]).await.unwrap();
    until("the source goes on", || site.chunks() > before).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told() {
    let (_site, address) = Site::start(Limits { connections: 3, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = send(address, get("/echo")).await;
        read_until(&mut client, "\r\n\r\n").await;
        held.push(client);
    }
    let answer = ask(address, get("/echo")).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(r#"{"message":"too many connections"}"#),
        "{answer}"
    );
    // Hundreds more take nothing from those that are served.
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    held[0].write_all(get("/echo").as_bytes()).await.unwrap();
    assert!(read_until(&mut held[0], "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    drop((crowd, held));
    let start = Instant::now();
    while !ask(address, "GET /echo HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200 ")
    {
        assert!(start.elapsed() < Duration::from_secs(10), "no connection is taken again");
    }
}

#[tokio::test]
async fn a_tls_port_waits_for_no_handshake_and_says_what_it_is() {
    let now = time::OffsetDateTime::now_utc();
    let ca = Authority::create("t", now).unwrap();
    let subject = Subject { name: "n".into(), dns: vec!["n".into()], addresses: vec![] };
    let identity = Identity::from_issued(ca.cert_pem(), &ca.issue(&subject, now).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { handshake: SHORT, ..Limits::default() };
    let listener = Listener::Tls(listener, identity.server().unwrap());
    tokio::spawn(serve_within(limits, listener, Arc::new(Pages(Arc::default())), pending()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut begun = send(address, b"\x16\x03\x01\x02\x00\x01").await;
    let answer = ask(address, get("/echo")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("Client sent an HTTP request to an HTTPS server."), "{answer}");
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut begun).await, "");
    let client = osier_engine::Client::tls(address, "n", identity.client().unwrap()).unwrap();
    client.call(http::Method::GET, "/echo", None).await.unwrap();
}
