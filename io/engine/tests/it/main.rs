//! The proxy between a scripted engine and a raw client, over TCP, unix sockets and mutual TLS; and the server against
//! clients that misbehave.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod hostile;
mod links;
mod site;
mod slow;

use http::{Method, Request, Response, StatusCode};
use osier_engine::{
    Body, Client, Hijacker, forward,
    server::{Handler, Listener, serve},
};
use osier_pki::{Authority, Identity, Subject};
use std::{future::pending, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
};

struct Proxy(Client);

impl Handler for Proxy {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        forward(&self.0, request, hijacker).await
    }
}

/// An engine that reads one request head, answers with the script and then echoes what comes after the blank line.
async fn scripted(script: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                    if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                stream.write_all(script.as_bytes()).await.unwrap();
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..n]).await.unwrap();
                }
            });
        }
    });
    address
}

async fn proxy_to(engine: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(Listener::Tcp(listener), Arc::new(Proxy(Client::tcp(engine))), pending()));
    address
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8(seen).unwrap()
}

const SWITCH: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly";
const RAW: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nearly";

#[tokio::test]
async fn a_client_that_asks_for_an_upgrade_gets_a_tunnel_with_nothing_lost() {
    let mut client = TcpStream::connect(proxy_to(scripted(SWITCH).await).await).await.unwrap();
    let request = "POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nstdin";
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "earlystdin").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("content-type: application/vnd.docker.raw-stream"), "{answer}");
    client.write_all(b" more").await.unwrap();
    assert_eq!(read_until(&mut client, " more").await, " more");
}

#[tokio::test]
async fn an_old_client_and_an_old_engine_get_a_bare_200() {
    for script in [SWITCH, RAW] {
        let mut client = TcpStream::connect(proxy_to(scripted(script).await).await).await.unwrap();
        let request = "POST /exec/1/start HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}";
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "early").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("pgrade"), "{answer}");
        client.write_all(b"typed").await.unwrap();
        assert!(read_until(&mut client, "typed").await.ends_with("typed"));
    }
}

#[tokio::test]
async fn the_end_of_a_clients_input_reaches_the_engine_and_its_output_still_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = proxy_to(listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let request = "POST /exec/1/start HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}input";
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let (mut engine, _) = listener.accept().await.unwrap();
    read_until(&mut engine, "{}").await;
    engine.write_all(RAW.as_bytes()).await.unwrap();
    let mut input = String::new();
    engine.read_to_string(&mut input).await.unwrap();
    assert_eq!(input, "input");
    engine.write_all(b" and late").await.unwrap();
    assert!(read_until(&mut client, "late").await.ends_with("early and late"));
}

#[tokio::test]
async fn what_came_before_an_engine_broke_off_arrives_and_does_not_look_complete() {
    for script in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nnonsense",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n-1\r\n",
    ] {
        let mut client = TcpStream::connect(proxy_to(scripted(script).await).await).await.unwrap();
        client.write_all(b"GET /info HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let answer = site::rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n4\r\npart\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn the_engines_version_of_http_and_the_clients_are_their_own() {
    // Were the answer passed on as HTTP/1.0, its reader could not tell a whole body from one that broke off.
    let proxy = proxy_to(scripted("HTTP/1.0 200 OK\r\n\r\nuntil the end").await).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(b"GET /info HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let head = read_until(&mut client, "until the end\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("transfer-encoding: chunked"), "{head}");
    let script = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let mut old = TcpStream::connect(proxy_to(scripted(script).await).await).await.unwrap();
    old.write_all(b"GET /info HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(site::rest(&mut old).await.ends_with("\r\n\r\nok"));
}

#[tokio::test]
async fn an_offer_of_http2_changes_nothing() {
    let script = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut client = TcpStream::connect(proxy_to(scripted(script).await).await).await.unwrap();
    let length = 4 << 20;
    let head = format!(
        "POST /images/load HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {length}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![0; length]).await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_client_that_is_gone_frees_its_engine() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = proxy_to(listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(b"GET /containers/x/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let (mut engine, _) = listener.accept().await.unwrap();
    read_until(&mut engine, "\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    drop(client);
    // The client's end is only certain once something was written to it.
    let mut end = [0];
    let closed = async {
        while engine.write_all(b"1\r\nx\r\n").await.is_ok() {
            let read = tokio::time::timeout(std::time::Duration::from_millis(10), engine.read(&mut end)).await;
            if read.is_ok_and(|n| n.is_ok_and(|n| n == 0)) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), closed).await.unwrap();
}

#[tokio::test]
async fn an_error_on_a_hijack_path_is_an_ordinary_answer() {
    let script = "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n{\"message\":\"no c x\"}";
    let client = Client::tcp(proxy_to(scripted(script).await).await);
    let error = client.call(Method::POST, "/containers/x/attach", None).await.unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (Some(StatusCode::NOT_FOUND), "no c x"));
}

#[tokio::test]
async fn an_engine_that_is_away_is_a_502_that_names_it() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::tcp(proxy_to(nobody).await);
    let error = client.call(Method::GET, "/info", None).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::BAD_GATEWAY));
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
}

#[tokio::test]
async fn unix_sockets_and_mutual_tls_carry_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let script = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";
    let engine = Client::tcp(scripted(script).await);
    let socket = dir.path().join("d.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(serve(Listener::Unix(listener), Arc::new(Proxy(engine)), pending()));

    let now = time::OffsetDateTime::now_utc();
    let ca = Authority::create("t", now).unwrap();
    let subject = Subject { name: "node".into(), dns: vec!["node".into()], addresses: vec![] };
    let identity = Identity::from_issued(ca.cert_pem(), &ca.issue(&subject, now).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Listener::Tls(listener, identity.server().unwrap());
    tokio::spawn(serve(tls, Arc::new(Proxy(Client::unix(&socket))), pending()));

    let client = Client::tls(address, "node", identity.client().unwrap()).unwrap();
    let value: serde_json::Value = client.json(Method::GET, "/v1.41/info", None).await.unwrap();
    assert_eq!(value["a"], 1);
    let wrong = Client::tls(address, "other", identity.client().unwrap()).unwrap();
    assert!(wrong.call(Method::GET, "/info", None).await.unwrap_err().chain().contains("connect to"));
    assert!(Client::tcp(address).call(Method::GET, "/info", None).await.is_err(), "no TLS, no answer");
}
