//! Requests to create a container.

use super::{Member, Need, member, newest_need};
use crate::version::ApiVersion;
use serde_json::{Map, Value};

/// What an engine older than the row's version would leave out.
const NEEDS: [Member; 18] = [
    member(25, &["StopTimeout"], "a stop timeout"),
    member(25, &["HostConfig", "AutoRemove"], "removing the container when it ends"),
    member(25, &["HostConfig", "Init"], "an init process"),
    member(25, &["HostConfig", "Mounts"], "a mount"),
    member(25, &["HostConfig", "NanoCpus"], "a number of CPUs"),
    member(28, &["HostConfig", "DeviceCgroupRules"], "a device cgroup rule"),
    member(29, &["Healthcheck", "StartPeriod"], "the start period of a health check"),
    member(40, &["HostConfig", "DeviceRequests"], "a device request"),
    member(41, &["HostConfig", "CgroupnsMode"], "a cgroup namespace mode"),
    member(42, &["HostConfig", "Mounts", "*", "ClusterOptions"], "a cluster volume"),
    member(43, &["HostConfig", "Annotations"], "an annotation"),
    member(44, &["Healthcheck", "StartInterval"], "the start interval of a health check"),
    member(
        44,
        &["HostConfig", "Mounts", "*", "BindOptions", "ReadOnlyForceRecursive"],
        "a recursively read-only mount",
    ),
    member(45, &["HostConfig", "Mounts", "*", "VolumeOptions", "Subpath"], "the subpath of a volume"),
    member(46, &["HostConfig", "Mounts", "*", "TmpfsOptions", "Options"], "an option of a tmpfs mount"),
    member(
        46,
        &["NetworkingConfig", "EndpointsConfig", "*", "DriverOpts", super::call::SYSCTLS],
        super::call::SYSCTLS_WHAT,
    ),
    Member {
        since: ApiVersion::v1(48),
        path: &["HostConfig", "Mounts", "*", "Type"],
        is_used: |kind| kind == "image",
        what: "an image mount",
    },
    member(48, &["NetworkingConfig", "EndpointsConfig", "*", "GwPriority"], super::call::PRIORITY_WHAT),
];

/// From here on a bind mount may ask for its source to be made; before, only the short form made it.
const CREATE_MOUNTPOINT: ApiVersion = ApiVersion::v1(42);
/// From here on an endpoint carries the MAC address, and the container's own member is only heeded for old clients.
const ENDPOINT_MAC: ApiVersion = ApiVersion::v1(44);

/// The version that an engine has to speak for this request, and why; `None` where every engine will do.
pub fn needs_version(body: &Value, client: ApiVersion) -> Option<Need> {
    newest_need(&NEEDS, body, client)
}

/// Says in the engine's version what the client said in its own. (Endpoints that have to wait until the container
/// exists are the matter of [`crate::placement::defer_endpoints`].)
pub fn create(body: &mut Value, client: ApiVersion, engine: ApiVersion) {
    if engine < CREATE_MOUNTPOINT {
        bind_where_sources_are_to_be_made(body);
    }
    if client < ENDPOINT_MAC && engine >= ENDPOINT_MAC {
        move_mac_to_endpoint(body);
    }
}

/// Turns mounts with `CreateMountpoint` into entries of `Binds`, for which every engine makes the source.
fn bind_where_sources_are_to_be_made(body: &mut Value) {
    let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) else { return };
    let Some(mounts) = host.get_mut("Mounts").and_then(Value::as_array_mut) else { return };
    let binds: Vec<Value> = mounts.extract_if(.., |m| bind(m).is_some()).filter_map(|m| bind(&m)).collect();
    if binds.is_empty() {
        return;
    }
    match host.get_mut("Binds").and_then(Value::as_array_mut) {
        Some(all) => all.extend(binds),
        None => drop(host.insert("Binds".to_owned(), binds.into())),
    }
}

/// The short form of a mount that wants its source made; `None` for any other.
fn bind(mount: &Value) -> Option<Value> {
    let options = &mount["BindOptions"];
    if mount["Type"] != "bind" || options["CreateMountpoint"] != true {
        return None;
    }
    let (source, target) = (mount["Source"].as_str()?, mount["Target"].as_str()?);
    // A colon would be read as a separator.
    if source.contains(':') || target.contains(':') {
        return None;
    }
    let access = if mount["ReadOnly"] == true { "ro" } else { "rw" };
    let propagation = options["Propagation"].as_str().filter(|p| !p.is_empty());
    let propagation = propagation.map(|p| format!(",{p}")).unwrap_or_default();
    Some(format!("{source}:{target}:{access}{propagation}").into())
}

