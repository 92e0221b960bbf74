//! The proxy between a scripted engine and a raw client, over TCP, unix sockets and mutual TLS.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

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
