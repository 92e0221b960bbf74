//! The engine proxy on 12375: the engine's API as it is, except that new containers are put on the overlay, each with
//! an address that is its own until it is removed, and that containers connected to the overlay later get one, too.
//!
//! Everything else streams through untouched. Mutual TLS is the listener's business.

use crate::{
    addresses::{self, AddressError, Addresses},
    containers::Containers,
    endpoints::Endpoints,
    host,
};
use http::{Method, Request, Response, StatusCode, header};
use osier_dockerapi::{
    create::{
        CreateError, Overlay, Placement, connect_address, pin_connect, placement, put_on_overlay, resolver_wishes,
    },
    members,
};
use osier_engine::{
    Body, BoxError, Client, Hijacker,
    body::{collect, is_too_long},
    error_response, forward, full, json_bytes,
    server::Handler,
};
use osier_model::{NETWORK, config::path};
use serde_json::Value;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The largest create request; the engine itself refuses far smaller ones.
const CREATE_LIMIT: usize = 4 << 20;
/// The largest answer to a create.
const ANSWER_LIMIT: usize = 1 << 20;
/// How long the engine may take to say which container a word means.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// How long a create waits for the overlay to be set up after a start.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// The proxy. Clones are the same.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) engine: Client,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) containers: Arc<Containers>,
    pub(crate) endpoints: Arc<Endpoints>,
    /// Whether the engine has the overlay's network.
    pub(crate) ready: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("read the request")]
    Body(#[source] BoxError),
    #[error("read the request as JSON")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error("the network '{NETWORK}' is not set up on this node yet; see 'osier status' there")]
    NotReady,
    #[error("find an address for the container")]
    Address(#[source] AddressError),
    #[error("write the container's resolver file")]
    Resolver(#[source] osier_store::Error),
}

impl ProxyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(e) if is_too_long(e) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Json(_) | Self::Create(_) => StatusCode::BAD_REQUEST,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Address(AddressError::Taken(..) | AddressError::Foreign(..)) => StatusCode::CONFLICT,
            Self::Address(AddressError::Outside(..) | AddressError::Reserved(_)) => StatusCode::BAD_REQUEST,
            Self::Address(_) | Self::Resolver(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Handler for Proxy {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        let Some(edit) = edit(request.method(), request.uri().path()) else {
            return forward(&self.engine, request, hijacker).await;
        };
        // A task of its own: a client that hangs up must not leave it open whether the container, and with it the address,
        // came to be.
        let proxy = self.clone();
        let created = tokio::spawn(async move {
            match edit {
                Edit::Create => proxy.create(request, hijacker).await,
                Edit::Connect { network } => proxy.connect(request, hijacker, &network).await,
            }
        });
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
        members::spell(&mut body, members::Body::ContainerCreate);
        let ids = self.network_ids();
        let overlay = Overlay { name: NETWORK, ids: &ids };
        let wanted = match placement(&body, &overlay)? {
            Placement::Elsewhere => {
                return Ok(forward(&self.engine, Request::from_parts(parts, full(bytes)), hijacker).await);
            }
            Placement::Overlay { address } => address,
        };
        let mut ready = self.ready.clone();
        let set_up = tokio::time::timeout(READY_DEADLINE, ready.wait_for(|r| *r)).await;
        set_up.map_err(|_| ProxyError::NotReady)?.map_err(|_| ProxyError::NotReady)?;
        let resolv_conf = match resolver_wishes(&body)? {
            Some(wishes) => {
                let own = host::own_resolv_conf(Path::new(path::RESOLV_CONF), &wishes);
                own.map_err(ProxyError::Resolver)?.display().to_string()
            }
            None => path::RESOLV_CONF.to_owned(),
        };

        let under_way = self.containers.creating();
        let pending = addresses::pending();
        let address = match wanted {
            Some(address) => self.addresses.claim(&pending, address),
            None => self.addresses.allocate(&pending).await,
        };
        let address = address.map_err(ProxyError::Address)?;
        if let Err(error) = put_on_overlay(&mut body, &overlay, address, &resolv_conf) {
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

    /// Connects a container to the overlay at an address that is its own from then on; one that it had before, it has again.
    async fn connect(
        &self,
        request: Request<Body>,
        hijacker: Hijacker,
        network: &str,
    ) -> Result<Response<Body>, ProxyError> {
        let (mut parts, body) = request.into_parts();
        let bytes = collect(body, CREATE_LIMIT).await.map_err(ProxyError::Body)?;
        let ids = self.network_ids();
        let mut body: Value = serde_json::from_slice(&bytes).map_err(ProxyError::Json)?;
        members::spell(&mut body, members::Body::NetworkAttachment);
        let meant = Overlay { name: NETWORK, ids: &ids }.is_meant(network);
        let container = if meant { self.container_id(&body).await } else { None };
        let Some(container) = container else {
            // Another network's, or the engine's to refuse in its own words.
            return Ok(forward(&self.engine, Request::from_parts(parts, full(bytes)), hijacker).await);
        };
        let owner = addresses::container(&container);
        let before = self.addresses.held_by(&owner);
        let address = match connect_address(&body)? {
            Some(address) => self.addresses.claim(&owner, address),
            None => self.addresses.allocate(&owner).await,
        };
        let address = address.map_err(ProxyError::Address)?;
        pin_connect(&mut body, address)?;
        parts.headers.remove(header::CONTENT_LENGTH);
        let request = Request::from_parts(parts, full(body.to_string()));
        let response = forward(&self.engine, request, hijacker).await;
        // Whatever else is answered leaves it open what the engine did; then the container keeps both until it is removed.
        let unused = match response.status() {
            status if status.is_success() => before.filter(|before| *before != address),
            status if status.is_client_error() => Some(address).filter(|address| before != Some(*address)),
            _ => None,
        };
        if let Some(unused) = unused {
            self.addresses.release_address(unused).map_err(ProxyError::Address)?;
        }
        Ok(response)
    }

    /// The id of the container that a connect request names, if the engine knows it.
    async fn container_id(&self, body: &Value) -> Option<String> {
        let word = body["Container"].as_str()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if word.is_empty() || !word.chars().all(plain) {
            return None;
        }
        let path = format!("/containers/{word}/json");
        let asked = self.engine.json::<Value>(Method::GET, &path, None);
        let known = tokio::time::timeout(LOOK_DEADLINE, asked).await.ok()?.ok()?;
        known["Id"].as_str().map(str::to_owned)
    }

    /// What the engine calls the overlay besides its name.
    fn network_ids(&self) -> Vec<String> {
        self.endpoints.read().networks.keys().cloned().collect()
    }
}

/// A request that does not pass as it came.
#[derive(Debug, PartialEq, Eq)]
enum Edit {
    Create,
    Connect { network: String },
}

fn edit(method: &Method, path: &str) -> Option<Edit> {
    let mut segments = path.trim_start_matches('/').split('/').peekable();
    segments.next_if(|s| s.starts_with('v') && s[1..].bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match segments.collect::<Vec<_>>().as_slice() {
        _ if method != Method::POST => None,
        ["containers", "create"] => Some(Edit::Create),
        ["networks", network, "connect"] => Some(Edit::Connect { network: (*network).to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_creates_and_connects_are_edited() {
        for path in ["/containers/create", "/v1.41/containers/create"] {
            assert_eq!(edit(&Method::POST, path), Some(Edit::Create), "{path}");
        }
        let connect = Some(Edit::Connect { network: "osier".into() });
        assert_eq!(edit(&Method::POST, "/v1.41/networks/osier/connect"), connect);
        for path in [
            "/volumes/create",
            "/v1.41/containers/create/x",
            "/vx/containers/create",
            "/containers/x",
            "/networks/connect",
            "/networks/osier/disconnect",
        ] {
            assert_eq!(edit(&Method::POST, path), None, "{path}");
        }
        assert_eq!(edit(&Method::GET, "/containers/create"), None);
    }
}