/// Gives the container's MAC address to the endpoint of its network mode.
fn move_mac_to_endpoint(body: &mut Value) {
    let Some(mac) = body["MacAddress"].as_str().filter(|m| !m.is_empty()).map(Value::from) else { return };
    let mode = body["HostConfig"]["NetworkMode"].as_str().filter(|m| !m.is_empty()).unwrap_or("default").to_owned();
    if matches!(mode.as_str(), "host" | "none") || mode.starts_with("container:") {
        return;
    }
    let endpoint = object(body)
        .and_then(|b| object(b.entry("NetworkingConfig").or_insert(Value::Null)))
        .and_then(|n| object(n.entry("EndpointsConfig").or_insert(Value::Null)))
        .and_then(|e| object(e.entry(mode).or_insert(Value::Null)));
    if let Some(endpoint) = endpoint {
        let known = endpoint.get("MacAddress").and_then(Value::as_str).is_some_and(|m| !m.is_empty());
        if !known {
            endpoint.insert("MacAddress".to_owned(), mac);
        }
        object(body).and_then(|b| b.shift_remove("MacAddress"));
    }
}

/// The value as an object, which `null` becomes.
fn object(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::MAX;
    use proptest::prelude::*;
    use serde_json::json;

    fn v(text: &str) -> ApiVersion {
        text.parse().unwrap()
    }

    #[test]
    fn what_only_newer_engines_can_do_is_a_need() {
        let mount = |mount: Value| json!({"HostConfig": {"Mounts": [{"Type": "bind"}, mount]}});
        let endpoint = |e: Value| json!({"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": e}}});
        for (body, since) in [
            (json!({"Healthcheck": {"StartInterval": 5}}), "1.44"),
            (json!({"HostConfig": {"Annotations": {"a": "b"}}}), "1.43"),
            (mount(json!({"Type": "image"})), "1.48"),
            (mount(json!({"VolumeOptions": {"Subpath": "a"}})), "1.45"),
            (mount(json!({"TmpfsOptions": {"Options": [["noexec"]]}})), "1.46"),
            (mount(json!({"BindOptions": {"ReadOnlyForceRecursive": true}})), "1.44"),
            (mount(json!({"BindOptions": {"ReadOnlyNonRecursive": true}})), "1.25"),
            (endpoint(json!({"GwPriority": 1})), "1.48"),
            (endpoint(json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "a=1"}})), "1.46"),
        ] {
            assert_eq!(needs_version(&body, MAX).unwrap().since, v(since), "{body}");
            assert_ne!(needs_version(&body, v("1.24")).map(|n| n.since), Some(v(since)), "older clients do not say it");
        }
        let idle = json!({"Healthcheck": null, "StopTimeout": null, "HostConfig": {"Annotations": {}, "Mounts": [], "Init": false},
            "NetworkingConfig": {"EndpointsConfig": {"default": {"GwPriority": 0, "DriverOpts": null}}}});
        assert_eq!(needs_version(&idle, MAX), None);
        let need = needs_version(&json!({"HostConfig": {"Annotations": {"a": "b"}}}), MAX).unwrap();
        assert_eq!(need.to_string(), "an annotation needs API 1.43");
    }

    #[test]
    fn sources_of_binds_are_made_on_old_engines_too() {
        let body = json!({"HostConfig": {"Mounts": [
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
             "BindOptions": {"CreateMountpoint": true, "Propagation": "rslave"}},
            {"Type": "bind", "Source": "/c", "Target": "/d", "BindOptions": {"CreateMountpoint": true}},
            {"Type": "bind", "Source": "/e", "Target": "/f"}, {"Type": "volume", "Source": "v", "Target": "/v"}]}});
        let mut old = body.clone();
        create(&mut old, MAX, v("1.41"));
        assert_eq!(old["HostConfig"]["Binds"], json!(["/a:/b:ro,rslave", "/c:/d:rw"]));
        assert_eq!(old["HostConfig"]["Mounts"].as_array().unwrap().len(), 2);
        let mut new = body.clone();
        create(&mut new, MAX, v("1.42"));
        assert_eq!(new, body);
    }

    #[test]
    fn an_old_clients_mac_address_reaches_an_engine_that_only_knows_endpoints() {
        let mut body = json!({"MacAddress": "02:00:00:00:00:01", "HostConfig": {"NetworkMode": "lan"}});
        create(&mut body, v("1.41"), v("1.44"));
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["lan"]["MacAddress"], "02:00:00:00:00:01");
        assert!(body.get("MacAddress").is_none());
        let mut host = json!({"MacAddress": "02:00:00:00:00:01", "HostConfig": {"NetworkMode": "host"}});
        let before = host.clone();
        create(&mut host, v("1.41"), v("1.44"));
        assert_eq!(host, before);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(key in "HostConfig|Mounts|x", list in prop::collection::vec(any::<bool>(), 0..3)) {
            for mut body in [json!({&key: list}), json!({&key: {"Mounts": list}}), json!(list), json!(null)] {
                let _ = needs_version(&body, MAX);
                create(&mut body, v("1.24"), v("1.44"));
                create(&mut body, MAX, v("1.41"));
            }
        }
    }
}
