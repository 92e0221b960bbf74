//! Builds by the classic builder; BuildKit is driven by Docker's command line, see the area `cli`.

use crate::{
    failure::{Failure, holds, same},
    image,
    reply::Reply,
    scenario::scenarios,
    target::{Target, escape, text},
};
use http::Method;
use serde_json::{Value, json};

scenarios! { Build:
    "POST /build" => a_build_copies_and_configures,
    "POST /build" => a_build_runs_commands,
    "POST /build" => what_was_built_runs,
    "POST /build" => arguments_and_labels_are_applied,
    "POST /build" => a_target_stops_at_its_stage,
    "POST /build" => another_dockerfile_is_used,
    "POST /build" => two_names_in_one_build,
    "POST /build" => quiet_builds_tell_the_id_only,
    "POST /build" => a_second_build_uses_the_cache,
    "POST /build" => a_command_that_fails_ends_the_build,
    "POST /build" => a_missing_dockerfile_is_an_error,
    "POST /build" => a_dockerfile_with_a_mistake_is_an_error,
    "POST /build" => a_missing_base_image_is_an_error,
}

async fn build(t: &Target, word: &str, query: &str, files: &[(&str, &str)]) -> Result<Reply, Failure> {
    let name = t.name(word);
    t.later(format!("/images/{name}:1?force=1"));
    let path = format!("/build?t={name}:1&networkmode=none&rm=1&forcerm=1&{query}");
    t.ask(Method::POST, &path, Some(("application/x-tar", image::pack(files)?))).await
}

async fn config(t: &Target, word: &str) -> Result<Value, Failure> {
    Ok(t.get(&format!("/images/{}:1/json", t.name(word))).await?.is(200)?.json()?["Config"].clone())
}

/// Whether a build's answer tells a failure, at once or in its progress.
fn fails(reply: &Reply, why: &str) -> Result<(), Failure> {
    let told = reply.status >= 400 || reply.values()?.iter().any(|l| l.get("error").is_some());
    holds(format_args!("the failure is told and says '{why}'"), told && reply.text().contains(why), reply)
}

async fn a_build_copies_and_configures(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!(
        "FROM {}\nCOPY file /file\nENV A=b\nWORKDIR /tmp\nEXPOSE 80\nUSER guest\nVOLUME /data\nENTRYPOINT [\"cat\"]\nCMD [\"/file\"]\n",
        t.image()
    );
    let reply = build(t, "one", "", &[("Dockerfile", &dockerfile), ("file", "copied")]).await?.is(200)?;
    let lines = reply.progress()?;
    holds("it tells the id", lines.iter().any(|l| text(&l["aux"]["ID"]).starts_with("sha256:")), &lines)?;
    let said: String = lines.iter().map(|l| text(&l["stream"])).collect();
    holds("it tells the end", said.contains(&format!("Successfully tagged {}:1", t.name("one"))), &said)?;
    let config = config(t, "one").await?;
    same("Entrypoint", &config["Entrypoint"], &json!(["cat"]))?;
    same("Cmd", &config["Cmd"], &json!(["/file"]))?;
    same("WorkingDir", &config["WorkingDir"], "/tmp")?;
    same("User", &config["User"], "guest")?;
    same("ExposedPorts", &config["ExposedPorts"], &json!({"80/tcp": {}}))?;
    same("Volumes", &config["Volumes"], &json!({"/data": {}}))
}

