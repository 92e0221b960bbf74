//! One HTTP connection to an engine, driven by whoever waits for it. It has no task of its own: what an engine sends is
//! passed on by the task that reads it from the socket, so a stream of many small pieces costs no change of tasks for each.

use crate::{
    body::{Body, BoxError, StreamError},
    client::BoxIo,
    pool::Pool,
};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    client::conn::http1::{Connection, Parts, SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tracing::debug;

/// Pieces of a body that are smaller than this are passed on together with those that are there at the same time.
const SMALL: usize = 8 << 10;
/// Up to this size.
const GATHERED: usize = 64 << 10;
/// A stream whose small pieces follow each other this quickly has something to gain from waiting for more of them.
const QUICK: Duration = Duration::from_millis(2);
/// So many in a row: short answers never wait.
const STREAK: u32 = 8;
/// How long it waits then. A log that is read faster than it is written comes line by line, and each line costs every
/// process on the way a wake-up, a record and a system call.
const WAIT: Duration = Duration::from_millis(1);

/// The connection.
pub(crate) struct Link {
    sender: SendRequest<Upload>,
    connection: Connection<TokioIo<BoxIo>, Upload>,
    ended: bool,
}

/// There is no answer.
pub(crate) struct Failed {
    pub(crate) error: BoxError,
    /// The request, where none of it was sent.
    pub(crate) unsent: Option<Request<Upload>>,
}

impl Failed {
    fn new(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), unsent: None }
    }
}

/// The engine ended a connection on which it owes an answer, or the rest of one.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed before the answer was complete")]
struct Closed;

impl Link {
    pub(crate) async fn over(io: BoxIo) -> Result<Self, BoxError> {
        let (sender, connection) = handshake(TokioIo::new(io)).await?;
        Ok(Self { sender, connection, ended: false })
    }

    /// Moves what can be moved, in both directions; ready once the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let end = self.connection.poll_without_shutdown(cx);
        self.ended = end.is_ready();
        end
    }

    /// As [`Self::poll`], and ready as well once request and answer have come to their ends.
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let end = self.poll(cx);
        if end.is_pending() { self.sender.poll_ready(cx) } else { end }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Failed> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let mut ask = |cx: &mut Context<'_>| {
            answer.as_mut().poll(cx).map_err(|mut failed| {
                let unsent = failed.take_message();
                Failed { error: failed.into_error().into(), unsent }
            })
        };
        let (connection, ended) = (&mut self.connection, &mut self.ended);
        poll_fn(|cx| {
            let mut answer = ask(cx);
            if answer.is_pending() && !*ended {
                *ended = connection.poll_without_shutdown(cx).is_ready();
                answer = ask(cx);
            }
            if answer.is_pending() && *ended { Poll::Ready(Err(Failed::new(Closed))) } else { answer }
        })
        .await
    }

    /// Whether another request can be sent, as far as one can tell without sending one.
    pub(crate) fn is_reusable(&mut self) -> bool {
        // Nobody is woken by it; whoever uses the connection next polls it again.
        let mut nobody = Context::from_waker(Waker::noop());
        self.poll(&mut nobody).is_pending() && self.sender.is_ready()
    }

    /// Waits until an answer that gives the connection up has been read, and takes it out of HTTP, with what was read
    /// beyond the answer.
    pub(crate) async fn into_raw(mut self, switched: bool) -> Result<(BoxIo, Bytes), BoxError> {
        if switched {
            poll_fn(|cx| self.poll(cx)).await?;
        }
        let Parts { io, read_buf, .. } = self.connection.into_parts();
        Ok((io.into_inner(), read_buf))
    }

    /// The body of an answer, which drives the connection and gives it back to the pool at its end.
    pub(crate) fn into_body(mut self, body: Incoming, uploaded: &Arc<AtomicBool>, pool: &Arc<Pool>) -> Body {
        if uploaded.load(Ordering::Acquire) {
            let download =
                Download { link: Some(self), body, pool: pool.clone(), next: None, pace: Pace::new(Instant::now()) };
            return http_body_util::BodyExt::boxed_unsync(download);
        }
        // The engine answers while the request is still on its way, which must not depend on somebody reading the answer.
        let pool = pool.clone();
        tokio::spawn(async move {
            match poll_fn(|cx| self.poll_done(cx)).await {
                Ok(()) => pool.put(self),
                Err(error) => debug!(%error, "a connection to an engine broke"),
            }
        });
        crate::body::boxed(body)
    }
}

