//! Answers, exactly as they came, and what can be asked of them.

use crate::failure::{Failure, holds, same};
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use osier_engine::{Body, body::collect};
use serde_json::Value;
use std::time::Duration;

/// The largest answer read whole; the suite's own images are of a few megabytes.
const LIMIT: usize = 256 << 20;
/// How much of an answer a failure shows.
const SHOWN: usize = 400;
/// How long the next part of a stream may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) asked: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer whose body is still coming.
pub(crate) struct Stream {
    pub(crate) asked: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Body,
    buffer: Vec<u8>,
}

impl Reply {
    /// Fails unless the status is this one.
    pub(crate) fn is(self, status: u16) -> Result<Self, Failure> {
        if self.status == status {
            return Ok(self);
        }
        let body: String = self.text().chars().take(SHOWN).collect();
        let (wanted, got) = (status.to_string(), format!("{} {}", self.status, body.trim()));
        Err(Failure::Unexpected { what: self.asked, wanted, got })
    }

    /// Fails unless the status is of the 200s.
    pub(crate) fn success(self) -> Result<Self, Failure> {
        let status = if (200..300).contains(&self.status) { self.status } else { 200 };
        self.is(status)
    }

    /// Fails unless it is an error as engines make them: this status, JSON, and a message with this text in it.
    pub(crate) fn refuses(self, status: u16, text: &str) -> Result<(), Failure> {
        let reply = self.is(status)?;
        holds(
            format_args!("{}: content type", reply.asked),
            reply.header("content-type").contains("json"),
            &reply.headers,
        )?;
        let body = reply.json()?;
        let message = body["message"].as_str().unwrap_or_default();
        let found = message.to_lowercase().contains(&text.to_lowercase());
        holds(format_args!("{}: the message says '{text}'", reply.asked), found, body.to_string())
    }

    /// Fails unless it refuses a request as invalid with this text in its message: 400, which engines up to 20.10 make
    /// a 500 of in many places.
    pub(crate) fn rejects(self, text: &str) -> Result<(), Failure> {
        let status = if self.status == 500 { 500 } else { 400 };
        self.refuses(status, text)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|e| {
            let text: String = self.text().chars().take(SHOWN).collect();
            Failure::broken(format_args!("read the JSON that answered {} ({text})", self.asked), e)
        })
    }

    /// The body as a JSON array.
    pub(crate) fn list(&self) -> Result<Vec<Value>, Failure> {
        match self.json()? {
            Value::Array(list) => Ok(list),
            other => {
                Err(Failure::Unexpected { what: self.asked.clone(), wanted: "a list".into(), got: other.to_string() })
            }
        }
    }

    /// The body as JSON values one after the other.
    pub(crate) fn values(&self) -> Result<Vec<Value>, Failure> {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&self.body).into_iter().collect();
        values.map_err(|e| Failure::broken(format_args!("read the progress that answered {}", self.asked), e))
    }

    /// The progress of something that went well: no line of it is an error.
    pub(crate) fn progress(&self) -> Result<Vec<Value>, Failure> {
        let lines = self.values()?;
        let error = lines.iter().find(|l| l.get("error").is_some());
        same(format_args!("{}: errors in the progress", self.asked), error, None)?;
        Ok(lines)
    }
}

impl Stream {
    pub(crate) fn new(asked: String, response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self { asked, status: head.status.as_u16(), headers: head.headers, body, buffer: Vec::new() }
    }

    /// Reads to the end.
    pub(crate) async fn whole(self) -> Result<Reply, Failure> {
        let body = collect(self.body, LIMIT).await;
        let body = body.map_err(|e| Failure::broken(format_args!("read the answer to {}", self.asked), e))?;
        let body = Bytes::from([self.buffer.as_slice(), &body].concat());
        Ok(Reply { asked: self.asked, status: self.status, headers: self.headers, body })
    }

    /// Whether something has come, or comes within this time.
    pub(crate) async fn has_begun(&mut self, within: Duration) -> Result<bool, Failure> {
        if self.buffer.is_empty()
            && let Ok(Some(frame)) = tokio::time::timeout(within, self.body.frame()).await
        {
            let frame = frame.map_err(|e| Failure::broken(format_args!("read the answer to {}", self.asked), e))?;
            self.buffer.extend_from_slice(frame.data_ref().map(|d| d.as_ref()).unwrap_or_default());
        }
        Ok(!self.buffer.is_empty())
    }

    /// Reads until `wanted` finds something in what has come so far; the stream's end before that is a failure.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(found) = wanted(&self.buffer) {
                return Ok(found);
            }
            let so_far = || String::from_utf8_lossy(&self.buffer).chars().take(SHOWN).collect::<String>();
            let next = tokio::time::timeout(PATIENCE, self.body.frame()).await.map_err(|_| Failure::Late {
                what: format!("{what} in the answer to {}, so far {:?}", self.asked, so_far()),
                seconds: PATIENCE.as_secs(),
            })?;
            let frame = next.ok_or_else(|| Failure::Unexpected {
                what: self.asked.clone(),
                wanted: what.to_owned(),
                got: format!("the end after {:?}", so_far()),
            })?;
            let frame = frame.map_err(|e| Failure::broken(format_args!("read the answer to {}", self.asked), e))?;
            self.buffer.extend_from_slice(frame.data_ref().map(|d| d.as_ref()).unwrap_or_default());
        }
    }

    /// Reads JSON values until one is wanted.
    pub(crate) async fn value(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let find = |bytes: &[u8]| {
            let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
            values.map_while(Result::ok).find(&wanted)
        };
        self.until(what, find).await
    }
}
