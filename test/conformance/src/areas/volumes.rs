//! Volumes of the driver `local`.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{Target, filters, text},
};
use serde_json::{Value, json};

scenarios! { Volumes:
    "POST /volumes/create" => create_answers_with_the_volume,
    "POST /volumes/create" => create_without_a_name_makes_one_up,
    "POST /volumes/create" => create_twice_is_no_error,
    "POST /volumes/create" => a_bad_name_is_refused,
    "POST /volumes/create" => a_driver_nobody_knows_is_an_error,
    "POST /volumes/create" => labels_and_options_come_back,
    "GET /volumes/{name}" => inspect_tells_what_it_is,
    "GET /volumes/{name}" => inspect_of_nothing_is_not_found,
    "GET /volumes" => the_list_has_it,
    "GET /volumes?filters" => filter_by_name_label_driver_and_dangling,
    "GET /volumes?filters" => a_filter_nobody_knows_is_refused,
    "DELETE /volumes/{name}" => remove_and_it_is_gone,
    "DELETE /volumes/{name}" => remove_of_a_volume_in_use_is_a_conflict,
    "DELETE /volumes/{name}" => remove_of_nothing_is_not_found_unless_forced,
    "POST /containers/create" => data_outlives_containers,
    "POST /containers/create" => a_volume_is_made_by_its_first_use,
    "POST /containers/create" => mounts_of_the_newer_form_work,
    "POST /containers/create" => a_read_only_mount_cannot_be_written,
    "POST /containers/create" => a_new_volume_gets_the_images_files,
    "POST /containers/create" => a_bind_mount_of_nothing_is_refused,
}

/// The last part of the names of the scenario's own volumes in a list, without their prefix.
async fn own(t: &Target, wanted: Value) -> Result<Vec<String>, Failure> {
    let prefix = t.name("");
    let list = t.get(&format!("/volumes?{}", filters(wanted))).await?.is(200)?.json()?;
    let rows = list["Volumes"].as_array().cloned().unwrap_or_default();
    let last = |row: &Value| text(&row["Name"]).rsplit('/').next().unwrap_or_default().to_owned();
    let mut own: Vec<String> = rows.iter().filter_map(|r| last(r).strip_prefix(&prefix).map(str::to_owned)).collect();
    own.sort();
    Ok(own)
}

fn bound(bind: &str) -> Value {
    json!({"HostConfig": {"Binds": [bind]}})
}

async fn create_answers_with_the_volume(t: &Target) -> Result<(), Failure> {
    let name = t.name("data");
    t.later(format!("/volumes/{name}?force=1"));
    let made = t.send("/volumes/create", json!({"Name": name})).await?.is(201)?.json()?;
    same("Name", &made["Name"], name.as_str())?;
    same("Driver", &made["Driver"], "local")?;
    same("Scope", &made["Scope"], "local")
}

async fn create_without_a_name_makes_one_up(t: &Target) -> Result<(), Failure> {
    let made = t.send("/volumes/create", json!({})).await?.is(201)?.json()?;
    let name = text(&made["Name"]);
    t.later(format!("/volumes/{name}?force=1"));
    holds("the name is of 64 hex digits", name.len() == 64, &name)?;
    t.get(&format!("/volumes/{name}")).await?.is(200).map(drop)
}

async fn create_twice_is_no_error(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    t.send("/volumes/create", json!({"Name": name})).await?.is(201)?;
    same("the list", own(t, json!({"name": [name]})).await?, ["data"])
}

async fn a_bad_name_is_refused(t: &Target) -> Result<(), Failure> {
    for name in ["a b", "-a", "ä", "x"] {
        t.send("/volumes/create", json!({"Name": name})).await?.rejects("name")?;
    }
    Ok(())
}

async fn a_driver_nobody_knows_is_an_error(t: &Target) -> Result<(), Failure> {
    let reply = t.send("/volumes/create", json!({"Name": t.name("data"), "Driver": "nonsense"})).await?;
    holds("it is refused", matches!(reply.status, 400 | 404 | 500), &reply)?;
    let status = reply.status;
    reply.refuses(status, "nonsense")?;
    t.get(&format!("/volumes/{}", t.name("data"))).await?.is(404).map(drop)
}

async fn labels_and_options_come_back(t: &Target) -> Result<(), Failure> {
    let options = json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"});
    let name = t.volume("data", json!({"Labels": {"a": "b"}, "DriverOpts": options})).await?;
    let shown = t.get(&format!("/volumes/{name}")).await?.is(200)?.json()?;
    same("Labels", &shown["Labels"], &json!({"a": "b"}))?;
    same("Options", &shown["Options"], &options)
}

async fn inspect_tells_what_it_is(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    let id = t.container("user", bound(&format!("{name}:/data"))).await?;
    let shown = t.get(&format!("/volumes/{name}")).await?.is(200)?.json()?;
    same("Name", &shown["Name"], name.as_str())?;
    holds("Mountpoint", text(&shown["Mountpoint"]).ends_with("/_data"), &shown)?;
    holds("CreatedAt", text(&shown["CreatedAt"]).starts_with("20"), &shown)?;
    let mount = t.inspect(&id).await?["Mounts"][0].clone();
    same("the container's mount", &mount["Name"], name.as_str())?;
    same("its place", &mount["Source"], &shown["Mountpoint"])
}

