//! The server: an accept loop of our own around hyper, so that any connection can be taken away from it, and no client
//! can hold what others need.
//!
//! hyper's own upgrade support wants an `Upgrade` header, which old Docker clients do not send. So a handler that has
//! to take the connection over sends a [`Takeover`] through its [`Hijacker`] and then waits for ever; the task that
//! drives the connection sees the message, takes socket and unread bytes out of hyper, and becomes a tunnel.

mod connection;
mod establish;
mod watched;

pub(crate) use establish::tune;

use crate::{
    body::Body,
    client::{BoxIo, Io},
};
use bytes::Bytes;
use connection::Connection;
use establish::accept;
use http::{Request, Response};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use std::{any::Any, convert::Infallible, future::Future, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tracing::{debug, info, warn};

/// How long running requests may go on after shutdown began.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How many connections beyond the limit are told so at a time; more are closed without a word.
const REFUSALS: usize = 64;

/// Where to accept connections.
pub enum Listener {
    /// TCP without TLS.
    Tcp(TcpListener),
    /// TCP with TLS.
    Tls(TcpListener, Arc<ServerConfig>),
    /// A unix socket.
    Unix(UnixListener),
}

/// What clients may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; requests on further ones are answered 503.
    pub connections: usize,
    /// How long a client may take for its TLS handshake.
    pub handshake: Duration,
    /// How long a request's head may take, from its first byte on.
    pub head: Duration,
    /// How long a connection is kept without a request. Longer than clients keep theirs, so that a client which uses an
    /// old connection again does not find it closed.
    pub idle: Duration,
    /// How long a call goes on in silence after its client closed its side. A client that only ended its input still
    /// wants the answer, and one that is gone looks the same until something is written to it.
    pub half_closed: Duration,
}

impl Default for Limits {
    /// A third of the files that the process may open: a connection that is passed on takes two, and some must be left.
    fn default() -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self {
            connections: usize::try_from(files / 3).unwrap_or(usize::MAX).clamp(64, 100_000),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(20),
            idle: Duration::from_secs(180),
            half_closed: Duration::from_secs(15),
        }
    }
}

/// Lets the process open as many files as it may at most. The usual limit of 1024 is for programs that use `select`.
pub fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        debug!(%error, "cannot raise the limit of open files");
    }
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. To take the connection over instead, use the hijacker (see [`crate::forward`]).
    fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> impl Future<Output = Response<Body>> + Send;
}

/// The right to take one connection away from HTTP.
#[derive(Clone, Debug)]
pub struct Hijacker {
    taken: mpsc::Sender<Takeover>,
    held: Option<Arc<dyn Any + Send + Sync>>,
}

/// What becomes of a connection that was taken over: the head is written, then both sides are copied.
pub(crate) struct Takeover {
    pub(crate) head: Vec<u8>,
    pub(crate) upstream: BoxIo,
    pub(crate) early: Bytes,
    /// Kept until the tunnel ends.
    pub(crate) held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Hijacker {
    pub(crate) fn new(taken: mpsc::Sender<Takeover>) -> Self {
        Self { taken, held: None }
    }

    /// Has the connection keep a value until it ends, once it is taken over.
    #[must_use]
    pub fn holding(mut self, value: impl Any + Send + Sync) -> Self {
        self.held = Some(Arc::new(value));
        self
    }

    /// Hands the connection over. Never returns: the request's future is dropped when hyper lets go.
    pub(crate) async fn take(&self, head: Vec<u8>, upstream: BoxIo, early: Bytes) -> Infallible {
        // Only a connection that is already gone refuses the message, and then this future is about to be dropped too.
        let _ = self.taken.send(Takeover { head, upstream, early, held: self.held.clone() }).await;
        std::future::pending().await
    }
}

/// Accepts and answers until `shutdown` resolves, then lets running requests end within a deadline.
pub async fn serve<H: Handler>(listener: Listener, handler: Arc<H>, shutdown: impl Future<Output = ()>) {
    serve_within(Limits::default(), listener, handler, shutdown).await;
}

/// As [`serve`], with limits of the caller's choice.
pub async fn serve_within<H: Handler>(
    limits: Limits,
    listener: Listener,
    handler: Arc<H>,
    shutdown: impl Future<Output = ()>,
) {
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let (slots, spare) = (Arc::new(Semaphore::new(limits.connections)), Arc::new(Semaphore::new(REFUSALS)));
    let mut full = false;
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut shutdown => break,
        };
        while connections.try_join_next().is_some() {}
        let raw = match accepted {
            Ok(raw) => raw,
            Err(error) => {
                // Out of file descriptors: accepting again at once would only spin.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let slot = slots.clone().try_acquire_owned();
        let refused = slot.is_err();
        if refused != full {
            full = refused;
            match full {
                true => warn!(limit = limits.connections, "too many connections, refusing further ones"),
                false => info!("taking connections again"),
            }
        }
        let Ok(slot) = slot.or_else(|_| spare.clone().try_acquire_owned()) else { continue };
        let connection =
            Connection { handler: handler.clone(), limits: limits.clone(), closed: closed.clone(), refused };
        connections.spawn(async move {
            let _slot = slot;
            match raw.establish(connection.limits.handshake).await {
                Ok(io) => connection.run(io).await,
                Err(error) => debug!(%error, "refused a connection"),
            }
        });
    }
    let _ = closing.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
        debug!("closing connections that are still in use");
    }
}

/// Answers the requests of one connection, until it ends.
pub async fn serve_connection<H: Handler>(limits: Limits, io: impl Io + 'static, handler: Arc<H>) {
    let (_closing, closed) = watch::channel(false);
    Connection { handler, limits, closed, refused: false }.run(Box::new(io)).await;
}