/// A request's body that tells when it has been sent.
pub(crate) struct Upload {
    body: Body,
    sent: Arc<AtomicBool>,
}

impl Upload {
    pub(crate) fn new(body: Body) -> (Self, Arc<AtomicBool>) {
        let sent = Arc::new(AtomicBool::new(false));
        (Self { body, sent: sent.clone() }, sent)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.sent.store(true, Ordering::Release);
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
struct Download {
    /// Absent once the body has come to its end.
    link: Option<Link>,
    body: Incoming,
    pool: Arc<Pool>,
    /// What came behind the pieces that were gathered.
    next: Option<Result<Frame<Bytes>, StreamError>>,
    pace: Pace,
}

/// Keeps a stream of small pieces from being passed on one by one.
struct Pace {
    streak: u32,
    last: Instant,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Ready when more should have come.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    fn new(now: Instant) -> Self {
        Self { streak: 0, last: now, wait: None }
    }

    /// Notes that so much was passed on at `now`, of which the first piece had this length.
    fn note(&mut self, now: Instant, first: usize, length: usize) {
        // What was waited for came no less quickly for that. Nothing is gathered behind a piece that is not small.
        let small = first < SMALL && length < 2 * SMALL;
        let quick = small && now - std::mem::replace(&mut self.last, now) < QUICK + WAIT;
        self.streak = if quick { self.streak + 1 } else { 0 };
        if self.streak >= STREAK {
            self.wait = Some(Box::pin(tokio::time::sleep(WAIT)));
        }
    }
}

type Piece = Option<Result<Frame<Bytes>, StreamError>>;

impl Download {
    /// One piece as hyper has it.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let Some(link) = &mut self.link else { return Poll::Ready(None) };
        let mut piece = Pin::new(&mut self.body).poll_frame(cx);
        if piece.is_pending() {
            let end = link.poll(cx);
            piece = Pin::new(&mut self.body).poll_frame(cx);
            if let (Poll::Pending, Poll::Ready(end)) = (&piece, end) {
                let error = end.map_or_else(BoxError::from, |()| Closed.into());
                self.link = None;
                return Poll::Ready(Some(Err(StreamError(error))));
            }
        }
        if let Poll::Ready(None) = piece {
            self.end();
        }
        piece.map(|piece| piece.map(|frame| frame.map_err(|e| StreamError(e.into()))))
    }

    fn end(&mut self) {
        if let Some(link) = self.link.take() {
            self.pool.put(link);
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        ready!(self.pace.poll(cx));
        let first = match self.poll_piece(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            },
            other => return other,
        };
        let mut gathered = BytesMut::new();
        while first.len() < SMALL && gathered.len() < GATHERED {
            match self.poll_piece(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        if gathered.is_empty() {
                            gathered.reserve(GATHERED);
                            gathered.extend_from_slice(&first);
                        }
                        gathered.extend_from_slice(&data);
                    }
                    Err(frame) => self.next = Some(Ok(frame)),
                },
                Poll::Ready(Some(Err(error))) => self.next = Some(Err(error)),
                Poll::Ready(None) | Poll::Pending => break,
            }
            if self.next.is_some() {
                break;
            }
        }
        let length = first.len();
        let data = if gathered.is_empty() { first } else { gathered.freeze() };
        self.pace.note(Instant::now(), length, data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && (self.link.is_none() || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Readers that know the length do not ask for the end.
        if self.body.is_end_stream() {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_can_be_gathered_is_waited_for() {
        let waits = |first, length, pause| {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            for _ in 0..2 * STREAK {
                now += pause;
                pace.note(now, first, length);
            }
            pace.wait.is_some()
        };
        assert!(waits(100, 100, Duration::ZERO) && waits(100, SMALL, WAIT));
        assert!(!waits(SMALL, SMALL, Duration::ZERO), "each piece would cost a wait, and none comes with another one");
        assert!(!waits(100, GATHERED, Duration::ZERO), "there is enough without waiting");
        assert!(!waits(100, 100, QUICK + WAIT), "somebody types");
    }
}
