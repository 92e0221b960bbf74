//! `GET /containers/json`: which containers, in which order, with what in each row.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{Target, escape, filters, names, text},
};
use http::Method;
use serde_json::{Value, json};

scenarios! { Lists:
    "GET /containers/json" => only_running_containers_unless_all_are_wanted,
    "GET /containers/json" => a_row_tells_what_ps_prints,
    "GET /containers/json" => the_newest_come_first,
    "GET /containers/json?limit" => limit_shows_the_newest_of_all,
    "GET /containers/json?size" => sizes_come_when_asked,
    "GET /containers/json?filters" => filter_by_id_and_its_prefix,
    "GET /containers/json?filters" => filter_by_name,
    "GET /containers/json?filters" => filter_by_label,
    "GET /containers/json?filters" => filter_by_status,
    "GET /containers/json?filters" => filter_by_exit_code,
    "GET /containers/json?filters" => filter_by_ancestor,
    "GET /containers/json?filters" => filter_by_before_and_since,
    "GET /containers/json?filters" => filter_by_volume,
    "GET /containers/json?filters" => filter_by_network,
    "GET /containers/json?filters" => filter_by_published_and_exposed_ports,
    "GET /containers/json?filters" => filters_of_different_keys_must_all_hold,
    "GET /containers/json?filters" => filters_in_the_old_form_are_read,
    "GET /containers/json?filters" => malformed_filters_are_refused,
    "GET /containers/json?filters" => a_filter_nobody_knows_is_refused,
    "GET /containers/json?filters" => a_status_nobody_knows_is_refused,
    "GET /containers/json?filters" => before_a_container_that_is_not_there_is_refused,
    "GET /containers/json" => the_list_in_an_old_version,
}

/// The last parts of the containers' names in a list, in its order.
async fn listed(t: &Target, query: &str) -> Result<Vec<String>, Failure> {
    let rows = t.get(&format!("/containers/json?{query}")).await?.is(200)?.list()?;
    let last = |row: &Value| text(&row["Names"][0]).rsplit('/').next().unwrap_or_default().to_owned();
    Ok(rows.iter().map(last).collect())
}

/// Which of the scenario's own containers a list with these filters has, without the prefix of their names.
async fn own(t: &Target, wanted: Value) -> Result<Vec<String>, Failure> {
    let prefix = t.name("");
    let all = listed(t, &format!("all=1&{}", filters(wanted))).await?;
    let mut own: Vec<String> = all.iter().filter_map(|n| n.strip_prefix(&prefix).map(str::to_owned)).collect();
    own.sort();
    Ok(own)
}

async fn only_running_containers_unless_all_are_wanted(t: &Target) -> Result<(), Failure> {
    let runs = t.started("runs", json!({})).await?;
    let rests = t.container("rests", json!({})).await?;
    holds("the running one is there", t.row(&runs, "").await?.is_some(), &runs)?;
    same("the other one", t.row(&rests, "").await?, None)?;
    for all in ["all=1", "all=true"] {
        holds(
            format_args!("with {all} both are"),
            t.row(&runs, all).await?.is_some() && t.row(&rests, all).await?.is_some(),
            all,
        )?;
    }
    Ok(())
}

async fn a_row_tells_what_ps_prints(t: &Target) -> Result<(), Failure> {
    let volume = t.volume("data", json!({})).await?;
    let host = json!({"Binds": [format!("{volume}:/data:ro")]});
    let id = t.started("one", json!({"Labels": {"a": "b"}, "HostConfig": host})).await?;
    let row = t.row(&id, "").await?.unwrap_or_default();
    holds("Names", names(&row, &t.name("one")), &row["Names"])?;
    holds("names begin with a slash", text(&row["Names"][0]).starts_with('/'), &row["Names"])?;
    same("Image", &row["Image"], t.image())?;
    holds("ImageID", text(&row["ImageID"]).starts_with("sha256:"), &row["ImageID"])?;
    same("Command", &row["Command"], "sleep 1000")?;
    holds("Created is in seconds", row["Created"].as_i64() > Some(1_500_000_000), &row["Created"])?;
    same("Ports", &row["Ports"], &json!([]))?;
    same("Labels", &row["Labels"]["a"], "b")?;
    same("State", &row["State"], "running")?;
    holds("Status", text(&row["Status"]).starts_with("Up "), &row["Status"])?;
    same("HostConfig.NetworkMode", &row["HostConfig"]["NetworkMode"], "none")?;
    holds("NetworkSettings.Networks", row["NetworkSettings"]["Networks"]["none"].is_object(), &row["NetworkSettings"])?;
    let mount = &row["Mounts"][0];
    holds("Mounts", mount["Type"] == "volume" && mount["Name"] == volume.as_str() && mount["RW"] == false, mount)
}

