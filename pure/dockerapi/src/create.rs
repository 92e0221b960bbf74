//! What the engine proxy changes in a `POST /containers/create`, so that a container with no network of its own
//! choosing lives on the cluster's own network and only there, has an address of its own on each network of the cluster,
//! and in a request that connects a container to one later.
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
/// The length of a shortened id.
const SHORT_ID: usize = 12;

/// A network of the cluster as one engine knows it.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// The network's name.
    pub name: &'a str,
    /// The ids that the engine gave it. (compose 2 names external networks by their ids.)
    pub ids: &'a [String],
}

impl Overlay<'_> {
    /// Whether an engine would take this word, a name or an id or the beginning of one, for this network.
    pub fn is_meant(&self, word: &str) -> bool {
        word == self.name || (word.len() >= SHORT_ID && self.ids.iter().any(|id| id.starts_with(word)))
    }
}

/// What a user wants of the resolver's file besides servers: `--dns-search` and `--dns-option`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverWishes {
    /// Search domains, in place of all others; `.` alone is none.
    pub search: Vec<String>,
    /// Options as in resolv.conf(5).
    pub options: Vec<String>,
}

/// A network of the cluster that a container is to live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which one, by its place in the list that was asked about.
    pub overlay: usize,
    /// Whether it is the container's first network, the one of its network mode.
    pub primary: bool,
    /// `--ip`.
    pub address: Option<Ipv4Addr>,
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
    /// A search domain or resolver option that would be more than one word in a file.
    #[error("'{0}' is not a search domain or resolver option")]
    BadResolver(String),
}

/// Decides on which of the cluster's networks the container of this create request is to live; the first of `overlays` is
/// the one that containers get by default. None: somewhere else that the user chose, and the request stays as it is.
pub fn placement(body: &Value, overlays: &[Overlay<'_>]) -> Result<Vec<Place>, CreateError> {
    let body = body.as_object().ok_or(CreateError::NotAnObject)?;
    let host = member(body, "HostConfig")?;
    let mode = host.and_then(|h| h.get("NetworkMode")).and_then(Value::as_str).unwrap_or_default();
    if opted_out(body) {
        return Ok(Vec::new());
    }
    let networking = member(body, "NetworkingConfig")?;
    let endpoints = networking.map(|n| member(n, "EndpointsConfig")).transpose()?.flatten();
    let endpoints: Vec<(&String, &Value)> = endpoints.into_iter().flatten().collect();
    let mut places = Vec::new();
    for (place, overlay) in overlays.iter().enumerate() {
        let default = place == 0 && is_default(mode);
        let endpoint = endpoints.iter().find(|(key, _)| overlay.is_meant(key) || (default && is_default_key(key)));
        let primary = match default {
            // Endpoints on other networks only: the client placed the container itself.
            true => endpoint.is_some() || endpoints.is_empty(),
            false => overlay.is_meant(mode),
        };
        if primary || endpoint.is_some() {
            let address = endpoint.map_or(Ok(None), |(_, endpoint)| wanted_address(endpoint))?;
            places.push(Place { overlay: place, primary, address });
        }
    }
    Ok(places)
}

/// What the user wants of the resolver's file; `None` where that is nothing, or where the user chose resolvers.
pub fn resolver_wishes(body: &Value) -> Result<Option<ResolverWishes>, CreateError> {
    let host = member(body.as_object().ok_or(CreateError::NotAnObject)?, "HostConfig")?;
    let Some(host) = host.filter(|h| !has_own_resolver(h)) else { return Ok(None) };
    let words = |name: &str| {
        let words = host.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let fit = |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control());
        let word = |w: &str| if fit(w) { Ok(w.to_owned()) } else { Err(CreateError::BadResolver(w.to_owned())) };
        words.map(word).collect::<Result<Vec<String>, _>>()
    };
    let wishes = ResolverWishes { search: words("DnsSearch")?, options: words("DnsOptions")? };
    Ok(Some(wishes).filter(|w| !(w.search.is_empty() && w.options.is_empty())))
}

/// The address that a request to connect a container to the overlay asks for.
pub fn connect_address(body: &Value) -> Result<Option<Ipv4Addr>, CreateError> {
    let body = body.as_object().ok_or(CreateError::NotAnObject)?;
    body.get("EndpointConfig").map_or(Ok(None), wanted_address)
}

/// Has a request to connect a container to the overlay ask for this address.
pub fn pin_connect(body: &mut Value, address: Ipv4Addr) -> Result<(), CreateError> {
    let endpoint = child(body.as_object_mut().ok_or(CreateError::NotAnObject)?, "EndpointConfig")?;
    child(endpoint, "IPAMConfig")?.insert("IPv4Address".into(), address.to_string().into());
    Ok(())
}

fn wanted_address(endpoint: &Value) -> Result<Option<Ipv4Addr>, CreateError> {
    let wanted = endpoint.pointer("/IPAMConfig/IPv4Address").and_then(Value::as_str).filter(|a| !a.is_empty());
    wanted.map(|a| a.parse().map_err(|_| CreateError::BadAddress(a.to_owned()))).transpose()
}

