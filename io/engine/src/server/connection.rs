//! One connection: its requests, and the tunnel that it may become.

use super::{
    Handler, Hijacker, Limits, Takeover,
    watched::{Held, watch},
};
use crate::{body::boxed, client::BoxIo, error_response};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, future::poll_fn, io, sync::Arc};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    sync::{mpsc, watch::Receiver},
};
use tracing::debug;

/// The longest head of a request.
const HEAD_LIMIT: usize = 256 << 10;

/// Serves one client's connection.
pub(super) struct Connection<H> {
    pub(super) handler: Arc<H>,
    pub(super) limits: Limits,
    /// Becomes true when the server is to end.
    pub(super) closed: Receiver<bool>,
    /// Whether there are too many connections already, which the client is told.
    pub(super) refused: bool,
}

impl<H: Handler> Connection<H> {
    /// Answers requests until the client goes, takes too long, or gives the connection up for a tunnel.
    pub(super) async fn run(mut self, io: BoxIo) {
        let (tx, mut taken) = mpsc::channel(1);
        let (io, mut watch, calls) = watch(io, self.limits.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (handler, hijacker, call) = (self.handler.clone(), Hijacker::new(tx.clone()), calls.begin());
            async move {
                let response = if self.refused {
                    let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    response
                } else {
                    handler.handle(request.map(boxed), hijacker).await
                };
                Ok::<_, Infallible>(response.map(|body| Held::new(body, call)))
            }
        });
        let mut http = Builder::new();
        // Its timer would also close connections that are only idle; the watch tells the two apart.
        http.timer(TokioTimer::new()).header_read_timeout(None).half_close(true).max_header_size(HEAD_LIMIT);
        let mut connection = http.serve_connection(TokioIo::new(io), service);
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
                () = poll_fn(|cx| watch.poll_over(cx)) => return debug!("gave a connection up"),
                _ = self.closed.wait_for(|c| *c), if !closing => {
                    closing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        let parts = connection.into_parts();
        let Some((io, ahead)) = parts.io.into_inner().into_inner() else { return };
        let mut early = BytesMut::from(parts.read_buf);
        early.extend(ahead);
        if let Err(error) = tunnel(io, early.freeze(), takeover).await {
            debug!(%error, "a tunnel ended early");
        }
    }
}

async fn tunnel(mut client: BoxIo, client_early: Bytes, takeover: Takeover) -> io::Result<()> {
    let Takeover { head, mut upstream, early, held } = takeover;
    client.write_all(&head).await?;
    client.write_all(&early).await?;
    client.flush().await?;
    upstream.write_all(&client_early).await?;
    upstream.flush().await?;
    let copied = copy_bidirectional(&mut client, &mut upstream).await;
    drop(held);
    copied.map(|_| ())
}
