//! The Docker API as clients and engines speak it.

use crate::text;
use http::Method;
use osier_dockerapi::{
    convert, create, event,
    filters::{Filters, Pattern},
    image, info, inspect,
    listing::{ListQuery, Listed, newest_first},
    members, moment, network,
    path::{ApiPath, upstream},
    placement,
    query::Query,
    route::{Route, route},
    row::{Owner, Row},
    state::RunState,
    totals,
    version::{self, ApiVersion, MAX, MIN},
    volume, wishes,
};
use serde_json::{Value, json};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use time::{Duration, OffsetDateTime};

const NODE: &str = "node-1";

fn is_node(name: &str) -> bool {
    name == NODE
}

fn owner() -> Owner {
    let cluster_networks = BTreeMap::from([("e1".to_owned(), "c1".to_owned())]);
    Owner { node: NODE.into(), ip: [10, 0, 0, 1].into(), cluster_networks }
}

fn facts() -> inspect::NodeFacts {
    inspect::NodeFacts { id: "id".into(), address: "node-1:12375".into(), cpus: 2, memory: 1, labels: BTreeMap::new() }
}

/// `METHOD PATH`: what is read can be written and read again, and a route loses no segment of a name.
pub(crate) fn path(data: &[u8]) {
    let Some((method, path)) = text(data).and_then(|t| t.split_once(' ')) else { return };
    let Ok(path) = ApiPath::parse(path) else { return };
    assert!((MIN..=MAX).contains(&path.version));
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let written = upstream(path.version, &segments, "");
    assert_eq!(ApiPath::parse(&written).as_ref(), Ok(&path), "{written}");
    let _: http::Uri = written.parse().unwrap();
    let Ok(method) = method.parse::<Method>() else { return };
    match route(&method, &path.segments, is_node) {
        Route::Container { name, rest, .. } => {
            let joined = [&[name], rest.as_slice()].concat().join("/");
            assert_eq!(format!("containers/{joined}"), path.segments.join("/"));
        }
        Route::Exec { id, rest } => assert_eq!([&["exec".into(), id], rest.as_slice()].concat(), path.segments),
        Route::Image { name, .. } | Route::Distribution { name } => {
            assert!(path.segments[1..].join("/").starts_with(&name));
        }
        Route::Network { name, .. } | Route::VolumeInspect { name } | Route::VolumeRemove { name } => {
            assert!(path.segments[1..].join("/").starts_with(&name));
        }
        _ => {}
    }
}

/// A query string: what is written is what was read.
pub(crate) fn query(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(mut query) = Query::parse(Some(text)) else { return };
    let written = query.to_string();
    assert_eq!(Query::parse(Some(&written)).as_ref(), Ok(&query), "{written}");
    let _ = query.flag("all");
    if let Ok(list) = ListQuery::parse(&query) {
        let rows = rows(serde_json::from_str(ROWS).unwrap());
        let images = [Arc::new(json!({"Id": "sha256:b0", "RepoTags": ["busybox:latest"]}))];
        let family = list.family(&images);
        let family = &family;
        let listed = || rows.iter().map(|row| Listed { row, state: None, node: NODE, healthy: true, family });
        if let Ok(list) = list.bounded(listed()) {
            assert!(list.select(vec![listed()]).count() <= rows.len());
        }
    }
    query.set("filters", "x");
    assert_eq!(query.all("filters").collect::<Vec<_>>(), ["x"]);
}

const ROWS: &str = r#"[
    {"Id": "aa", "Names": ["/web"], "Image": "busybox", "ImageID": "sha256:b0", "Created": 2, "State": "running",
     "Status": "Up", "Labels": {"tier": "web"}, "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
     "Mounts": [{"Name": "data", "Destination": "/data"}], "NetworkSettings": {"Networks": {"a": {"NetworkID": "e1"}}}},
    {"Id": "bb", "Names": ["/db"], "Image": "sha256:b0", "ImageID": "sha256:b0", "Created": 1, "State": "exited"}]"#;

fn rows(list: Value) -> Vec<Row> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.into_iter().filter_map(|row| Row::read(row, &owner()).ok()).collect()
}

/// The `filters` parameter, and its values as patterns.
pub(crate) fn filters(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let _ = Pattern::new(text).matches("web-1");
    let Ok(filters) = Filters::parse(Some(text)) else { return };
    let row: Value = serde_json::from_str(ROWS).unwrap();
    let _ = filters.labels("label", |name| row[0]["Labels"][name].as_str());
    let _ = filters.boolean("dangling");
    let used = BTreeSet::new();
    let images = row.as_array().into_iter().flatten().map(|row| (NODE, row));
    let _ = image::list(images.clone(), list_options(filters.clone()));
    let _ = volume::list(images.clone(), filters.clone());
    let _ = network::list(images.map(|(node, network)| network::Local { node, network }), &used, filters.clone());
    let _ = event::EventFilter::new(filters).passes(&row[0]);
}

fn list_options(filters: Filters) -> image::ListOptions {
    image::ListOptions { all: true, version: MAX, legacy_filter: None, filters, now: 1 << 60 }
}

/// A wish about the place: what is understood can be printed and matched.
pub(crate) fn expression(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let entry = format!("constraint:{text}");
    if let Ok(wishes) = wishes::of_entries(std::iter::once(entry.as_str())) {
        let wish = &wishes.constraints[0];
        assert_eq!(wish.to_string(), text);
        assert_ne!(wish.holds([NODE].into_iter()), wish.matches(NODE) == wish.is_negated());
    }
}

