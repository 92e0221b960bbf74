//! What happens to a container: start, stop, kill, pause, restart, rename, wait, update, and its own end.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{Target, names, text},
};
use http::Method;
use serde_json::{Value, json};

scenarios! { Lifecycle:
    "POST /containers/{id}/start" => start_and_start_again,
    "POST /containers/{id}/start" => start_of_nothing_is_not_found,
    "POST /containers/{id}/start" => a_program_that_is_not_there_fails_the_start,
    "POST /containers/{id}/stop" => stop_and_stop_again,
    "POST /containers/{id}/stop" => stop_sends_the_stop_signal_first,
    "POST /containers/{id}/restart" => restart_makes_a_new_process,
    "POST /containers/{id}/kill" => kill_ends_it_with_137,
    "POST /containers/{id}/kill" => kill_sends_the_signal_asked_for,
    "POST /containers/{id}/kill" => kill_of_a_stopped_container_is_a_conflict,
    "POST /containers/{id}/kill" => kill_with_a_signal_nobody_knows_is_refused,
    "POST /containers/{id}/pause" => pause_and_unpause,
    "POST /containers/{id}/pause" => pause_of_a_stopped_container_is_a_conflict,
    "POST /containers/{id}/rename" => rename_and_both_names_tell_the_truth,
    "POST /containers/{id}/rename" => rename_to_a_name_in_use_is_a_conflict,
    "POST /containers/{id}/rename" => rename_to_nothing_is_refused,
    "POST /containers/{id}/wait" => wait_gives_the_exit_code,
    "POST /containers/{id}/wait" => wait_of_a_stopped_container_ends_at_once,
    "POST /containers/{id}/wait" => wait_for_the_next_exit,
    "POST /containers/{id}/wait" => wait_for_removal,
    "POST /containers/{id}/wait" => wait_of_nothing_is_not_found,
    "POST /containers/{id}/update" => update_changes_limits,
    "POST /containers/{id}/update" => update_changes_the_restart_policy,
    "POST /containers/{id}/update" => update_of_nothing_is_not_found,
    "exit" => the_end_is_told_by_inspect_and_list,
    "AutoRemove" => a_container_that_removes_itself_is_gone,
    "RestartPolicy" => a_failing_container_is_restarted_as_often_as_asked,
    "Healthcheck" => health_is_told,
}

async fn start_and_start_again(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let reply = t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    same("the body", reply.text(), "")?;
    let state = &t.inspect(&id).await?["State"];
    holds("it runs", state["Running"] == true && state["Pid"].as_i64() > Some(0), state)?;
    let row = t.row(&id, "").await?.unwrap_or_default();
    same("the list's state", &row["State"], "running")?;
    t.post(&format!("/containers/{id}/start")).await?.is(304).map(drop)
}

async fn start_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.post(&format!("/containers/{}/start", t.name("nothing"))).await?.refuses(404, "No such container")
}

async fn a_program_that_is_not_there_fails_the_start(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Cmd": ["/no/such/program"]})).await?;
    t.post(&format!("/containers/{id}/start")).await?.refuses(400, "/no/such/program")?;
    let state = t.inspect(&id).await?["State"].clone();
    same("the exit code", &state["ExitCode"], 127)
}

async fn stop_and_stop_again(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.post(&format!("/containers/{id}/stop?t=0")).await?.is(204)?;
    same("the state", &t.inspect(&id).await?["State"]["Status"], "exited")?;
    same("the list's rows of running containers", t.row(&id, "").await?, None)?;
    t.post(&format!("/containers/{id}/stop?t=0")).await?.is(304).map(drop)
}

async fn stop_sends_the_stop_signal_first(t: &Target) -> Result<(), Failure> {
    let line = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done";
    let id = t.started("one", json!({"Cmd": ["sh", "-c", line], "StopSignal": "SIGUSR1"})).await?;
    until_logged(t, &id, "ready").await?;
    t.post(&format!("/containers/{id}/stop?t=10")).await?.is(204)?;
    same("the exit code", &t.inspect(&id).await?["State"]["ExitCode"], 9)
}

async fn restart_makes_a_new_process(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    let before = t.inspect(&id).await?["State"].clone();
    t.post(&format!("/containers/{id}/restart?t=0")).await?.is(204)?;
    let after = t.inspect(&id).await?["State"].clone();
    holds(
        "it is another process",
        after["Running"] == true && after["StartedAt"] != before["StartedAt"],
        [before, after],
    )
}

