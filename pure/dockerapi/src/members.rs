//! How requests spell their members. Engines take `hostconfig` for `HostConfig`, as Go's decoder does; whoever edits a
//! request has to see what the engine will see, so members that are edited or looked at get their own spelling first.
//!
//! As in Go, what is said twice in different spellings is said once: the later value counts, and of two objects the later
//! one adds to the first. Members that nobody here looks at pass as they came.

use crate::route::{NetworkCall, Route};
use serde_json::{Map, Value};

/// A request whose members are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `POST /containers/create`
    ContainerCreate,
    /// `POST /networks/create`
    NetworkCreate,
    /// `POST /networks/{name}/connect` and `disconnect`
    NetworkAttachment,
    /// `POST /volumes/create`
    VolumeCreate,
}

impl Body {
    /// The body of this route's requests.
    pub fn of(route: &Route) -> Option<Self> {
        match route {
            Route::ContainerCreate => Some(Self::ContainerCreate),
            Route::NetworkCreate => Some(Self::NetworkCreate),
            Route::Network { call: NetworkCall::Connect | NetworkCall::Disconnect, .. } => {
                Some(Self::NetworkAttachment)
            }
            Route::VolumeCreate => Some(Self::VolumeCreate),
            _ => None,
        }
    }

    fn shape(self) -> Shape {
        Object(match self {
            Self::ContainerCreate => CONTAINER,
            Self::NetworkCreate => NETWORK,
            Self::NetworkAttachment => ATTACHMENT,
            Self::VolumeCreate => VOLUME,
        })
    }
}

/// What is known of a value.
#[derive(Clone, Copy)]
enum Shape {
    /// Nothing that matters here.
    Any,
    /// An object with these members among others.
    Object(&'static [(&'static str, Shape)]),
    /// A list of such values, or a map whose keys are the user's.
    Each(&'static Shape),
}

use Shape::{Any, Each, Object};

const CONTAINER: &[(&str, Shape)] = &[
    ("Env", Any),
    ("ExposedPorts", Any),
    ("Healthcheck", Object(&[("StartInterval", Any), ("StartPeriod", Any)])),
    ("HostConfig", Object(HOST)),
    ("Image", Any),
    ("Labels", Any),
    ("MacAddress", Any),
    ("NetworkingConfig", Object(&[("EndpointsConfig", Each(&Object(ENDPOINT)))])),
    ("StopTimeout", Any),
];
const HOST: &[(&str, Shape)] = &[
    ("Annotations", Any),
    ("AutoRemove", Any),
    ("Binds", Any),
    ("CgroupnsMode", Any),
    ("CpuShares", Any),
    ("DeviceCgroupRules", Any),
    ("DeviceRequests", Any),
    ("Dns", Any),
    ("DnsOptions", Any),
    ("DnsSearch", Any),
    ("Init", Any),
    ("IpcMode", Any),
    ("Links", Any),
    ("Memory", Any),
    ("Mounts", Each(&Object(MOUNT))),
    ("NanoCpus", Any),
    ("NetworkMode", Any),
    ("PidMode", Any),
    ("PortBindings", Each(&Each(&Object(&[("HostIp", Any), ("HostPort", Any)])))),
    ("VolumeDriver", Any),
    ("VolumesFrom", Any),
];
const MOUNT: &[(&str, Shape)] = &[
    ("BindOptions", Object(&[("CreateMountpoint", Any), ("Propagation", Any), ("ReadOnlyForceRecursive", Any)])),
    ("ClusterOptions", Any),
    ("ReadOnly", Any),
    ("Source", Any),
    ("Target", Any),
    ("TmpfsOptions", Object(&[("Options", Any)])),
    ("Type", Any),
    ("VolumeOptions", Object(&[("DriverConfig", Object(&[("Name", Any)])), ("Subpath", Any)])),
];
const ENDPOINT: &[(&str, Shape)] = &[
    ("Aliases", Any),
    ("DriverOpts", Any),
    ("GwPriority", Any),
    ("IPAMConfig", Object(&[("IPv4Address", Any)])),
    ("Links", Any),
    ("MacAddress", Any),
];
const NETWORK: &[(&str, Shape)] = &[
    ("CheckDuplicate", Any),
    ("ConfigFrom", Object(&[("Network", Any)])),
    ("ConfigOnly", Any),
    ("Driver", Any),
    ("EnableIPv4", Any),
    ("Labels", Any),
    ("Name", Any),
    ("Scope", Any),
];
const ATTACHMENT: &[(&str, Shape)] = &[("Container", Any), ("EndpointConfig", Object(ENDPOINT)), ("Force", Any)];
const VOLUME: &[(&str, Shape)] = &[("Driver", Any), ("DriverOpts", Any), ("Labels", Any), ("Name", Any)];

