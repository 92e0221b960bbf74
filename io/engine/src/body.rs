//! Message bodies: whole, empty, or streamed from a sender.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's or response's body.
pub type Body = UnsyncBoxBody<Bytes, StreamError>;

/// A body ended before its end. (A type of its own, because the compiler cannot prove futures that hold hyper
/// clients `Send` when the error is a bare [`BoxError`].)
#[derive(Debug, thiserror::Error)]
#[error("stream a body")]
pub struct StreamError(#[source] pub BoxError);

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Wraps any body.
pub fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(|e| StreamError(e.into())).boxed_unsync()
}

/// The feeding end of a streamed body.
#[derive(Debug, Clone)]
pub struct BodySender(mpsc::Sender<Result<Bytes, StreamError>>);

/// The reader of the body is gone: whoever feeds it should stop.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the stream is gone")]
pub struct ReaderGone;

impl BodySender {
    /// Sends one chunk; waits while the reader is slow.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), ReaderGone> {
        self.0.send(Ok(chunk.into())).await.map_err(|_| ReaderGone)
    }

    /// Ends the body with an error, so that the reader cannot take it for complete.
    pub async fn fail(&self, error: impl Into<BoxError>) {
        let _ = self.0.send(Err(StreamError(error.into()))).await;
    }

    /// Resolves when the reader is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A body fed from elsewhere, with at most `capacity` chunks waiting. It ends when every sender is dropped.
pub fn channel(capacity: usize) -> (BodySender, Body) {
    let (tx, mut rx) = mpsc::channel(capacity.max(1));
    let chunks = futures::stream::poll_fn(move |cx| rx.poll_recv(cx));
    (BodySender(tx), BodyExt::boxed_unsync(StreamBody::new(chunks.map(|c| c.map(Frame::data)))))
}

/// Reads a body to its end, refusing more than `limit` bytes.
pub async fn collect(body: Body, limit: usize) -> Result<Bytes, BoxError> {
    Ok(Limited::new(body, limit).collect().await?.to_bytes())
}

/// Whether [`collect`] failed because the body is longer than its limit.
pub fn is_too_long(error: &BoxError) -> bool {
    error.is::<LengthLimitError>()
}

/// How long a body is at least, by what its sender has said about it.
pub fn announced(body: &Body) -> u64 {
    hyper::body::Body::size_hint(body).lower()
}
