//! Bytes on a connection: what clients send to the server, what engines answer to the proxy, and streams of JSON.

use http::{Request, Response, StatusCode};
use osier_engine::{
    Body, Client, Hijacker,
    body::{channel, collect},
    forward, full,
    server::{Handler, Limits, serve_connection},
};
use osier_manager::JsonStream;
use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{UnixListener, UnixStream},
    runtime::{Builder, Runtime},
};

/// How long one input may take; it takes a thousandth of that where nothing hangs.
const DEADLINE: Duration = Duration::from_secs(5);
/// The largest body that the handler reads.
const BODY: usize = 1 << 20;

thread_local! {
    static RUNTIME: Rc<Runtime> = Rc::new(Builder::new_current_thread().enable_all().build().unwrap());
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

fn run(work: impl Future<Output = ()>) {
    let runtime = RUNTIME.with(Rc::clone);
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.unwrap() });
}

/// A stream of JSON values, cut into pieces as the first byte says: what comes out does not depend on the cuts.
pub(crate) fn json_stream(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let read = async |size: usize| {
        let (sender, body) = channel(1);
        let feed = async move {
            for piece in data.chunks(size.max(1)) {
                if sender.send(piece.to_vec()).await.is_err() {
                    return;
                }
            }
        };
        let mut stream = JsonStream::new(body);
        let values = async {
            let mut values = Vec::new();
            let mut whole = true;
            loop {
                match stream.next().await {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            drop(stream);
            (values, whole)
        };
        tokio::join!(feed, values).1
    };
    run(async {
        let (pieces, whole) = (read(usize::from(*cut)).await, read(data.len()).await);
        assert_eq!(pieces, whole);
    });
}

/// Answers with the body it got, and keeps it.
#[derive(Default)]
struct Echo(Mutex<Vec<Vec<u8>>>);

impl Handler for Echo {
    async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
        match collect(request.into_body(), BODY).await {
            Ok(body) => {
                self.0.lock().unwrap().push(body.to_vec());
                Response::new(full(body))
            }
            Err(error) => osier_engine::error_response(StatusCode::BAD_REQUEST, error),
        }
    }
}

async fn answer(mut client: DuplexStream, request: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(&mut client);
    let mut answer = Vec::new();
    let send = async {
        // The server may close before it has read all.
        let _ = write.write_all(request).await;
        let _ = write.shutdown().await;
    };
    let _ = tokio::join!(send, read.read_to_end(&mut answer));
    answer
}

/// What a client sends. With an even first byte the bytes are raw; else they become one chunked request, which has to
/// arrive as it was sent.
pub(crate) fn request(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let echo = Arc::new(Echo::default());
    let (client, server) = duplex(1 << 16);
    let structured = kind % 2 == 1;
    let sent = if structured { chunked(data, usize::from(*kind)) } else { data.to_vec() };
    run(async {
        let serving = serve_connection(Limits::default(), server, echo.clone());
        let ((), answer) = tokio::join!(serving, answer(client, &sent));
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    });
    let seen = echo.0.lock().unwrap();
    if structured {
        assert_eq!(*seen, [data]);
    }
    assert!(seen.iter().map(Vec::len).sum::<usize>() <= data.len());
}

/// A request with this body in chunks of different sizes.
fn chunked(body: &[u8], seed: usize) -> Vec<u8> {
    let mut request = b"POST /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut rest = body;
    let mut size = seed;
    while !rest.is_empty() {
        size = size * 7 % 61 + 1;
        let (chunk, tail) = rest.split_at(size.min(rest.len()));
        request.extend_from_slice(format!("{:X};ext=\"{size}\"\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
        rest = tail;
    }
    request.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    request
}

/// An engine that answers every request with the same bytes and hangs up.
struct Engine {
    client: Client,
    answer: Arc<Mutex<Vec<u8>>>,
}

struct Proxy(Client);

impl Handler for Proxy {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        forward(&self.0, request, hijacker).await
    }
}

const REQUESTS: [&str; 4] = [
    "GET /v1.41/info HTTP/1.1\r\nHost: d\r\n\r\n",
    "POST /exec/1/start HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}stdin",
    "POST /containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nstdin",
    "HEAD /containers/x/archive HTTP/1.1\r\nHost: d\r\n\r\n",
];

/// What an engine answers to the proxy; the first byte says to which request.
pub(crate) fn response(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let request = REQUESTS[usize::from(*kind) % REQUESTS.len()];
    run(async {
        let client = ENGINE.with_borrow_mut(|engine| {
            let engine = engine.get_or_insert_with(Engine::start);
            *engine.answer.lock().unwrap() = data.to_vec();
            engine.client.clone()
        });
        let (near, far) = duplex(1 << 16);
        let serving = serve_connection(Limits::default(), far, Arc::new(Proxy(client)));
        let ((), answer) = tokio::join!(serving, answer(near, request.as_bytes()));
        assert!(answer.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&answer));
        assert!(answer.len() <= data.len() * 2 + 4096, "{} bytes of {}", answer.len(), data.len());
    });
}

impl Engine {
    fn start() -> Self {
        let socket =
            std::env::temp_dir().join(format!("osier-fuzz-{}-{:x}.sock", std::process::id(), rand::random::<u64>()));
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = Arc::new(Mutex::new(Vec::new()));
        let answers = answer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answers.lock().unwrap().clone();
                tokio::spawn(reply(stream, answer));
            }
        });
        Self { client: Client::unix(&socket), answer }
    }
}

async fn reply(mut stream: UnixStream, answer: Vec<u8>) {
    let mut seen = Vec::new();
    while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    while stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
}
