//! The client of one engine: connections over a unix socket, TCP or mutual TLS, pooled and kept alive.

use crate::{
    ahead::ReadAhead,
    body::{Body, BoxError, collect, empty, full},
    link::{Failed, Link, Upload},
    obstacle::{Obstacle, Unopened, obstacle},
    pool::Pool,
    words::plain,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;
use tracing::debug;

/// How long a connection may take to stand, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The largest JSON answer read whole; lists of tens of thousands of containers stay far below.
const JSON_LIMIT: usize = 512 << 20;

/// A byte stream to or from an engine or client.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
/// Any such stream.
pub type BoxIo = Box<dyn Io>;

/// A call to an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("connect to {endpoint}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// What stood in the way.
        source: Unopened,
    },
    /// The connection broke or the answer was not HTTP.
    #[error("talk to {endpoint}")]
    Talk {
        /// With whom.
        endpoint: String,
        /// What broke.
        source: BoxError,
    },
    /// The engine answered with an error.
    #[error("{message}")]
    Engine {
        /// Its status code.
        status: StatusCode,
        /// Its own message.
        message: String,
    },
    /// The request could not be formed.
    #[error("form a request for {endpoint}")]
    Request {
        /// For whom.
        endpoint: String,
        /// What is wrong with it.
        source: BoxError,
    },
}

impl Error {
    /// The engine's status code, where it answered.
    pub fn status(&self) -> Option<StatusCode> {
        if let Self::Engine { status, .. } = self { Some(*status) } else { None }
    }

    /// What stood in the way of a call that got no answer.
    pub fn obstacle(&self) -> Obstacle {
        match self {
            Self::Connect { source, .. } => source.obstacle,
            Self::Talk { source, .. } => obstacle(source.as_ref()),
            Self::Engine { .. } | Self::Request { .. } => Obstacle::Other,
        }
    }

    /// What went wrong and why, in one line for people.
    pub fn chain(&self) -> String {
        match self {
            Self::Talk { source, .. } => format!("{self}: {}", plain(source.as_ref())),
            _ => self.causes(),
        }
    }

    /// The whole chain of causes in one line, those in the HTTP library's words among them: for the log.
    pub fn causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(e) = cause {
            text = format!("{text}: {e}");
            cause = e.source();
        }
        text
    }
}

#[derive(Clone)]
enum Endpoint {
    Unix(PathBuf),
    Tcp(SocketAddr),
    Tls { address: SocketAddr, name: ServerName<'static>, connector: TlsConnector },
}

/// A client of one engine. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    pool: Arc<Pool>,
}

/// An answer's head and the connection that it came over.
pub(crate) struct Exchange {
    pub(crate) link: Link,
    pub(crate) response: Response<Incoming>,
    /// Whether the whole request has been sent.
    pub(crate) uploaded: Arc<AtomicBool>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Client {
    /// The engine behind a unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Endpoint::Unix(path.into()))
    }

