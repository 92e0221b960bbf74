//! Docker's side of the network: the libnetwork remote network driver and IPAM driver on the plugin socket.
//!
//! A plugin call never calls the engine and is answered from local state: dockerd holds locks while it waits, and calls
//! before its own API answers. Every call may come twice. Protocol: libnetwork's `docs/remote.md` and `docs/ipam.md`.

use crate::{
    addresses::{self, AddressError},
    endpoints::Endpoints,
    hosts,
    networks::{Net, Networks},
};
use http::{Request, Response, StatusCode};
use ipnet::Ipv4Net;
use osier_calls::plugin::{Call, CallError, POOL_PREFIX};
use osier_endpoints::{Endpoint, mac_of};
use osier_engine::{Body, Hijacker, body::collect, json_response, server::Handler};
use osier_fabric::LocalPort;
use osier_kernel::{Kernel, Sandbox};
use osier_model::{DNS_ADDRESS, INTERFACE_PREFIX, MacAddr, NetworkId};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

/// The bridge that carries the cluster's own network.
pub(crate) const BRIDGE: &str = "osier0";
/// The largest plugin request; real ones are a few hundred bytes.
const BODY_LIMIT: usize = 1 << 20;
/// The name by which a container may address its overlay interface besides `ethwe0`.
const SECOND_NAME: &str = "ethwe";
/// The root directory of Debian's and Docker's own engine packages.
const ENGINE_ROOT: &str = "/var/lib/docker";
/// How long a container waits for the bridge after a start of the agent.
const BRIDGE_DEADLINE: Duration = Duration::from_secs(10);
/// How long the interface is looked for in its sandbox, to give it its other name.
const NAMING_DEADLINE: Duration = Duration::from_secs(10);
const NAMING_PAUSE: Duration = Duration::from_millis(5);

/// The plugin.
pub(crate) struct Plugin {
    pub(crate) mtu: u32,
    pub(crate) kernel: Kernel,
    pub(crate) networks: Arc<Networks>,
    pub(crate) endpoints: Arc<Endpoints>,
    /// Told when endpoints come or go.
    pub(crate) changed: Arc<Notify>,
    /// The networks whose bridges stand.
    pub(crate) up: watch::Receiver<BTreeSet<NetworkId>>,
}

/// A plugin call that cannot be done; the text goes to the user through dockerd.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("read the call")]
    Body(#[source] osier_engine::BoxError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no endpoint '{0}'")]
    NoEndpoint(String),
    #[error(
        "subnet {0} is not the cluster's address range {1}: make other networks through the cluster's endpoint (port 3376, or 12375 on a node)"
    )]
    ForeignPool(String, Ipv4Net),
    #[error("network {0} was removed from the cluster")]
    Gone(NetworkId),
    #[error("address {0} of network {1} is another container's")]
    Used(Ipv4Addr, String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the overlay is not set up on this node yet; see 'osier status' there")]
    NotUp,
    #[error("keep the endpoint")]
    Store(#[source] osier_store::Error),
    #[error("make the port of endpoint '{endpoint}'")]
    Port { endpoint: String, source: osier_kernel::Error },
}

impl Handler for Plugin {
    async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
        let call = request.uri().path().trim_start_matches('/').to_owned();
        let answer = async {
            let body = collect(request.into_body(), BODY_LIMIT).await.map_err(PluginError::Body)?;
            let read = Call::read(&call, &body)?;
            debug!(call = ?read, "plugin call");
            self.answer(read).await
        };
        match answer.await {
            Ok(value) => json_response(StatusCode::OK, &value),
            Err(PluginError::Call(unknown @ CallError::Unknown(_))) => {
                json_response(StatusCode::NOT_FOUND, &json!({ "Err": unknown.to_string() }))
            }
            Err(error) => {
                let text = chain(&error);
                warn!(%call, error = %text, "plugin call failed");
                json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "Err": format!("osier: {text}") }))
            }
        }
    }
}

