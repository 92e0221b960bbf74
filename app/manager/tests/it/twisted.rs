//! A twisted wire before an engine: requests for one path get an answer that no engine gives, all others pass.

use crate::fake::Fake;
use osier_manager::Target;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Twist {
    /// It is never answered.
    Silence,
    /// It gets these bytes, and the connection ends.
    Bytes(&'static str),
    /// It gets these bytes, and then nothing more.
    Stuck(&'static str),
    /// It gets these bytes, and then those for ever.
    Endless(&'static str, &'static str),
}

/// The twists, by what the path contains.
type Twists = Arc<Mutex<BTreeMap<String, Twist>>>;

/// A proxy before an engine; it is gone when this is dropped.
pub(crate) struct Twisted {
    pub(crate) address: SocketAddr,
    twists: Twists,
    waiting: Arc<AtomicUsize>,
    server: AbortHandle,
}

impl Drop for Twisted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Twisted {
    pub(crate) async fn before(fake: &Fake) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let twists = Twists::default();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (engine, known, count) = (fake.address, twists.clone(), waiting.clone());
        let server = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, engine, known.clone(), count.clone()));
            }
        });
        Self { address, twists, waiting, server: server.abort_handle() }
    }

    /// From now on, requests whose path contains this are answered so.
    pub(crate) fn twist(&self, path: &str, twist: Twist) {
        self.twists.lock().unwrap().insert(path.to_owned(), twist);
    }

    /// How many requests wait for an answer that does not come.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn target(&self) -> Target {
        let host = self.address.ip().to_string();
        Target { name: None, server_name: host.clone(), host, port: self.address.port() }
    }
}

/// One connection, which is for one request.
async fn pass(mut client: TcpStream, engine: SocketAddr, twists: Twists, waiting: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match client.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap().to_owned();
    let twist = twists.lock().unwrap().iter().find(|(path, _)| line.contains(path.as_str())).map(|(_, t)| t.clone());
    let Some(twist) = twist else {
        let mut upstream = TcpStream::connect(engine).await.unwrap();
        let closing = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        upstream.write_all(closing.as_bytes()).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
        return;
    };
    let (start, more) = match twist {
        Twist::Silence => ("", None),
        Twist::Bytes(bytes) => return drop(client.write_all(bytes.as_bytes()).await),
        Twist::Stuck(bytes) => (bytes, None),
        Twist::Endless(bytes, more) => (bytes, Some(more)),
    };
    let mut sent = client.write_all(start.as_bytes()).await;
    while let (Ok(()), Some(more)) = (&sent, more) {
        sent = client.write_all(more.as_bytes()).await;
    }
    // Until the other side gives up.
    waiting.fetch_add(1, Ordering::SeqCst);
    let _ = client.read(&mut [0]).await;
    waiting.fetch_sub(1, Ordering::SeqCst);
}
