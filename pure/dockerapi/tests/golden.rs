//! The proxy's edits on what real clients send: every captured create request either stays as it is or lands on the
//! overlay with nothing else changed.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test reads its files and stops at a surprise")]

use osier_dockerapi::create::{Placement, placement, put_on_overlay};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 7);

/// The captured create requests by `client/scenario`.
fn creates() -> BTreeMap<String, Value> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/golden");
    let folders = fs::read_dir(golden).unwrap().map(|f| f.unwrap().path()).filter(|f| f.is_dir());
    let files = folders.flat_map(|f| fs::read_dir(f).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>());
    let captured = files.filter(|f| f.extension().is_some_and(|e| e == "json")).map(|path| {
        let capture: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut names = path.iter().rev().map(|n| n.to_string_lossy().into_owned());
        let (file, folder) = (names.next().unwrap(), names.next().unwrap());
        (format!("{folder}/{file}"), capture)
    });
    let is_create = |c: &Value| c["path"].as_str().unwrap().contains("/containers/create");
    captured.filter(|(_, c)| is_create(c)).map(|(name, mut c)| (name, c["body"].take())).collect()
}

#[test]
fn every_captured_create_is_placed_as_its_user_meant() {
    let mut on_overlay = 0;
    for (name, body) in creates() {
        let mode = body.pointer("/HostConfig/NetworkMode").and_then(Value::as_str).unwrap_or_default();
        let opted_out = name.contains("weave-cidr-none");
        let expected = matches!(mode, "" | "default") && !opted_out;
        let placed = placement(&body, "osier").unwrap();
        assert_eq!(placed != Placement::Elsewhere, expected, "{name} with network mode '{mode}' is {placed:?}");
        on_overlay += usize::from(expected);
    }
    assert!(on_overlay > 40, "only {on_overlay} captured creates are for the default network");
}

#[test]
fn only_the_network_and_the_resolver_change() {
    for (name, before) in creates() {
        if placement(&before, "osier").unwrap() == Placement::Elsewhere {
            continue;
        }
        let mut after = before.clone();
        put_on_overlay(&mut after, "osier", ADDRESS, "/var/lib/osier/resolv.conf").unwrap();
        let endpoints = after.pointer("/NetworkingConfig/EndpointsConfig").unwrap().as_object().unwrap();
        assert_eq!(endpoints.keys().collect::<Vec<_>>(), ["osier"], "{name}");
        assert_eq!(endpoints["osier"]["IPAMConfig"]["IPv4Address"], "10.1.1.7", "{name}");
        let given = before.pointer("/NetworkingConfig/EndpointsConfig/default");
        for (field, value) in given.and_then(Value::as_object).into_iter().flatten().filter(|(f, _)| *f != "IPAMConfig")
        {
            assert_eq!(&endpoints["osier"][field], value, "{name}: {field}");
        }
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
