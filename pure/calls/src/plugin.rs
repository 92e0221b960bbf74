//! The calls of Docker's plugin protocol that a network and IPAM driver gets, read into what they mean.
//!
//! Sources: libnetwork's `docs/remote.md` and `docs/ipam.md`. Engines send fields that the documents do not name, and leave
//! out those that are empty; both are passed over.

use ipnet::Ipv4Net;
use osier_model::{MacAddr, NETWORK_ID_OPTION, NetworkId};
use serde_json::Value;
use std::{net::Ipv4Addr, path::PathBuf, str::FromStr};

/// What the names of address pools begin with.
pub const POOL_PREFIX: &str = "osier-";
/// What a gateway's address is asked for as.
const GATEWAY: &str = "com.docker.network.gateway";
/// Where the options of `docker network create -o` are.
const GENERIC: &str = "/Options/com.docker.network.generic";

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `Plugin.Activate`: which drivers are there?
    Activate,
    /// `NetworkDriver.GetCapabilities`
    NetworkCapabilities,
    /// `IpamDriver.GetCapabilities`
    IpamCapabilities,
    /// `IpamDriver.GetDefaultAddressSpaces`
    AddressSpaces,
    /// `IpamDriver.RequestPool`
    RequestPool {
        /// The network that it is for.
        network: NetworkId,
        /// The subnet, where the engine wants a certain one.
        subnet: Option<Ipv4Net>,
    },
    /// `IpamDriver.RequestAddress`
    RequestAddress {
        /// The network that the pool is of.
        network: NetworkId,
        /// The address, where the engine wants a certain one.
        address: Option<Ipv4Addr>,
        /// It is for the network's gateway, not for a container.
        gateway: bool,
    },
    /// `IpamDriver.ReleaseAddress`
    ReleaseAddress {
        /// The network that the pool is of.
        network: NetworkId,
        /// Which address.
        address: Ipv4Addr,
    },
    /// `NetworkDriver.CreateNetwork`
    CreateNetwork {
        /// The engine's own id of it.
        engine_id: String,
        /// Which of the cluster's networks it is.
        network: NetworkId,
        /// Its subnet, which the engine took from the pool.
        subnet: Option<Ipv4Net>,
    },
    /// `NetworkDriver.DeleteNetwork`
    DeleteNetwork {
        /// The engine's own id of it.
        engine_id: String,
    },
    /// `NetworkDriver.CreateEndpoint`
    CreateEndpoint {
        /// The engine's id of the network.
        engine_id: String,
        /// The engine's id of the endpoint.
        endpoint: String,
        /// Its address.
        address: Ipv4Addr,
        /// Its MAC, where the user chose one.
        mac: Option<MacAddr>,
    },
    /// `NetworkDriver.EndpointOperInfo`
    Information {
        /// The engine's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.DeleteEndpoint`
    DeleteEndpoint {
        /// The engine's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.Join`
    Join {
        /// The engine's id of the endpoint.
        endpoint: String,
        /// The container's network namespace, where the engine names one.
        sandbox: Option<PathBuf>,
    },
    /// `NetworkDriver.Leave`
    Leave {
        /// The engine's id of the endpoint.
        endpoint: String,
    },
    /// A call that asks for nothing here.
    Nothing,
}

/// A call that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No such call is known; the engine goes on without.
    #[error("unknown call '{0}'")]
    Unknown(String),
    /// The body is no JSON.
    #[error("the call is not JSON")]
    Json(#[source] serde_json::Error),
    /// A field that must be there is not, or is empty.
    #[error("the call lacks '{0}'")]
    Missing(&'static str),
    /// A field is not what it should be.
    #[error("'{field}' of the call is not understood: {text}")]
    Malformed {
        /// Which.
        field: &'static str,
        /// What it is.
        text: String,
    },
}

impl Call {
    /// Reads the call of this name, such as `NetworkDriver.Join`. Calls without arguments may come without a body.
    pub fn read(name: &str, body: &[u8]) -> Result<Self, CallError> {
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).map_err(CallError::Json)? };
        Ok(match name {
            "Plugin.Activate" => Self::Activate,
            "NetworkDriver.GetCapabilities" => Self::NetworkCapabilities,
            "IpamDriver.GetCapabilities" => Self::IpamCapabilities,
            "IpamDriver.GetDefaultAddressSpaces" => Self::AddressSpaces,
            "IpamDriver.RequestPool" => Self::RequestPool {
                network: network(body.get("Options").and_then(|o| o.get(NETWORK_ID_OPTION)))?,
                subnet: parsed("Pool", &body["Pool"])?,
            },
            "IpamDriver.RequestAddress" => Self::RequestAddress {
                network: network_of_pool(&body)?,
                address: parsed("Address", &body["Address"])?,
                gateway: body["Options"]["RequestAddressType"] == GATEWAY,
            },
            "IpamDriver.ReleaseAddress" => Self::ReleaseAddress {
                network: network_of_pool(&body)?,
                address: parsed("Address", &body["Address"])?.ok_or(CallError::Missing("Address"))?,
            },
            "NetworkDriver.CreateNetwork" => Self::CreateNetwork {
                engine_id: text("NetworkID", &body)?,
                network: network(body.pointer(GENERIC).and_then(|o| o.get(NETWORK_ID_OPTION)))?,
                subnet: parsed("Pool", body.pointer("/IPv4Data/0/Pool").unwrap_or(&Value::Null))?,
            },
            "NetworkDriver.DeleteNetwork" => Self::DeleteNetwork { engine_id: text("NetworkID", &body)? },
            "NetworkDriver.CreateEndpoint" => {
                let address: Option<Ipv4Net> = parsed("Address", &body["Interface"]["Address"])?;
                Self::CreateEndpoint {
                    engine_id: text("NetworkID", &body)?,
                    endpoint: text("EndpointID", &body)?,
                    address: address.ok_or(CallError::Missing("Address"))?.addr(),
                    mac: parsed("MacAddress", &body["Interface"]["MacAddress"])?,
                }
            }
            "NetworkDriver.EndpointOperInfo" => Self::Information { endpoint: text("EndpointID", &body)? },
            "NetworkDriver.DeleteEndpoint" => Self::DeleteEndpoint { endpoint: text("EndpointID", &body)? },
            "NetworkDriver.Join" => Self::Join {
                endpoint: text("EndpointID", &body)?,
                sandbox: body["SandboxKey"].as_str().filter(|s| !s.is_empty()).map(PathBuf::from),
            },
            "NetworkDriver.Leave" => Self::Leave { endpoint: text("EndpointID", &body)? },
            "NetworkDriver.ProgramExternalConnectivity"
            | "NetworkDriver.RevokeExternalConnectivity"
            | "NetworkDriver.DiscoverNew"
            | "NetworkDriver.DiscoverDelete"
            | "NetworkDriver.AllocateNetwork"
            | "NetworkDriver.FreeNetwork"
            | "IpamDriver.ReleasePool" => Self::Nothing,
            unknown => return Err(CallError::Unknown(unknown.to_owned())),
        })
    }
}

