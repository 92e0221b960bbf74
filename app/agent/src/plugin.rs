//! Docker's side of the network: the libnetwork remote network driver and IPAM driver on the plugin socket.
//!
//! A plugin call never calls the engine and is answered from local state: dockerd holds locks while it waits, and calls
//! before its own API answers. Every call may come twice. Protocol: libnetwork's `docs/remote.md` and `docs/ipam.md`.

use crate::{
    addresses::{self, AddressError},
    endpoints::{Endpoint, Endpoints, mac_of},
    hosts,
    networks::{Net, Networks},
};
use http::{Request, Response, StatusCode};
use ipnet::Ipv4Net;
use osier_engine::{Body, Hijacker, body::collect, json_response, server::Handler};
use osier_kernel::{Kernel, Sandbox};
use osier_model::{DNS_ADDRESS, INTERFACE_PREFIX, MacAddr, NETWORK_ID_OPTION, NetworkId};
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
/// What the names of address pools begin with.
const POOL_PREFIX: &str = "osier-";
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
    #[error("the call lacks '{0}'")]
    Missing(&'static str),
    #[error("'{0}' is not understood")]
    Malformed(String),
    #[error("no endpoint '{0}'")]
    NoEndpoint(String),
    #[error(
        "subnet {0} is not the cluster's address range {1}: make other networks through the cluster's endpoint (port 3376, or 12375 on a node)"
    )]
    ForeignPool(String, Ipv4Net),
    #[error("network {0} was removed from the cluster")]
    Gone(String),
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
        let answer = match collect(request.into_body(), BODY_LIMIT).await {
            Ok(body) => {
                // dockerd sends no Content-Type, and no body at all with Plugin.Activate.
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                debug!(%call, %body, "plugin call");
                self.answer(&call, &body).await
            }
            Err(e) => Err(PluginError::Body(e)),
        };
        match answer {
            Ok(Some(value)) => json_response(StatusCode::OK, &value),
            Ok(None) => json_response(StatusCode::NOT_FOUND, &json!({ "Err": format!("unknown call '{call}'") })),
            Err(error) => {
                let text = chain(&error);
                warn!(%call, error = %text, "plugin call failed");
                json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "Err": format!("osier: {text}") }))
            }
        }
    }
}

impl Plugin {
    async fn answer(&self, call: &str, body: &Value) -> Result<Option<Value>, PluginError> {
        Ok(Some(match call {
            "Plugin.Activate" => json!({ "Implements": ["NetworkDriver", "IpamDriver"] }),
            "NetworkDriver.GetCapabilities" => json!({ "Scope": "local", "ConnectivityScope": "global" }),
            "NetworkDriver.CreateNetwork" => self.create_network(body)?,
            "NetworkDriver.DeleteNetwork" => self.delete_network(body)?,
            "NetworkDriver.CreateEndpoint" => self.create_endpoint(body)?,
            "NetworkDriver.DeleteEndpoint" => self.delete_endpoint(body).await?,
            "NetworkDriver.EndpointOperInfo" => self.operational_info(body)?,
            "NetworkDriver.Join" => self.join(body).await?,
            "NetworkDriver.Leave" => self.leave(body).await?,
            "NetworkDriver.ProgramExternalConnectivity"
            | "NetworkDriver.RevokeExternalConnectivity"
            | "NetworkDriver.DiscoverNew"
            | "NetworkDriver.DiscoverDelete"
            | "NetworkDriver.AllocateNetwork"
            | "NetworkDriver.FreeNetwork"
            | "IpamDriver.ReleasePool" => json!({}),
            // The MAC that engines would pass is random at every start, so it identifies nobody.
            "IpamDriver.GetCapabilities" => json!({ "RequiresMACAddress": false }),
            "IpamDriver.GetDefaultAddressSpaces" => {
                json!({ "LocalDefaultAddressSpace": "osier-local", "GlobalDefaultAddressSpace": "osier-global" })
            }
            "IpamDriver.RequestPool" => self.request_pool(body)?,
            "IpamDriver.RequestAddress" => self.request_address(body).await?,
            "IpamDriver.ReleaseAddress" => self.release_address(body)?,
            _ => return Ok(None),
        }))
    }

