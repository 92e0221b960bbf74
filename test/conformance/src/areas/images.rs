//! Images: list, inspect, tag, remove, save, load, import, commit, pull and push as far as no registry is needed.

use crate::{
    failure::{Failure, holds, same},
    image,
    scenario::scenarios,
    target::{Target, escape, filters, text},
};
use http::Method;
use serde_json::{Value, json};

scenarios! { Images:
    "GET /images/json" => the_list_has_the_image,
    "GET /images/json?filters" => filter_by_reference,
    "GET /images/json?filters" => filter_by_label,
    "GET /images/json?filters" => filter_by_dangling,
    "GET /images/json?filters" => filter_by_before_and_since,
    "GET /images/json?filters" => a_filter_nobody_knows_is_refused,
    "GET /images/{name}/json" => inspect_by_name_and_by_id,
    "GET /images/{name}/json" => inspect_of_nothing_is_not_found,
    "GET /images/{name}/json" => a_name_without_a_tag_means_latest,
    "GET /images/{name}/history" => history_tells_the_layers,
    "GET /images/{name}/history" => history_of_nothing_is_not_found,
    "POST /images/{name}/tag" => tag_gives_one_more_name,
    "POST /images/{name}/tag" => tag_of_nothing_is_not_found,
    "POST /images/{name}/tag" => tag_with_a_bad_name_is_refused,
    "DELETE /images/{name}" => remove_of_one_name_leaves_the_others,
    "DELETE /images/{name}" => remove_of_the_last_name_removes_the_image,
    "DELETE /images/{name}" => remove_of_an_image_in_use_is_a_conflict,
    "DELETE /images/{name}" => remove_of_nothing_is_not_found,
    "GET /images/{name}/get" => save_and_load,
    "GET /images/get" => several_images_in_one_archive,
    "GET /images/get" => save_of_nothing_is_not_found,
    "POST /images/load" => load_of_nonsense_fails,
    "POST /images/create?fromSrc" => import_applies_changes,
    "POST /images/create?fromSrc" => import_of_nonsense_fails,
    "POST /commit" => commit_makes_an_image_of_a_container,
    "POST /commit" => commit_of_nothing_is_not_found,
    "POST /images/create?fromImage" => pull_from_a_registry_that_is_away_fails,
    "POST /images/{name}/push" => push_to_a_registry_that_is_away_fails,
    "POST /images/{name}/push" => push_of_nothing_fails,
}

async fn inspect(t: &Target, name: &str) -> Result<Value, Failure> {
    t.get(&format!("/images/{name}/json")).await?.is(200)?.json()
}

/// The list's rows that have a name of this scenario.
async fn own(t: &Target, query: &str) -> Result<Vec<String>, Failure> {
    let prefix = t.name("");
    let rows = t.get(&format!("/images/json?{query}")).await?.is(200)?.list()?;
    let tags = rows.iter().flat_map(|r| r["RepoTags"].as_array().cloned().unwrap_or_default());
    let mut own: Vec<String> = tags.filter_map(|tag| text(&tag).strip_prefix(&prefix).map(str::to_owned)).collect();
    own.sort();
    Ok(own)
}

/// Commits a container that has one file of its own, so that the image is nobody else's.
async fn committed(t: &Target, word: &str, settings: Value) -> Result<String, Failure> {
    let id = t.ran(&format!("for-{word}"), &format!("echo {} > /own", t.name(word))).await?;
    let name = t.name(word);
    t.later(format!("/images/{name}:1?force=1"));
    let reply = t.send(&format!("/commit?container={id}&repo={name}&tag=1"), settings).await?.is(201)?.json()?;
    holds("the answer has an id", text(&reply["Id"]).starts_with("sha256:"), &reply)?;
    t.delete(&format!("/containers/{id}")).await?.is(204)?;
    Ok(format!("{name}:1"))
}