async fn inspect_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    t.get(&format!("/volumes/{name}")).await?.refuses(404, "no such volume")
}

async fn the_list_has_it(t: &Target) -> Result<(), Failure> {
    t.volume("data", json!({})).await?;
    let list = t.get("/volumes").await?.is(200)?.json()?;
    holds("Volumes and Warnings", list["Volumes"].is_array() && list.get("Warnings").is_some(), &list)?;
    same("it is there once", own(t, json!({})).await?, ["data"])
}

async fn filter_by_name_label_driver_and_dangling(t: &Target) -> Result<(), Failure> {
    t.volume("one", json!({"Labels": {"color": "red"}})).await?;
    let two = t.volume("two", json!({"Labels": {"color": "blue"}})).await?;
    t.container("user", bound(&format!("{two}:/data"))).await?;
    for (wanted, found) in [
        (json!({"name": [t.name("one")]}), vec!["one"]),
        (json!({"label": ["color=red"]}), vec!["one"]),
        (json!({"label": ["color"]}), vec!["one", "two"]),
        (json!({"driver": ["local"]}), vec!["one", "two"]),
        (json!({"driver": ["other"]}), vec![]),
        (json!({"dangling": ["true"]}), vec!["one"]),
        (json!({"dangling": ["false"]}), vec!["two"]),
        (json!({"dangling": ["true"], "label": ["color=blue"]}), vec![]),
    ] {
        same(format_args!("volumes by {wanted}"), own(t, wanted.clone()).await?, found)?;
    }
    Ok(())
}

async fn a_filter_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/volumes?{}", filters(json!({"nonsense": ["1"]})))).await?.refuses(400, "invalid filter")
}

async fn remove_and_it_is_gone(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    t.delete(&format!("/volumes/{name}")).await?.is(204)?;
    t.get(&format!("/volumes/{name}")).await?.is(404)?;
    same("the list", own(t, json!({})).await?.len(), 0)
}

async fn remove_of_a_volume_in_use_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    let id = t.container("user", bound(&format!("{name}:/data"))).await?;
    t.delete(&format!("/volumes/{name}")).await?.refuses(409, "volume is in use")?;
    t.delete(&format!("/volumes/{name}?force=1")).await?.refuses(409, "volume is in use")?;
    t.delete(&format!("/containers/{id}")).await?.is(204)?;
    t.delete(&format!("/volumes/{name}")).await?.is(204).map(drop)
}

async fn remove_of_nothing_is_not_found_unless_forced(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    t.delete(&format!("/volumes/{name}")).await?.refuses(404, "no such volume")?;
    t.delete(&format!("/volumes/{name}?force=1")).await?.is(204).map(drop)
}

async fn data_outlives_containers(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    let bind = bound(&format!("{name}:/data"));
    let first = t.started("first", bind.clone()).await?;
    same("writing", t.exec(&first, "echo kept > /data/file").await?.0, 0)?;
    t.delete(&format!("/containers/{first}?force=1&v=1")).await?.is(204)?;
    for word in ["second", "third", "fourth"] {
        let next = t.started(word, bind.clone()).await?;
        same(format_args!("what the {word} reads"), t.exec(&next, "cat /data/file").await?, (0, "kept\n".to_owned()))?;
    }
    Ok(())
}

async fn a_volume_is_made_by_its_first_use(t: &Target) -> Result<(), Failure> {
    let name = t.name("data");
    t.later(format!("/volumes/{name}?force=1"));
    t.container("user", bound(&format!("{name}:/data"))).await?;
    same("the list", own(t, json!({})).await?, ["data"])?;
    t.get(&format!("/volumes/{name}")).await?.is(200).map(drop)
}

async fn mounts_of_the_newer_form_work(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    let mounts = json!([
        {"Type": "volume", "Source": name, "Target": "/data"},
        {"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1_048_576}},
    ]);
    let id = t.started("user", json!({"HostConfig": {"Mounts": mounts}})).await?;
    same("writing", t.exec(&id, "touch /data/a /scratch/b").await?.0, 0)?;
    let shown = t.inspect(&id).await?["Mounts"].clone();
    let named =
        shown.as_array().is_some_and(|m| m.iter().any(|m| m["Name"] == name.as_str() && m["Destination"] == "/data"));
    holds("the mount is told", named, shown)
}

async fn a_read_only_mount_cannot_be_written(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    let id = t.started("user", bound(&format!("{name}:/data:ro"))).await?;
    let (code, said) = t.exec(&id, "touch /data/a").await?;
    holds("it is refused", code != 0 && said.contains("Read-only"), said)
}

async fn a_new_volume_gets_the_images_files(t: &Target) -> Result<(), Failure> {
    let name = t.volume("data", json!({})).await?;
    let id = t.started("user", bound(&format!("{name}:/etc"))).await?;
    holds("the file is there", t.exec(&id, "cat /etc/passwd").await?.1.contains("guest"), "passwd")
}

async fn a_bind_mount_of_nothing_is_refused(t: &Target) -> Result<(), Failure> {
    let mounts = json!([{"Type": "bind", "Source": format!("/{}", t.name("nothing")), "Target": "/data"}]);
    t.create("user", json!({"HostConfig": {"Mounts": mounts}})).await?.refuses(400, "bind source path does not exist")
}
