//! Creating and inspecting containers.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{API, Target, names, text},
};
use http::Method;
use serde_json::{Value, json};

scenarios! { Containers:
    "POST /containers/create" => create_answers_with_an_id_and_warnings,
    "POST /containers/create" => create_without_a_name_makes_one_up,
    "POST /containers/create" => create_of_a_missing_image_is_not_found,
    "POST /containers/create" => create_with_a_name_in_use_is_a_conflict,
    "POST /containers/create" => create_with_a_bad_name_is_refused,
    "POST /containers/create" => create_without_a_body_is_refused,
    "POST /containers/create" => create_with_malformed_json_is_refused,
    "POST /containers/create" => create_without_a_command_is_refused,
    "POST /containers/create" => create_with_too_little_memory_is_refused,
    "POST /containers/create" => members_nobody_knows_are_ignored,
    "POST /containers/create" => members_count_however_they_are_spelt,
    "POST /containers/create" => config_comes_back_as_it_was_sent,
    "POST /containers/create" => host_config_comes_back_as_it_was_sent,
    "POST /containers/create" => environment_and_labels_come_back_in_full,
    "POST /containers/create" => create_in_an_old_version_works,
    "POST /containers/create" => names_that_look_like_routes_work,
    "POST /containers/create" => two_hundred_environment_variables_are_no_problem,
    "POST /containers/create" => settings_reach_the_process,
    "POST /containers/create" => a_container_may_share_anothers_namespaces,
    "POST /containers/create" => volumes_from_another_container_are_mounted,
    "GET /containers/{id}/json" => inspect_takes_names_ids_and_prefixes,
    "GET /containers/{id}/json" => inspect_of_a_new_container_tells_its_state,
    "GET /containers/{id}/json" => inspect_tells_sizes_when_asked,
    "GET /containers/{id}/json" => inspect_tells_ports,
    "GET /containers/{id}/json" => inspect_of_nothing_is_not_found,
    "GET /containers/{id}/json" => an_ambiguous_prefix_is_refused,
    "DELETE /containers/{id}" => remove_and_it_is_gone,
    "DELETE /containers/{id}" => remove_of_a_running_container_needs_force,
    "DELETE /containers/{id}" => remove_with_its_anonymous_volumes,
    "DELETE /containers/{id}" => remove_of_nothing_is_not_found,
    "DELETE /containers/{id}" => removed_names_can_be_used_again_at_once,
}

async fn create_answers_with_an_id_and_warnings(t: &Target) -> Result<(), Failure> {
    let reply = t.create("one", json!({})).await?.is(201)?;
    let body = reply.json()?;
    let id = text(&body["Id"]);
    holds("Id is 64 hex digits", id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), &body)?;
    holds("Warnings is a list", body["Warnings"].is_array(), &body)?;
    holds("it is JSON", reply.header("content-type").contains("application/json"), &reply.headers)
}

async fn create_without_a_name_makes_one_up(t: &Target) -> Result<(), Failure> {
    let id = text(&t.send("/containers/create", t.body(json!({}))).await?.is(201)?.json()?["Id"]);
    t.remove_container_later(&id);
    let name = text(&t.inspect(&id).await?["Name"]);
    holds("the name is of two words", name.starts_with('/') && name.contains('_'), name)
}

async fn create_of_a_missing_image_is_not_found(t: &Target) -> Result<(), Failure> {
    let image = t.name("nothing");
    let reply = t.create("one", json!({"Image": image})).await?;
    reply.refuses(404, &format!("No such image: {image}:latest"))
}

async fn create_with_a_name_in_use_is_a_conflict(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let message = format!("The container name \"/{}\" is already in use by container \"{id}\"", t.name("one"));
    t.create("one", json!({})).await?.refuses(409, &message)
}

async fn create_with_a_bad_name_is_refused(t: &Target) -> Result<(), Failure> {
    for name in ["-a", "a%20b", "%C3%A4", "a"] {
        let reply = t.send(&format!("/containers/create?name={name}"), t.body(json!({}))).await?;
        reply.refuses(400, "Invalid container name")?;
    }
    Ok(())
}

async fn create_without_a_body_is_refused(t: &Target) -> Result<(), Failure> {
    t.post("/containers/create").await?.rejects("")
}

async fn create_with_malformed_json_is_refused(t: &Target) -> Result<(), Failure> {
    for body in ["{", "[]", "{\"Image\": 7}", "nonsense"] {
        t.ask(Method::POST, "/containers/create", Some(("application/json", body.into()))).await?.rejects("")?;
    }
    Ok(())
}

