//! The host itself: ping, versions, info, disk usage, what only swarm mode has.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{Target, text},
};
use http::Method;
use serde_json::json;

scenarios! { System:
    "GET /_ping" => ping_says_ok_with_the_api_version,
    "HEAD /_ping" => ping_without_a_body,
    "GET /v1.41/_ping" => ping_with_a_version,
    "GET /version" => version_tells_versions_and_components,
    "GET /version" => version_is_the_same_with_and_without_a_version_prefix,
    "GET /info" => info_has_what_the_command_line_prints,
    "GET /info" => info_counts_containers_by_state,
    "GET /v1.24/info" => the_oldest_supported_version_is_served,
    "GET /v9.99/version" => a_version_that_is_too_new_is_refused,
    "GET /v1.1/version" => a_version_that_is_too_old_is_refused,
    "GET /system/df" => disk_usage_names_images_containers_and_volumes,
    "GET /nonsense" => an_unknown_path_is_not_found_in_json,
    "POST /_ping" => a_wrong_method_is_refused,
    "GET /services" => swarm_mode_is_answered_as_outside_a_swarm,
    "GET /swarm" => the_swarm_is_not_there,
    "POST /auth" => a_login_at_a_registry_that_is_away_is_an_error,
    "POST /auth" => a_login_without_json_is_refused,
    "GET /distribution/{name}/json" => an_image_of_a_registry_that_is_away_cannot_be_described,
    "GET /plugins" => plugins_are_listed,
}

async fn ping_says_ok_with_the_api_version(t: &Target) -> Result<(), Failure> {
    let reply = t.unversioned(Method::GET, "/_ping").await?.is(200)?;
    same("the body", reply.text(), "OK")?;
    let version = reply.header("api-version");
    holds("Api-Version is 1.x", version.starts_with("1.") && version.len() >= 4, &reply.headers)?;
    same("OSType", reply.header("ostype"), "linux")?;
    holds("it is not cached", reply.header("cache-control").contains("no-cache"), &reply.headers)?;
    holds("it is text", reply.header("content-type").starts_with("text/plain"), &reply.headers)
}

async fn ping_without_a_body(t: &Target) -> Result<(), Failure> {
    let reply = t.unversioned(Method::HEAD, "/_ping").await?.is(200)?;
    same("the body", reply.text(), "")?;
    holds("Api-Version is 1.x", reply.header("api-version").starts_with("1."), &reply.headers)
}

async fn ping_with_a_version(t: &Target) -> Result<(), Failure> {
    same("the body", t.get("/_ping").await?.is(200)?.text(), "OK")
}

async fn version_tells_versions_and_components(t: &Target) -> Result<(), Failure> {
    let version = t.get("/version").await?.is(200)?.json()?;
    for member in ["Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "KernelVersion"] {
        holds(format_args!("{member} is text"), version[member].as_str().is_some_and(|v| !v.is_empty()), &version)?;
    }
    holds("Platform has a name", version["Platform"]["Name"].is_string(), &version)?;
    let components = version["Components"].as_array().cloned().unwrap_or_default();
    let engine = components.iter().find(|c| c["Name"] == "Engine");
    holds("one component is the engine", engine.is_some_and(|e| e["Details"]["ApiVersion"].is_string()), &version)
}

async fn version_is_the_same_with_and_without_a_version_prefix(t: &Target) -> Result<(), Failure> {
    let plain = t.unversioned(Method::GET, "/version").await?.is(200)?;
    let version = plain.json()?["ApiVersion"].clone();
    same("the header's version", plain.header("api-version"), text(&version))?;
    same("ApiVersion", t.get("/version").await?.is(200)?.json()?["ApiVersion"].clone(), version)
}

async fn info_has_what_the_command_line_prints(t: &Target) -> Result<(), Failure> {
    let info = t.get("/info").await?.is(200)?.json()?;
    for member in
        ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images", "NCPU", "MemTotal"]
    {
        holds(format_args!("{member} is a number"), info[member].is_i64(), &info[member])?;
    }
    for member in ["Name", "ServerVersion", "Driver", "KernelVersion", "OperatingSystem", "Architecture", "SystemTime"]
    {
        holds(format_args!("{member} is text"), info[member].as_str().is_some_and(|v| !v.is_empty()), &info[member])?;
    }
    same("OSType", &info["OSType"], "linux")?;
    same("Swarm.LocalNodeState", &info["Swarm"]["LocalNodeState"], "inactive")?;
    holds(
        "there are plugins",
        info["Plugins"]["Volume"].is_array() && info["Plugins"]["Network"].is_array(),
        &info["Plugins"],
    )?;
    holds("memory limits are supported", info["MemoryLimit"] == true, &info["MemoryLimit"])
}

