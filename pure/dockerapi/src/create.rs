//! What the engine proxy changes in a `POST /containers/create`, so that a container with no network of its own
//! choosing lives on the overlay and only there.
//!
//! Must not know addresses' owners or files: the address and the resolver file are arguments. Only named members are
//! edited; everything else passes as it came. Choices that the user made (another network, `--dns`, a mounted
//! `resolv.conf`, `WEAVE_CIDR=none`, the label `osier.network=none`) stand.

use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;

/// The label whose value `none` keeps a container off the overlay.
pub const OPT_OUT_LABEL: &str = "osier.network";
/// The environment entry that kept a container off Weave Net's network.
const OPT_OUT_ENV: &str = "WEAVE_CIDR=none";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where a container is to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On the overlay, at this address if the user named one.
    Overlay {
        /// `--ip`.
        address: Option<Ipv4Addr>,
    },
    /// Somewhere the user chose; the request stays as it is.
    Elsewhere,
}

/// The request is not one an engine would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The body is not a JSON object.
    #[error("the body of a create request must be a JSON object")]
    NotAnObject,
    /// A member has the wrong type.
    #[error("'{0}' in a create request has the wrong type")]
    WrongType(&'static str),
    /// The address is not IPv4.
    #[error("'{0}' is not an IPv4 address")]
    BadAddress(String),
}

/// Decides where the container of this create request is to live; `network` is the overlay's name.
pub fn placement(body: &Value, network: &str) -> Result<Placement, CreateError> {
    let body = body.as_object().ok_or(CreateError::NotAnObject)?;
    let host = member(body, "HostConfig")?;
    let mode = host.and_then(|h| h.get("NetworkMode")).and_then(Value::as_str).unwrap_or_default();
    if opted_out(body) || !(is_default(mode) || mode == network) {
        return Ok(Placement::Elsewhere);
    }
    let networking = member(body, "NetworkingConfig")?;
    let endpoints = networking.map(|n| member(n, "EndpointsConfig")).transpose()?.flatten();
    let Some(endpoints) = endpoints else { return Ok(Placement::Overlay { address: None }) };
    let ours = endpoints.iter().find(|(name, _)| is_ours(name, network));
    match ours {
        Some((_, endpoint)) => {
            let wanted = endpoint.pointer("/IPAMConfig/IPv4Address").and_then(Value::as_str).filter(|a| !a.is_empty());
            let parse = |a: &str| a.parse().map_err(|_| CreateError::BadAddress(a.to_owned()));
            Ok(Placement::Overlay { address: wanted.map(parse).transpose()? })
        }
        // Endpoints on other networks only: the client placed the container itself.
        None if !endpoints.is_empty() => Ok(Placement::Elsewhere),
        None => Ok(Placement::Overlay { address: None }),
    }
}

/// Puts the container on `network` at `address`, with the resolver file `resolv_conf` of its node unless the user
/// chose resolvers. The request must have been found fit by [`placement`].
pub fn put_on_overlay(
    body: &mut Value,
    network: &str,
    address: Ipv4Addr,
    resolv_conf: &str,
) -> Result<(), CreateError> {
    let body = body.as_object_mut().ok_or(CreateError::NotAnObject)?;
    let host = child(body, "HostConfig")?;
    host.insert("NetworkMode".into(), network.into());
    if !has_own_resolver(host) {
        let binds = host.entry("Binds").or_insert(Value::Null);
        if binds.is_null() {
            *binds = json!([]);
        }
        let binds = binds.as_array_mut().ok_or(CreateError::WrongType("Binds"))?;
        binds.push(format!("{resolv_conf}:{RESOLV_CONF}:ro").into());
    }
    let endpoints = child(child(body, "NetworkingConfig")?, "EndpointsConfig")?;
    let key = endpoints.keys().find(|name| is_ours(name, network)).cloned();
    let endpoint = key.and_then(|key| endpoints.remove(&key)).filter(|e| !e.is_null());
    let mut endpoint = endpoint.unwrap_or_else(|| json!({}));
    let fields = endpoint.as_object_mut().ok_or(CreateError::WrongType("EndpointsConfig"))?;
    child(fields, "IPAMConfig")?.insert("IPv4Address".into(), address.to_string().into());
    endpoints.insert(network.to_owned(), endpoint);
    Ok(())
}

fn is_default(mode: &str) -> bool {
    mode.is_empty() || mode == "default"
}

/// Whether an endpoint key means the network a container gets by default. (Newer clients send their default
/// network's options under `default` or `bridge`.)
fn is_ours(name: &str, network: &str) -> bool {
    is_default(name) || name == "bridge" || name == network
}