async fn create_without_a_command_is_refused(t: &Target) -> Result<(), Failure> {
    t.create("one", json!({"Cmd": null})).await?.refuses(400, "No command specified")
}

async fn create_with_too_little_memory_is_refused(t: &Target) -> Result<(), Failure> {
    t.create("one", json!({"HostConfig": {"Memory": 1024}})).await?.refuses(400, "memory limit")
}

async fn members_nobody_knows_are_ignored(t: &Target) -> Result<(), Failure> {
    t.create("one", json!({"Novelty": {"a": [1]}, "HostConfig": {"OtherNovelty": true}})).await?.is(201).map(drop)
}

async fn members_count_however_they_are_spelt(t: &Target) -> Result<(), Failure> {
    let sent = json!({
        "labels": {"a": "1", "b": "1"}, "Labels": {"b": "2"},
        "HostConfig": {"CpuShares": 512, "Binds": ["/tmp:/a"], "PortBindings": {"80/tcp": [{"HostPort": "1"}]}},
        "hostconfig": {"cpushares": 256, "binds": ["/tmp:/b"], "portbindings": {"81/tcp": [{"hostport": "2"}]}},
    });
    let id = t.container("one", sent).await?;
    let inspect = t.inspect(&id).await?;
    let (labels, host) = (&inspect["Config"]["Labels"], &inspect["HostConfig"]);
    same("labels", [&labels["a"], &labels["b"]], [&json!("1"), &json!("2")])?;
    same("CpuShares", &host["CpuShares"], &json!(256))?;
    same("Binds", &host["Binds"], &json!(["/tmp:/b"]))?;
    let ports = ["80/tcp", "81/tcp"].map(|port| text(&host["PortBindings"][port][0]["HostPort"]));
    same("PortBindings", ports, ["1".to_owned(), "2".to_owned()])
}

async fn config_comes_back_as_it_was_sent(t: &Target) -> Result<(), Failure> {
    let sent = json!({
        "Hostname": "web", "Domainname": "example.org", "User": "guest", "Tty": true, "OpenStdin": true,
        "Entrypoint": ["sleep"], "Cmd": ["500"], "WorkingDir": "/tmp", "StopSignal": "SIGINT", "StopTimeout": 3,
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
    });
    let id = t.container("one", sent.clone()).await?;
    let config = &t.inspect(&id).await?["Config"];
    for (member, value) in sent.as_object().into_iter().flatten() {
        same(format_args!("Config.{member}"), &config[member], value)?;
    }
    same("Config.Image", &config["Image"], t.image())
}

async fn host_config_comes_back_as_it_was_sent(t: &Target) -> Result<(), Failure> {
    let sent = json!({
        "Memory": 67_108_864, "MemorySwap": 67_108_864, "NanoCpus": 500_000_000, "CpuShares": 512, "PidsLimit": 50,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "CapAdd": ["SYS_TIME"], "CapDrop": ["MKNOD"],
        "Dns": ["192.0.2.53"], "DnsSearch": ["example.org"], "DnsOptions": ["ndots:2"], "ExtraHosts": ["gw:192.0.2.1"],
        "Tmpfs": {"/scratch": "size=1m"}, "ShmSize": 1_048_576, "ReadonlyRootfs": true, "Init": true,
        "Sysctls": {"net.ipv4.ip_default_ttl": "33"}, "OomScoreAdj": 100, "IpcMode": "private", "GroupAdd": ["7"],
        "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}], "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "NetworkMode": "none",
    });
    let id = t.container("one", json!({"HostConfig": sent.clone()})).await?;
    let config = &t.inspect(&id).await?["HostConfig"];
    for (member, value) in sent.as_object().into_iter().flatten() {
        // Engines since 26 write capabilities with their prefix.
        let prefixed = |v: &Value| serde_json::from_str::<Value>(&v.to_string().replace("CAP_", ""));
        let got = if member.starts_with("Cap") {
            prefixed(&config[member]).unwrap_or_default()
        } else {
            config[member].clone()
        };
        same(format_args!("HostConfig.{member}"), &got, value)?;
    }
    Ok(())
}

async fn environment_and_labels_come_back_in_full(t: &Target) -> Result<(), Failure> {
    let labels = json!({"org.example.a": "1", "empty": "", "odd key/with=signs": "ü \"quoted\""});
    let id = t.container("one", json!({"Env": ["A=1", "B=", "C=x=y", "EMPTY"], "Labels": labels})).await?;
    let config = &t.inspect(&id).await?["Config"];
    let env = config["Env"].as_array().cloned().unwrap_or_default();
    for entry in ["A=1", "B=", "C=x=y", "EMPTY"] {
        holds(format_args!("{entry} is in Env"), env.contains(&json!(entry)), &env)?;
    }
    for (label, value) in labels.as_object().into_iter().flatten() {
        same(format_args!("the label {label}"), &config["Labels"][label], value)?;
    }
    Ok(())
}