impl Plugin {
    async fn answer(&self, call: Call) -> Result<Value, PluginError> {
        match call {
            Call::Activate => Ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] })),
            Call::NetworkCapabilities => Ok(json!({ "Scope": "local", "ConnectivityScope": "global" })),
            // The MAC that engines would pass is random at every start, so it identifies nobody.
            Call::IpamCapabilities => Ok(json!({ "RequiresMACAddress": false })),
            Call::AddressSpaces => {
                Ok(json!({ "LocalDefaultAddressSpace": "osier-local", "GlobalDefaultAddressSpace": "osier-global" }))
            }
            Call::RequestPool { network, subnet } => self.request_pool(network, subnet),
            Call::RequestAddress { network, address, gateway } => self.request_address(network, address, gateway).await,
            Call::ReleaseAddress { network, address } => self.release_address(network, address),
            Call::CreateNetwork { engine_id, network, subnet } => self.create_network(&engine_id, network, subnet),
            Call::DeleteNetwork { engine_id } => self.delete_network(&engine_id),
            Call::CreateEndpoint { engine_id, endpoint, address, mac } => {
                self.create_endpoint(engine_id, endpoint, address, mac)
            }
            Call::Information { endpoint } => Ok(self.information(&endpoint)),
            Call::DeleteEndpoint { endpoint } => self.delete_endpoint(&endpoint).await,
            Call::Join { endpoint, sandbox } => self.join(&endpoint, sandbox).await,
            Call::Leave { endpoint } => self.leave(&endpoint).await,
            Call::Nothing => Ok(json!({})),
        }
    }

    fn net(&self, network: NetworkId) -> Result<Arc<Net>, PluginError> {
        self.networks.get(network).ok_or(PluginError::Gone(network))
    }

    fn request_pool(&self, network: NetworkId, wanted: Option<Ipv4Net>) -> Result<Value, PluginError> {
        let net = self.net(network)?;
        let subnet = net.network.subnet;
        if let Some(foreign) = wanted.filter(|wanted| *wanted != subnet) {
            return Err(PluginError::ForeignPool(foreign.to_string(), subnet));
        }
        // Every engine insists on a gateway for its network; named here, it is not asked for as if it were a container.
        let gateway = format!("{}/{}", net.network.gateway, subnet.prefix_len());
        let data = json!({ "com.docker.network.gateway": gateway });
        let name = if net.network.id == NetworkId::MAIN { subnet.to_string() } else { net.network.id.to_string() };
        Ok(json!({ "PoolID": format!("{POOL_PREFIX}{name}"), "Pool": subnet, "Data": data }))
    }

    async fn request_address(
        &self,
        network: NetworkId,
        wanted: Option<Ipv4Addr>,
        gateway: bool,
    ) -> Result<Value, PluginError> {
        let net = self.net(network)?;
        let address = if gateway {
            wanted.unwrap_or(net.network.gateway)
        } else {
            // An engine takes a stopped endpoint down before it asks for its address again.
            let used = |address| self.endpoints.read().uses(net.network.id, address);
            // What is reserved is one container's, so that an endpoint in no container is left from an earlier start of it.
            let joined = |address| self.endpoints.read().is_joined(net.network.id, address);
            match wanted {
                // Engines ask for these when the network is made.
                Some(address) if net.network.reserved.values().any(|kept| *kept == address) => address,
                Some(address) if net.has_outside(address) => {
                    if used(address) {
                        return Err(PluginError::Used(address, net.network.name.clone()));
                    }
                    address
                }
                Some(address) if net.addresses.is_reserved(address) && !joined(address) => address,
                Some(address) => net.addresses.claim(&addresses::anonymous(), address).await?,
                None => net.addresses.allocate(&addresses::anonymous()).await?,
            }
        };
        Ok(json!({ "Address": format!("{address}/{}", net.network.subnet.prefix_len()), "Data": {} }))
    }

    fn release_address(&self, network: NetworkId, address: Ipv4Addr) -> Result<Value, PluginError> {
        // The addresses of a network that is gone went with it.
        if let Some(net) = self.networks.get(network) {
            net.addresses.release_unpinned(address)?;
        }
        Ok(json!({}))
    }

    fn create_network(
        &self,
        engine_id: &str,
        network: NetworkId,
        subnet: Option<Ipv4Net>,
    ) -> Result<Value, PluginError> {
        let net = self.net(network)?;
        if subnet != Some(net.network.subnet) {
            let foreign = subnet.map_or_else(String::new, |subnet| subnet.to_string());
            return Err(PluginError::ForeignPool(foreign, net.network.subnet));
        }
        self.networks.note_engines(engine_id, &net.network).map_err(PluginError::Store)?;
        self.changed.notify_one();
        Ok(json!({}))
    }

    fn delete_network(&self, id: &str) -> Result<Value, PluginError> {
        let removed = self.endpoints.change(|t| {
            t.networks.remove(id);
            // What is left on it is still its own, and no container of the cluster's network.
            if !t.endpoints.values().any(|e| e.network == id) {
                t.ids.remove(id);
            }
        });
        removed.map_err(PluginError::Store)?;
        self.changed.notify_one();
        Ok(json!({}))
    }

    fn create_endpoint(
        &self,
        network: String,
        id: String,
        address: Ipv4Addr,
        given: Option<MacAddr>,
    ) -> Result<Value, PluginError> {
        let mac = given.unwrap_or_else(|| mac_of(address));
        let endpoint = Endpoint { network, address, mac, sandbox: None };
        self.endpoints.change(|t| t.make(id, endpoint)).map_err(PluginError::Store)?;
        // libnetwork takes back only what it did not give.
        Ok(json!({ "Interface": if given.is_none() { json!({ "MacAddress": mac }) } else { json!({}) } }))
    }

    async fn delete_endpoint(&self, id: &str) -> Result<Value, PluginError> {
        self.remove_port(id).await?;
        self.endpoints.change(|t| t.endpoints.remove(id)).map_err(PluginError::Store)?;
        self.changed.notify_one();
        Ok(json!({}))
    }

    async fn join(&self, id: &str, sandbox: Option<PathBuf>) -> Result<Value, PluginError> {
        let (endpoint, network) = {
            let table = self.endpoints.read();
            let endpoint = table.endpoints.get(id).cloned().ok_or_else(|| PluginError::NoEndpoint(id.to_owned()))?;
            let network = table.network(&endpoint.network);
            (endpoint, network)
        };
        let net = self.net(network)?;
        let mut up = self.up.clone();
        let bridge = tokio::time::timeout(BRIDGE_DEADLINE, up.wait_for(|up| up.contains(&network))).await;
        bridge.map_err(|_| PluginError::NotUp)?.map_err(|_| PluginError::NotUp)?;
        let (bridge_end, container_end) = (Endpoint::bridge_end(id), Endpoint::container_end(id));
        let port = LocalPort { name: bridge_end, mac: endpoint.mac, address: Some(endpoint.address) };
        let made = self.kernel.create_port(&port, &container_end, &net.bridge, self.mtu).await;
        made.map_err(|source| PluginError::Port { endpoint: id.to_owned(), source })?;
        // Of several interfaces in one sandbox the first has the names and the way to the resolver.
        let first = sandbox.as_ref().is_none_or(|sandbox| {
            let table = self.endpoints.read();
            !table.endpoints.iter().any(|(other, e)| other != id && e.sandbox.as_ref() == Some(sandbox))
        });
        self.set_joined(id, Some(sandbox.clone().unwrap_or_default()))?;
        self.changed.notify_one();
        if let Some(sandbox) = sandbox.filter(|_| first) {
            name_interface(sandbox, endpoint.mac);
        }
        let resolver = json!({ "Destination": format!("{DNS_ADDRESS}/32"), "RouteType": 1, "NextHop": "" });
        Ok(json!({
            "InterfaceName": { "SrcName": container_end, "DstPrefix": INTERFACE_PREFIX },
            "Gateway": "",
            "GatewayIPv6": "",
            // Queries leave through the overlay interface, so that the resolver sees the container's own address.
            "StaticRoutes": if first { json!([resolver]) } else { json!([]) },
            // Docker's own bridge gives the way out and published ports.
            "DisableGatewayService": false,
        }))
    }

    /// What more there is to know of an endpoint: nothing. It is asked for when the hosts file has been written.
    fn information(&self, id: &str) -> Value {
        let address = self.endpoints.read().endpoints.get(id).map(|e| e.address);
        if let Some(address) = address {
            match hosts::mend(Path::new(ENGINE_ROOT), address) {
                Ok(0) => {}
                Ok(_) => debug!(%address, "mended a hosts file"),
                Err(error) => warn!(%error, "cannot look at the engine's hosts files"),
            }
        }
        json!({ "Value": {} })
    }

    async fn leave(&self, id: &str) -> Result<Value, PluginError> {
        self.remove_port(id).await?;
        let sandbox = self.endpoints.read().endpoints.get(id).and_then(|e| e.sandbox.clone());
        self.set_joined(id, None)?;
        self.changed.notify_one();
        let heir = {
            let table = self.endpoints.read();
            let heir = table.endpoints.values().find(|e| e.is_joined() && e.sandbox == sandbox);
            heir.map(|e| (e.mac, e.address))
        };
        if let (Some(sandbox), Some((mac, address))) = (sandbox.filter(|s| !s.as_os_str().is_empty()), heir) {
            inherit(sandbox, mac, address);
        }
        Ok(json!({}))
    }

    async fn remove_port(&self, id: &str) -> Result<(), PluginError> {
        let removed = self.kernel.delete_port(&Endpoint::bridge_end(id)).await;
        removed.map_err(|source| PluginError::Port { endpoint: id.to_owned(), source })
    }

    fn set_joined(&self, id: &str, sandbox: Option<PathBuf>) -> Result<(), PluginError> {
        let changed = self.endpoints.change(|t| {
            if let Some(endpoint) = t.endpoints.get_mut(id) {
                endpoint.sandbox = sandbox;
            }
        });
        changed.map_err(PluginError::Store)
    }
}

