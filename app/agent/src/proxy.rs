//! The engine proxy on 12375: the engine's API as it is, except that new containers are put on the overlay, each with
//! an address that is its own until it is removed.
//!
//! Everything but a create streams through untouched. Mutual TLS is the listener's business.

use crate::{
    addresses::{self, AddressError, Addresses},
    containers::Containers,
};
use http::{Method, Request, Response, StatusCode, header};
use osier_dockerapi::create::{CreateError, Placement, placement, put_on_overlay};
use osier_engine::{
    Body, BoxError, Client, Hijacker,
    body::{collect, is_too_long},
    error_response, forward, full, json_bytes,
    server::Handler,
};
use osier_model::{NETWORK, config::path};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// The largest create request; the engine itself refuses far smaller ones.
const CREATE_LIMIT: usize = 4 << 20;
/// The largest answer to a create.
const ANSWER_LIMIT: usize = 1 << 20;
/// How long a create waits for the overlay to be set up after a start.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// The proxy. Clones are the same.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) engine: Client,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) containers: Arc<Containers>,
    /// Whether the engine has the overlay's network.
    pub(crate) ready: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("read the create request")]
    Body(#[source] BoxError),
    #[error("read the create request as JSON")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error("the network '{NETWORK}' is not set up on this node yet; see 'osier status' there")]
    NotReady,
    #[error("find an address for the container")]
    Address(#[source] AddressError),
}

impl ProxyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(e) if is_too_long(e) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Json(_) | Self::Create(_) => StatusCode::BAD_REQUEST,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Address(AddressError::Taken(..) | AddressError::Foreign(..)) => StatusCode::CONFLICT,
            Self::Address(AddressError::Outside(..) | AddressError::Reserved(_)) => StatusCode::BAD_REQUEST,
            Self::Address(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Handler for Proxy {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        if !is_create(request.method(), request.uri().path()) {
            return forward(&self.engine, request, hijacker).await;
        }
        // A task of its own: a client that hangs up must not leave it open whether the container, and with it the address,
        // came to be.
        let proxy = self.clone();
        let created = tokio::spawn(async move { proxy.create(request, hijacker).await });
        match created.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error_response(error.status(), crate::plugin::chain(&error)),
            Err(error) => error_response(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}

impl Proxy {
    async fn create(&self, request: Request<Body>, hijacker: Hijacker) -> Result<Response<Body>, ProxyError> {
        let (mut parts, body) = request.into_parts();
        let bytes = collect(body, CREATE_LIMIT).await.map_err(ProxyError::Body)?;
        let mut body: Value = serde_json::from_slice(&bytes).map_err(ProxyError::Json)?;
        let wanted = match placement(&body, NETWORK)? {
            Placement::Elsewhere => {
                return Ok(forward(&self.engine, Request::from_parts(parts, full(bytes)), hijacker).await);
            }
            Placement::Overlay { address } => address,
        };
        let mut ready = self.ready.clone();
        let set_up = tokio::time::timeout(READY_DEADLINE, ready.wait_for(|r| *r)).await;
        set_up.map_err(|_| ProxyError::NotReady)?.map_err(|_| ProxyError::NotReady)?;

        let under_way = self.containers.creating();
        let pending = addresses::pending();
        let address = match wanted {
            Some(address) => self.addresses.claim(&pending, address),
            None => self.addresses.allocate(&pending).await,
        };
        let address = address.map_err(ProxyError::Address)?;
        if let Err(error) = put_on_overlay(&mut body, NETWORK, address, path::RESOLV_CONF) {
            self.addresses.release(&pending).map_err(ProxyError::Address)?;
            return Err(error.into());
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        let response = forward(&self.engine, Request::from_parts(parts, full(body.to_string())), hijacker).await;
        let (parts, body) = response.into_parts();
        let answer = collect(body, ANSWER_LIMIT).await.map_err(ProxyError::Body)?;
        let made: Option<Value> = serde_json::from_slice(&answer).ok();
        if let Some(id) = made.as_ref().and_then(|v| v["Id"].as_str()).filter(|_| parts.status.is_success()) {
            self.addresses.hand_over(&pending, addresses::container(id));
        } else if parts.status.is_client_error() {
            self.addresses.release(&pending).map_err(ProxyError::Address)?;
        }
        // Any other answer leaves it open whether the container came to be: the next comparisons with the engine's list
        // give the reservation to the container, or free it.
        drop(under_way);
        let mut response = json_bytes(parts.status, answer.to_vec());
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH) {
            response.headers_mut().insert(name, value.clone());
        }
        Ok(response)
    }
}

fn is_create(method: &Method, path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/').peekable();
    segments.next_if(|s| s.starts_with('v') && s[1..].bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    method == Method::POST && segments.eq(["containers", "create"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_container_creates_are_edited() {
        assert!(is_create(&Method::POST, "/containers/create"));
        assert!(is_create(&Method::POST, "/v1.41/containers/create"));
        for path in ["/volumes/create", "/v1.41/containers/create/x", "/vx/containers/create", "/containers/x"] {
            assert!(!is_create(&Method::POST, path), "{path}");
        }
        assert!(!is_create(&Method::GET, "/containers/create"));
    }
}
