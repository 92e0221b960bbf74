//! The engine proxy on 12375: the engine's API as it is, except that new containers are put on the overlay, each with
//! an address that is its own until it is removed, and that containers connected to the overlay later get one, too.
//!
//! Everything else streams through untouched. Mutual TLS is the listener's business.

use crate::{
    addresses::{self, AddressError},
    containers::Containers,
    endpoints::Endpoints,
    host,
    networks::{Net, NetworkError, Networks},
    setup,
};
use http::{Method, Request, Response, StatusCode, header};
use osier_dockerapi::{
    create::{
        CreateError, Overlay, connect_address, mount_resolver, pin_connect, placement, put_on_overlays, resolver_wishes,
    },
    members,
    network_create::{WishError, network_wishes},
};
use osier_engine::{
    Body, BoxError, Client, Hijacker,
    body::{collect, is_too_long},
    error_response, forward, full, json_bytes,
    server::Handler,
};
use osier_model::{NETWORK, NetworkId, config::path};
use osier_networks::DraftError;
use osier_ring::Owner;
use serde_json::Value;
use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};
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
    pub(crate) networks: Arc<Networks>,
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
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Wish(#[from] WishError),
    #[error("write the container's resolver file")]
    Resolver(#[source] osier_store::Error),
}

impl ProxyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(e) if is_too_long(e) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Json(_) | Self::Create(_) | Self::Wish(_) => StatusCode::BAD_REQUEST,
            Self::Network(NetworkError::Draft(DraftError::Exists(_))) => StatusCode::CONFLICT,
            Self::Network(NetworkError::InUse(..)) => StatusCode::FORBIDDEN,
            Self::Network(NetworkError::Draft(_) | NetworkError::TooLong(_)) => StatusCode::BAD_REQUEST,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Address(AddressError::Taken(..) | AddressError::Foreign(..)) => StatusCode::CONFLICT,
            Self::Address(AddressError::Outside(..) | AddressError::Reserved(_)) => StatusCode::BAD_REQUEST,
            Self::Address(_) | Self::Resolver(_) | Self::Network(_) => StatusCode::INTERNAL_SERVER_ERROR,
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
                Edit::CreateNetwork => proxy.create_network(request, hijacker).await,
                Edit::RemoveNetwork { network } => proxy.remove_network(request, hijacker, &network).await,
            }
        });
        match created.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error_response(error.status(), crate::plugin::chain(&error)),
            Err(error) => error_response(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}

/// A network of the cluster and what this node's engine calls it.
struct Known {
    net: Arc<Net>,
    ids: Vec<String>,
}

impl Known {
    fn overlay(&self) -> Overlay<'_> {
        Overlay { name: &self.net.network.name, ids: &self.ids }
    }
}