async fn info_counts_containers_by_state(t: &Target) -> Result<(), Failure> {
    t.started("one", json!({})).await?;
    let info = t.get("/info").await?.is(200)?.json()?;
    let count = |member: &str| info[member].as_i64().unwrap_or_default();
    holds("something runs", count("ContainersRunning") >= 1, &info["ContainersRunning"])?;
    let states = count("ContainersRunning") + count("ContainersPaused") + count("ContainersStopped");
    same("the sum of the states", states, count("Containers"))
}

async fn the_oldest_supported_version_is_served(t: &Target) -> Result<(), Failure> {
    let info = t.unversioned(Method::GET, "/v1.24/info").await?.is(200)?.json()?;
    holds("it is info", info["NCPU"].is_i64(), info)
}

async fn a_version_that_is_too_new_is_refused(t: &Target) -> Result<(), Failure> {
    t.unversioned(Method::GET, "/v9.99/version")
        .await?
        .refuses(400, "client version 9.99 is too new. Maximum supported API version is 1.")
}

async fn a_version_that_is_too_old_is_refused(t: &Target) -> Result<(), Failure> {
    // Engines answer such clients in plain text, as they were answered in their time.
    let said = t.unversioned(Method::GET, "/v1.1/version").await?.is(400)?.text();
    holds("it says so", said.contains("client version 1.1 is too old. Minimum supported API version is 1."), said)
}

async fn disk_usage_names_images_containers_and_volumes(t: &Target) -> Result<(), Failure> {
    let volume = t.volume("data", json!({})).await?;
    let settings = json!({"HostConfig": {"Binds": [format!("{volume}:/data")]}});
    let container = t.container("one", settings).await?;
    let df = t.get("/system/df").await?.is(200)?.json()?;
    holds("LayersSize is a number", df["LayersSize"].is_i64(), &df["LayersSize"])?;
    let has = |list: &str, test: &dyn Fn(&serde_json::Value) -> bool| {
        df[list].as_array().is_some_and(|all| all.iter().any(test))
    };
    holds("the image is there", has("Images", &|i| i["RepoTags"].to_string().contains(t.image())), &df["Images"])?;
    holds("the container is there", has("Containers", &|c| c["Id"] == container.as_str()), &df["Containers"])?;
    let measured = |v: &serde_json::Value| {
        v["Name"].as_str().is_some_and(|n| n.rsplit('/').next() == Some(&volume)) && v["UsageData"]["Size"].is_i64()
    };
    holds("the volume is there with its size", has("Volumes", &measured), &df["Volumes"])?;
    holds("BuildCache is a list", df["BuildCache"].is_array() || df["BuildCache"].is_null(), &df["BuildCache"])
}

async fn an_unknown_path_is_not_found_in_json(t: &Target) -> Result<(), Failure> {
    t.get("/nonsense").await?.refuses(404, "page not found")
}

async fn a_wrong_method_is_refused(t: &Target) -> Result<(), Failure> {
    t.delete("/version").await?.refuses(404, "page not found")?;
    t.post("/_ping").await?.refuses(404, "page not found")
}

async fn swarm_mode_is_answered_as_outside_a_swarm(t: &Target) -> Result<(), Failure> {
    for path in ["/services", "/nodes", "/tasks", "/secrets", "/configs"] {
        t.get(path).await?.refuses(503, "This node is not a swarm manager.")?;
    }
    Ok(())
}

async fn the_swarm_is_not_there(t: &Target) -> Result<(), Failure> {
    t.get("/swarm").await?.refuses(503, "This node is not a swarm manager.")?;
    t.post("/swarm/leave").await?.refuses(503, "This node is not part of a swarm")
}

async fn a_login_at_a_registry_that_is_away_is_an_error(t: &Target) -> Result<(), Failure> {
    let body = json!({"username": "a", "password": "b", "serveraddress": "127.0.0.1:1"});
    t.send("/auth", body).await?.refuses(500, "127.0.0.1:1")
}

async fn a_login_without_json_is_refused(t: &Target) -> Result<(), Failure> {
    t.ask(Method::POST, "/auth", Some(("application/json", "{".into()))).await?.rejects("")
}

async fn an_image_of_a_registry_that_is_away_cannot_be_described(t: &Target) -> Result<(), Failure> {
    let reply = t.get("/distribution/127.0.0.1:1/nothing:1/json").await?;
    holds("it is an error", reply.status >= 400, &reply)?;
    let status = reply.status;
    reply.refuses(status, "127.0.0.1:1")
}

async fn plugins_are_listed(t: &Target) -> Result<(), Failure> {
    t.get("/plugins").await?.is(200)?.list().map(drop)
}