async fn kill_ends_it_with_137(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.post(&format!("/containers/{id}/kill")).await?.is(204)?;
    same("the exit code", &t.until_state(&id, "exited").await?["State"]["ExitCode"], 137)
}

async fn kill_sends_the_signal_asked_for(t: &Target) -> Result<(), Failure> {
    for signal in ["SIGUSR1", "USR1", "10"] {
        let line = "trap 'exit 42' USR1; echo ready; while :; do sleep 0.1; done";
        let id = t.started("one", json!({"Cmd": ["sh", "-c", line]})).await?;
        until_logged(t, &id, "ready").await?;
        t.post(&format!("/containers/{id}/kill?signal={signal}")).await?.is(204)?;
        same("the exit code", &t.until_state(&id, "exited").await?["State"]["ExitCode"], 42)?;
        t.delete(&format!("/containers/{id}")).await?.is(204)?;
    }
    Ok(())
}

async fn kill_of_a_stopped_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.post(&format!("/containers/{id}/kill")).await?.refuses(409, "is not running")
}

async fn kill_with_a_signal_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.post(&format!("/containers/{id}/kill?signal=SIGNONSENSE")).await?.refuses(400, "signal")
}

async fn pause_and_unpause(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.post(&format!("/containers/{id}/pause")).await?.is(204)?;
    let state = t.inspect(&id).await?["State"].clone();
    holds("it is paused and running", state["Paused"] == true && state["Status"] == "paused", state)?;
    let row = t.row(&id, "").await?.unwrap_or_default();
    same("the list's state", &row["State"], "paused")?;
    holds("the list's sentence", text(&row["Status"]).ends_with("(Paused)"), &row["Status"])?;
    t.post(&format!("/containers/{id}/pause")).await?.refuses(409, "already paused")?;
    t.post(&format!("/containers/{id}/unpause")).await?.is(204)?;
    same("the state", &t.inspect(&id).await?["State"]["Status"], "running")?;
    let row = t.row(&id, "").await?.unwrap_or_default();
    same("the list's state", &row["State"], "running")
}

async fn pause_of_a_stopped_container_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.post(&format!("/containers/{id}/pause")).await?.refuses(409, "is not running")
}

async fn rename_and_both_names_tell_the_truth(t: &Target) -> Result<(), Failure> {
    let id = t.container("before", json!({})).await?;
    let (before, after) = (t.name("before"), t.name("after"));
    t.remove_container_later(&after);
    t.post(&format!("/containers/{before}/rename?name={after}")).await?.is(204)?;
    same("Name", &t.inspect(&id).await?["Name"], format!("/{after}").as_str())?;
    same("inspect by the new name", &t.inspect(&after).await?["Id"], id.as_str())?;
    t.get(&format!("/containers/{before}/json")).await?.is(404)?;
    let row = t.row(&id, "all=1").await?.unwrap_or_default();
    holds("the list has the new name", names(&row, &after), row)?;
    t.container("before", json!({})).await.map(drop)
}

async fn rename_to_a_name_in_use_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.container("two", json!({})).await?;
    t.post(&format!("/containers/{id}/rename?name={}", t.name("two"))).await?.refuses(409, "already in use")
}

async fn rename_to_nothing_is_refused(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    for query in ["", "?name=", "?name=a%20b"] {
        t.post(&format!("/containers/{id}/rename{query}")).await?.rejects("")?;
    }
    Ok(())
}

async fn wait_gives_the_exit_code(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Cmd": ["sh", "-c", "sleep 0.5; exit 7"]})).await?;
    let reply = t.post(&format!("/containers/{id}/wait")).await?.is(200)?.json()?;
    same("StatusCode", &reply["StatusCode"], 7)
}

async fn wait_of_a_stopped_container_ends_at_once(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "exit 4").await?;
    for condition in ["", "?condition=not-running"] {
        let reply = t.post(&format!("/containers/{id}/wait{condition}")).await?.is(200)?.json()?;
        same("StatusCode", &reply["StatusCode"], 4)?;
    }
    Ok(())
}

/// The answer's head comes before its end, so that a client may wait first and start then.
async fn wait_for_the_next_exit(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Cmd": ["sh", "-c", "exit 6"]})).await?;
    let path = format!("/containers/{id}/wait?condition=next-exit");
    let waiting = t.open(Method::POST, &path, &[], None).await?;
    same("the status", waiting.status, 200)?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    same("StatusCode", &waiting.whole().await?.json()?["StatusCode"], 6)
}

