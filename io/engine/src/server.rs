//! The server: an accept loop of our own around hyper, so that any connection can be taken away from it.
//!
//! hyper's own upgrade support wants an `Upgrade` header, which old Docker clients do not send. So a handler that has
//! to take the connection over sends a [`Takeover`] through its [`Hijacker`] and then waits for ever; the task that
//! drives the connection sees the message, takes socket and unread bytes out of hyper, and becomes a tunnel.

use crate::{
    body::{Body, boxed},
    client::BoxIo,
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long running requests may go on after shutdown began.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Where to accept connections.
pub enum Listener {
    /// TCP without TLS.
    Tcp(TcpListener),
    /// TCP with TLS.
    Tls(TcpListener, Arc<ServerConfig>),
    /// A unix socket.
    Unix(UnixListener),
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. To take the connection over instead, use the hijacker (see [`crate::forward`]).
    fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> impl Future<Output = Response<Body>> + Send;
}

/// The right to take one connection away from HTTP.
#[derive(Clone, Debug)]
pub struct Hijacker(mpsc::Sender<Takeover>);

/// What becomes of a connection that was taken over: the head is written, then both sides are copied.
pub(crate) struct Takeover {
    pub(crate) head: Vec<u8>,
    pub(crate) upstream: BoxIo,
    pub(crate) early: Bytes,
}

impl Hijacker {
    /// Hands the connection over. Never returns: the request's future is dropped when hyper lets go.
    pub(crate) async fn take(&self, takeover: Takeover) -> Infallible {
        // Only a connection that is already gone refuses the message, and then this future is about to be dropped too.
        let _ = self.0.send(takeover).await;
        std::future::pending().await
    }
}

/// Accepts and answers until `shutdown` resolves, then lets running requests end within a deadline.
pub async fn serve<H: Handler>(listener: Listener, handler: Arc<H>, shutdown: impl Future<Output = ()>) {
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut shutdown => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(raw) => {
                let (handler, closed) = (handler.clone(), closed.clone());
                connections.spawn(async move {
                    match raw.establish().await {
                        Ok(io) => connection(io, handler, closed).await,
                        Err(error) => debug!(%error, "refused a connection"),
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors: accepting again at once would only spin.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let _ = closing.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
        debug!("closing connections that are still in use");
    }
}

enum Raw {
    Ready(BoxIo),
    Tls(TcpStream, TlsAcceptor),
}

impl Raw {
    async fn establish(self) -> std::io::Result<BoxIo> {
        match self {
            Self::Ready(io) => Ok(io),
            Self::Tls(stream, acceptor) => {
                let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await;
                Ok(Box::new(handshake.map_err(|_| std::io::ErrorKind::TimedOut)??))
            }
        }
    }
}

async fn accept(listener: &Listener) -> std::io::Result<Raw> {
    match listener {
        Listener::Tcp(l) => {
            let (stream, _) = l.accept().await?;
            tune(&stream);
            Ok(Raw::Ready(Box::new(stream)))
        }
        Listener::Tls(l, config) => {
            let (stream, _) = l.accept().await?;
            tune(&stream);
            Ok(Raw::Tls(stream, config.clone().into()))
        }
        Listener::Unix(l) => Ok(Raw::Ready(Box::new(l.accept().await?.0))),
    }
}

/// Interactive sessions want no Nagle; peers that vanish without a word are noticed by keepalive.
pub(crate) fn tune(stream: &TcpStream) {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    let tuned = stream.set_nodelay(true).and_then(|()| socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        debug!(%error, "cannot tune a connection");
    }
}

async fn connection<H: Handler>(io: BoxIo, handler: Arc<H>, mut closed: watch::Receiver<bool>) {
    let (tx, mut taken) = mpsc::channel(1);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (handler, hijacker) = (handler.clone(), Hijacker(tx.clone()));
        async move { Ok::<_, Infallible>(handler.handle(request.map(boxed), hijacker).await) }
    });
    let mut connection =
        hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service);
    let mut closing = false;
    let takeover = loop {
        tokio::select! {
            biased;
            Some(takeover) = taken.recv() => break takeover,
            result = Pin::new(&mut connection) => {
                if let Err(error) = result {
                    debug!(%error, "a connection ended early");
                }
                return;
            }
            _ = closed.wait_for(|c| *c), if !closing => {
                closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    if let Err(error) = tunnel(parts.io.into_inner(), parts.read_buf, takeover).await {
        debug!(%error, "a tunnel ended early");
    }
}

async fn tunnel(mut client: BoxIo, client_early: Bytes, takeover: Takeover) -> std::io::Result<()> {
    let Takeover { head, mut upstream, early } = takeover;
    client.write_all(&head).await?;
    client.write_all(&early).await?;
    client.flush().await?;
    upstream.write_all(&client_early).await?;
    upstream.flush().await?;
    copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
}