async fn the_list_has_the_image(t: &Target) -> Result<(), Failure> {
    let rows = t.get("/images/json").await?.is(200)?.list()?;
    let row = rows.iter().find(|r| r["RepoTags"].as_array().is_some_and(|tags| tags.contains(&json!(t.image()))));
    let row = row.cloned().unwrap_or_default();
    holds("Id", text(&row["Id"]).starts_with("sha256:"), &row)?;
    holds("Created is in seconds", row["Created"].as_i64() > Some(1_500_000_000), &row)?;
    holds("Size", row["Size"].as_i64() > Some(100_000), &row)?;
    let ids: Vec<&Value> = rows.iter().map(|r| &r["Id"]).collect();
    let once = ids.iter().all(|id| ids.iter().filter(|other| other == &id).count() == 1);
    holds("every image is there once", once, ids)
}

async fn filter_by_reference(t: &Target) -> Result<(), Failure> {
    t.tagged("one").await?;
    t.tagged("two").await?;
    for (reference, wanted) in [
        (t.name("one"), vec!["one:1"]),
        (format!("{}:1", t.name("two")), vec!["two:1"]),
        (format!("{}:2", t.name("two")), vec![]),
        (t.name("*"), vec!["one:1", "two:1"]),
        (format!("{}:*", t.name("t*")), vec!["two:1"]),
    ] {
        let found = own(t, &filters(json!({"reference": [reference]}))).await?;
        same(format_args!("images like {reference}"), found, wanted)?;
    }
    Ok(())
}

async fn filter_by_label(t: &Target) -> Result<(), Failure> {
    committed(t, "one", json!({"Labels": {"osier.conformance": t.name("label")}})).await?;
    let label = format!("osier.conformance={}", t.name("label"));
    same("by name and value", own(t, &filters(json!({"label": [label]}))).await?, ["one:1"])?;
    same("by another value", own(t, &filters(json!({"label": ["osier.conformance=x"]}))).await?.len(), 0)
}

/// The second image of one container takes the first one's name away.
async fn filter_by_dangling(t: &Target) -> Result<(), Failure> {
    let container = t.started("source", json!({})).await?;
    let path = format!("/commit?container={container}&repo={}&tag=1", t.name("one"));
    t.later(format!("/images/{}:1?force=1", t.name("one")));
    t.exec(&container, &format!("echo {} > /own", t.name("first"))).await?;
    let id = text(&t.post(&path).await?.is(201)?.json()?["Id"]);
    t.later(format!("/images/{id}?force=1"));
    let has = async |dangling: &str| {
        let path = format!("/images/json?{}", filters(json!({"dangling": [dangling]})));
        let rows = t.get(&path).await?.is(200)?.list()?;
        Ok::<_, Failure>(rows.iter().any(|r| r["Id"] == id.as_str()))
    };
    same("a named image is dangling", has("true").await?, false)?;
    t.exec(&container, "echo second > /own").await?;
    t.post(&path).await?.is(201)?;
    same("the nameless image is dangling", has("true").await?, true)?;
    same("the nameless image is not dangling", has("false").await?, false)?;
    t.get(&format!("/images/json?{}", filters(json!({"dangling": ["x"]})))).await?.refuses(400, "invalid filter")
}

async fn filter_by_before_and_since(t: &Target) -> Result<(), Failure> {
    let first = committed(t, "one", json!({})).await?;
    t.next_second().await;
    let second = committed(t, "two", json!({})).await?;
    holds("since", own(t, &filters(json!({"since": [first]}))).await?.contains(&"two:1".to_owned()), &first)?;
    holds("before", own(t, &filters(json!({"before": [second]}))).await?.contains(&"one:1".to_owned()), &second)?;
    let missing = filters(json!({"before": [t.name("nothing")]}));
    let reply = t.get(&format!("/images/json?{missing}")).await?;
    holds("before nothing is refused", reply.status >= 400, reply.text())
}

async fn a_filter_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/images/json?{}", filters(json!({"nonsense": ["1"]})))).await?.refuses(400, "invalid filter")
}