/// Gives the members of a request that are looked at the spelling by which they are looked for.
pub fn spell(body: &mut Value, of: Body) {
    spell_as(body, of.shape());
}

fn spell_as(value: &mut Value, shape: Shape) {
    match (value, shape) {
        (Value::Object(map), Object(known)) => {
            for (key, mut value) in std::mem::take(map) {
                let Some((name, shape)) = known.iter().find(|(name, _)| is_same(name, &key)) else {
                    map.insert(key, value);
                    continue;
                };
                spell_as(&mut value, *shape);
                match map.get_mut(*name) {
                    Some(first) => add(first, value, *shape),
                    None => drop(map.insert((*name).to_owned(), value)),
                }
            }
        }
        (Value::Object(map), Each(shape)) => map.values_mut().for_each(|value| spell_as(value, *shape)),
        (Value::Array(list), Each(shape)) => list.iter_mut().for_each(|value| spell_as(value, *shape)),
        _ => {}
    }
}

/// Go decodes a member that comes again into what it has already.
fn add(first: &mut Value, later: Value, shape: Shape) {
    match (first, later) {
        (Value::Object(first), Value::Object(later)) => add_members(first, later, shape),
        // No value for a text, a number or a flag leaves it as it is.
        (Value::String(_) | Value::Number(_) | Value::Bool(_), Value::Null) => {}
        (first, later) => *first = later,
    }
}

fn add_members(first: &mut Map<String, Value>, later: Map<String, Value>, shape: Shape) {
    for (key, value) in later {
        let inner = match shape {
            Object(known) => known.iter().find(|(name, _)| *name == key).map(|(_, shape)| *shape),
            Any | Each(_) => None,
        };
        match (first.get_mut(&key), inner) {
            (Some(before), Some(inner)) => add(before, value, inner),
            _ => drop(first.insert(key, value)),
        }
    }
}

