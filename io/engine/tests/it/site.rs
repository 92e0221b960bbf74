//! A small site for clients that misbehave, and ways to be such a client.

use http::{Request, Response, StatusCode};
use osier_engine::{
    Body, Hijacker,
    body::{channel, collect, is_too_long},
    error_response, full,
    server::{Handler, Limits, Listener, serve_within},
};
use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::Instant,
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest body that the site reads.
pub(crate) const BODY: usize = 1 << 20;

/// `/echo` answers with the body, `/later` when it is told to, `/quiet` begins and says no more, `/endless` never stops.
#[derive(Default)]
pub(crate) struct Site {
    /// Paths that were asked for.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Streamed answers whose reader went away.
    pub(crate) left: AtomicUsize,
    /// Chunks that were taken off `/endless`.
    pub(crate) chunks: AtomicUsize,
    pub(crate) now: Notify,
}

pub(crate) const CHUNK: usize = 64 << 10;

impl Site {
    /// Serves it under these limits.
    pub(crate) async fn start(limits: Limits) -> (Arc<Self>, SocketAddr) {
        let site = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_within(limits, Listener::Tcp(listener), Arc::new(Pages(site.clone())), pending()));
        (site, address)
    }

    pub(crate) fn was_asked(&self, path: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|p| p == path)
    }

    pub(crate) fn left(&self) -> usize {
        self.left.load(SeqCst)
    }

    pub(crate) fn chunks(&self) -> usize {
        self.chunks.load(SeqCst)
    }
}

pub(crate) struct Pages(pub(crate) Arc<Site>);

/// Counts a call whose future was dropped.
struct Leaving(Arc<Site>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, SeqCst);
    }
}

impl Handler for Pages {
    async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
        let (site, path) = (self.0.clone(), request.uri().path().to_owned());
        site.asked.lock().unwrap().push(path.clone());
        match path.as_str() {
            "/later" => {
                let leaving = Leaving(site.clone());
                site.now.notified().await;
                std::mem::forget(leaving);
                Response::new(full("later"))
            }
            "/quiet" | "/endless" => {
                let (sender, body) = channel(1);
                tokio::spawn(async move {
                    let _ = sender.send("hello").await;
                    while path == "/endless" && sender.send(vec![b'x'; CHUNK]).await.is_ok() {
                        site.chunks.fetch_add(1, SeqCst);
                    }
                    sender.closed().await;
                    site.left.fetch_add(1, SeqCst);
                });
                Response::new(body)
            }
            _ => match collect(request.into_body(), BODY).await {
                Ok(body) => Response::new(full(body)),
                Err(error) if is_too_long(&error) => error_response(StatusCode::PAYLOAD_TOO_LARGE, error),
                Err(error) => error_response(StatusCode::BAD_REQUEST, error),
            },
        }
    }
}

/// Connects and sends these bytes.
pub(crate) async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

/// Reads until the server closes the connection.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    read.unwrap_or_else(|_| panic!("the server does not close the connection after {seen:?}")).unwrap();
    seen
}

/// Sends bytes on a connection of their own, and reads the answer until the server closes it.
pub(crate) async fn ask(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    rest(&mut send(address, bytes).await).await
}

/// Reads until the answer ends with this text.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !seen.ends_with(end.as_bytes()) {
            assert_ne!(
                stream.read_buf(&mut seen).await.unwrap(),
                0,
                "closed after {:?}",
                String::from_utf8_lossy(&seen)
            );
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("waited in vain for {end:?}"));
    String::from_utf8(seen).unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An ordinary request is answered as it should be, and at once.
pub(crate) async fn is_well(address: SocketAddr) {
    let start = Instant::now();
    let answer =
        ask(address, "GET /echo HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
}
