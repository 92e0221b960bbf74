//! Streamed bodies: JSON values out of one, as engines send events and progress, and work that is to be done before one
//! ends.

use http_body_util::BodyExt;
use osier_engine::{
    Body, BoxError,
    body::{BodySender, channel},
};
use serde_json::Value;

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

/// Reads values from a body as they arrive.
pub struct JsonStream {
    body: Body,
    buffer: Vec<u8>,
}

impl JsonStream {
    /// Reads this body.
    pub fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new() }
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
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let end = values.byte_offset();
                self.buffer.drain(..end);
                Ok(Some(value))
            }
            Some(Err(e)) if e.is_eof() => Ok(None),
            Some(Err(e)) => Err(e.into()),
            None => Ok(None),
        }
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
    async fn values_come_out_however_they_were_cut() {
        let values = read(&["{\"a\":1}\n{\"b\"", ":2}{\"c\":", "3}", "\r\n"]).await.unwrap();
        assert_eq!(values.len(), 3);
        assert!(read(&["{\"a\":"]).await.is_err() && read(&["nonsense"]).await.is_err());
    }
}