async fn inspect_by_name_and_by_id(t: &Target) -> Result<(), Failure> {
    let shown = inspect(t, t.image()).await?;
    let id = text(&shown["Id"]);
    let digits = id.trim_start_matches("sha256:");
    for word in [id.as_str(), digits, &digits[..12]] {
        same(format_args!("inspect of {word}"), &inspect(t, word).await?["Id"], id.as_str())?;
    }
    same("Os", &shown["Os"], "linux")?;
    holds("RootFS.Layers", shown["RootFS"]["Layers"].as_array().is_some_and(|l| l.len() == 1), &shown["RootFS"])?;
    holds("RepoTags", shown["RepoTags"].as_array().is_some_and(|l| l.contains(&json!(t.image()))), &shown["RepoTags"])
}

async fn inspect_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    t.get(&format!("/images/{name}:1/json")).await?.refuses(404, &format!("No such image: {name}:1"))
}

async fn a_name_without_a_tag_means_latest(t: &Target) -> Result<(), Failure> {
    let tagged = t.tagged("one").await?;
    let (name, _) = tagged.split_once(':').unwrap_or_default();
    t.get(&format!("/images/{name}/json")).await?.refuses(404, "No such image")?;
    t.later(format!("/images/{name}:latest?force=1"));
    t.post(&format!("/images/{tagged}/tag?repo={name}")).await?.is(201)?;
    let id = inspect(t, &tagged).await?["Id"].clone();
    same("inspect", inspect(t, name).await?["Id"].clone(), id.clone())?;
    same("inspect by its whole name", inspect(t, &format!("docker.io/library/{name}:latest")).await?["Id"].clone(), id)
}

async fn history_tells_the_layers(t: &Target) -> Result<(), Failure> {
    let image = committed(t, "one", json!({})).await?;
    let history = t.get(&format!("/images/{image}/history")).await?.is(200)?.list()?;
    same("the number of layers", history.len(), 2)?;
    same("the newest layer's names", &history[0]["Tags"], &json!([image]))?;
    same("the oldest layer's comment", &history[1]["Comment"], "conformance suite")
}

async fn history_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/images/{}/history", t.name("nothing"))).await?.refuses(404, "No such image")
}

async fn tag_gives_one_more_name(t: &Target) -> Result<(), Failure> {
    let tagged = t.tagged("one").await?;
    same("the id", inspect(t, &tagged).await?["Id"].clone(), inspect(t, t.image()).await?["Id"].clone())?;
    same("the list", own(t, "").await?, ["one:1"])?;
    // A name may have a registry with a port and folders.
    let far = format!("127.0.0.1:5000/a/{}", t.name("far"));
    t.later(format!("/images/{far}:x?force=1"));
    t.post(&format!("/images/{tagged}/tag?repo={}&tag=x", escape(&far))).await?.is(201)?;
    inspect(t, &format!("{far}:x")).await.map(drop)
}

async fn tag_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let path = format!("/images/{}/tag?repo={}", t.name("nothing"), t.name("other"));
    t.post(&path).await?.refuses(404, "No such image")
}

async fn tag_with_a_bad_name_is_refused(t: &Target) -> Result<(), Failure> {
    for query in ["repo=UPPER", "repo=a&tag=%20", "repo=-a"] {
        t.post(&format!("/images/{}/tag?{query}", t.image())).await?.rejects("invalid")?;
    }
    Ok(())
}

async fn remove_of_one_name_leaves_the_others(t: &Target) -> Result<(), Failure> {
    let tagged = t.tagged("one").await?;
    let removed = t.delete(&format!("/images/{tagged}")).await?.is(200)?.list()?;
    holds("it says so", removed.contains(&json!({"Untagged": tagged})), &removed)?;
    holds("nothing was deleted", removed.iter().all(|r| r.get("Deleted").is_none()), &removed)?;
    t.get(&format!("/images/{tagged}/json")).await?.is(404)?;
    inspect(t, t.image()).await.map(drop)
}

