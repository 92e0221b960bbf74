//! The proxy's edits on what real clients send: every captured create request either stays as it is or lands on the
//! overlay with nothing else changed.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test reads its files and stops at a surprise")]

use osier_dockerapi::create::{
    Overlay, connect_address, mount_resolver, pin_connect, placement, put_on_overlays, resolver_wishes,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 7);
const OVERLAYS: &[Overlay<'_>] = &[Overlay { name: "osier", ids: &[] }];

/// The captured requests whose path holds this, by `client/scenario`.
fn captured(path: &str) -> BTreeMap<String, Value> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/golden");
    let folders = fs::read_dir(golden).unwrap().map(|f| f.unwrap().path()).filter(|f| f.is_dir());
    let files = folders.flat_map(|f| fs::read_dir(f).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>());
    let captured = files.filter(|f| f.extension().is_some_and(|e| e == "json")).map(|path| {
        let capture: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut names = path.iter().rev().map(|n| n.to_string_lossy().into_owned());
        let (file, folder) = (names.next().unwrap(), names.next().unwrap());
        (format!("{folder}/{file}"), capture)
    });
    let is_wanted = |c: &Value| c["path"].as_str().unwrap().contains(path);
    captured.filter(|(_, c)| is_wanted(c)).map(|(name, mut c)| (name, c["body"].take())).collect()
}

fn creates() -> BTreeMap<String, Value> {
    captured("/containers/create")
}

#[test]
fn every_captured_create_is_placed_as_its_user_meant() {
    let mut on_overlay = 0;
    for (name, body) in creates() {
        let mode = body.pointer("/HostConfig/NetworkMode").and_then(Value::as_str).unwrap_or_default();
        let opted_out = name.contains("weave-cidr-none");
        let expected = matches!(mode, "" | "default") && !opted_out;
        let placed = placement(&body, OVERLAYS).unwrap();
        assert_eq!(!placed.is_empty(), expected, "{name} with network mode '{mode}' is {placed:?}");
        on_overlay += usize::from(expected);
    }
    assert!(on_overlay > 40, "only {on_overlay} captured creates are for the default network");
}

#[test]
fn only_the_network_and_the_resolver_change() {
    for (name, before) in creates() {
        let places = placement(&before, OVERLAYS).unwrap();
        if places.is_empty() {
            continue;
        }
        let mut after = before.clone();
        let places: Vec<_> = places.into_iter().map(|place| (place, ADDRESS)).collect();
        put_on_overlays(&mut after, OVERLAYS, &places).unwrap();
        mount_resolver(&mut after, "/var/lib/osier/resolv.conf").unwrap();
        let endpoints = after.pointer("/NetworkingConfig/EndpointsConfig").unwrap().as_object().unwrap();
        assert_eq!(endpoints.keys().collect::<Vec<_>>(), ["osier"], "{name}");
        assert_eq!(endpoints["osier"]["IPAMConfig"]["IPv4Address"], "10.1.1.7", "{name}");
        let given = before.pointer("/NetworkingConfig/EndpointsConfig/default");
        for (field, value) in given
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(f, _)| !["IPAMConfig", "Links"].contains(&f.as_str()))
        {
            assert_eq!(&endpoints["osier"][field], value, "{name}: {field}");
        }
        let links = before.pointer("/HostConfig/Links").filter(|l| l.as_array().is_some_and(|l| !l.is_empty()));
        assert_eq!(links.is_some(), name.contains("link"), "{name}");
        assert_eq!(links, endpoints["osier"].get("Links").filter(|l| !l.is_null()), "{name}");
        let chose_dns = before.pointer("/HostConfig/Dns").and_then(Value::as_array).is_some_and(|d| !d.is_empty());
        let binds = after.pointer("/HostConfig/Binds").unwrap_or(&Value::Null).to_string();
        assert_eq!(binds.contains(":/etc/resolv.conf:ro"), !chose_dns, "{name}: {binds}");
        assert_eq!(without_edits(&after), without_edits(&before), "{name}");
    }
}

/// The request without the members that may be edited.
fn without_edits(body: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove("NetworkingConfig");
    let host = body.as_object_mut().unwrap().entry("HostConfig").or_insert(json!({}));
    if host.is_null() {
        *host = json!({});
    }
    for member in ["NetworkMode", "Binds"] {
        host.as_object_mut().unwrap().remove(member);
    }
    body
}

#[test]
fn every_captured_connect_can_be_pinned() {
    let connects = captured("/connect");
    assert!(connects.len() > 4, "only {} requests connect a container", connects.len());
    for (name, before) in connects {
        let wanted = before.pointer("/EndpointConfig/IPAMConfig/IPv4Address").and_then(Value::as_str);
        assert_eq!(connect_address(&before).unwrap().map(|a| a.to_string()).as_deref(), wanted, "{name}");
        let mut after = before.clone();
        pin_connect(&mut after, ADDRESS).unwrap();
        assert_eq!(connect_address(&after), Ok(Some(ADDRESS)), "{name}");
        assert_eq!(after["Container"], before["Container"], "{name}");
    }
}

#[test]
fn whoever_chose_resolvers_has_no_wishes_about_ours() {
    for (name, body) in creates() {
        assert_eq!(resolver_wishes(&body), Ok(None), "{name}");
        let Value::Object(mut body) = body else { panic!("{name} is no object") };
        let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) else { continue };
        host.insert("DnsSearch".into(), json!(["example.org"]));
        let chose = host.get("Dns").and_then(Value::as_array).is_some_and(|d| !d.is_empty());
        assert_eq!(resolver_wishes(&Value::Object(body)).unwrap().is_some(), !chose, "{name}");
    }
}