/// Puts the container on the networks where [`placement`] found it to live, at these addresses.
pub fn put_on_overlays(
    body: &mut Value,
    overlays: &[Overlay<'_>],
    places: &[(Place, Ipv4Addr)],
) -> Result<(), CreateError> {
    let body = body.as_object_mut().ok_or(CreateError::NotAnObject)?;
    for (place, address) in places {
        let Some(overlay) = overlays.get(place.overlay) else { continue };
        put_on(body, overlay, *place, *address)?;
    }
    Ok(())
}

/// Links go with a container to its first network: outside the default bridge engines read only those of the endpoint.
fn put_on(
    body: &mut Map<String, Value>,
    overlay: &Overlay<'_>,
    place: Place,
    address: Ipv4Addr,
) -> Result<(), CreateError> {
    let host = child(body, "HostConfig")?;
    let default = host.get("NetworkMode").and_then(Value::as_str).is_none_or(is_default);
    let mut links = Vec::new();
    if place.primary {
        host.insert("NetworkMode".into(), overlay.name.into());
        links = host.get("Links").and_then(Value::as_array).cloned().unwrap_or_default();
    }
    let endpoints = child(child(body, "NetworkingConfig")?, "EndpointsConfig")?;
    let meant = |key: &&String| overlay.is_meant(key) || (place.primary && default && is_default_key(key));
    let key = endpoints.keys().find(meant).cloned();
    let endpoint = key.and_then(|key| endpoints.remove(&key)).filter(|e| !e.is_null());
    let mut endpoint = endpoint.unwrap_or_else(|| json!({}));
    let fields = endpoint.as_object_mut().ok_or(CreateError::WrongType("EndpointsConfig"))?;
    child(fields, "IPAMConfig")?.insert("IPv4Address".into(), address.to_string().into());
    if !links.is_empty() {
        let own = fields.entry("Links").or_insert(Value::Null);
        if own.is_null() {
            *own = json!([]);
        }
        let own = own.as_array_mut().ok_or(CreateError::WrongType("Links"))?;
        own.extend(links.into_iter().filter(|link| link.is_string()));
    }
    endpoints.insert(overlay.name.to_owned(), endpoint);
    Ok(())
}

/// Mounts this file as the container's `resolv.conf`, unless the user chose resolvers.
pub fn mount_resolver(body: &mut Value, resolv_conf: &str) -> Result<(), CreateError> {
    let host = child(body.as_object_mut().ok_or(CreateError::NotAnObject)?, "HostConfig")?;
    if has_own_resolver(host) {
        return Ok(());
    }
    let binds = host.entry("Binds").or_insert(Value::Null);
    if binds.is_null() {
        *binds = json!([]);
    }
    let binds = binds.as_array_mut().ok_or(CreateError::WrongType("Binds"))?;
    binds.push(format!("{resolv_conf}:{RESOLV_CONF}:ro").into());
    Ok(())
}

/// Whether an endpoint's key means the network that a container gets by default. (Newer clients send that one's options
/// under `default` or `bridge`.)
fn is_default_key(key: &str) -> bool {
    is_default(key) || key == "bridge"
}

fn is_default(mode: &str) -> bool {
    mode.is_empty() || mode == "default"
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
    const OWN: &[Overlay<'_>] = &[Overlay { name: "osier", ids: &[] }];

    fn edited(body: Value) -> Value {
        edited_among(body, OWN)
    }

    fn edited_among(mut body: Value, overlays: &[Overlay<'_>]) -> Value {
        let places = placement(&body, overlays).unwrap();
        assert!(!places.is_empty(), "{body}");
        let places: Vec<_> = places.into_iter().map(|p| (p, p.address.unwrap_or(IP))).collect();
        put_on_overlays(&mut body, overlays, &places).unwrap();
        mount_resolver(&mut body, "/var/lib/osier/resolv.conf").unwrap();
        body
    }

    #[test]
    fn networks_that_users_made_are_pinned_and_the_default_is_left_alone() {
        let ids = ["fedcba9876543210".repeat(4)];
        let overlays = [OWN[0], Overlay { name: "back", ids: &ids }, Overlay { name: "front", ids: &[] }];
        let pinned = |body: &Value| -> Vec<(String, String)> {
            let endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap();
            let address = |e: &Value| e["IPAMConfig"]["IPv4Address"].as_str().unwrap_or_default().to_owned();
            let mut pinned: Vec<_> = endpoints.iter().map(|(name, e)| (name.clone(), address(e))).collect();
            pinned.sort();
            pinned
        };
        let pair = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        let one = edited_among(json!({"HostConfig": {"NetworkMode": "back", "Links": ["a:b"]}}), &overlays);
        assert_eq!((&one["HostConfig"]["NetworkMode"], pinned(&one)), (&json!("back"), vec![pair("back", "10.1.1.7")]));
        assert_eq!(one["NetworkingConfig"]["EndpointsConfig"]["back"]["Links"], json!(["a:b"]));
        let several = json!({"HostConfig": {"NetworkMode": "back"}, "NetworkingConfig": {"EndpointsConfig": {
            ids[0].clone(): {"IPAMConfig": {"IPv4Address": "10.7.0.5"}}, "front": {"Aliases": ["x"]}, "other": {}}}});
        let several = edited_among(several, &overlays);
        assert_eq!(pinned(&several), [pair("back", "10.7.0.5"), pair("front", "10.1.1.7"), pair("other", "")]);
        assert_eq!(several["NetworkingConfig"]["EndpointsConfig"]["front"]["Aliases"], json!(["x"]));
        let placed = edited_among(json!({"NetworkingConfig": {"EndpointsConfig": {"front": null}}}), &overlays);
        assert_eq!((placed["HostConfig"].get("NetworkMode"), pinned(&placed)), (None, vec![pair("front", "10.1.1.7")]));
        let both = json!({"HostConfig": {"NetworkMode": "default"}, "NetworkingConfig": {"EndpointsConfig":
            {"bridge": {}, "front": {}}}});
        assert_eq!(pinned(&edited_among(both, &overlays)), [pair("front", "10.1.1.7"), pair("osier", "10.1.1.7")]);
        for elsewhere in ["host", "none", "bridge", "backs", "container:back"] {
            let body = json!({"HostConfig": {"NetworkMode": elsewhere}});
            assert_eq!(placement(&body, &overlays), Ok(Vec::new()), "{elsewhere}");
        }
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
            assert_eq!(placement(&body, OWN), Ok(Vec::new()), "{body}");
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
        let place = Place { overlay: 0, primary: true, address: "10.1.1.9".parse().ok() };
        assert_eq!(placement(&with("10.1.1.9"), OWN), Ok(vec![place]));
        assert_eq!(placement(&with("nine"), OWN), Err(CreateError::BadAddress("nine".into())));
        assert_eq!(placement(&json!([]), OWN), Err(CreateError::NotAnObject));
        assert_eq!(placement(&json!({"HostConfig": 3}), OWN), Err(CreateError::WrongType("HostConfig")));
    }

    #[test]
    fn the_overlay_is_known_by_its_id_too() {
        let ids = ["0123456789abcdef".repeat(4)];
        let overlay = Overlay { name: "osier", ids: &ids };
        for word in [ids[0].as_str(), "0123456789ab"] {
            let body = json!({"HostConfig": {"NetworkMode": word},
                "NetworkingConfig": {"EndpointsConfig": {word: {"Aliases": ["db"]}}}});
            let body = edited_among(body, &[overlay]);
            let endpoints = &body["NetworkingConfig"]["EndpointsConfig"];
            assert_eq!(
                (&body["HostConfig"]["NetworkMode"], endpoints.as_object().unwrap().len()),
                (&json!("osier"), 1)
            );
            assert_eq!(endpoints["osier"]["Aliases"], json!(["db"]));
        }
        for word in ["0123", "0123456789ac", "other"] {
            assert!(!overlay.is_meant(word), "{word}");
        }
    }

    #[test]
    fn links_move_to_the_endpoint() {
        let body = edited(json!({"HostConfig": {"Links": ["base:db"]},
            "NetworkingConfig": {"EndpointsConfig": {"default": {"Links": ["peer:p"]}}}}));
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["osier"]["Links"], json!(["peer:p", "base:db"]));
        let none = edited(json!({"HostConfig": {"Links": null}}));
        assert!(none["NetworkingConfig"]["EndpointsConfig"]["osier"].get("Links").is_none());
    }

    #[test]
    fn wishes_about_the_resolver_are_read_word_by_word() {
        let of = |host: Value| resolver_wishes(&json!({ "HostConfig": host }));
        let wishes = |search: &[&str], options: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
            Ok(Some(ResolverWishes { search: own(search), options: own(options) }))
        };
        assert_eq!(
            of(json!({"DnsSearch": ["example.org"], "DnsOptions": ["ndots:2"]})),
            wishes(&["example.org"], &["ndots:2"])
        );
        assert_eq!(of(json!({"DnsSearch": ["."], "DnsOptions": null})), wishes(&["."], &[]));
        for nothing in [json!({}), json!({"DnsSearch": []}), json!({"DnsSearch": ["a"], "Dns": ["192.0.2.53"]})] {
            assert_eq!(of(nothing), Ok(None));
        }
        assert_eq!(
            of(json!({"DnsSearch": ["a\nnameserver b"]})),
            Err(CreateError::BadResolver("a\nnameserver b".into()))
        );
    }

    #[test]
    fn a_connect_asks_for_the_reserved_address() {
        for mut body in [json!({"Container": "c"}), json!({"Container": "c", "EndpointConfig": null})] {
            assert_eq!(connect_address(&body), Ok(None));
            pin_connect(&mut body, IP).unwrap();
            assert_eq!(connect_address(&body), Ok(Some(IP)), "{body}");
        }
        let mut named = json!({"EndpointConfig": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.1.1.9"}}});
        assert_eq!(connect_address(&named), Ok("10.1.1.9".parse().ok()));
        pin_connect(&mut named, IP).unwrap();
        assert_eq!(named["EndpointConfig"]["Aliases"], json!(["a"]), "all else stays");
        assert!(pin_connect(&mut json!([]), IP).is_err());
    }
}