/// A create request: both proxies' edits leave JSON that still says the same.
pub(crate) fn create(data: &[u8]) {
    let Ok(mut body) = serde_json::from_slice::<Value>(data) else { return };
    members::spell(&mut body, members::Body::ContainerCreate);
    let spelt = body.clone();
    members::spell(&mut body, members::Body::ContainerCreate);
    assert_eq!(body, spelt);
    let before = placement::needs(&body);
    let _ = placement::bindings(&body);
    let mut edited = body;
    let _ = wishes::take(&mut edited);
    placement::rename_volumes(&mut edited, |word| word.strip_prefix("node-1/").map(str::to_owned));
    placement::rename_networks(&mut edited, |word| word.strip_prefix("node-1/").map(str::to_owned));
    placement::map_companions(&mut edited, |word, _| Ok::<_, ()>(word.to_owned())).unwrap();
    assert_eq!(before.image, placement::needs(&edited).image);
    for version in ["1.24", "1.41", "1.44"].map(|v| v.parse::<ApiVersion>().unwrap()) {
        let mut body = edited.clone();
        let deferred = placement::defer_endpoints(&mut body, version);
        assert!(version < version::SEVERAL_ENDPOINTS || deferred.is_empty());
        convert::create(&mut body.clone(), MAX, version);
        convert::create(&mut body.clone(), MIN, version);
        let _ = convert::needs_version(&body, version);
        let left = body["NetworkingConfig"]["EndpointsConfig"].as_object().map_or(0, |e| e.len());
        let all = edited["NetworkingConfig"]["EndpointsConfig"].as_object().map_or(0, |e| e.len());
        assert_eq!(left + deferred.len(), all);
    }
    let overlays = [create::Overlay { name: "osier", ids: &[] }, create::Overlay { name: "back", ids: &[] }];
    let Ok(places) = create::placement(&edited, &overlays) else { return };
    let at = |place: create::Place| place.address.unwrap_or([10, 1, 1, 7].into());
    let places: Vec<_> = places.into_iter().map(|place| (place, at(place))).collect();
    if create::put_on_overlays(&mut edited, &overlays, &places).is_ok() {
        let again = create::placement(&edited, &overlays).unwrap();
        let pinned: Vec<_> = again.iter().map(|place| (place.overlay, place.address)).collect();
        let meant: Vec<_> = places.iter().map(|(place, address)| (place.overlay, Some(*address))).collect();
        assert_eq!(pinned, meant, "{edited}");
        let _ = create::mount_resolver(&mut edited, "/r");
    }
}

/// Anything that an engine may answer: list rows, inspects, events, networks, volumes, images.
pub(crate) fn answers(data: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(data) else { return };
    let (owner, facts) = (owner(), facts());
    let list = if answer.is_array() { answer.clone() } else { Value::Array(vec![answer.clone()]) };
    let mut rows = rows(list.clone());
    rows.sort_by(newest_first);
    for row in &rows {
        let mut out = Vec::new();
        row.write("Up \"1\" second", &mut out);
        let written: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(written["Status"], "Up \"1\" second");
        let again = Row::read(written, &owner).unwrap();
        assert_eq!((&again.id, again.created), (&row.id, row.created));
        let _ = row.name();
    }
    let mut progress = image::Progress::default();
    for part in list.as_array().into_iter().flatten() {
        let _ = progress.take(part);
    }
    let twice = [(NODE, answer.clone()), ("node-2", answer.clone())];
    let _ = (totals::disk_usage(twice.clone(), &[]), totals::pruned(twice));
    let state = RunState::read(&answer, Duration::seconds(-3));
    let _ = state.sentence(OffsetDateTime::UNIX_EPOCH);
    let mut inspected = answer.clone();
    inspect::edit(&mut inspected, &owner, &facts);
    convert::container_inspect(&mut inspected, MAX, MIN);
    convert::container_inspect(&mut inspected, MIN, MAX);
    convert::info(&mut inspected, MIN);
    let mut told = answer;
    event::decorate(&mut told, &owner, &facts);
    let _ = event::time_nanos(&told);
    let _ = event::EventFilter::default().passes(&told);
    let parts: Vec<&Value> = list.as_array().into_iter().flatten().collect();
    let locals: Vec<network::Local<'_>> = parts.iter().map(|network| network::Local { node: NODE, network }).collect();
    let _ = network::translations(parts.iter().copied());
    let _ = network::merge(&locals, true);
    let _ = network::list(locals.into_iter(), &BTreeSet::new(), Filters::default());
    let _ = volume::list(parts.iter().map(|v| (NODE, *v)), Filters::default());
    let _ = image::list(parts.iter().map(|v| (NODE, *v)), list_options(Filters::default()));
}

/// A moment in one of the forms that clients use, and names in the order of people.
pub(crate) fn moment(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for now in [0, i128::from(i64::MIN), i128::from(i64::MAX)] {
        let _ = moment::parse(text, now);
    }
    if let Some((a, b)) = text.split_once('\n') {
        assert_eq!(info::natural(a, b), info::natural(b, a).reverse());
        assert_eq!(info::natural(a, a), Ordering::Equal);
    }
}

/// An image's reference.
pub(crate) fn image(data: &[u8]) {
    let Some(word) = text(data) else { return };
    let reference = image::Reference::parse(word);
    assert!(word.contains(reference.repository()));
    let _ = (reference.is_tagged(), reference.is_ancestor("busybox:1", "sha256:b0"));
    let rows: Vec<Arc<Value>> = Vec::new();
    assert!(image::find(word, &rows).is_none());
}