async fn create_in_an_old_version_works(t: &Target) -> Result<(), Failure> {
    for version in ["1.24", "1.30", "1.40"] {
        let name = t.name(&version.replace('.', "-"));
        t.remove_container_later(&name);
        let path = format!("/v{version}/containers/create?name={name}");
        t.send_exactly(&path, t.body(json!({"HostConfig": {"Memory": 67_108_864}}))).await?.is(201)?;
        let shown =
            t.unversioned(Method::GET, &format!("/v{version}/containers/{name}/json")).await?.is(200)?.json()?;
        same(format_args!("the memory in {version}"), &shown["HostConfig"]["Memory"], 67_108_864)?;
    }
    Ok(())
}

/// No name of these may be free on a host in use, so one that is taken is passed over.
async fn names_that_look_like_routes_work(t: &Target) -> Result<(), Failure> {
    for name in ["con", "json", "v1", "40", "v1.41", "exec", "prune", "start"] {
        let created = t.send(&format!("/containers/create?name={name}"), t.body(json!({}))).await?;
        if created.status == 409 {
            continue;
        }
        let id = text(&created.is(201)?.json()?["Id"]);
        t.remove_container_later(&id);
        same(format_args!("inspect of {name}"), t.inspect(name).await?["Id"].clone(), json!(id))?;
        t.post(&format!("/containers/{name}/start")).await?.is(204)?;
        t.post(&format!("/containers/{name}/stop?t=0")).await?.is(204)?;
        t.delete(&format!("/containers/{name}?force=1")).await?.is(204)?;
    }
    Ok(())
}

async fn two_hundred_environment_variables_are_no_problem(t: &Target) -> Result<(), Failure> {
    let env: Vec<String> = (0..200).map(|i| format!("VARIABLE_{i}={}", "x".repeat(500))).collect();
    let id = t.container("one", json!({"Env": env})).await?;
    let shown = t.inspect(&id).await?["Config"]["Env"].as_array().map_or(0, Vec::len);
    holds("all are there", shown >= 200, shown)
}

async fn settings_reach_the_process(t: &Target) -> Result<(), Failure> {
    let line = "hostname; id -u; pwd; echo $A; cat /data/none 2>&1 | head -n 1; exit 3";
    let settings = json!({
        "Hostname": "web", "User": "guest", "WorkingDir": "/tmp", "Env": ["A=b c"], "Cmd": ["sh", "-c", line], "Tty": true,
    });
    let id = t.started("one", settings).await?;
    let end = t.post(&format!("/containers/{id}/wait")).await?.is(200)?.json()?;
    same("the exit code", &end["StatusCode"], 3)?;
    let logs = t.get(&format!("/containers/{id}/logs?stdout=1")).await?.is(200)?.text().replace('\r', "");
    holds("the process saw its settings", logs.starts_with("web\n7\n/tmp\nb c\n"), logs)
}

async fn a_container_may_share_anothers_namespaces(t: &Target) -> Result<(), Failure> {
    let first = t.started("first", json!({"Hostname": "shared"})).await?;
    let mode = format!("container:{}", t.name("first"));
    let second = t.started("second", json!({"HostConfig": {"NetworkMode": mode, "PidMode": mode}})).await?;
    let (code, processes) = t.exec(&second, "cat /proc/1/cmdline; hostname").await?;
    same("the exit code", code, 0)?;
    holds(
        "process 1 is the first container's",
        processes.contains("sleep") && processes.contains("shared"),
        processes,
    )?;
    let network = text(&t.inspect(&second).await?["HostConfig"]["NetworkMode"]);
    same("NetworkMode", network, format!("container:{first}"))
}

async fn volumes_from_another_container_are_mounted(t: &Target) -> Result<(), Failure> {
    let first = t.started("first", json!({"Volumes": {"/data": {}}})).await?;
    same("writing", t.exec(&first, "echo kept > /data/file").await?.0, 0)?;
    let from = json!({"HostConfig": {"VolumesFrom": [t.name("first")]}});
    let second = t.started("second", from).await?;
    same("what the second container reads", t.exec(&second, "cat /data/file").await?, (0, "kept\n".to_owned()))
}

async fn inspect_takes_names_ids_and_prefixes(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let name = t.name("one");
    for word in [id.as_str(), &id[..12], &id[..20], &name] {
        same(format_args!("inspect of {word}"), t.inspect(word).await?["Id"].clone(), json!(id))?;
    }
    same("Name", &t.inspect(&id).await?["Name"], format!("/{name}").as_str())
}