async fn the_newest_come_first(t: &Target) -> Result<(), Failure> {
    for word in ["a", "b", "c", "d"] {
        t.container(word, json!({})).await?;
    }
    let all = listed(t, "all=1").await?;
    let place = |word: &str| all.iter().position(|n| *n == t.name(word));
    // Several engines' containers are told apart by whole seconds only.
    let created: Vec<Value> = t.get("/containers/json?all=1").await?.is(200)?.list()?;
    let times: Vec<i64> = created.iter().filter_map(|row| row["Created"].as_i64()).collect();
    holds("times fall", times.windows(2).all(|w| w[0] >= w[1]), &times)?;
    holds("all are there", ["a", "b", "c", "d"].iter().all(|w| place(w).is_some()), all)
}

async fn limit_shows_the_newest_of_all(t: &Target) -> Result<(), Failure> {
    for word in ["a", "b", "c"] {
        t.container(word, json!({})).await?;
    }
    for limit in 1..=3 {
        let filter = filters(json!({"name": [t.name("")]}));
        same("the number of rows", listed(t, &format!("limit={limit}&{filter}")).await?.len(), limit)?;
    }
    t.get("/containers/json?limit=x").await?.rejects("")
}

async fn sizes_come_when_asked(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    let plain = t.row(&id, "").await?.unwrap_or_default();
    holds("no size unasked", plain.get("SizeRootFs").is_none(), &plain)?;
    let sized = t.row(&id, "size=1").await?.unwrap_or_default();
    holds("a size", sized["SizeRootFs"].as_i64() > Some(100_000), &sized)
}

async fn filter_by_id_and_its_prefix(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    t.container("two", json!({})).await?;
    for word in [&id[..], &id[..12], &id[..20]] {
        same(format_args!("containers with the id {word}"), own(t, json!({"id": [word]})).await?, ["one"])?;
    }
    same("containers with no such id", own(t, json!({"id": ["zzz"]})).await?.len(), 0)
}

async fn filter_by_name(t: &Target) -> Result<(), Failure> {
    for word in ["web-1", "web-2", "db"] {
        t.container(word, json!({})).await?;
    }
    for (name, wanted) in [
        (t.name("web"), vec!["web-1", "web-2"]),
        (t.name("db"), vec!["db"]),
        (format!("^/?{}$", t.name("web-1")), vec!["web-1"]),
        (format!("/{}", t.name("db")), vec!["db"]),
        (t.name("nothing"), vec![]),
    ] {
        same(format_args!("containers named {name}"), own(t, json!({"name": [name]})).await?, wanted)?;
    }
    let either = json!({"name": [t.name("db"), t.name("web-2")]});
    same("containers of either name", own(t, either).await?, ["db", "web-2"])
}

async fn filter_by_label(t: &Target) -> Result<(), Failure> {
    t.container("a", json!({"Labels": {"color": "red", "size": "big"}})).await?;
    t.container("b", json!({"Labels": {"color": "blue", "size": "big"}})).await?;
    t.container("c", json!({"Labels": {"colorful": "red"}})).await?;
    for (labels, wanted) in [
        (json!(["color"]), vec!["a", "b"]),
        (json!(["color=red"]), vec!["a"]),
        (json!(["color=red", "size=big"]), vec!["a"]),
        (json!(["color", "size=big"]), vec!["a", "b"]),
        (json!(["color=red", "size=small"]), vec![]),
        (json!(["color=re"]), vec![]),
    ] {
        same(format_args!("containers labelled {labels}"), own(t, json!({"label": labels})).await?, wanted)?;
    }
    Ok(())
}

async fn filter_by_status(t: &Target) -> Result<(), Failure> {
    t.container("new", json!({})).await?;
    t.started("runs", json!({})).await?;
    t.ran("over", "true").await?;
    let paused = t.started("paused", json!({})).await?;
    t.post(&format!("/containers/{paused}/pause")).await?.is(204)?;
    for (status, wanted) in [("created", "new"), ("running", "runs"), ("exited", "over"), ("paused", "paused")] {
        let look = async || {
            let found = own(t, json!({"status": [status]})).await?;
            Ok(if found == [wanted] { Ok(()) } else { Err(format!("{found:?}")) })
        };
        t.until(&format!("{wanted} is the one that is {status}"), look).await?;
    }
    let both = own(t, json!({"status": ["created", "exited"]})).await?;
    same("created or exited", both, ["new", "over"])?;
    // A status shows containers that do not run without asking for all.
    let rows = listed(t, &filters(json!({"status": ["exited"], "name": [t.name("")]}))).await?;
    same("exited without all", rows, [t.name("over")])
}

async fn filter_by_exit_code(t: &Target) -> Result<(), Failure> {
    t.ran("three", "exit 3").await?;
    t.ran("zero", "exit 0").await?;
    let look = async || {
        let found = own(t, json!({"exited": ["3"]})).await?;
        Ok(if found == ["three"] { Ok(()) } else { Err(format!("{found:?}")) })
    };
    t.until("one ended with 3", look).await?;
    t.get(&format!("/containers/json?{}", filters(json!({"exited": ["x"]})))).await?.rejects("")
}

async fn filter_by_ancestor(t: &Target) -> Result<(), Failure> {
    let image = t.tagged("other").await?;
    let id = text(&t.get(&format!("/images/{}/json", t.image())).await?.is(200)?.json()?["Id"]);
    t.container("by-name", json!({})).await?;
    for word in [t.image(), &id, &id["sha256:".len()..][..12], &image] {
        same(format_args!("containers of {word}"), own(t, json!({"ancestor": [word]})).await?, ["by-name"])?;
    }
    same("containers of nothing", own(t, json!({"ancestor": [t.name("nothing")]})).await?.len(), 0)
}