impl Proxy {
    async fn create(&self, request: Request<Body>, hijacker: Hijacker) -> Result<Response<Body>, ProxyError> {
        let (mut parts, body) = request.into_parts();
        let bytes = collect(body, CREATE_LIMIT).await.map_err(ProxyError::Body)?;
        let mut body: Value = serde_json::from_slice(&bytes).map_err(ProxyError::Json)?;
        members::spell(&mut body, members::Body::ContainerCreate);
        let known = self.known();
        let overlays: Vec<Overlay<'_>> = known.iter().map(Known::overlay).collect();
        let places = placement(&body, &overlays)?;
        if places.is_empty() {
            return Ok(forward(&self.engine, Request::from_parts(parts, full(bytes)), hijacker).await);
        }
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
        let held = async {
            let mut held = Vec::new();
            for place in places {
                held.push((place, self.hold(&known[place.overlay].net, &pending, place.address).await?));
            }
            put_on_overlays(&mut body, &overlays, &held)?;
            mount_resolver(&mut body, &resolv_conf)?;
            Ok(())
        };
        let release = || known.iter().try_for_each(|k| k.net.addresses.release(&pending).map_err(ProxyError::Address));
        if let Err(error) = held.await {
            release()?;
            return Err(error);
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        let response = forward(&self.engine, Request::from_parts(parts, full(body.to_string())), hijacker).await;
        let (parts, body) = response.into_parts();
        let answer = collect(body, ANSWER_LIMIT).await.map_err(ProxyError::Body)?;
        let made: Option<Value> = serde_json::from_slice(&answer).ok();
        if let Some(id) = made.as_ref().and_then(|v| v["Id"].as_str()).filter(|_| parts.status.is_success()) {
            known.iter().for_each(|k| k.net.addresses.hand_over(&pending, addresses::container(id)));
        } else if parts.status.is_client_error() {
            release()?;
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

    /// Holds an address for this owner: the wanted one, or any.
    async fn hold(&self, net: &Net, owner: &Owner, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, ProxyError> {
        let held = match wanted {
            // Such an address is the user's own business, as long as no container has it now.
            Some(address) if net.has_outside(address) => match self.networks.user_of(net, address) {
                Some(whose) => Err(AddressError::Taken(address, whose)),
                None => Ok(address),
            },
            Some(address) => net.addresses.claim(owner, address).await,
            None => net.addresses.allocate(owner).await,
        };
        held.map_err(ProxyError::Address)
    }

    /// Connects a container to a network of the cluster at an address that is its own from then on; one that it had before,
    /// it has again.
    async fn connect(
        &self,
        request: Request<Body>,
        hijacker: Hijacker,
        network: &str,
    ) -> Result<Response<Body>, ProxyError> {
        let (mut parts, body) = request.into_parts();
        let bytes = collect(body, CREATE_LIMIT).await.map_err(ProxyError::Body)?;
        let mut body: Value = serde_json::from_slice(&bytes).map_err(ProxyError::Json)?;
        members::spell(&mut body, members::Body::NetworkAttachment);
        let meant = self.find(network);
        let container = if meant.is_some() { self.container_id(&body).await } else { None };
        let (Some(net), Some(container)) = (meant, container) else {
            // Another network's, or the engine's to refuse in its own words.
            return Ok(forward(&self.engine, Request::from_parts(parts, full(bytes)), hijacker).await);
        };
        let owner = addresses::container(&container);
        let before = net.addresses.held_by(&owner);
        let address = self.hold(&net, &owner, connect_address(&body)?).await?;
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
            net.addresses.release_address(unused).map_err(ProxyError::Address)?;
        }
        Ok(response)
    }

    /// Makes a network of the cluster where the request asks for one: the other nodes make it when they hear of it.
    async fn create_network(&self, request: Request<Body>, hijacker: Hijacker) -> Result<Response<Body>, ProxyError> {
        let (mut parts, body) = request.into_parts();
        let bytes = collect(body, CREATE_LIMIT).await.map_err(ProxyError::Body)?;
        let mut body: Value = serde_json::from_slice(&bytes).map_err(ProxyError::Json)?;
        members::spell(&mut body, members::Body::NetworkCreate);
        let Some(draft) = network_wishes(&body)? else {
            return Ok(forward(&self.engine, Request::from_parts(parts, full(bytes)), hijacker).await);
        };
        let _turn = self.networks.engine.lock().await;
        let net = self.networks.create(draft, &host::routes())?;
        parts.headers.remove(header::CONTENT_LENGTH);
        let body = setup::create_body(&net.network).to_string();
        let response = forward(&self.engine, Request::from_parts(parts, full(body)), hijacker).await;
        // Any other failure leaves it open what the engine did.
        let failed = response.status().is_client_error()
            || (response.status().is_server_error() && self.is_absent(&net.network.name).await);
        if failed {
            self.networks.remove(net.network.id)?;
        }
        Ok(response)
    }

    /// Whether the engine surely has no network of this name.
    async fn is_absent(&self, network: &str) -> bool {
        let path = format!("/networks/{network}");
        let asked = self.engine.json::<Value>(Method::GET, &path, None);
        let answer = tokio::time::timeout(LOOK_DEADLINE, asked).await;
        matches!(answer, Ok(Err(error)) if error.status() == Some(StatusCode::NOT_FOUND))
    }

    /// Removes a network of the cluster from all nodes, unless containers are on it.
    async fn remove_network(
        &self,
        request: Request<Body>,
        hijacker: Hijacker,
        network: &str,
    ) -> Result<Response<Body>, ProxyError> {
        let meant = || self.find(network).filter(|net| net.network.id != NetworkId::MAIN);
        if let Some(net) = meant() {
            self.networks.unused(&net).await;
        }
        let _turn = self.networks.engine.lock().await;
        let meant = meant();
        if let Some(net) = &meant {
            self.networks.may_remove(net)?;
        }
        let response = forward(&self.engine, request, hijacker).await;
        if let Some(net) = meant.filter(|_| response.status().is_success()) {
            self.networks.remove(net.network.id)?;
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

    /// The cluster's networks that this node's engine has, its own first.
    fn known(&self) -> Vec<Known> {
        let table = self.endpoints.read();
        let nets = self.networks.all().into_iter();
        let known = nets.map(|net| Known { ids: table.engine_ids(net.network.id), net });
        known.filter(|known| known.net.network.id == NetworkId::MAIN || !known.ids.is_empty()).collect()
    }

    /// The network of the cluster that a word means: by its name, else by its id or the beginning of that.
    fn find(&self, word: &str) -> Option<Arc<Net>> {
        let known = self.known();
        let named = known.iter().find(|k| k.net.network.name == word);
        let begins = |k: &&Known| !word.is_empty() && k.ids.iter().any(|id| id.starts_with(word));
        // Where it is the beginning of another network's id as well, the engine refuses.
        named.or_else(|| known.iter().find(begins)).map(|k| k.net.clone())
    }
}

/// A request that does not pass as it came.
#[derive(Debug, PartialEq, Eq)]
enum Edit {
    Create,
    Connect { network: String },
    CreateNetwork,
    RemoveNetwork { network: String },
}

fn edit(method: &Method, path: &str) -> Option<Edit> {
    let mut segments = path.trim_start_matches('/').split('/').peekable();
    segments.next_if(|s| s.starts_with('v') && s[1..].bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match segments.collect::<Vec<_>>().as_slice() {
        ["networks", network] if method == Method::DELETE => {
            Some(Edit::RemoveNetwork { network: (*network).to_owned() })
        }
        _ if method != Method::POST => None,
        ["networks", "create"] => Some(Edit::CreateNetwork),
        ["containers", "create"] => Some(Edit::Create),
        ["networks", network, "connect"] => Some(Edit::Connect { network: (*network).to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_the_clusters_networks_is_edited() {
        for path in ["/containers/create", "/v1.41/containers/create"] {
            assert_eq!(edit(&Method::POST, path), Some(Edit::Create), "{path}");
        }
        let connect = Some(Edit::Connect { network: "osier".into() });
        assert_eq!(edit(&Method::POST, "/v1.41/networks/osier/connect"), connect);
        assert_eq!(edit(&Method::POST, "/v1.41/networks/create"), Some(Edit::CreateNetwork));
        let remove = Some(Edit::RemoveNetwork { network: "back".into() });
        assert_eq!(edit(&Method::DELETE, "/networks/back"), remove);
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
