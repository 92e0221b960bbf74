//! JSON values out of a streamed body: what engines send as events and as progress, one value after another with or
//! without anything between them.

use http_body_util::BodyExt;
use osier_engine::{Body, BoxError};
use serde_json::Value;

/// The longest value that is waited for.
const LIMIT: usize = 16 << 20;

/// Reads values from a body as they arrive.
pub(crate) struct JsonStream {
    body: Body,
    buffer: Vec<u8>,
}

impl JsonStream {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next value; `None` at the end of the body. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, BoxError> {
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
    async fn values_come_out_however_they_were_cut() {
        let values = read(&["{\"a\":1}\n{\"b\"", ":2}{\"c\":", "3}", "\r\n"]).await.unwrap();
        assert_eq!(values.len(), 3);
        assert!(read(&["{\"a\":"]).await.is_err() && read(&["nonsense"]).await.is_err());
    }
}