/// Gives the interface its second name once it stands in the container. Two names on the host would clash when two
/// containers start at once, so it cannot be done before.
pub(crate) fn name_interface(sandbox: PathBuf, mac: MacAddr) {
    tokio::spawn(async move {
        if tokio::time::timeout(NAMING_DEADLINE, await_and_name(&sandbox, mac)).await.is_err() {
            warn!(sandbox = %sandbox.display(), "an interface did not appear in its container");
        }
    });
}

/// Gives the way to the resolver to an interface whose container has lost the one that had it. (It may have been another:
/// then the way is there already.)
fn inherit(sandbox: PathBuf, mac: MacAddr, address: Ipv4Addr) {
    tokio::spawn(async move {
        let led = match Sandbox::open(&sandbox) {
            Ok(Some(open)) => open.route(mac, DNS_ADDRESS, address).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match led {
            // It is on its way out itself.
            Ok(false) => {}
            Ok(true) => name_interface(sandbox, mac),
            Err(error) => warn!(error = chain(&error), "cannot lead a container to its resolver"),
        }
    });
}

/// Ends when the interface has its name, or when the sandbox is gone again.
async fn await_and_name(path: &Path, mac: MacAddr) {
    let mut open: Option<Sandbox> = None;
    loop {
        let named = match &open {
            Some(_) if !path.exists() => return,
            Some(sandbox) => sandbox.name_interface(INTERFACE_PREFIX, mac, SECOND_NAME).await,
            None => Sandbox::open(path).map(|sandbox| {
                open = sandbox;
                false
            }),
        };
        match named {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => debug!(%error, "cannot look into a sandbox yet"),
        }
        tokio::time::sleep(NAMING_PAUSE).await;
    }
}

/// An error and its causes in one line, for dockerd, which shows one string.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