async fn a_build_runs_commands(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nRUN echo it runs\n", t.image());
    let lines = build(t, "one", "", &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    holds("its output is told", lines.iter().any(|l| text(&l["stream"]) == "it runs\n"), lines)
}

async fn what_was_built_runs(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nCOPY file /file\nCMD [\"cat\", \"/file\"]\n", t.image());
    build(t, "one", "", &[("Dockerfile", &dockerfile), ("file", "built")]).await?.is(200)?.progress()?;
    let id = t.started("run", json!({"Image": format!("{}:1", t.name("one")), "Cmd": null, "Tty": true})).await?;
    t.post(&format!("/containers/{id}/wait")).await?.is(200)?;
    same("what it prints", t.get(&format!("/containers/{id}/logs?stdout=1")).await?.is(200)?.text(), "built")
}

async fn arguments_and_labels_are_applied(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nARG WHO=nobody\nENV GREETED=$WHO\n", t.image());
    let query = format!(
        "buildargs={}&labels={}",
        escape(&json!({"WHO": "world"}).to_string()),
        escape(&json!({"org.example": "yes"}).to_string())
    );
    build(t, "one", &query, &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    let config = config(t, "one").await?;
    holds("the argument", config["Env"].to_string().contains("GREETED=world"), &config["Env"])?;
    same("the label", &config["Labels"]["org.example"], "yes")
}

async fn a_target_stops_at_its_stage(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {0} AS first\nENV STAGE=first\nFROM {0}\nENV STAGE=second\n", t.image());
    build(t, "one", "target=first", &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    holds("the stage", config(t, "one").await?["Env"].to_string().contains("STAGE=first"), "first")
}

async fn another_dockerfile_is_used(t: &Target) -> Result<(), Failure> {
    let good = format!("FROM {}\nENV WHICH=other\n", t.image());
    let files = [("Dockerfile", "FROM nothing\n"), ("sub/Other", good.as_str())];
    build(t, "one", "dockerfile=sub/Other", &files).await?.is(200)?.progress()?;
    holds("which", config(t, "one").await?["Env"].to_string().contains("WHICH=other"), "other")
}

async fn two_names_in_one_build(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nENV A=b\n", t.image());
    t.later(format!("/images/{}:1?force=1", t.name("two")));
    let query = format!("t={}:1", t.name("two"));
    build(t, "one", &query, &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    same("both", config(t, "one").await?, config(t, "two").await?)
}

async fn quiet_builds_tell_the_id_only(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nENV A=quiet\n", t.image());
    let lines = build(t, "one", "q=1", &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    let said: String = lines.iter().map(|l| text(&l["stream"])).collect();
    holds("it is the id", said.trim().starts_with("sha256:") && said.lines().count() == 1, said)
}

async fn a_second_build_uses_the_cache(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nRUN echo {} > /made\n", t.image(), t.name("once"));
    build(t, "one", "", &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    let lines = build(t, "one", "", &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    holds("the cache is used", lines.iter().any(|l| text(&l["stream"]).contains("Using cache")), &lines)?;
    let lines = build(t, "one", "nocache=1", &[("Dockerfile", &dockerfile)]).await?.is(200)?.progress()?;
    holds("unless told not to", lines.iter().all(|l| !text(&l["stream"]).contains("Using cache")), &lines)
}

async fn a_command_that_fails_ends_the_build(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nRUN exit 7\n", t.image());
    let reply = build(t, "one", "", &[("Dockerfile", &dockerfile)]).await?.is(200)?;
    fails(&reply, "returned a non-zero code: 7")?;
    let code = reply.values()?.iter().find_map(|l| l["errorDetail"]["code"].as_i64());
    same("the code", code, Some(7))?;
    t.get(&format!("/images/{}:1/json", t.name("one"))).await?.is(404).map(drop)
}

async fn a_missing_dockerfile_is_an_error(t: &Target) -> Result<(), Failure> {
    fails(&build(t, "one", "", &[("file", "x")]).await?, "Dockerfile")
}

async fn a_dockerfile_with_a_mistake_is_an_error(t: &Target) -> Result<(), Failure> {
    let dockerfile = format!("FROM {}\nNONSENSE yes\n", t.image());
    fails(&build(t, "one", "", &[("Dockerfile", &dockerfile)]).await?, "unknown instruction: NONSENSE")
}

async fn a_missing_base_image_is_an_error(t: &Target) -> Result<(), Failure> {
    fails(&build(t, "one", "", &[("Dockerfile", "FROM 127.0.0.1:1/nothing:1\n")]).await?, "127.0.0.1:1")
}
