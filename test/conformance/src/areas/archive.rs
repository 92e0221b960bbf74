//! Copying files into containers and out of them.

use crate::{
    failure::{Failure, holds, same},
    image,
    scenario::scenarios,
    target::Target,
};
use base64::Engine;
use http::Method;
use serde_json::{Value, json};

scenarios! { Archive:
    "PUT /containers/{id}/archive" => what_goes_in_comes_out,
    "PUT /containers/{id}/archive" => files_reach_a_running_container,
    "PUT /containers/{id}/archive" => a_folder_that_is_not_there_is_not_found,
    "PUT /containers/{id}/archive" => a_file_is_no_folder,
    "PUT /containers/{id}/archive" => a_folder_is_not_replaced_by_a_file_unless_allowed,
    "PUT /containers/{id}/archive" => bytes_that_are_no_archive_are_refused,
    "GET /containers/{id}/archive" => a_folder_comes_with_what_is_in_it,
    "GET /containers/{id}/archive" => a_file_that_is_not_there_is_not_found,
    "GET /containers/{id}/archive" => without_a_path_it_is_refused,
    "HEAD /containers/{id}/archive" => the_head_tells_about_the_file,
    "HEAD /containers/{id}/archive" => the_head_of_a_file_that_is_not_there,
    "GET /containers/{id}/archive" => files_in_volumes_are_reached,
    "GET /containers/{id}/archive" => five_megabytes_survive_the_way,
}

const TAR: &str = "application/x-tar";

async fn put(t: &Target, id: &str, query: &str, files: &[(&str, &str)]) -> Result<crate::reply::Reply, Failure> {
    let body = Some((TAR, image::pack(files)?));
    t.ask(Method::PUT, &format!("/containers/{id}/archive?{query}"), body).await
}

/// What the header tells about a file: JSON in base64.
fn stat(header: &str) -> Result<Value, Failure> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(header);
    let bytes = bytes.map_err(|e| Failure::broken("decode X-Docker-Container-Path-Stat", e))?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::broken("read X-Docker-Container-Path-Stat", e))
}

async fn what_goes_in_comes_out(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    put(t, &id, "path=/tmp", &[("a.txt", "alpha"), ("sub/b.txt", "beta")]).await?.is(200)?;
    let back = t.get(&format!("/containers/{id}/archive?path=/tmp/sub/b.txt")).await?.is(200)?;
    holds("it is an archive", back.header("content-type") == TAR, &back.headers)?;
    same("the file", image::file("the answer", &back.body, "b.txt")?, "beta")?;
    let about = stat(back.header("x-docker-container-path-stat"))?;
    holds("the header tells about it", about["name"] == "b.txt" && about["size"] == 4, about)
}

async fn files_reach_a_running_container(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    put(t, &id, "path=/", &[("etc/settings", "a=1\n")]).await?.is(200)?;
    same("what it reads", t.exec(&id, "cat /etc/settings").await?, (0, "a=1\n".to_owned()))
}

async fn a_folder_that_is_not_there_is_not_found(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    put(t, &id, "path=/no/such/folder", &[("a", "a")]).await?.refuses(404, "/no/such/folder")
}

async fn a_file_is_no_folder(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    put(t, &id, "path=/etc/passwd", &[("a", "a")]).await?.rejects("directory")
}

async fn a_folder_is_not_replaced_by_a_file_unless_allowed(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    put(t, &id, "path=/&noOverwriteDirNonDir=1", &[("tmp", "no folder")]).await?.rejects("cannot overwrite directory")
}

async fn bytes_that_are_no_archive_are_refused(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let body = Some((TAR, "nonsense".repeat(500).into()));
    t.ask(Method::PUT, &format!("/containers/{id}/archive?path=/tmp"), body).await?.rejects("")
}

async fn a_folder_comes_with_what_is_in_it(t: &Target) -> Result<(), Failure> {
    let id = t.ran("one", "mkdir -p /tmp/a/b; echo 1 > /tmp/a/b/c; echo 2 > /tmp/a/d; chmod 700 /tmp/a/d").await?;
    let reply = t.get(&format!("/containers/{id}/archive?path=/tmp/a")).await?.is(200)?;
    let entries = image::unpack("the answer", &reply.body)?;
    let mut paths: Vec<&str> = entries.iter().map(|e| e.path.trim_end_matches('/')).collect();
    paths.sort_unstable();
    same("the paths", paths, ["a", "a/b", "a/b/c", "a/d"])?;
    let mode = entries.iter().find(|e| e.path == "a/d").map(|e| e.mode & 0o777);
    same("the mode", mode, Some(0o700))
}

async fn a_file_that_is_not_there_is_not_found(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.get(&format!("/containers/{id}/archive?path=/nothing")).await?.refuses(404, "/nothing")
}

async fn without_a_path_it_is_refused(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.get(&format!("/containers/{id}/archive")).await?.refuses(400, "path")
}

async fn the_head_tells_about_the_file(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let reply = t.head(&format!("/containers/{id}/archive?path=/etc/passwd")).await?.is(200)?;
    same("the body", reply.text(), "")?;
    let about = stat(reply.header("x-docker-container-path-stat"))?;
    holds(
        "name, size and mode",
        about["name"] == "passwd" && about["size"].as_i64() > Some(10) && about["mode"].is_i64(),
        about,
    )
}

async fn the_head_of_a_file_that_is_not_there(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.head(&format!("/containers/{id}/archive?path=/nothing")).await?.is(404).map(drop)
}

async fn files_in_volumes_are_reached(t: &Target) -> Result<(), Failure> {
    let volume = t.volume("data", json!({})).await?;
    let bind = format!("{volume}:/data");
    let id = t.started("one", json!({"HostConfig": {"Binds": [bind]}})).await?;
    put(t, &id, "path=/data", &[("in.txt", "volume")]).await?.is(200)?;
    same("what it reads", t.exec(&id, "cat /data/in.txt").await?.1, "volume")?;
    let back = t.get(&format!("/containers/{id}/archive?path=/data/in.txt")).await?.is(200)?;
    same("the file", image::file("the answer", &back.body, "in.txt")?, "volume")
}

async fn five_megabytes_survive_the_way(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let large: String =
        (0..5 << 20).map(|i: u32| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 28) as u8)).collect();
    put(t, &id, "path=/tmp", &[("large", &large)]).await?.is(200)?;
    let back = t.get(&format!("/containers/{id}/archive?path=/tmp/large")).await?.is(200)?;
    holds("the bytes are the same", image::file("the answer", &back.body, "large")? == large, back.body.len())
}
