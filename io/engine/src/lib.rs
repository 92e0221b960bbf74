//! Docker's HTTP from both sides: a pooled client of one engine, a server that can give connections away, and the
//! transparent proxy between the two.
//!
//! Must not know routes, schedulers or networks. Everything is HTTP/1.1, because that is what every Docker client and
//! engine speaks, and because `attach` and `exec` take the connection over (Docker API, "hijacking"): with
//! `Upgrade: tcp` and a 101, or, from old clients, with a bare 200 and raw bytes behind it.

mod ahead;
pub mod body;
mod client;
mod forward;
mod link;
mod obstacle;
mod pool;
mod resolve;
pub mod server;
mod words;

pub use body::{Body, BoxError, StreamError, empty, full};
pub use client::{BoxIo, Client, Error, Io};
pub use forward::forward;
pub use obstacle::{Obstacle, Unopened};
pub use resolve::resolve;
pub use server::Hijacker;
pub use words::plain;

use http::{Response, StatusCode, header};
use serde::Serialize;

/// A JSON answer.
pub fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(e) => error_response(StatusCode::INTERNAL_SERVER_ERROR, format_args!("encode the answer: {e}")),
    }
}

/// An error in the engine's own shape, `{"message": …}`.
pub fn error_response(status: StatusCode, message: impl std::fmt::Display) -> Response<Body> {
    let body = serde_json::json!({ "message": message.to_string() });
    json_bytes(status, body.to_string().into_bytes())
}

/// An answer with no body.
pub fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An answer whose body is JSON already.
pub fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
