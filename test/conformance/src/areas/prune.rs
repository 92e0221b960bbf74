//! Prune: always with a label of the scenario's own, so that nobody else's things go.

use crate::{
    failure::{Failure, holds, same},
    reply::Reply,
    scenario::scenarios,
    target::{Target, filters, text},
};
use serde_json::{Value, json};

scenarios! { Prune:
    "POST /containers/prune" => stopped_containers_go,
    "POST /containers/prune?filters" => until_spares_what_is_younger,
    "POST /volumes/prune" => unused_volumes_go,
    "POST /networks/prune" => unused_networks_go,
    "POST /images/prune" => unused_images_go,
    "POST /build/prune" => the_builders_cache_may_be_pruned,
    "POST /containers/prune?filters" => a_filter_nobody_knows_is_refused,
    "POST /volumes/prune?filters" => malformed_filters_are_refused,
}

/// An engine prunes one thing of a kind at a time, and refuses whoever else comes meanwhile.
async fn ask(t: &Target, path: &str) -> Result<Reply, Failure> {
    let look = async || {
        let reply = t.post(path).await?;
        let busy = reply.status == 409 && reply.text().contains("a prune operation is already running");
        Ok(if busy { Err(reply.text()) } else { Ok(reply) })
    };
    t.until("the engine prunes", look).await
}

async fn prune(t: &Target, what: &str, wanted: Value) -> Result<Value, Failure> {
    ask(t, &format!("/{what}/prune?{}", filters(wanted))).await?.is(200)?.json()
}

async fn stopped_containers_go(t: &Target) -> Result<(), Failure> {
    let label = t.name("label");
    let labels = json!({"Labels": {label.clone(): "1"}});
    let stopped = t.container("stopped", labels.clone()).await?;
    let running = t.started("running", labels).await?;
    let other = t.container("other", json!({})).await?;
    let pruned = prune(t, "containers", json!({"label": [label]})).await?;
    same("ContainersDeleted", &pruned["ContainersDeleted"], &json!([stopped]))?;
    holds("SpaceReclaimed", pruned["SpaceReclaimed"].is_i64(), &pruned)?;
    t.get(&format!("/containers/{stopped}/json")).await?.is(404)?;
    same("the list", t.row(&stopped, "all=1").await?, None)?;
    t.inspect(&running).await?;
    t.inspect(&other).await.map(drop)
}

async fn until_spares_what_is_younger(t: &Target) -> Result<(), Failure> {
    let label = t.name("label");
    let id = t.container("young", json!({"Labels": {label.clone(): "1"}})).await?;
    let pruned = prune(t, "containers", json!({"label": [label], "until": ["1h"]})).await?;
    holds("nothing went", pruned["ContainersDeleted"].as_array().is_none_or(Vec::is_empty), &pruned)?;
    t.inspect(&id).await.map(drop)
}

async fn unused_volumes_go(t: &Target) -> Result<(), Failure> {
    let label = t.name("label");
    let unused = t.volume("unused", json!({"Labels": {label.clone(): "1"}})).await?;
    let used = t.volume("used", json!({"Labels": {label.clone(): "1"}})).await?;
    t.container("user", json!({"HostConfig": {"Binds": [format!("{used}:/data")]}})).await?;
    let pruned = prune(t, "volumes", json!({"label": [label]})).await?;
    let gone: Vec<String> = pruned["VolumesDeleted"].as_array().into_iter().flatten().map(text).collect();
    same("VolumesDeleted", gone.iter().filter_map(|n| n.rsplit('/').next()).collect::<Vec<_>>(), [&unused])?;
    t.get(&format!("/volumes/{unused}")).await?.is(404)?;
    t.get(&format!("/volumes/{used}")).await?.is(200).map(drop)
}

async fn unused_networks_go(t: &Target) -> Result<(), Failure> {
    let label = t.name("label");
    let unused = t.network("unused", json!({"Labels": {label.clone(): "1"}})).await?;
    let used = t.network("used", json!({"Labels": {label.clone(): "1"}})).await?;
    t.started("user", json!({"HostConfig": {"NetworkMode": t.name("used")}})).await?;
    let pruned = prune(t, "networks", json!({"label": [label]})).await?;
    let gone: Vec<String> = pruned["NetworksDeleted"].as_array().into_iter().flatten().map(text).collect();
    same("NetworksDeleted", gone.iter().filter_map(|n| n.rsplit('/').next()).collect::<Vec<_>>(), [t.name("unused")])?;
    t.get(&format!("/networks/{unused}")).await?.is(404)?;
    t.get(&format!("/networks/{used}")).await?.is(200).map(drop)
}

async fn unused_images_go(t: &Target) -> Result<(), Failure> {
    let (label, name) = (t.name("label"), t.name("made"));
    let id = t.ran("source", "echo own > /own").await?;
    t.later(format!("/images/{name}:1?force=1"));
    let made =
        t.send(&format!("/commit?container={id}&repo={name}&tag=1"), json!({"Labels": {label.clone(): "1"}})).await?;
    let image = text(&made.is(201)?.json()?["Id"]);
    let pruned = prune(t, "images", json!({"label": [label], "dangling": ["true"]})).await?;
    holds("a named image is not dangling", pruned["ImagesDeleted"].as_array().is_none_or(Vec::is_empty), &pruned)?;
    let pruned = prune(t, "images", json!({"label": [label], "dangling": ["false"]})).await?;
    let gone = pruned["ImagesDeleted"].as_array().cloned().unwrap_or_default();
    holds("the image went", gone.contains(&json!({"Deleted": image})), &pruned)?;
    t.get(&format!("/images/{name}:1/json")).await?.is(404).map(drop)
}

/// A cache entry with this id does not exist, so nothing goes.
async fn the_builders_cache_may_be_pruned(t: &Target) -> Result<(), Failure> {
    let pruned = prune(t, "build", json!({"id": [t.name("nothing")]})).await?;
    same("SpaceReclaimed", &pruned["SpaceReclaimed"], 0)
}

async fn a_filter_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    for what in ["containers", "images", "networks", "volumes"] {
        let reply = ask(t, &format!("/{what}/prune?{}", filters(json!({"nonsense": ["1"]})))).await?;
        reply.refuses(400, "invalid filter")?;
    }
    Ok(())
}

async fn malformed_filters_are_refused(t: &Target) -> Result<(), Failure> {
    for what in ["containers", "images", "networks", "volumes"] {
        ask(t, &format!("/{what}/prune?filters=x")).await?.rejects("")?;
    }
    Ok(())
}