async fn filter_by_before_and_since(t: &Target) -> Result<(), Failure> {
    for word in ["a", "b", "c"] {
        t.container(word, json!({})).await?;
        t.next_second().await;
    }
    same("before c", own(t, json!({"before": [t.name("c")]})).await?, ["a", "b"])?;
    same("since a", own(t, json!({"since": [t.name("a")]})).await?, ["b", "c"])?;
    same("between", own(t, json!({"since": [t.name("a")], "before": [t.name("c")]})).await?, ["b"])
}

async fn filter_by_volume(t: &Target) -> Result<(), Failure> {
    let volume = t.volume("data", json!({})).await?;
    t.container("with", json!({"HostConfig": {"Binds": [format!("{volume}:/where")]}})).await?;
    t.container("without", json!({})).await?;
    for word in [volume.as_str(), "/where"] {
        same(format_args!("containers with the volume {word}"), own(t, json!({"volume": [word]})).await?, ["with"])?;
    }
    Ok(())
}

async fn filter_by_network(t: &Target) -> Result<(), Failure> {
    let id = t.network("lan", json!({})).await?;
    let name = t.name("lan");
    t.container("with", json!({"HostConfig": {"NetworkMode": name}})).await?;
    t.container("without", json!({})).await?;
    same("containers on the network", own(t, json!({"network": [name]})).await?, ["with"])?;
    // A container that never ran knows its network by name only.
    let started = t.name("with");
    t.post(&format!("/containers/{started}/start")).await?.is(204)?;
    let look = async || {
        let found = own(t, json!({"network": [id]})).await?;
        Ok(if found == ["with"] { Ok(()) } else { Err(format!("{found:?}")) })
    };
    t.until("it is found by the network's id", look).await
}

async fn filter_by_published_and_exposed_ports(t: &Target) -> Result<(), Failure> {
    let host = json!({"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": "0"}]}});
    let both = json!({"80/tcp": {}, "53/udp": {}});
    let id = t.started("both", json!({"ExposedPorts": both, "HostConfig": host})).await?;
    t.container("none", json!({})).await?;
    let shown = t.inspect(&id).await?;
    let port = text(&shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]);
    for (key, value, wanted) in [
        ("expose", "80", vec!["both"]),
        ("expose", "53/udp", vec!["both"]),
        ("expose", "79-81/tcp", vec!["both"]),
        ("expose", "53/tcp", vec![]),
        ("publish", "80", vec![]),
        ("publish", &port, vec!["both"]),
    ] {
        same(format_args!("{key}={value}"), own(t, json!({ key: [value] })).await?, wanted)?;
    }
    Ok(())
}

async fn filters_of_different_keys_must_all_hold(t: &Target) -> Result<(), Failure> {
    t.started("runs", json!({"Labels": {"a": "1"}})).await?;
    t.container("rests", json!({"Labels": {"a": "1"}})).await?;
    t.started("other", json!({})).await?;
    same("running and labelled", own(t, json!({"label": ["a"], "status": ["running"]})).await?, ["runs"])
}

async fn filters_in_the_old_form_are_read(t: &Target) -> Result<(), Failure> {
    t.container("one", json!({})).await?;
    t.container("two", json!({})).await?;
    let new = json!({"name": {t.name("one"): true}, "status": {"created": true}});
    same("as maps of maps", own(t, new).await?, ["one"])?;
    same("as maps of lists", own(t, json!({"name": [t.name("one")]})).await?, ["one"])
}

async fn malformed_filters_are_refused(t: &Target) -> Result<(), Failure> {
    for bad in ["x", "[]", "{\"name\":7}", "{"] {
        t.get(&format!("/containers/json?filters={}", escape(bad))).await?.rejects("")?;
    }
    Ok(())
}

async fn a_filter_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/containers/json?{}", filters(json!({"nonsense": ["1"]})))).await?.refuses(400, "invalid filter")
}

async fn a_status_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/containers/json?{}", filters(json!({"status": ["nonsense"]})))).await?.refuses(400, "")
}

async fn before_a_container_that_is_not_there_is_refused(t: &Target) -> Result<(), Failure> {
    for key in ["before", "since"] {
        let reply = t.get(&format!("/containers/json?{}", filters(json!({ key: [t.name("nothing")] })))).await?;
        // Engines up to 20.10 make a 500 of it.
        let status = if reply.status == 500 { 500 } else { 404 };
        reply.refuses(status, "no such container")?;
    }
    Ok(())
}

async fn the_list_in_an_old_version(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    for version in ["1.24", "1.30", "1.40"] {
        let rows = t.unversioned(Method::GET, &format!("/v{version}/containers/json")).await?.is(200)?.list()?;
        let row = rows.iter().find(|r| r["Id"] == id.as_str());
        holds(format_args!("it is there in {version}"), row.is_some_and(|r| r["State"] == "running"), row)?;
    }
    Ok(())
}