    /// The network that an engine means by an option of ours; the cluster's own where it says none.
    fn net_of_option(&self, option: &Value) -> Result<Arc<Net>, PluginError> {
        match option.as_str() {
            None => Ok(self.networks.main()),
            Some(id) => {
                let known = id.parse().ok().and_then(|id| self.networks.get(id));
                known.ok_or_else(|| PluginError::Gone(id.to_owned()))
            }
        }
    }

    /// The network whose pool a call names.
    fn net_of_pool(&self, body: &Value) -> Result<Arc<Net>, PluginError> {
        let pool = body["PoolID"].as_str().unwrap_or_default();
        match pool.strip_prefix(POOL_PREFIX).and_then(|id| id.parse().ok()) {
            // The cluster's own pool is called by its range.
            None => Ok(self.networks.main()),
            Some(id) => self.networks.get(id).ok_or_else(|| PluginError::Gone(pool.to_owned())),
        }
    }

    fn request_pool(&self, body: &Value) -> Result<Value, PluginError> {
        let net = self.net_of_option(&body["Options"][NETWORK_ID_OPTION])?;
        let subnet = net.network.subnet;
        let wanted = body["Pool"].as_str().unwrap_or_default();
        if !(wanted.is_empty() || wanted.parse() == Ok(subnet)) {
            return Err(PluginError::ForeignPool(wanted.to_owned(), subnet));
        }
        // Every engine insists on a gateway for its network; named here, it is not asked for as if it were a container.
        let gateway = format!("{}/{}", net.network.gateway, subnet.prefix_len());
        let data = json!({ "com.docker.network.gateway": gateway });
        let name = if net.network.id == NetworkId::MAIN { subnet.to_string() } else { net.network.id.to_string() };
        Ok(json!({ "PoolID": format!("{POOL_PREFIX}{name}"), "Pool": subnet, "Data": data }))
    }

    async fn request_address(&self, body: &Value) -> Result<Value, PluginError> {
        let net = self.net_of_pool(body)?;
        let options = &body["Options"];
        let wanted = body["Address"].as_str().filter(|a| !a.is_empty());
        let wanted: Option<Ipv4Addr> =
            wanted.map(|a| a.parse().map_err(|_| PluginError::Malformed(a.to_owned()))).transpose()?;
        let address = if options["RequestAddressType"] == "com.docker.network.gateway" {
            wanted.unwrap_or(net.network.gateway)
        } else {
            // An engine takes a stopped endpoint down before it asks for its address again.
            let used = |address| self.endpoints.read().uses(net.network.id, address);
            match wanted {
                // Engines ask for these when the network is made.
                Some(address) if net.network.reserved.values().any(|kept| *kept == address) => address,
                Some(address) if net.has_outside(address) => {
                    if used(address) {
                        return Err(PluginError::Used(address, net.network.name.clone()));
                    }
                    address
                }
                Some(address) if net.addresses.is_reserved(address) && !used(address) => address,
                Some(address) => net.addresses.claim(&addresses::anonymous(), address).await?,
                None => net.addresses.allocate(&addresses::anonymous()).await?,
            }
        };
        Ok(json!({ "Address": format!("{address}/{}", net.network.subnet.prefix_len()), "Data": {} }))
    }

    fn release_address(&self, body: &Value) -> Result<Value, PluginError> {
        let text = text(body, "Address")?;
        let address = text.parse().map_err(|_| PluginError::Malformed(text.to_owned()))?;
        // The addresses of a network that is gone went with it.
        if let Ok(net) = self.net_of_pool(body) {
            net.addresses.release_unpinned(address)?;
        }
        Ok(json!({}))
    }

