//! Requests that cannot be served: every refusal is JSON with a message and the engine's own status.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::Target,
};
use http::Method;
use serde_json::json;

scenarios! { Errors:
    "/containers/{id}/…" => a_container_that_is_not_there_is_not_found_by_every_call,
    "/images/{name}/…" => an_image_that_is_not_there_is_not_found_by_every_call,
    "/containers/{id}/…" => names_with_escapes_are_read_once,
    "POST /containers/create" => a_body_of_another_type_is_refused,
    "POST …" => malformed_json_is_refused_by_every_call,
    "/containers/{id}/…" => calls_nobody_knows_are_not_found,
    "POST /containers/create" => a_large_body_is_read,
    "GET /containers/{id}/json" => ten_requests_at_once_are_answered,
    "any" => a_request_after_a_refused_one_is_served,
    "any" => every_answer_tells_the_server,
}

async fn a_container_that_is_not_there_is_not_found_by_every_call(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    for (method, call) in [
        (Method::GET, "json"),
        (Method::GET, "top"),
        (Method::GET, "changes"),
        (Method::GET, "stats?stream=0"),
        (Method::GET, "export"),
        (Method::GET, "archive?path=/"),
        (Method::POST, "start"),
        (Method::POST, "stop"),
        (Method::POST, "restart"),
        (Method::POST, "kill"),
        (Method::POST, "pause"),
        (Method::POST, "unpause"),
        (Method::POST, "resize?h=1&w=1"),
        (Method::POST, "rename?name=other-nothing"),
    ] {
        let reply = t.ask(method, &format!("/containers/{name}/{call}"), None).await?;
        reply.refuses(404, &format!("No such container: {name}"))?;
    }
    Ok(())
}

async fn an_image_that_is_not_there_is_not_found_by_every_call(t: &Target) -> Result<(), Failure> {
    let name = format!("{}:1", t.name("nothing"));
    for (method, path) in [
        (Method::GET, format!("/images/{name}/json")),
        (Method::GET, format!("/images/{name}/history")),
        (Method::POST, format!("/images/{name}/tag?repo=a")),
        (Method::DELETE, format!("/images/{name}")),
    ] {
        t.ask(method, &path, None).await?.refuses(404, "No such image")?;
    }
    Ok(())
}

async fn names_with_escapes_are_read_once(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let name = t.name("one").replace('-', "%2D");
    same("inspect by an escaped name", &t.inspect(&name).await?["Id"], id.as_str())?;
    let twice = name.replace('%', "%25");
    t.get(&format!("/containers/{twice}/json")).await?.refuses(404, "No such container")
}

async fn a_body_of_another_type_is_refused(t: &Target) -> Result<(), Failure> {
    let body = Some(("text/plain", t.body(json!({})).to_string().into()));
    let reply = t.ask(Method::POST, &format!("/containers/create?name={}", t.name("one")), body).await?;
    reply.refuses(400, "application/json")
}

async fn malformed_json_is_refused_by_every_call(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    let network = t.network("lan", json!({})).await?;
    for path in [
        "/containers/create".to_owned(),
        format!("/containers/{id}/exec"),
        format!("/containers/{id}/update"),
        "/networks/create".to_owned(),
        format!("/networks/{network}/connect"),
        format!("/networks/{network}/disconnect"),
        "/volumes/create".to_owned(),
    ] {
        t.ask(Method::POST, &path, Some(("application/json", "{\"a\":".into()))).await?.rejects("")?;
    }
    Ok(())
}

async fn calls_nobody_knows_are_not_found(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.get(&format!("/containers/{id}/nonsense")).await?.refuses(404, "page not found")?;
    t.post(&format!("/containers/{id}/json")).await?.refuses(404, "page not found")?;
    t.get("/containers").await?.refuses(404, "page not found")?;
    t.get("/images/a/nonsense").await?.refuses(404, "page not found")
}

async fn a_large_body_is_read(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({"Labels": {"large": "x".repeat(1 << 20)}})).await?;
    let label = t.inspect(&id).await?["Config"]["Labels"]["large"].as_str().map_or(0, str::len);
    same("the label's length", label, 1 << 20)
}

async fn ten_requests_at_once_are_answered(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let answers = futures::future::join_all((0..10).map(|_| t.inspect(&id))).await;
    for answer in answers {
        same("the id", &answer?["Id"], id.as_str())?;
    }
    Ok(())
}

async fn a_request_after_a_refused_one_is_served(t: &Target) -> Result<(), Failure> {
    for _ in 0..3 {
        t.post("/containers/create?name=%20").await?.rejects("")?;
        t.get("/nonsense").await?.refuses(404, "")?;
        t.get("/_ping").await?.is(200)?;
    }
    Ok(())
}

async fn every_answer_tells_the_server(t: &Target) -> Result<(), Failure> {
    for path in ["/version", "/containers/json", "/containers/nothing/json"] {
        let reply = t.get(path).await?;
        holds("Server", !reply.header("server").is_empty(), &reply.headers)?;
        holds("Api-Version", reply.header("api-version").starts_with("1."), &reply.headers)?;
    }
    Ok(())
}
