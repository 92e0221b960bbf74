//! Connections to an engine: used again where they can be, opened anew where they cannot, and no byte lost on them.

use crate::{proxy_to, read_until};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use osier_engine::{
    Client, Error,
    body::{channel, collect},
    empty,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const PIECES: usize = 3000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine that counts its connections and answers by the request's path.
struct Engine {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Engine {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (connections, open) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let engine = Self { address: listener.local_addr().unwrap(), connections, open };
        let (connections, open) = (engine.connections.clone(), engine.open.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                open.fetch_add(1, Ordering::Relaxed);
                let open = open.clone();
                tokio::spawn(async move {
                    answer(stream).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        engine
    }

    /// Waits until so many connections are open.
    async fn has_open(&self, count: usize) {
        let start = Instant::now();
        while self.open.load(Ordering::Relaxed) != count {
            assert!(start.elapsed() < PATIENCE, "{} connections are open", self.open.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn answer(mut stream: TcpStream) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let text = match head.split(' ').nth(1).unwrap() {
            "/known" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            "/none" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            "/pieces" => {
                let pieces = (0..PIECES).map(|i| format!("6\r\n{i:05}\n\r\n")).collect::<String>();
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n")
            }
            "/broken" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_owned(),
            "/informed" => "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                            HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                .to_owned(),
            // An answer to what nobody asked comes behind the other one.
            "/surplus" => {
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb".to_owned()
            }
            "/closing" => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend".to_owned(),
            "/begun" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbeg".to_owned(),
            "/silent" => String::new(),
            "/gone" => return,
            "/last" => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend".to_owned(),
            "/early" => {
                // The head comes before the upload has arrived, and more than any buffer holds behind it.
                let size = 4 << 20;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let read = async {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"0\r\n\r\n") {
                        reader.read_buf(&mut seen).await.unwrap();
                    }
                };
                let upload = vec![b'.'; size];
                let ((), written) = tokio::join!(read, writer.write_all(&upload));
                written.unwrap();
                continue;
            }
            "/v1.41/containers/x/attach" => {
                let switch = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly";
                stream.write_all(switch.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                drop(tokio::io::copy(&mut reader, &mut writer).await);
                return;
            }
            other => panic!("{other}"),
        };
        stream.write_all(text.as_bytes()).await.unwrap();
        if head.contains("/last ") || head.contains("/broken ") {
            return;
        }
    }
}

async fn get(client: &Client, path: &str) -> Result<(StatusCode, Vec<u8>), Error> {
    let request = Request::builder().uri(path).body(empty()).unwrap();
    let response = client.send(request).await?;
    let status = response.status();
    Ok((status, collect(response.into_body(), 1 << 20).await.unwrap().to_vec()))
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    let pieces: String = (0..PIECES).map(|i| format!("{i:05}\n")).collect();
    for _ in 0..3 {
        assert_eq!(get(&client, "/known").await.unwrap(), (StatusCode::OK, b"hello".to_vec()));
        assert_eq!(get(&client, "/none").await.unwrap(), (StatusCode::NO_CONTENT, Vec::new()));
        assert_eq!(get(&client, "/pieces").await.unwrap(), (StatusCode::OK, pieces.clone().into_bytes()));
    }
    // An answer that nobody reads to its end, because all of it is known to be there.
    let mut known = client.call(Method::GET, "/known", None).await.unwrap().into_body();
    known.frame().await.unwrap().unwrap();
    drop(known);
    get(&client, "/none").await.unwrap();
    assert_eq!(engine.connections(), 1);
}

#[tokio::test]
async fn a_tunnel_takes_a_connection_that_is_there_and_another_one_is_opened_for_the_next_request() {
    let engine = Engine::start().await;
    let proxy = proxy_to(engine.address).await;
    let client = Client::tcp(proxy);
    get(&client, "/known").await.unwrap();
    assert_eq!(engine.connections(), 1);
    let mut raw = TcpStream::connect(proxy).await.unwrap();
    let attach =
        "POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nlate";
    raw.write_all(attach.as_bytes()).await.unwrap();
    read_until(&mut raw, "earlylate").await;
    let another = async {
        while engine.connections() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), another).await.expect("another connection is opened");
    get(&client, "/known").await.unwrap();
    assert_eq!(engine.connections(), 2, "the one that is kept ready is used");
}

#[tokio::test]
async fn requests_at_the_same_time_have_connections_of_their_own() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    futures::future::join_all((0..8).map(|_| get(&client, "/pieces"))).await.into_iter().for_each(|r| drop(r.unwrap()));
    assert!(engine.connections() <= 8);
    let before = engine.connections();
    get(&client, "/known").await.unwrap();
    assert_eq!(engine.connections(), before, "some were kept");
}

#[tokio::test]
async fn a_connection_that_the_engine_closed_is_not_used_again() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    for turn in 1..20 {
        assert_eq!(get(&client, "/last").await.unwrap().1, b"end");
        assert_eq!(engine.connections(), turn);
    }
}

#[tokio::test]
async fn small_pieces_are_passed_on_together() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    let mut body = client.call(Method::GET, "/pieces", None).await.unwrap().into_body();
    let (mut frames, mut bytes) = (0, 0);
    while let Some(frame) = body.frame().await {
        frames += 1;
        bytes += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(bytes, PIECES * 6);
    assert!(frames < PIECES / 10, "{frames} frames");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    let mut body = client.call(Method::GET, "/broken", None).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    body.frame().await.unwrap().unwrap_err();
    assert!(body.frame().await.is_none(), "it ends after that");
    get(&client, "/known").await.unwrap();
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_answer() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    let (sender, body) = channel(1);
    let request = Request::builder().method(Method::POST).uri("/early").body(body).unwrap();
    let response = client.send(request).await.unwrap();
    let upload = async {
        for _ in 0..1000 {
            sender.send(vec![b'x'; 16 << 10]).await.unwrap();
        }
        drop(sender);
    };
    tokio::time::timeout(Duration::from_secs(20), upload)
        .await
        .expect("the upload does not wait for the answer's reader");
    assert_eq!(collect(response.into_body(), 8 << 20).await.unwrap().len(), 4 << 20);
    // The connection is used again and not kept by whoever drove it.
    is_used_again(&client, &engine).await;
}

/// Waits until a request goes over a connection that was there; those that did not are closed in the end.
async fn is_used_again(client: &Client, engine: &Engine) {
    let start = Instant::now();
    loop {
        let before = engine.connections();
        assert_eq!(get(client, "/last").await.unwrap().1, b"end");
        if engine.connections() == before {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "every request has a connection of its own");
    }
    engine.has_open(0).await;
}

#[tokio::test]
async fn an_answer_is_that_of_its_request() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    let known = async || assert_eq!(get(&client, "/known").await.unwrap(), (StatusCode::OK, b"hello".to_vec()));
    for turn in 1..10 {
        known().await;
        assert_eq!(get(&client, "/surplus").await.unwrap().1, b"a");
        known().await;
        assert_eq!(get(&client, "/closing").await.unwrap().1, b"end");
        known().await;
        // Given up before it was answered, and before the answer was read.
        let silent = tokio::time::timeout(Duration::from_millis(20), get(&client, "/silent")).await;
        assert!(silent.is_err());
        known().await;
        let mut begun = client.call(Method::GET, "/begun", None).await.unwrap().into_body();
        assert_eq!(begun.frame().await.unwrap().unwrap().into_data().unwrap(), "beg");
        drop(begun);
        assert_eq!(get(&client, "/informed").await.unwrap(), (StatusCode::OK, b"hello".to_vec()));
        assert_eq!(engine.connections(), 1 + 4 * turn, "none of these connections is used again");
    }
}

#[tokio::test]
async fn what_an_engine_may_have_done_is_not_asked_of_it_twice() {
    let engine = Engine::start().await;
    let client = Client::tcp(engine.address);
    get(&client, "/known").await.unwrap();
    client.call(Method::POST, "/gone", None).await.unwrap_err();
    assert_eq!(engine.connections(), 1, "the request was sent once, over the connection that was there");
    get(&client, "/known").await.unwrap();
    assert_eq!(engine.connections(), 2);
}