async fn remove_of_the_last_name_removes_the_image(t: &Target) -> Result<(), Failure> {
    let image = committed(t, "one", json!({})).await?;
    let id = text(&inspect(t, &image).await?["Id"]);
    let removed = t.delete(&format!("/images/{image}")).await?.is(200)?.list()?;
    holds("it says so", removed.contains(&json!({"Deleted": id})), &removed)?;
    t.get(&format!("/images/{id}/json")).await?.is(404).map(drop)
}

async fn remove_of_an_image_in_use_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let image = committed(t, "one", json!({})).await?;
    t.started("user", json!({"Image": image})).await?;
    t.delete(&format!("/images/{image}")).await?.refuses(409, "is using its referenced image")?;
    inspect(t, &image).await.map(drop)
}

async fn remove_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.delete(&format!("/images/{}", t.name("nothing"))).await?.refuses(404, "No such image")
}

async fn save_and_load(t: &Target) -> Result<(), Failure> {
    let image = committed(t, "one", json!({})).await?;
    let id = text(&inspect(t, &image).await?["Id"]);
    let saved = t.get(&format!("/images/{image}/get")).await?.is(200)?;
    let manifest = image::file("the archive", &saved.body, "manifest.json")?;
    holds("the manifest names it", manifest.contains(&image), manifest)?;
    t.delete(&format!("/images/{image}")).await?.is(200)?;
    let body = Some(("application/x-tar", saved.body));
    let loaded = t.ask(Method::POST, "/images/load?quiet=1", body).await?.is(200)?;
    let lines = loaded.progress()?;
    holds(
        "it says what was loaded",
        lines.iter().any(|l| text(&l["stream"]).contains(&format!("Loaded image: {image}"))),
        lines,
    )?;
    same("the id", &inspect(t, &image).await?["Id"], id.as_str())
}

async fn several_images_in_one_archive(t: &Target) -> Result<(), Failure> {
    let (one, two) = (t.tagged("one").await?, t.tagged("two").await?);
    for query in [format!("names={one}&names={two}"), format!("names={}", escape(&format!("{one},{two}")))] {
        let saved = t.get(&format!("/images/get?{query}")).await?.is(200)?;
        let manifest = image::file("the archive", &saved.body, "manifest.json")?;
        // Only newer engines take the names apart at commas.
        let both = manifest.contains(&one) && manifest.contains(&two);
        holds("the manifest names both", both || query.contains("%2C"), manifest)?;
        if query.contains("names=") && both {
            return Ok(());
        }
    }
    Ok(())
}

async fn save_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let reply = t.get(&format!("/images/{}/get", t.name("nothing"))).await?;
    holds("it is refused", matches!(reply.status, 404 | 500), &reply)?;
    let status = reply.status;
    reply.refuses(status, "nothing")
}

async fn load_of_nonsense_fails(t: &Target) -> Result<(), Failure> {
    let body = Some(("application/x-tar", "nonsense".repeat(200).into()));
    let reply = t.ask(Method::POST, "/images/load", body).await?;
    let told = reply.status >= 400 || reply.values()?.iter().any(|l| l.get("error").is_some());
    holds("the failure is told", told, reply)
}

async fn import_applies_changes(t: &Target) -> Result<(), Failure> {
    let name = t.name("imported");
    t.later(format!("/images/{name}:1?force=1"));
    let changes = ["CMD [\"sleep\",\"7\"]", "ENV A=b", "LABEL org.example=yes"];
    let changes: String = changes.iter().map(|c| format!("&changes={}", escape(c))).collect();
    let path = format!("/images/create?fromSrc=-&repo={name}&tag=1&message=hello{changes}");
    let body = Some(("application/x-tar", image::pack(&[("hello", "world")])?));
    let lines = t.ask(Method::POST, &path, body).await?.is(200)?.progress()?;
    holds("it tells the id", lines.iter().any(|l| text(&l["status"]).starts_with("sha256:")), lines)?;
    let shown = inspect(t, &format!("{name}:1")).await?;
    same("Cmd", &shown["Config"]["Cmd"], &json!(["sleep", "7"]))?;
    same("the label", &shown["Config"]["Labels"]["org.example"], "yes")?;
    same("Comment", &shown["Comment"], "hello")
}