fn opted_out(body: &Map<String, Value>) -> bool {
    let env = body.get("Env").and_then(Value::as_array);
    let by_env = env.is_some_and(|env| env.iter().any(|e| e.as_str() == Some(OPT_OUT_ENV)));
    let label = body.get("Labels").and_then(|l| l.get(OPT_OUT_LABEL)).and_then(Value::as_str);
    by_env || label == Some("none")
}

fn has_own_resolver(host: &Map<String, Value>) -> bool {
    let list = |name: &str| host.get(name).and_then(Value::as_array).into_iter().flatten();
    let bind_target = |b: &Value| b.as_str().and_then(|b| b.split(':').nth(1).map(str::to_owned));
    list("Dns").next().is_some()
        || list("Binds").filter_map(bind_target).any(|t| t == RESOLV_CONF)
        || list("Mounts").any(|m| m.get("Target").and_then(Value::as_str) == Some(RESOLV_CONF))
}

/// An object member; `null` counts as absent, as Go clients send it.
fn member<'a>(map: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a Map<String, Value>>, CreateError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_object().map(Some).ok_or(CreateError::WrongType(name)),
    }
}

fn child<'a>(map: &'a mut Map<String, Value>, name: &'static str) -> Result<&'a mut Map<String, Value>, CreateError> {
    let value = map.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or(CreateError::WrongType(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 7);

    fn edited(mut body: Value) -> Value {
        assert!(matches!(placement(&body, "osier").unwrap(), Placement::Overlay { .. }));
        put_on_overlay(&mut body, "osier", IP, "/var/lib/osier/resolv.conf").unwrap();
        body
    }

    #[test]
    fn a_plain_run_lands_on_the_overlay_and_keeps_what_it_said() {
        let body = edited(json!({"Image": "busybox", "Unheard": {"of": 1}, "HostConfig": {"NetworkMode": "default",
            "Binds": null}, "NetworkingConfig": {"EndpointsConfig": {}}}));
        assert_eq!(body["HostConfig"]["NetworkMode"], "osier");
        assert_eq!(body["HostConfig"]["Binds"], json!(["/var/lib/osier/resolv.conf:/etc/resolv.conf:ro"]));
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["osier"]["IPAMConfig"]["IPv4Address"], "10.1.1.7");
        assert_eq!(body["Unheard"]["of"], 1);
        assert_eq!(edited(json!({"Image": "x"}))["HostConfig"]["NetworkMode"], "osier");
    }

    #[test]
    fn options_of_the_default_endpoint_move_with_it() {
        for key in ["default", "bridge", "osier"] {
            let body = edited(json!({"NetworkingConfig": {"EndpointsConfig": {key: {"Aliases": ["db"]}}}}));
            let endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap();
            assert_eq!((endpoints.len(), &endpoints["osier"]["Aliases"]), (1, &json!(["db"])));
        }
    }

    #[test]
    fn the_users_own_choices_stand() {
        let elsewhere = [
            json!({"HostConfig": {"NetworkMode": "bridge"}}),
            json!({"HostConfig": {"NetworkMode": "host"}}),
            json!({"HostConfig": {"NetworkMode": "container:x"}}),
            json!({"Env": ["A=b", "WEAVE_CIDR=none"]}),
            json!({"Labels": {"osier.network": "none"}}),
            json!({"NetworkingConfig": {"EndpointsConfig": {"mine": {}}}}),
        ];
        for body in elsewhere {
            assert_eq!(placement(&body, "osier"), Ok(Placement::Elsewhere), "{body}");
        }
        for host in [
            json!({"Dns": ["1.2.3.4"]}),
            json!({"Binds": ["/x:/etc/resolv.conf"]}),
            json!({"Mounts": [{"Target": "/etc/resolv.conf"}]}),
        ] {
            let binds = edited(json!({ "HostConfig": host.clone() }))["HostConfig"]["Binds"].clone();
            assert_eq!(binds, host["Binds"], "{host}");
        }
    }

    #[test]
    fn a_wanted_address_is_read_and_nonsense_is_refused() {
        let with =
            |ip: &str| json!({"NetworkingConfig": {"EndpointsConfig": {"osier": {"IPAMConfig": {"IPv4Address": ip}}}}});
        assert_eq!(placement(&with("10.1.1.9"), "osier"), Ok(Placement::Overlay { address: "10.1.1.9".parse().ok() }));
        assert_eq!(placement(&with("nine"), "osier"), Err(CreateError::BadAddress("nine".into())));
        assert_eq!(placement(&json!([]), "osier"), Err(CreateError::NotAnObject));
        assert_eq!(placement(&json!({"HostConfig": 3}), "osier"), Err(CreateError::WrongType("HostConfig")));
    }
}