/// A text that must be there.
fn text(field: &'static str, body: &Value) -> Result<String, CallError> {
    let text = body[field].as_str().filter(|t| !t.is_empty());
    text.map(str::to_owned).ok_or(CallError::Missing(field))
}

/// What a text stands for, where there is one.
fn parsed<T: FromStr>(field: &'static str, value: &Value) -> Result<Option<T>, CallError> {
    let malformed = || CallError::Malformed { field, text: value.to_string() };
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| malformed()),
        _ => Err(malformed()),
    }
}

/// The network that an option of ours means; the cluster's own where there is none.
fn network(option: Option<&Value>) -> Result<NetworkId, CallError> {
    Ok(parsed(NETWORK_ID_OPTION, option.unwrap_or(&Value::Null))?.unwrap_or(NetworkId::MAIN))
}

/// The network whose pool a call names. The cluster's own pool is called by its range, which engines may have kept from
/// before.
fn network_of_pool(body: &Value) -> Result<NetworkId, CallError> {
    let name = text("PoolID", body)?;
    Ok(name.strip_prefix(POOL_PREFIX).and_then(|id| id.parse().ok()).unwrap_or(NetworkId::MAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, body: &Value) -> Result<Call, CallError> {
        Call::read(name, body.to_string().as_bytes())
    }

    #[test]
    fn an_engines_calls_mean_what_they_say() {
        let id = "0123456789abcdef";
        let network: NetworkId = id.parse().unwrap();
        let pool = read("IpamDriver.RequestPool", &json!({"Pool": "10.1.0.0/16", "Options": {NETWORK_ID_OPTION: id}}));
        assert_eq!(pool.unwrap(), Call::RequestPool { network, subnet: "10.1.0.0/16".parse().ok() });
        let pool = read("IpamDriver.RequestPool", &json!({"Pool": "", "Options": null, "V6": false}));
        assert_eq!(pool.unwrap(), Call::RequestPool { network: NetworkId::MAIN, subnet: None });
        let asked = json!({"PoolID": format!("osier-{id}"), "Address": "", "Options": {"RequestAddressType": GATEWAY}});
        let gateway = Call::RequestAddress { network, address: None, gateway: true };
        assert_eq!(read("IpamDriver.RequestAddress", &asked).unwrap(), gateway);
        let made = json!({
            "NetworkID": "n", "EndpointID": "e", "Options": {},
            "Interface": {"Address": "10.1.1.3/16", "AddressIPv6": "", "MacAddress": ""}
        });
        let endpoint = Call::CreateEndpoint {
            engine_id: "n".into(),
            endpoint: "e".into(),
            address: Ipv4Addr::new(10, 1, 1, 3),
            mac: None,
        };
        assert_eq!(read("NetworkDriver.CreateEndpoint", &made).unwrap(), endpoint);
        let network = json!({
            "NetworkID": "n", "IPv4Data": [{"Pool": "10.1.0.0/16"}], "IPv6Data": [],
            "Options": {"com.docker.network.generic": {NETWORK_ID_OPTION: id}}
        });
        let Call::CreateNetwork { network, .. } = read("NetworkDriver.CreateNetwork", &network).unwrap() else {
            panic!("no network")
        };
        assert_eq!(network.to_string(), id);
        assert_eq!(Call::read("Plugin.Activate", b"").unwrap(), Call::Activate);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_field() {
        for (name, body, expected) in [
            ("NetworkDriver.Join", json!({"EndpointID": ""}), "the call lacks 'EndpointID'"),
            ("NetworkDriver.Join", json!([]), "the call lacks 'EndpointID'"),
            ("NetworkDriver.CreateEndpoint", json!({"Interface": null}), "the call lacks 'NetworkID'"),
            (
                "NetworkDriver.CreateEndpoint",
                json!({"NetworkID": "n", "EndpointID": "e", "Interface": {"Address": "10.1.1.300/16"}}),
                "'Address' of the call is not understood: \"10.1.1.300/16\"",
            ),
            ("IpamDriver.ReleaseAddress", json!({"PoolID": "osier-x"}), "the call lacks 'Address'"),
            ("IpamDriver.RequestPool", json!({"Pool": 7}), "'Pool' of the call is not understood: 7"),
            (
                "IpamDriver.RequestPool",
                json!({"Options": {NETWORK_ID_OPTION: "x"}}),
                "'osier.id' of the call is not understood: \"x\"",
            ),
            ("NetworkDriver.Fly", json!({}), "unknown call 'NetworkDriver.Fly'"),
        ] {
            assert_eq!(read(name, &body).unwrap_err().to_string(), expected);
        }
        assert!(matches!(Call::read("NetworkDriver.Join", b"{"), Err(CallError::Json(_))));
    }
}