async fn import_of_nonsense_fails(t: &Target) -> Result<(), Failure> {
    let name = t.name("imported");
    t.later(format!("/images/{name}:1?force=1"));
    let body = Some(("application/x-tar", "nonsense".repeat(200).into()));
    let reply = t.ask(Method::POST, &format!("/images/create?fromSrc=-&repo={name}&tag=1"), body).await?;
    let told = reply.status >= 400 || reply.values()?.iter().any(|l| l.get("error").is_some());
    holds("the failure is told", told, reply)
}

async fn commit_makes_an_image_of_a_container(t: &Target) -> Result<(), Failure> {
    let id = t.ran("source", "echo inside > /own").await?;
    let name = t.name("made");
    t.later(format!("/images/{name}:v2?force=1"));
    let changes = escape("ENV A=committed");
    let path = format!("/commit?container={id}&repo={name}&tag=v2&comment=why&author=me&changes={changes}");
    t.send(&path, json!({"Cmd": ["cat", "/own"], "Labels": {"a": "b"}})).await?.is(201)?;
    let shown = inspect(t, &format!("{name}:v2")).await?;
    same("Comment", &shown["Comment"], "why")?;
    same("Author", &shown["Author"], "me")?;
    same("the label", &shown["Config"]["Labels"]["a"], "b")?;
    holds("the change", shown["Config"]["Env"].to_string().contains("A=committed"), &shown["Config"]["Env"])?;
    let run = t.started("run", json!({"Image": format!("{name}:v2"), "Cmd": ["cat", "/own"], "Tty": true})).await?;
    t.post(&format!("/containers/{run}/wait")).await?.is(200)?;
    let logs = t.get(&format!("/containers/{run}/logs?stdout=1")).await?.is(200)?.text();
    same("what a container of it prints", logs, "inside\r\n")
}

async fn commit_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.post(&format!("/commit?container={}", t.name("nothing"))).await?.refuses(404, "No such container")
}

async fn pull_from_a_registry_that_is_away_fails(t: &Target) -> Result<(), Failure> {
    let reply = t.post(&format!("/images/create?fromImage={}&tag=1", escape("127.0.0.1:1/nothing"))).await?;
    let told = reply.status >= 400 || reply.values()?.iter().any(|l| l.get("error").is_some());
    holds("the failure is told and names the registry", told && reply.text().contains("127.0.0.1:1"), reply)
}

async fn push_to_a_registry_that_is_away_fails(t: &Target) -> Result<(), Failure> {
    let name = format!("127.0.0.1:1/{}", t.name("far"));
    t.later(format!("/images/{name}:1?force=1"));
    t.post(&format!("/images/{}/tag?repo={}&tag=1", t.image(), escape(&name))).await?.is(201)?;
    let path = format!("/images/{name}/push?tag=1");
    let mut stream = t.open(Method::POST, &path, &[("x-registry-auth", "e30=")], None).await?;
    same("the status", stream.status, 200)?;
    stream.value("an error", |l| l.get("error").is_some()).await.map(drop)
}

async fn push_of_nothing_fails(t: &Target) -> Result<(), Failure> {
    let path = format!("/images/127.0.0.1:1/{}/push?tag=1", t.name("nothing"));
    let reply = t.open(Method::POST, &path, &[("x-registry-auth", "e30=")], None).await?.whole().await?;
    let told = reply.status >= 400 || reply.values()?.iter().any(|l| l.get("error").is_some());
    holds("the failure is told", told, reply)
}