async fn wait_for_removal(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Cmd": ["sh", "-c", "exit 5"], "HostConfig": {"AutoRemove": true}})).await?;
    let waiting = t.open(Method::POST, &format!("/containers/{id}/wait?condition=removed"), &[], None).await?;
    t.post(&format!("/containers/{id}/start")).await?.is(204)?;
    same("StatusCode", &waiting.whole().await?.json()?["StatusCode"], 5)?;
    t.get(&format!("/containers/{id}/json")).await?.is(404).map(drop)
}

async fn wait_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.post(&format!("/containers/{}/wait", t.name("nothing"))).await?.refuses(404, "No such container")
}

async fn update_changes_limits(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"HostConfig": {"Memory": 67_108_864}})).await?;
    let reply = t
        .send(
            &format!("/containers/{id}/update"),
            json!({"Memory": 134_217_728, "MemorySwap": 268_435_456, "CpuShares": 256}),
        )
        .await?;
    let body = reply.is(200)?.json()?;
    holds("it may warn", body.get("Warnings").is_some(), &body)?;
    let host = t.inspect(&id).await?["HostConfig"].clone();
    same("Memory", &host["Memory"], 134_217_728)?;
    same("CpuShares", &host["CpuShares"], 256)
}

async fn update_changes_the_restart_policy(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let policy = json!({"RestartPolicy": {"Name": "unless-stopped"}});
    t.send(&format!("/containers/{id}/update"), policy).await?.is(200)?;
    same("the policy", &t.inspect(&id).await?["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped")
}

async fn update_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.send(&format!("/containers/{}/update", t.name("nothing")), json!({})).await?.refuses(404, "No such container")
}

async fn the_end_is_told_by_inspect_and_list(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "exit 7").await?;
    let state = t.until_state(&id, "exited").await?["State"].clone();
    same("ExitCode", &state["ExitCode"], 7)?;
    same("OOMKilled", &state["OOMKilled"], false)?;
    holds("FinishedAt is a time", text(&state["FinishedAt"]).starts_with("20"), &state)?;
    let look = async || {
        let row = t.row(&id, "all=1").await?.unwrap_or_default();
        let told = row["State"] == "exited" && text(&row["Status"]).starts_with("Exited (7) ");
        Ok(if told { Ok(()) } else { Err(row.to_string()) })
    };
    t.until("the list tells the end", look).await
}

async fn a_container_that_removes_itself_is_gone(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Cmd": ["true"], "HostConfig": {"AutoRemove": true}})).await?;
    let look = async || {
        let gone = t.get(&format!("/containers/{id}/json")).await?.status == 404;
        let row = t.row(&id, "all=1").await?;
        Ok(if gone && row.is_none() { Ok(()) } else { Err(format!("{row:?}")) })
    };
    t.until("it is gone", look).await
}

async fn a_failing_container_is_restarted_as_often_as_asked(t: &Target) -> Result<(), Failure> {
    let host = json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}});
    let id = t.started("one", json!({"Cmd": ["false"], "HostConfig": host})).await?;
    let look = async || {
        let found: Value = t.inspect(&id).await?;
        let over = found["RestartCount"] == 2 && found["State"]["Status"] == "exited";
        Ok(if over { Ok(()) } else { Err(format!("{} {}", found["RestartCount"], found["State"])) })
    };
    t.until("it was restarted twice", look).await
}

async fn health_is_told(t: &Target) -> Result<(), Failure> {
    let check =
        |test: &str| json!({"Healthcheck": {"Test": ["CMD-SHELL", test], "Interval": 300_000_000, "Retries": 1}});
    for (test, wanted) in [("true", "healthy"), ("false", "unhealthy")] {
        let id = t.started(wanted, check(test)).await?;
        let filter = crate::target::filters(json!({"health": [wanted]}));
        let look = async || {
            let state = text(&t.inspect(&id).await?["State"]["Health"]["Status"]);
            let row = t.row(&id, &filter).await?.unwrap_or_default();
            let told = state == wanted && text(&row["Status"]).ends_with(&format!("({wanted})"));
            Ok(if told { Ok(()) } else { Err(format!("{state}, {}", row["Status"])) })
        };
        t.until("its health is told by inspect and list, which finds it by that", look).await?;
    }
    Ok(())
}

/// Waits until a container has printed something.
pub(super) async fn until_logged(t: &Target, id: &str, wanted: &str) -> Result<(), Failure> {
    let look = async || {
        let logs = t.get(&format!("/containers/{id}/logs?stdout=1&stderr=1")).await?.is(200)?.text();
        Ok(if logs.contains(wanted) { Ok(()) } else { Err(logs) })
    };
    t.until(&format!("{wanted} is in the logs"), look).await
}
