//! Looking at a container from outside: processes, statistics, changed files, its whole file system, its terminal's size.

use super::lifecycle::until_logged;
use crate::{
    failure::{Failure, holds, same},
    image,
    scenario::scenarios,
    target::{Target, text},
};
use http::Method;
use serde_json::{Value, json};

scenarios! { Watch:
    "GET /containers/{id}/top" => top_lists_processes,
    "GET /containers/{id}/top" => top_takes_the_arguments_of_ps,
    "GET /containers/{id}/top" => top_of_a_stopped_container_is_a_conflict,
    "GET /containers/{id}/stats" => stats_once,
    "GET /containers/{id}/stats" => stats_stream,
    "GET /containers/{id}/stats" => stats_of_a_stopped_container_are_empty,
    "GET /containers/{id}/changes" => changes_tell_added_changed_and_deleted_files,
    "GET /containers/{id}/export" => export_is_an_archive_of_everything,
    "POST /containers/{id}/resize" => resize_reaches_the_terminal,
    "POST /containers/{id}/resize" => resize_of_a_stopped_container_is_a_conflict,
    "POST /containers/{id}/resize" => resize_without_numbers_is_refused,
}

async fn top_lists_processes(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Cmd": ["sleep", "4321"]})).await?;
    // A start is answered a moment before the runtime has become the program.
    let look = async || {
        let top = t.get(&format!("/containers/{id}/top")).await?.is(200)?.json()?;
        holds("one column is the pid", top["Titles"].as_array().is_some_and(|t| t.contains(&json!("PID"))), &top)?;
        let rows = top["Processes"].as_array().cloned().unwrap_or_default();
        Ok(if rows.len() == 1 && rows[0].to_string().contains("4321") { Ok(()) } else { Err(top.to_string()) })
    };
    t.until("the program is the only process", look).await
}

async fn top_takes_the_arguments_of_ps(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    let top = t.get(&format!("/containers/{id}/top?ps_args=-o%20pid,comm")).await?.is(200)?.json()?;
    same("the columns", &top["Titles"], &json!(["PID", "COMMAND"]))
}

async fn top_of_a_stopped_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.get(&format!("/containers/{id}/top")).await?.refuses(409, "is not running")
}

async fn stats_once(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    for query in ["stream=0&one-shot=1", "stream=false"] {
        let stats = t.get(&format!("/containers/{id}/stats?{query}")).await?.is(200)?.json()?;
        same("the id", &stats["id"], id.as_str())?;
        holds("memory is told", stats["memory_stats"]["usage"].as_i64() > Some(0), &stats["memory_stats"])?;
        holds("processor time is told", stats["cpu_stats"]["cpu_usage"]["total_usage"].is_i64(), &stats["cpu_stats"])?;
    }
    Ok(())
}

async fn stats_stream(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    let mut stream = t.open(Method::GET, &format!("/containers/{id}/stats"), &[], None).await?;
    same("the status", stream.status, 200)?;
    // The second one knows the first.
    stream.value("statistics", |s| text(&s["preread"]).starts_with("20")).await.map(drop)
}

async fn stats_of_a_stopped_container_are_empty(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let stats = t.get(&format!("/containers/{id}/stats?stream=0")).await?.is(200)?.json()?;
    holds("no memory", stats["memory_stats"]["usage"].is_null(), &stats["memory_stats"])
}

async fn changes_tell_added_changed_and_deleted_files(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo a > /new; rm /etc/group").await?;
    let changes = t.get(&format!("/containers/{id}/changes")).await?.is(200)?.list()?;
    let has = |path: &str, kind: i64| changes.contains(&json!({"Path": path, "Kind": kind}));
    holds("/new was added", has("/new", 1), &changes)?;
    holds("/etc was changed", has("/etc", 0), &changes)?;
    holds("/etc/group was deleted", has("/etc/group", 2), &changes)
}

async fn export_is_an_archive_of_everything(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo exported > /tmp/file").await?;
    let archive = t.get(&format!("/containers/{id}/export")).await?.is(200)?;
    same("the file", image::file("the export", &archive.body, "tmp/file")?, "exported\n")?;
    image::file("the export", &archive.body, "etc/passwd").map(drop)
}

async fn resize_reaches_the_terminal(t: &Target) -> Result<(), Failure> {
    let line = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let id = t.started("one", json!({"Tty": true, "Cmd": ["sh", "-c", line]})).await?;
    until_logged(t, &id, "ready").await?;
    t.post(&format!("/containers/{id}/resize?h=33&w=111")).await?.is(200)?;
    until_logged(t, &id, "33 111").await
}

async fn resize_of_a_stopped_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Tty": true})).await?;
    t.post(&format!("/containers/{id}/resize?h=33&w=111")).await?.refuses(409, "is not running")
}

async fn resize_without_numbers_is_refused(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Tty": true})).await?;
    let reply = t.post(&format!("/containers/{id}/resize?h=x&w=y")).await?;
    same("the status", reply.status, 400)?;
    let body: Value = reply.json()?;
    holds("there is a message", body["message"].is_string(), body)
}
