//! Requests' bodies that are read whole: bounded in size, in time, and in how many large ones are held at once.

use super::{Call, JSON_LIMIT};
use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use osier_dockerapi::members;
use osier_engine::{Body, body::announced, empty};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Up to this size any number of bodies is read at a time.
const SMALL: usize = 1 << 20;
/// Larger ones, at a time: taken apart, JSON may take twenty times its size.
static LARGE: Semaphore = Semaphore::const_new(4);
/// How long a body may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The right to hold a large body.
pub(crate) type LargeBody = Option<SemaphorePermit<'static>>;

impl Call {
    /// Takes the body, whole.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes, Refusal> {
        let body = std::mem::replace(self.request.body_mut(), empty());
        let read = tokio::time::timeout(DEADLINE, whole(body, &mut self.large)).await;
        read.unwrap_or_else(|_| {
            let message = format!("the request's body did not arrive within {} s", DEADLINE.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
        })
    }

    /// Takes the body as JSON. As engines do, refuses one that says it is something else.
    pub(crate) async fn json(&mut self) -> Result<Value, Refusal> {
        let kind = self.request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let plain = kind.split(';').next().unwrap_or_default().trim();
        if !plain.is_empty() && !plain.eq_ignore_ascii_case("application/json") {
            let message = format!("Content-Type specified ({kind}) must be 'application/json'");
            return Err(Refusal::bad_request(message));
        }
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|e| Refusal::bad_request(format!("invalid JSON: {e}")))
    }

    /// Takes the body as a JSON object, whose members are spelt as they are looked for.
    pub(crate) async fn object(&mut self) -> Result<Value, Refusal> {
        let mut body = self.json().await?;
        if let Some(kind) = self.body {
            members::spell(&mut body, kind);
        }
        if body.is_object() { Ok(body) } else { Err(Refusal::bad_request("the request's body must be a JSON object")) }
    }
}

async fn whole(mut body: Body, large: &mut LargeBody) -> Result<Bytes, Refusal> {
    let too_long = || {
        let message = format!("the request's body is longer than {} MiB", JSON_LIMIT >> 20);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if announced(&body) > JSON_LIMIT as u64 {
        return Err(too_long());
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Refusal::bad_request(format!("read the request's body: {}", e.0)))?;
        let Ok(data) = frame.into_data() else { continue };
        let size = all.len() + data.len();
        if size > JSON_LIMIT {
            return Err(too_long());
        }
        if size > SMALL && large.is_none() {
            // The semaphore is never closed.
            *large = LARGE.acquire().await.ok();
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}