    /// The engine at a TCP address, without TLS.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::new(Endpoint::Tcp(address))
    }

    /// The engine at a TCP address with TLS; its certificate must be for `server_name` (a DNS name or an address).
    pub fn tls(address: SocketAddr, server_name: &str, config: Arc<rustls::ClientConfig>) -> Result<Self, Error> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|e| Error::Request { endpoint: server_name.to_owned(), source: e.into() })?;
        Ok(Self::new(Endpoint::Tls { address, name, connector: config.into() }))
    }

    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, pool: Arc::default() }
    }

    /// The engine's address, for messages.
    pub fn name(&self) -> String {
        match &self.endpoint {
            Endpoint::Unix(path) => format!("unix://{}", path.display()),
            Endpoint::Tcp(address) | Endpoint::Tls { address, .. } => address.to_string(),
        }
    }

    /// Opens a connection of its own, on which nothing has been said yet.
    pub async fn connect(&self) -> Result<BoxIo, Error> {
        open(&self.endpoint).await.map_err(|source| Error::Connect { endpoint: self.name(), source })
    }

    async fn open(&self) -> Result<Link, Error> {
        let io = self.connect().await?;
        Link::over(io).await.map_err(|source| Error::Talk { endpoint: self.name(), source })
    }

    /// Sends a request, over a connection that is there already if one is, and waits for the head of the answer.
    pub(crate) async fn exchange(&self, mut request: Request<Body>) -> Result<Exchange, Error> {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = Uri::builder().path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|e| Error::Request { endpoint: self.name(), source: e.into() })?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("docker"));
        let (parts, body) = request.into_parts();
        let (body, uploaded) = Upload::new(body);
        let mut request = Request::from_parts(parts, body);
        loop {
            let (mut link, is_new) = match self.pool.take() {
                Some(link) => (link, false),
                None => (self.open().await?, true),
            };
            match link.exchange(request).await {
                Ok(response) => return Ok(Exchange { link, response, uploaded }),
                // The engine closed it at that moment, and has seen nothing of the request.
                Err(Failed { unsent: Some(again), .. }) if !is_new => request = again,
                Err(Failed { error, .. }) => {
                    let error = Error::Talk { endpoint: self.name(), source: error };
                    debug!(error = error.causes(), "a call broke");
                    return Err(error);
                }
            }
        }
    }

    /// The answer of an exchange, whose body streams.
    pub(crate) fn answer(&self, exchange: Exchange) -> Response<Body> {
        let Exchange { link, response, uploaded } = exchange;
        response.map(|body| link.into_body(body, &uploaded, &self.pool))
    }

    /// Opens a connection for the next request while nobody waits for it, in the place of one that was given away.
    pub(crate) fn replenish(&self) {
        if self.pool.wants() {
            let client = self.clone();
            tokio::spawn(async move {
                // Whoever needs one meets the same error.
                if let Ok(link) = client.open().await {
                    client.pool.put(link);
                }
            });
        }
    }

    /// Sends a request whose URI is path and query; the answer's body streams.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        Ok(self.answer(self.exchange(request).await?))
    }

    /// Makes one call with an optional JSON body. An answer outside 2xx is [`Error::Engine`] with the engine's message.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Response<Body>, Error> {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let request = request
            .body(body.map_or_else(empty, |b| full(b.to_string())))
            .map_err(|e| Error::Request { endpoint: self.name(), source: e.into() })?;
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = self.read(response).await?;
        Err(Error::Engine { status, message: message(&text) })
    }

    /// Makes one call and reads its JSON answer.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Error> {
        let response = self.call(method, path, body).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Talk { endpoint: self.name(), source: e.into() })
    }

    async fn read(&self, response: Response<Body>) -> Result<bytes::Bytes, Error> {
        let collected = collect(response.into_body(), JSON_LIMIT).await;
        collected.map_err(|source| Error::Talk { endpoint: self.name(), source })
    }
}

/// What an error body says: the engine's `message`, else the text itself.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|v| v.get("message")).and_then(|m| m.as_str());
    message.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned)
}

async fn open(endpoint: &Endpoint) -> Result<BoxIo, Unopened> {
    let opening = async {
        Ok::<BoxIo, Unopened>(match endpoint {
            Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(Unopened::io)?),
            Endpoint::Tcp(address) => Box::new(tcp(*address).await?),
            Endpoint::Tls { address, name, connector } => {
                let handshake = connector.connect(name.clone(), ReadAhead::new(tcp(*address).await?)).await;
                Box::new(handshake.map_err(|e| Unopened::new(Obstacle::Tls, &e))?)
            }
        })
    };
    match tokio::time::timeout(CONNECT_DEADLINE, opening).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("no connection within {} s", CONNECT_DEADLINE.as_secs());
            Err(Unopened { obstacle: Obstacle::Timeout, message })
        }
    }
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, Unopened> {
    let stream = TcpStream::connect(address).await.map_err(Unopened::io)?;
    crate::server::tune(&stream);
    // An engine whose host has vanished sends nothing on streams that are quiet by nature; the kernel finds it out.
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive()) {
        debug!(%error, "cannot tune a connection");
    }
    Ok(stream)
}

/// A peer that is gone is given up after 17 s of silence.
fn keepalive() -> socket2::TcpKeepalive {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(8));
    keepalive.with_interval(Duration::from_secs(3)).with_retries(3)
}
