//! Attach: a container's streams over a connection that is taken over, with and without an upgrade, and over WebSocket.

use super::lifecycle::until_logged;
use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::Target,
    websocket,
};
use http::Method;
use serde_json::json;

scenarios! { Attach:
    "POST /containers/{id}/attach" => output_and_errors_come_apart,
    "POST /containers/{id}/attach" => input_goes_in_and_its_end_too,
    "POST /containers/{id}/attach" => without_an_upgrade_it_is_a_bare_200,
    "POST /containers/{id}/attach" => the_upgrade_is_answered_with_its_headers,
    "POST /containers/{id}/attach" => a_terminal_has_one_stream,
    "POST /containers/{id}/attach" => what_was_printed_before_comes_with_logs,
    "POST /containers/{id}/attach" => only_the_streams_asked_for_come,
    "POST /containers/{id}/attach" => detach_keys_leave_it_running,
    "POST /containers/{id}/attach" => two_clients_see_the_same,
    "POST /containers/{id}/attach" => attach_to_nothing_is_not_found,
    "POST /containers/{id}/attach" => attach_to_a_paused_container_is_a_conflict,
    "GET /containers/{id}/attach/ws" => a_websocket_carries_both_ways,
}

const ALL_STREAMS: &str = "stream=1&stdin=1&stdout=1&stderr=1";

fn interactive(command: &[&str]) -> serde_json::Value {
    json!({
        "Cmd": command, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
    })
}

async fn output_and_errors_come_apart(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Cmd": ["sh", "-c", "echo out; echo err >&2"]})).await?;
    let tunnel = t.upgrade(&format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"), None).await?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    same("the streams", tunnel.frames().await?, ("out\n".to_owned(), "err\n".to_owned()))
}

async fn input_goes_in_and_its_end_too(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", interactive(&["cat"])).await?;
    let mut tunnel = t.upgrade(&format!("/containers/{id}/attach?{ALL_STREAMS}"), None).await?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    tunnel.write(b"first\n").await?;
    tunnel.until("the first line", |b| b.windows(6).any(|w| w == b"first\n").then_some(())).await?;
    tunnel.write(b"second\n").await?;
    tunnel.close_write().await?;
    same("what came back", tunnel.frames().await?.0, "first\nsecond\n")?;
    same("the exit code", &t.until_state(&id, "exited").await?["State"]["ExitCode"], 0)
}

async fn without_an_upgrade_it_is_a_bare_200(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", interactive(&["cat"])).await?;
    let path = format!("/containers/{id}/attach?{ALL_STREAMS}");
    let mut tunnel = t.hijack("POST", &path, &[], None).await?.is(200).await?;
    holds("the content type", tunnel.head.contains("content-type: application/vnd.docker.raw-stream"), &tunnel.head)?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    tunnel.write(b"raw\n").await?;
    tunnel.close_write().await?;
    same("what came back", tunnel.frames().await?.0, "raw\n")
}

async fn the_upgrade_is_answered_with_its_headers(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", interactive(&["cat"])).await?;
    let tunnel = t.upgrade(&format!("/containers/{id}/attach?{ALL_STREAMS}"), None).await?;
    holds("Connection", tunnel.head.contains("connection: upgrade"), &tunnel.head)?;
    holds("Upgrade", tunnel.head.contains("upgrade: tcp"), &tunnel.head)
}

async fn a_terminal_has_one_stream(t: &Target) -> Result<(), Failure> {
    let mut settings = interactive(&["sh", "-c", "read a; echo got $a"]);
    settings["Tty"] = json!(true);
    let id = t.container("one", settings).await?;
    let mut tunnel = t.upgrade(&format!("/containers/{id}/attach?{ALL_STREAMS}"), None).await?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    tunnel.write(b"this\n").await?;
    let said = String::from_utf8_lossy(&tunnel.rest().await?).into_owned();
    holds("the terminal echoes, then the program answers", said == "this\r\ngot this\r\n", said)
}

async fn what_was_printed_before_comes_with_logs(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Cmd": ["sh", "-c", "echo before; sleep 1000"]})).await?;
    until_logged(t, &id, "before").await?;
    let path = format!("/containers/{id}/attach?logs=1&stream=0&stdout=1");
    let (out, _) = t.upgrade(&path, None).await?.frames().await?;
    same("what was printed", out, "before\n")
}

async fn only_the_streams_asked_for_come(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Cmd": ["sh", "-c", "echo out; echo err >&2"]})).await?;
    let tunnel = t.upgrade(&format!("/containers/{id}/attach?stream=1&stderr=1"), None).await?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    same("the streams", tunnel.frames().await?, (String::new(), "err\n".to_owned()))
}

async fn detach_keys_leave_it_running(t: &Target) -> Result<(), Failure> {
    let mut settings = interactive(&["cat"]);
    settings["Tty"] = json!(true);
    settings["StdinOnce"] = json!(false);
    let id = t.started("one", settings).await?;
    let path = format!("/containers/{id}/attach?{ALL_STREAMS}&detachKeys=ctrl-x,x");
    let mut tunnel = t.upgrade(&path, None).await?;
    tunnel.write(b"\x18").await?;
    tunnel.write(b"x").await?;
    tunnel.rest().await?;
    same("the state", &t.inspect(&id).await?["State"]["Status"], "running")
}

async fn two_clients_see_the_same(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Cmd": ["sh", "-c", "seq 1 500"]})).await?;
    let path = format!("/containers/{id}/attach?stream=1&stdout=1");
    let (one, two) = (t.upgrade(&path, None).await?, t.upgrade(&path, None).await?);
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    let (one, two) = (one.frames().await?.0, two.frames().await?.0);
    same("the number of lines", one.lines().count(), 500)?;
    same("both", one, two)
}

async fn attach_to_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let path = format!("/containers/{}/attach?{ALL_STREAMS}", t.name("nothing"));
    // The connection was about to be taken over, so the error is plain text.
    let said = t.ask(Method::POST, &path, None).await?.is(404)?.text();
    holds("the message", said.contains("No such container"), said)?;
    t.hijack("POST", &path, &["Connection: Upgrade", "Upgrade: tcp"], None).await?.is(404).await.map(drop)
}

async fn attach_to_a_paused_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", interactive(&["cat"])).await?;
    t.post(&format!("/containers/{id}/pause")).await?.is(204)?;
    let path = format!("/containers/{id}/attach?{ALL_STREAMS}");
    let said = t.ask(Method::POST, &path, None).await?.is(409)?.text();
    holds("the message", said.contains("is paused"), said)
}

async fn a_websocket_carries_both_ways(t: &Target) -> Result<(), Failure> {
    let mut settings = interactive(&["sh", "-c", "read a; echo got $a; sleep 1000"]);
    settings["Tty"] = json!(true);
    let id = t.started("one", settings).await?;
    let headers = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: http://docker",
    ];
    let path = format!("/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1");
    let mut tunnel = t.hijack("GET", &path, &headers, None).await?.is(101).await?;
    // RFC 6455 §1.3: what that key has to be answered with.
    holds("the key's answer", tunnel.head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), &tunnel.head)?;
    websocket::send(&mut tunnel, "this\n").await?;
    websocket::expect(&mut tunnel, "got this").await
}
