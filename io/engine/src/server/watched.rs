//! A client's connection with an eye on it: whether the client still sends, still listens, and how long it takes.
//!
//! hyper is told to allow half-closed connections, because clients that end their input and wait for the answer exist. The
//! price is that it does not look at the socket while a call runs, so a client that went away would go unnoticed. So
//! whoever drives the connection looks ahead by one byte meanwhile. And hyper closes at once where it has refused a
//! request that the client is still sending, which takes the refusal back; so closing waits until the client has seen it.

use super::Limits;
use crate::client::BoxIo;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a closed connection is kept for the client to read the end of it.
const LINGER: Duration = Duration::from_secs(2);
/// What a client sends to a connection that is being closed is read in pieces of this size, and forgotten.
const SCRATCH: usize = 16 << 10;

/// What hyper reads and writes.
pub(super) struct Watched(Arc<Mutex<State>>);

/// The eye on it.
pub(super) struct Watch {
    state: Arc<Mutex<State>>,
    limits: Limits,
    sleep: Pin<Box<Sleep>>,
}

/// Counts the calls of one connection that are under way.
#[derive(Clone)]
pub(super) struct Calls(Arc<Mutex<State>>);

/// One call; it is over when this is dropped.
pub(super) struct Call(Arc<Mutex<State>>);

struct State {
    io: Option<BoxIo>,
    /// The byte that was read ahead.
    ahead: Option<u8>,
    calls: usize,
    /// When the head under way began.
    head: Option<Instant>,
    /// When the client closed its side.
    ended: Option<Instant>,
    /// When something last went over the connection, or a call ended.
    touched: Instant,
    /// When the connection began to be closed.
    closing: Option<Instant>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a connection under watch.
pub(super) fn watch(io: BoxIo, limits: Limits) -> (Watched, Watch, Calls) {
    let now = Instant::now();
    let state = State { io: Some(io), ahead: None, calls: 0, head: None, ended: None, touched: now, closing: None };
    let state = Arc::new(Mutex::new(state));
    let sleep = Box::pin(tokio::time::sleep(limits.idle));
    (Watched(state.clone()), Watch { state: state.clone(), limits, sleep }, Calls(state))
}

impl Calls {
    pub(super) fn begin(&self) -> Call {
        let mut state = lock(&self.0);
        state.calls += 1;
        state.head = None;
        Call(self.0.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.calls -= 1;
        state.touched = Instant::now();
    }
}

impl Watch {
    /// Resolves when the connection is to be given up: its client is gone, or has taken too long.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = {
            let mut state = lock(&self.state);
            if state.is_reset(cx) {
                return Poll::Ready(());
            }
            state.deadline(&self.limits)
        };
        let Some(deadline) = deadline else { return Poll::Pending };
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl State {
    fn io(&mut self) -> io::Result<Pin<&mut BoxIo>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Looks ahead while a call is under way, and says whether the connection is broken.
    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        if self.calls == 0 || self.ahead.is_some() || self.ended.is_some() {
            return false;
        }
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let Ok(io) = self.io() else { return true };
        match io.poll_read(cx, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => return true,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.ended = Some(Instant::now()),
            Poll::Ready(Ok(())) => self.ahead = Some(byte[0]),
        }
        // hyper may be waiting for what was just taken.
        cx.waker().wake_by_ref();
        false
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match (self.closing, self.calls, self.ended, self.head) {
            (Some(closing), ..) => Some(closing + LINGER),
            (None, 1.., Some(ended), _) => Some(ended.max(self.touched) + limits.half_closed),
            (None, 1.., None, _) => None,
            (None, 0, _, Some(head)) => Some(head + limits.head),
            (None, 0, _, None) => Some(self.touched + limits.idle),
        }
    }
}

impl Watched {
    /// Takes the connection out, with the byte that was read ahead.
    pub(super) fn into_inner(self) -> Option<(BoxIo, Option<u8>)> {
        let mut state = lock(&self.0);
        Some((state.io.take()?, state.ahead.take()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        let before = buf.filled().len();
        let ahead = state.ahead.take();
        buf.put_slice(ahead.as_slice());
        if state.ended.is_none() && buf.remaining() > 0 {
            match state.io()?.poll_read(cx, buf) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if ahead.is_none() => return Poll::Pending,
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {}
            }
        }
        let now = Instant::now();
        if buf.filled().len() == before {
            state.ended.get_or_insert(now);
        } else {
            state.touched = now;
            if state.calls == 0 {
                state.head.get_or_insert(now);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        let written = ready!(state.io()?.poll_write(cx, buf))?;
        state.touched = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        let written = ready!(state.io()?.poll_write_vectored(cx, bufs))?;
        state.touched = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).io.as_ref().is_some_and(|io| io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).io()?.poll_flush(cx)
    }

    /// Ends our side, then waits until the client has ended its own; [`Watch::poll_over`] says when that is enough.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        if state.closing.is_none() {
            ready!(state.io()?.poll_shutdown(cx))?;
            state.closing = Some(Instant::now());
        }
        while state.ended.is_none() {
            let mut scratch = [0; SCRATCH];
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(state.io()?.poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => state.ended = Some(Instant::now()),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A body during which its call counts as under way. What came before an error is sent before the connection is cut:
/// hyper throws away what it has not written when a body fails, so it hears of that one turn later.
pub(super) struct Held<B: Body> {
    body: B,
    failed: Option<B::Error>,
    _call: Call,
}

impl<B: Body> Held<B> {
    pub(super) fn new(body: B, call: Call) -> Self {
        Self { body, failed: None, _call: call }
    }
}

impl<B: Body<Data = Bytes, Error: Unpin> + Unpin> Body for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => {
                self.failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