    fn create_network(&self, body: &Value) -> Result<Value, PluginError> {
        let id = text(body, "NetworkID")?.to_owned();
        let net = self.net_of_option(&body["Options"]["com.docker.network.generic"][NETWORK_ID_OPTION])?;
        let subnet = net.network.subnet;
        let pool = body.pointer("/IPv4Data/0/Pool").and_then(Value::as_str).unwrap_or_default();
        if pool.parse() != Ok(subnet) {
            return Err(PluginError::ForeignPool(pool.to_owned(), subnet));
        }
        self.networks.note_engines(&id, &net.network).map_err(PluginError::Store)?;
        self.changed.notify_one();
        Ok(json!({}))
    }

    fn delete_network(&self, body: &Value) -> Result<Value, PluginError> {
        let id = text(body, "NetworkID")?;
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

    fn create_endpoint(&self, body: &Value) -> Result<Value, PluginError> {
        let (network, id) = (text(body, "NetworkID")?.to_owned(), text(body, "EndpointID")?.to_owned());
        let interface = &body["Interface"];
        let address = text(interface, "Address")?;
        let address: Ipv4Net = address.parse().map_err(|_| PluginError::Malformed(address.to_owned()))?;
        let given = interface["MacAddress"].as_str().filter(|m| !m.is_empty());
        let mac: MacAddr = match given {
            Some(mac) => mac.parse().map_err(|_| PluginError::Malformed(mac.to_owned()))?,
            None => mac_of(address.addr()),
        };
        let endpoint = Endpoint { network, address: address.addr(), mac, sandbox: None };
        self.endpoints.change(|t| t.endpoints.insert(id, endpoint)).map_err(PluginError::Store)?;
        // libnetwork takes back only what it did not give.
        Ok(json!({ "Interface": if given.is_none() { json!({ "MacAddress": mac }) } else { json!({}) } }))
    }

    async fn delete_endpoint(&self, body: &Value) -> Result<Value, PluginError> {
        let id = text(body, "EndpointID")?;
        self.remove_port(id).await?;
        self.endpoints.change(|t| t.endpoints.remove(id)).map_err(PluginError::Store)?;
        self.changed.notify_one();
        Ok(json!({}))
    }

    async fn join(&self, body: &Value) -> Result<Value, PluginError> {
        let id = text(body, "EndpointID")?;
        let (endpoint, network) = {
            let table = self.endpoints.read();
            let endpoint = table.endpoints.get(id).cloned().ok_or_else(|| PluginError::NoEndpoint(id.to_owned()))?;
            let network = table.network(&endpoint.network);
            (endpoint, network)
        };
        let net = self.networks.get(network).ok_or_else(|| PluginError::Gone(network.to_string()))?;
        let mut up = self.up.clone();
        let bridge = tokio::time::timeout(BRIDGE_DEADLINE, up.wait_for(|up| up.contains(&network))).await;
        bridge.map_err(|_| PluginError::NotUp)?.map_err(|_| PluginError::NotUp)?;
        let (bridge_end, container_end) = (Endpoint::bridge_end(id), Endpoint::container_end(id));
        let made = self.kernel.create_port(&bridge_end, &container_end, endpoint.mac, &net.bridge, self.mtu).await;
        made.map_err(|source| PluginError::Port { endpoint: id.to_owned(), source })?;
        let sandbox = body["SandboxKey"].as_str().filter(|s| !s.is_empty()).map(PathBuf::from);
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

    fn operational_info(&self, body: &Value) -> Result<Value, PluginError> {
        let id = text(body, "EndpointID")?;
        let address = self.endpoints.read().endpoints.get(id).map(|e| e.address);
        if let Some(address) = address {
            match hosts::mend(Path::new(ENGINE_ROOT), address) {
                Ok(0) => {}
                Ok(_) => debug!(%address, "mended a hosts file"),
                Err(error) => warn!(%error, "cannot look at the engine's hosts files"),
            }
        }
        Ok(json!({ "Value": {} }))
    }

    async fn leave(&self, body: &Value) -> Result<Value, PluginError> {
        let id = text(body, "EndpointID")?;
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

fn text<'a>(body: &'a Value, name: &'static str) -> Result<&'a str, PluginError> {
    body[name].as_str().filter(|t| !t.is_empty()).ok_or(PluginError::Missing(name))
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
