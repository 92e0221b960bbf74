//! Streamed bodies: JSON values out of one, as engines send events and progress, and work that is to be done before one
//! ends.

use bytes::BytesMut;
use futures::stream::poll_fn;
use http_body_util::{BodyExt, StreamBody};
use osier_engine::{
    Body, BoxError, StreamError,
    body::{BodySender, channel, collect},
};
use serde_json::Value;
use std::{pin::Pin, task::Poll};

/// The longest value that is waited for.
const LIMIT: usize = 16 << 20;

/// Passes a body on, and does `work` behind its last byte before its reader sees the end. Also when the reader goes away,
/// which ends the body.
pub(crate) fn with_end(body: Body, work: impl Future<Output = ()> + Send + 'static) -> Body {
    let (sender, passed) = channel(4);
    tokio::spawn(async move {
        tokio::select! { () = pass(body, &sender) => {}, () = sender.closed() => {} }
        work.await;
    });
    passed
}

async fn pass(mut body: Body, sender: &BodySender) {
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => {
                if sender.send(data).await.is_err() {
                    return;
                }
            }
            Ok(Err(_)) => {}
            Err(error) => return sender.fail(error).await,
        }
    }
}

/// A body that breaks off as soon as `end` has come: one that has no end of its own must not look as if it had come to it.
pub(crate) fn until(mut body: Body, end: impl Future<Output = ()> + Send + 'static) -> Body {
    let mut end = Some(Box::pin(end));
    let frames = poll_fn(move |cx| {
        let Some(waiting) = &mut end else { return Poll::Ready(None) };
        if waiting.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut body.frame()).poll(cx);
        }
        end = None;
        Poll::Ready(Some(Err(StreamError("the manager stops".into()))))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A short body of which its reader sees nothing before `work` is done, which begins at its end.
pub(crate) fn after(body: Body, work: impl Future<Output = ()> + Send + 'static) -> Body {
    let (sender, passed) = channel(1);
    tokio::spawn(async move {
        let whole = tokio::select! { whole = collect(body, LIMIT) => whole, () = sender.closed() => return };
        work.await;
        match whole {
            // A reader that went away needs no answer.
            Ok(bytes) => drop(sender.send(bytes).await),
            Err(error) => sender.fail(error).await,
        }
    });
    passed
}

/// Reads objects and arrays from a body as they arrive. Each byte is looked at once until its value is whole, however
/// small the pieces are.
pub struct JsonStream {
    body: Body,
    buffer: BytesMut,
    scan: Scan,
}

/// How far the buffer has been searched for the end of its first value.
#[derive(Default)]
struct Scan {
    at: usize,
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl JsonStream {
    /// Reads this body.
    pub fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), scan: Scan::default() }
    }

    /// The next value; `None` at the end of the body. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Value>, BoxError> {
        loop {
            if let Some(value) = self.take()? {
                return Ok(Some(value));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Err("the stream ended within a value".into()),
            }
            if self.buffer.len() > LIMIT {
                return Err(format!("a value in the stream is longer than {LIMIT} bytes").into());
            }
        }
    }

    fn take(&mut self) -> Result<Option<Value>, BoxError> {
        let Some(end) = self.scan.end(&self.buffer) else { return Ok(None) };
        let value = self.buffer.split_to(end);
        self.scan = Scan::default();
        if !value.ends_with(b"}") && !value.ends_with(b"]") {
            return Err("the stream holds something other than objects and arrays".into());
        }
        Ok(Some(serde_json::from_slice(&value)?))
    }
}

impl Scan {
    /// Where the first value ends. What is neither object nor array has no end of its own; it ends where it begins.
    fn end(&mut self, buffer: &[u8]) -> Option<usize> {
        for &byte in &buffer[self.at..] {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' if self.depth > 0 => self.quoted = !self.quoted,
                _ if self.quoted => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 1 => self.depth -= 1,
                b'}' | b']' => return Some(self.at),
                _ if self.depth > 0 || byte.is_ascii_whitespace() => {}
                _ => return Some(self.at),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_engine::body::channel;

    async fn read(chunks: &'static [&'static str]) -> Result<Vec<Value>, BoxError> {
        let (sender, body) = channel(1);
        let feed = async move {
            for chunk in chunks {
                sender.send(*chunk).await.unwrap();
            }
        };
        let mut stream = JsonStream::new(body);
        let read = async {
            let mut values = Vec::new();
            while let Some(value) = stream.next().await? {
                values.push(value);
            }
            Ok(values)
        };
        tokio::join!(feed, read).1
    }

    #[tokio::test]
    async fn the_end_comes_after_the_work_and_a_broken_body_stays_broken() {
        let (sender, body) = channel(1);
        let (done, work) = tokio::sync::oneshot::channel();
        let mut passed = with_end(body, async { drop(work.await) });
        sender.send("a").await.unwrap();
        assert_eq!(passed.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        drop(sender);
        assert!(futures::FutureExt::now_or_never(passed.frame()).is_none());
        done.send(()).unwrap();
        assert!(passed.frame().await.is_none());

        let (sender, body) = channel(1);
        let mut passed = with_end(body, async {});
        sender.fail("cut").await;
        assert!(passed.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn nothing_comes_before_the_work_and_a_reader_that_left_ends_it() {
        let (sender, body) = channel(1);
        let (done, work) = tokio::sync::oneshot::channel();
        let mut passed = after(body, async { drop(work.await) });
        sender.send("a").await.unwrap();
        sender.send("b").await.unwrap();
        drop(sender);
        assert!(futures::FutureExt::now_or_never(passed.frame()).is_none());
        done.send(()).unwrap();
        assert_eq!(collect(passed, 9).await.unwrap(), "ab");

        let (sender, body) = channel(1);
        drop(after(body, async {}));
        sender.closed().await;

        let (sender, body) = channel(1);
        let passed = after(body, async {});
        sender.fail("cut").await;
        assert!(collect(passed, 9).await.is_err());
    }

    #[tokio::test]
    async fn values_come_out_however_they_were_cut() {
        let values = read(&["{\"a\":1}\n{\"b\"", ":2}{\"c\":", "3}", "\r\n"]).await.unwrap();
        assert_eq!(values.len(), 3);
        let values = read(&["{\"a\":\"}\\", "\"{\", \"b\":[{}, \"]\"]}", "[[1]", "]"]).await.unwrap();
        assert_eq!(values, [serde_json::json!({"a": "}\"{", "b": [{}, "]"]}), serde_json::json!([[1]])]);
        for bad in [&["{\"a\":"], &["nonsense"], &["{]"], &["}"], &["1 {}"], &["\"{}\""]] {
            assert!(read(bad).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_long_value_in_small_pieces_is_read_in_one_go() {
        let (sender, body) = channel(64);
        let feed = async move {
            sender.send("[").await.unwrap();
            for _ in 0..50_000 {
                sender.send("{\"a\":[1]},").await.unwrap();
            }
            sender.send("0]").await.unwrap();
        };
        let (mut stream, start) = (JsonStream::new(body), std::time::Instant::now());
        let ((), value) = tokio::join!(feed, stream.next());
        assert_eq!(value.unwrap().unwrap().as_array().unwrap().len(), 50_001);
        // Reading it anew for each piece would take an hour.
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
    }
}