/// Whether Go's decoder takes a member for the one of this name, which is ASCII.
fn is_same(name: &str, key: &str) -> bool {
    // The long s and the sign for kelvin are other cases of s and k.
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name == key || name.chars().map(fold).eq(key.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::needs;
    use proptest::prelude::*;
    use serde_json::json;

    fn spelt(mut body: Value, of: Body) -> Value {
        spell(&mut body, of);
        body
    }

    #[test]
    fn members_are_seen_however_they_are_spelt() {
        let body = json!({
            "image": "busybox", "LABELS": {"Env": "x"}, "novelty": {"image": 1},
            "ho\u{17f}tconfig": {
                "networ\u{212a}mode": "a", "nanocpus": 7, "portbindings": {"80/tcp": [{"hostport": "1"}]},
                "mounts": [{"type": "volume", "source": "data", "volumeoptions": {"driverconfig": {"name": "local"}}}],
            },
            "networkingconfig": {"endpointsconfig": {"b": {"ipamconfig": {"ipv4address": "10.0.0.1"}}}},
        });
        let body = spelt(body, Body::ContainerCreate);
        assert_eq!(
            body,
            json!({
                "Image": "busybox", "Labels": {"Env": "x"}, "novelty": {"image": 1},
                "HostConfig": {
                    "NetworkMode": "a", "NanoCpus": 7, "PortBindings": {"80/tcp": [{"HostPort": "1"}]},
                    "Mounts": [{"Type": "volume", "Source": "data", "VolumeOptions": {"DriverConfig": {"Name": "local"}}}],
                },
                "NetworkingConfig": {"EndpointsConfig": {"b": {"IPAMConfig": {"IPv4Address": "10.0.0.1"}}}},
            })
        );
        assert_eq!((needs(&body).networks.join(" ").as_str(), needs(&body).volumes.concat().as_str()), ("a b", "data"));
        let attachment = spelt(json!({"container": "c", "endpointConfig": {"GWPRIORITY": 1}}), Body::NetworkAttachment);
        assert_eq!(attachment, json!({"Container": "c", "EndpointConfig": {"GwPriority": 1}}));
        assert_eq!(spelt(json!({"enableIpv4": false}), Body::NetworkCreate), json!({"EnableIPv4": false}));
        assert_eq!(spelt(json!({"name": "v", "driveropts": {"a": 1}}), Body::VolumeCreate)["DriverOpts"]["a"], 1);
    }

    /// As Go's decoder does with the engine's types: maps and objects are added to, everything else is replaced.
    #[test]
    fn what_is_said_twice_counts_as_go_counts_it() {
        for (said, heard) in [
            (r#"{"Image": "a", "image": "b"}"#, json!({"Image": "b"})),
            (r#"{"image": "b", "Image": "a"}"#, json!({"Image": "a"})),
            (r#"{"Image": "a", "image": null}"#, json!({"Image": "a"})),
            (r#"{"Env": ["a"], "env": ["b"]}"#, json!({"Env": ["b"]})),
            (r#"{"Env": ["a"], "env": null}"#, json!({"Env": null})),
            (r#"{"Labels": {"a": "1", "A": "2"}, "labels": {"a": "3"}}"#, json!({"Labels": {"a": "3", "A": "2"}})),
            (
                r#"{"HostConfig": {"Memory": 1, "memory": 2, "x": 1}, "hostConfig": {"MEMORY": 3, "Binds": []}}"#,
                json!({"HostConfig": {"Memory": 3, "x": 1, "Binds": []}}),
            ),
            (
                r#"{"NetworkingConfig": {"EndpointsConfig": {"a": {"Links": []}, "b": {}}},
                    "networkingconfig": {"endpointsconfig": {"a": {"aliases": []}}}}"#,
                json!({"NetworkingConfig": {"EndpointsConfig": {"a": {"Aliases": []}, "b": {}}}}),
            ),
            (r#"{"HostConfig": {"Memory": 1}, "hostconfig": null}"#, json!({"HostConfig": null})),
        ] {
            assert_eq!(spelt(serde_json::from_str(said).unwrap(), Body::ContainerCreate), heard, "{said}");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[a-z]{0,3}".prop_map(Value::from)];
        let key = "(?i)(image|env|hostconfig|mounts|type|memory|networkingconfig|endpointsconfig|ipamconfig|x)";
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..5).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn spelling_twice_changes_nothing_more(body in anything()) {
            let once = spelt(body, Body::ContainerCreate);
            prop_assert_eq!(spelt(once.clone(), Body::ContainerCreate), once);
        }

        #[test]
        fn no_member_is_left_in_another_spelling(body in anything()) {
            let body = spelt(body, Body::ContainerCreate);
            let others = |value: &Value, known: &[(&str, Shape)]| {
                let keys = value.as_object().into_iter().flat_map(Map::keys);
                keys.filter(|key| known.iter().any(|(name, _)| is_same(name, key) && name != key)).count()
            };
            prop_assert_eq!(others(&body, CONTAINER) + others(&body["HostConfig"], HOST), 0);
        }
    }
}
