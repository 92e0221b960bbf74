//! Programs inside a running container.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{Target, text},
};
use serde_json::{Value, json};

scenarios! { Exec:
    "POST /containers/{id}/exec" => exec_answers_with_an_id,
    "POST /containers/{id}/exec" => exec_without_a_command_is_refused,
    "POST /containers/{id}/exec" => exec_in_a_stopped_container_is_a_conflict,
    "POST /containers/{id}/exec" => exec_in_a_paused_container_is_a_conflict,
    "POST /containers/{id}/exec" => exec_in_nothing_is_not_found,
    "POST /exec/{id}/start" => output_and_errors_come_apart_and_the_code_is_told,
    "POST /exec/{id}/start" => input_goes_in_and_its_end_too,
    "POST /exec/{id}/start" => a_terminal_has_one_stream,
    "POST /exec/{id}/start" => start_detached,
    "POST /exec/{id}/start" => environment_folder_and_user_are_the_execs_own,
    "POST /exec/{id}/start" => start_without_an_upgrade_takes_over_as_well,
    "POST /exec/{id}/start" => start_of_nothing_is_not_found,
    "POST /exec/{id}/start" => start_twice_is_a_conflict,
    "POST /exec/{id}/start" => a_program_that_is_not_there_ends_with_126_or_127,
    "POST /exec/{id}/start" => a_megabyte_comes_through_whole,
    "POST /exec/{id}/resize" => resize_reaches_the_execs_terminal,
    "GET /exec/{id}/json" => inspect_tells_the_execs_state,
    "GET /exec/{id}/json" => inspect_of_no_exec_is_not_found,
    "GET /containers/{id}/json" => the_container_knows_its_running_execs,
}

/// Makes an exec that has its output attached.
async fn make(t: &Target, container: &str, settings: Value) -> Result<String, Failure> {
    let mut body = json!({"AttachStdout": true, "AttachStderr": true});
    for (key, value) in settings.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    Ok(text(&t.send(&format!("/containers/{container}/exec"), body).await?.is(201)?.json()?["Id"]))
}

fn start(tty: bool) -> Option<Value> {
    Some(json!({"Detach": false, "Tty": tty}))
}

async fn exec_answers_with_an_id(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let id = make(t, &container, json!({"Cmd": ["true"]})).await?;
    holds("it is 64 hex digits", id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), id)
}

async fn exec_without_a_command_is_refused(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    t.send(&format!("/containers/{container}/exec"), json!({})).await?.refuses(400, "No exec command specified")
}

async fn exec_in_a_stopped_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let container = t.container("one", json!({})).await?;
    let reply = t.send(&format!("/containers/{container}/exec"), json!({"Cmd": ["true"]})).await?;
    reply.refuses(409, "is not running")
}

async fn exec_in_a_paused_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    t.post(&format!("/containers/{container}/pause")).await?.is(204)?;
    let reply = t.send(&format!("/containers/{container}/exec"), json!({"Cmd": ["true"]})).await?;
    reply.refuses(409, "is paused")
}

async fn exec_in_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let reply = t.send(&format!("/containers/{}/exec", t.name("nothing")), json!({"Cmd": ["true"]})).await?;
    reply.refuses(404, "No such container")
}

async fn output_and_errors_come_apart_and_the_code_is_told(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Cmd": ["sh", "-c", "echo out; echo err >&2; exit 9"]})).await?;
    let streams = t.upgrade(&format!("/exec/{exec}/start"), start(false)).await?.frames().await?;
    same("the streams", streams, ("out\n".to_owned(), "err\n".to_owned()))?;
    let state = t.get(&format!("/exec/{exec}/json")).await?.is(200)?.json()?;
    same("Running", &state["Running"], false)?;
    same("ExitCode", &state["ExitCode"], 9)
}

async fn input_goes_in_and_its_end_too(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"AttachStdin": true, "Cmd": ["cat"]})).await?;
    let mut tunnel = t.upgrade(&format!("/exec/{exec}/start"), start(false)).await?;
    tunnel.write(b"through and through\n").await?;
    tunnel.close_write().await?;
    same("what came back", tunnel.frames().await?.0, "through and through\n")
}

async fn a_terminal_has_one_stream(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec =
        make(t, &container, json!({"AttachStdin": true, "Tty": true, "Cmd": ["sh", "-c", "read a; echo got $a"]}))
            .await?;
    let mut tunnel = t.upgrade(&format!("/exec/{exec}/start"), start(true)).await?;
    tunnel.write(b"this\n").await?;
    let said = String::from_utf8_lossy(&tunnel.rest().await?).into_owned();
    holds("the terminal echoes, then the program answers", said == "this\r\ngot this\r\n", said)
}

async fn start_detached(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Cmd": ["sh", "-c", "echo done > /tmp/file"]})).await?;
    let reply = t.send(&format!("/exec/{exec}/start"), json!({"Detach": true})).await?.is(200)?;
    same("the body", reply.text(), "")?;
    let look = async || {
        let state = t.get(&format!("/exec/{exec}/json")).await?.is(200)?.json()?;
        Ok(if state["ExitCode"] == 0 { Ok(()) } else { Err(state.to_string()) })
    };
    t.until("it ended", look).await?;
    same("what it wrote", t.exec(&container, "cat /tmp/file").await?, (0, "done\n".to_owned()))
}

