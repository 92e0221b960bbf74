//! Logs.

use super::lifecycle::until_logged;
use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::Target,
    tunnel::split_frames,
};
use http::Method;
use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

scenarios! { Logs:
    "GET /containers/{id}/logs" => output_and_errors_come_apart,
    "GET /containers/{id}/logs" => only_the_stream_asked_for_comes,
    "GET /containers/{id}/logs" => a_terminals_logs_are_plain,
    "GET /containers/{id}/logs?tail" => tail_gives_the_last_lines,
    "GET /containers/{id}/logs?timestamps" => timestamps_come_before_each_line,
    "GET /containers/{id}/logs?since" => since_and_until_cut_out_a_part,
    "GET /containers/{id}/logs?follow" => follow_goes_on_until_the_end,
    "GET /containers/{id}/logs?follow" => follow_of_a_stopped_container_ends,
    "GET /containers/{id}/logs" => logs_of_no_stream_are_refused,
    "GET /containers/{id}/logs" => logs_of_nothing_are_not_found,
    "GET /containers/{id}/logs" => logs_of_a_new_container_are_empty,
    "GET /containers/{id}/logs" => twenty_thousand_lines_come_through_whole,
}

async fn logs(t: &Target, id: &str, query: &str) -> Result<(String, String), Failure> {
    let reply = t.get(&format!("/containers/{id}/logs?{query}")).await?.is(200)?;
    split_frames(&reply.asked, &reply.body)
}

/// The body of a create request that runs a shell line.
fn shell(line: &str) -> serde_json::Value {
    json!({"Cmd": ["sh", "-c", line]})
}

async fn output_and_errors_come_apart(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo out; echo err >&2").await?;
    let both = logs(t, &id, "stdout=1&stderr=1").await?;
    same("the streams", both, ("out\n".to_owned(), "err\n".to_owned()))
}

async fn only_the_stream_asked_for_comes(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo out; echo err >&2").await?;
    same("standard output", logs(t, &id, "stdout=true").await?, ("out\n".to_owned(), String::new()))?;
    same("standard error", logs(t, &id, "stderr=1&stdout=0").await?, (String::new(), "err\n".to_owned()))
}

async fn a_terminals_logs_are_plain(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({"Tty": true, "Cmd": ["sh", "-c", "echo plain"]})).await?;
    t.post(&format!("/containers/{id}/wait")).await?.is(200)?;
    same("the body", t.get(&format!("/containers/{id}/logs?stdout=1")).await?.is(200)?.text(), "plain\r\n")
}

async fn tail_gives_the_last_lines(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "seq 1 20").await?;
    for (tail, wanted) in [("2", "19\n20\n"), ("0", "")] {
        same(format_args!("tail={tail}"), logs(t, &id, &format!("stdout=1&tail={tail}")).await?.0, wanted)?;
    }
    for tail in ["all", "x", "-1", "50"] {
        let lines = logs(t, &id, &format!("stdout=1&tail={tail}")).await?.0.lines().count();
        same(format_args!("lines with tail={tail}"), lines, 20)?;
    }
    Ok(())
}

async fn timestamps_come_before_each_line(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo one; echo two").await?;
    let (out, _) = logs(t, &id, "stdout=1&timestamps=1").await?;
    let stamped = |line: &str, word: &str| {
        line.split_once(' ').is_some_and(|(time, rest)| time.starts_with("20") && time.ends_with('Z') && rest == word)
    };
    let lines: Vec<&str> = out.lines().collect();
    holds("both have one", lines.len() == 2 && stamped(lines[0], "one") && stamped(lines[1], "two"), lines)
}

async fn since_and_until_cut_out_a_part(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo one; sleep 1.2; echo two; sleep 1.2; echo three").await?;
    let (stamped, _) = logs(t, &id, "stdout=1&timestamps=1").await?;
    let line = |line: &'_ str| {
        let (time, word) = line.split_once(' ')?;
        Some((OffsetDateTime::parse(time, &Rfc3339).ok()?, format!("{word}\n")))
    };
    let lines: Vec<(OffsetDateTime, String)> = stamped.lines().filter_map(line).collect();
    holds("three lines", lines.len() == 3, &stamped)?;
    // Lines are stamped as they are read, so on a busy machine they may be less than a second apart.
    let since = lines[1].0.replace_nanosecond(0).unwrap_or(lines[1].0);
    let until = since + Duration::SECOND;
    let wanted = |is_wanted: &dyn Fn(OffsetDateTime) -> bool| {
        lines.iter().filter(|(time, _)| is_wanted(*time)).map(|(_, line)| line.as_str()).collect::<String>()
    };
    let cut = async |word: &str, time: OffsetDateTime| {
        logs(t, &id, &format!("stdout=1&{word}={}", time.unix_timestamp())).await.map(|(out, _)| out)
    };
    same("since the second", cut("since", since).await?, wanted(&|time| time >= since))?;
    same("until the second", cut("until", until).await?, wanted(&|time| time <= until))?;
    same("since 1970", logs(t, &id, "stdout=1&since=0").await?.0.lines().count(), 3)
}

async fn follow_goes_on_until_the_end(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", shell("echo first; while [ ! -f /go ]; do sleep 0.1; done; echo last")).await?;
    let path = format!("/containers/{id}/logs?stdout=1&follow=1");
    let mut stream = t.open(Method::GET, &path, &[], None).await?;
    stream.until("the first line", |b| b.windows(5).any(|w| w == b"first").then_some(())).await?;
    t.exec(&id, "touch /go").await?;
    let whole = stream.whole().await?;
    same("everything", split_frames("the logs", &whole.body)?.0, "first\nlast\n")
}

async fn follow_of_a_stopped_container_ends(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo all").await?;
    same("everything", logs(t, &id, "stdout=1&follow=1").await?.0, "all\n")
}

async fn logs_of_no_stream_are_refused(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "echo all").await?;
    let reply = t.get(&format!("/containers/{id}/logs")).await?;
    reply.refuses(400, "you must choose at least one stream")
}

async fn logs_of_nothing_are_not_found(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/containers/{}/logs?stdout=1", t.name("nothing"))).await?.refuses(404, "No such container")
}

async fn logs_of_a_new_container_are_empty(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    same("the body", t.get(&format!("/containers/{id}/logs?stdout=1")).await?.is(200)?.text(), "")
}

async fn twenty_thousand_lines_come_through_whole(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", shell("seq 1 20000; sleep 1000")).await?;
    until_logged(t, &id, "20000").await?;
    let (out, _) = logs(t, &id, "stdout=1").await?;
    same("the number of lines", out.lines().count(), 20_000)?;
    same("the last one", out.lines().last(), Some("20000"))
}