async fn inspect_of_a_new_container_tells_its_state(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let shown = t.inspect(&id).await?;
    same("State.Status", &shown["State"]["Status"], "created")?;
    same("State.Running", &shown["State"]["Running"], false)?;
    same("State.Pid", &shown["State"]["Pid"], 0)?;
    same("Path", &shown["Path"], "sleep")?;
    same("Args", &shown["Args"], &json!(["1000"]))?;
    same("RestartCount", &shown["RestartCount"], 0)?;
    holds("Created is a time", text(&shown["Created"]).starts_with("20"), &shown["Created"])?;
    holds("Image is an id", text(&shown["Image"]).starts_with("sha256:"), &shown["Image"])?;
    let row = t.row(&id, "all=1").await?.unwrap_or_default();
    holds("the list has it at once", names(&row, &t.name("one")), row)
}

async fn inspect_tells_sizes_when_asked(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let plain = t.inspect(&id).await?;
    holds("no size unasked", plain.get("SizeRw").is_none(), plain.get("SizeRw"))?;
    let sized = t.get(&format!("/containers/{id}/json?size=1")).await?.is(200)?.json()?;
    holds("sizes", sized["SizeRootFs"].as_i64().is_some_and(|s| s > 100_000), &sized["SizeRootFs"])
}

async fn inspect_tells_ports(t: &Target) -> Result<(), Failure> {
    let host = json!({"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": "0"}]}});
    let id = t.started("one", json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": host})).await?;
    let shown = t.inspect(&id).await?;
    let bound = &shown["NetworkSettings"]["Ports"]["80/tcp"][0];
    let port: u16 = text(&bound["HostPort"]).parse().unwrap_or_default();
    holds("a port was chosen", port > 0, bound)?;
    let row = t.row(&id, "").await?.unwrap_or_default();
    let ports = row["Ports"].as_array().cloned().unwrap_or_default();
    let listed = ports.iter().any(|p| p["PrivatePort"] == 80 && p["PublicPort"] == port && p["Type"] == "tcp");
    holds("the list has it too", listed, ports)
}

async fn inspect_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    t.get(&format!("/containers/{name}/json")).await?.refuses(404, &format!("No such container: {name}"))
}

/// Of seventeen ids two begin with the same digit.
async fn an_ambiguous_prefix_is_refused(t: &Target) -> Result<(), Failure> {
    let mut firsts = Vec::new();
    for number in 0..17 {
        let id = t.container(&format!("c{number}"), json!({})).await?;
        let first = id[..1].to_owned();
        if firsts.contains(&first) {
            return t.get(&format!("/containers/{first}/json")).await?.rejects(&first);
        }
        firsts.push(first);
    }
    holds("two ids share a digit", false, firsts)
}

async fn remove_and_it_is_gone(t: &Target) -> Result<(), Failure> {
    let id = t.container("one", json!({})).await?;
    let reply = t.delete(&format!("/containers/{id}")).await?.is(204)?;
    same("the body", reply.text(), "")?;
    t.get(&format!("/containers/{id}/json")).await?.refuses(404, "No such container")?;
    same("the row in the list", t.row(&id, "all=1").await?, None)
}

async fn remove_of_a_running_container_needs_force(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.delete(&format!("/containers/{id}")).await?.refuses(409, "container")?;
    t.delete(&format!("/containers/{id}?force=true")).await?.is(204).map(drop)
}

async fn remove_with_its_anonymous_volumes(t: &Target) -> Result<(), Failure> {
    for (query, left) in [("?v=1", 404), ("", 200)] {
        let id = t.container("one", json!({"Volumes": {"/data": {}}})).await?;
        let volume = text(&t.inspect(&id).await?["Mounts"][0]["Name"]);
        holds("the volume has a name", volume.len() == 64, &volume)?;
        t.later(format!("/volumes/{volume}?force=1"));
        t.delete(&format!("/containers/{id}{query}")).await?.is(204)?;
        t.get(&format!("/volumes/{volume}")).await?.is(left)?;
    }
    Ok(())
}

async fn remove_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    t.delete(&format!("/containers/{name}")).await?.refuses(404, &format!("No such container: {name}"))
}

async fn removed_names_can_be_used_again_at_once(t: &Target) -> Result<(), Failure> {
    for _ in 0..3 {
        let id = t.started("one", json!({})).await?;
        t.delete(&format!("/containers/{id}?force=1")).await?.is(204)?;
    }
    let path = format!("{API}/containers/{}/json", t.name("one"));
    t.unversioned(Method::GET, &path).await?.is(404).map(drop)
}