async fn environment_folder_and_user_are_the_execs_own(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({"Env": ["A=container", "B=container"]})).await?;
    let settings = json!({
        "Cmd": ["sh", "-c", "echo $A $B; pwd; id -u"], "Env": ["A=exec"], "WorkingDir": "/tmp", "User": "guest",
    });
    let exec = make(t, &container, settings).await?;
    let (out, _) = t.upgrade(&format!("/exec/{exec}/start"), start(false)).await?.frames().await?;
    same("what it sees", out, "exec container\n/tmp\n7\n")
}

async fn start_without_an_upgrade_takes_over_as_well(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"AttachStdin": true, "Cmd": ["cat"]})).await?;
    let mut tunnel = t.hijack("POST", &format!("/exec/{exec}/start"), &[], start(false)).await?.is(200).await?;
    tunnel.write(b"raw\n").await?;
    tunnel.close_write().await?;
    same("what came back", tunnel.frames().await?.0, "raw\n")
}

async fn start_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let reply = t.send("/exec/0123456789abcdef/start", json!({"Detach": true})).await?;
    reply.refuses(404, "No such exec instance: 0123456789abcdef")
}

async fn start_twice_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Cmd": ["sleep", "1000"]})).await?;
    t.send(&format!("/exec/{exec}/start"), json!({"Detach": true})).await?.is(200)?;
    let reply = t.send(&format!("/exec/{exec}/start"), json!({"Detach": true})).await?;
    holds("it is refused", matches!(reply.status, 409 | 500), &reply)?;
    let status = reply.status;
    reply.refuses(status, "already")
}

async fn a_program_that_is_not_there_ends_with_126_or_127(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Cmd": ["/no/such/program"]})).await?;
    t.hijack("POST", &format!("/exec/{exec}/start"), &["Connection: Upgrade", "Upgrade: tcp"], start(false)).await?;
    let look = async || {
        let state = t.get(&format!("/exec/{exec}/json")).await?.is(200)?.json()?;
        Ok(if matches!(state["ExitCode"].as_i64(), Some(126 | 127)) { Ok(()) } else { Err(state.to_string()) })
    };
    t.until("the exit code tells", look).await
}

async fn a_megabyte_comes_through_whole(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Cmd": ["head", "-c", "1048576", "/dev/zero"]})).await?;
    let (out, _) = t.upgrade(&format!("/exec/{exec}/start"), start(false)).await?.frames().await?;
    same("the number of bytes", out.len(), 1 << 20)
}

async fn resize_reaches_the_execs_terminal(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"AttachStdin": true, "Tty": true, "Cmd": ["sh", "-c", "read a; stty size"]}))
        .await?;
    let mut tunnel = t.upgrade(&format!("/exec/{exec}/start"), start(true)).await?;
    let look = async || {
        let resized = t.post(&format!("/exec/{exec}/resize?h=22&w=99")).await?;
        Ok(if resized.status == 200 || resized.status == 201 { Ok(()) } else { Err(resized.text()) })
    };
    t.until("the exec takes a size", look).await?;
    tunnel.write(b"go\n").await?;
    let said = String::from_utf8_lossy(&tunnel.rest().await?).into_owned();
    holds("it has the size", said.contains("22 99"), said)
}

async fn inspect_tells_the_execs_state(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Tty": false, "Cmd": ["sleep", "1000"]})).await?;
    let state = t.get(&format!("/exec/{exec}/json")).await?.is(200)?.json()?;
    same("ID", &state["ID"], exec.as_str())?;
    same("ContainerID", &state["ContainerID"], container.as_str())?;
    same("Running before", &state["Running"], false)?;
    same("ExitCode before", &state["ExitCode"], &Value::Null)?;
    same("the program", &state["ProcessConfig"]["entrypoint"], "sleep")?;
    same("its arguments", &state["ProcessConfig"]["arguments"], &json!(["1000"]))?;
    t.send(&format!("/exec/{exec}/start"), json!({"Detach": true})).await?.is(200)?;
    let state = t.get(&format!("/exec/{exec}/json")).await?.is(200)?.json()?;
    same("Running after", &state["Running"], true)?;
    holds("it has a pid", state["Pid"].as_i64() > Some(0), state)
}

async fn inspect_of_no_exec_is_not_found(t: &Target) -> Result<(), Failure> {
    t.get("/exec/0123456789abcdef/json").await?.refuses(404, "No such exec instance")
}

async fn the_container_knows_its_running_execs(t: &Target) -> Result<(), Failure> {
    let container = t.started("one", json!({})).await?;
    let exec = make(t, &container, json!({"Cmd": ["sleep", "1000"]})).await?;
    t.send(&format!("/exec/{exec}/start"), json!({"Detach": true})).await?.is(200)?;
    same("ExecIDs", &t.inspect(&container).await?["ExecIDs"], &json!([exec]))
}
