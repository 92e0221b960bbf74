//! Networks of the driver `bridge`, which every engine has.

use crate::{
    failure::{Failure, holds, same},
    scenario::scenarios,
    target::{Target, filters, text},
};
use serde_json::{Value, json};

scenarios! { Networks:
    "POST /networks/create" => create_answers_with_an_id,
    "POST /networks/create" => a_name_in_use_is_a_conflict,
    "POST /networks/create" => options_labels_and_addresses_come_back,
    "POST /networks/create" => a_driver_nobody_knows_is_not_found,
    "POST /networks/create" => a_bad_subnet_is_refused,
    "POST /networks/create" => no_name_is_refused,
    "GET /networks/{id}" => inspect_by_name_and_by_id,
    "GET /networks/{id}" => inspect_of_nothing_is_not_found,
    "GET /networks" => the_list_has_it_and_the_three_of_every_engine,
    "GET /networks?filters" => filter_by_name_id_driver_label_and_type,
    "GET /networks?filters" => a_filter_nobody_knows_is_refused,
    "DELETE /networks/{id}" => remove_and_it_is_gone,
    "DELETE /networks/{id}" => remove_of_nothing_is_not_found,
    "DELETE /networks/{id}" => remove_of_a_network_in_use_is_refused,
    "DELETE /networks/{id}" => the_engines_own_networks_stay,
    "POST /networks/{id}/connect" => connect_and_disconnect,
    "POST /networks/{id}/connect" => connect_with_an_address_and_names,
    "POST /networks/{id}/connect" => connect_of_nothing_is_not_found,
    "POST /networks/{id}/connect" => connect_to_nothing_is_not_found,
    "POST /networks/{id}/disconnect" => disconnect_of_what_is_not_connected_is_refused,
    "POST /containers/create" => containers_of_a_network_find_each_other_by_name,
    "POST /containers/create" => an_address_asked_for_is_given,
    "POST /containers/create" => a_network_that_is_not_there_fails_the_start,
    "POST /containers/create" => the_network_may_be_named_by_its_id,
}

async fn inspect(t: &Target, word: &str) -> Result<Value, Failure> {
    t.get(&format!("/networks/{word}")).await?.is(200)?.json()
}

/// The last part of the names of the scenario's own networks in a list, without their prefix.
async fn own(t: &Target, wanted: Value) -> Result<Vec<String>, Failure> {
    let prefix = t.name("");
    let rows = t.get(&format!("/networks?{}", filters(wanted))).await?.is(200)?.list()?;
    let last = |row: &Value| text(&row["Name"]).rsplit('/').next().unwrap_or_default().to_owned();
    let mut own: Vec<String> = rows.iter().filter_map(|r| last(r).strip_prefix(&prefix).map(str::to_owned)).collect();
    own.sort();
    Ok(own)
}

async fn create_answers_with_an_id(t: &Target) -> Result<(), Failure> {
    let id = t.network("lan", json!({})).await?;
    holds("it is an id", id.len() == 64, &id)?;
    let shown = inspect(t, &t.name("lan")).await?;
    same("Driver", &shown["Driver"], "bridge")?;
    same("Scope", &shown["Scope"], "local")?;
    same("Internal", &shown["Internal"], false)?;
    same("Containers", &shown["Containers"], &json!({}))
}

async fn a_name_in_use_is_a_conflict(t: &Target) -> Result<(), Failure> {
    t.network("lan", json!({})).await?;
    let body = json!({"Name": t.name("lan"), "CheckDuplicate": true});
    t.send("/networks/create", body).await?.refuses(409, &format!("network with name {} already exists", t.name("lan")))
}

/// The subnet lies in a block that is reserved for documentation, so nobody routes it.
async fn options_labels_and_addresses_come_back(t: &Target) -> Result<(), Failure> {
    let pool = json!([{"Subnet": "198.51.100.0/25", "Gateway": "198.51.100.1", "IPRange": "198.51.100.64/26"}]);
    let settings = json!({
        "Driver": "bridge", "Internal": true, "Attachable": true, "Labels": {"a": "b"},
        "Options": {"com.docker.network.driver.mtu": "1400"}, "IPAM": {"Driver": "default", "Config": pool},
    });
    t.network("lan", settings.clone()).await?;
    let shown = inspect(t, &t.name("lan")).await?;
    for member in ["Driver", "Internal", "Attachable", "Labels", "Options"] {
        same(member, &shown[member], &settings[member])?;
    }
    same("IPAM.Config", &shown["IPAM"]["Config"], &pool)
}

async fn a_driver_nobody_knows_is_not_found(t: &Target) -> Result<(), Failure> {
    let body = json!({"Name": t.name("lan"), "Driver": "nonsense"});
    t.send("/networks/create", body).await?.refuses(404, "nonsense")
}

async fn a_bad_subnet_is_refused(t: &Target) -> Result<(), Failure> {
    let body = json!({"Name": t.name("lan"), "IPAM": {"Config": [{"Subnet": "198.51.100.0/99"}]}});
    t.send("/networks/create", body).await?.rejects("198.51.100.0/99")
}

async fn no_name_is_refused(t: &Target) -> Result<(), Failure> {
    t.send("/networks/create", json!({"Driver": "bridge"})).await?.rejects("name")
}

async fn inspect_by_name_and_by_id(t: &Target) -> Result<(), Failure> {
    let id = t.network("lan", json!({})).await?;
    for word in [id.as_str(), &id[..12], &t.name("lan")] {
        let shown = inspect(t, word).await?;
        same(format_args!("the id of {word}"), &shown["Id"], id.as_str())?;
        same(format_args!("the name of {word}"), &shown["Name"], t.name("lan").as_str())?;
    }
    Ok(())
}

async fn inspect_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/networks/{}", t.name("nothing")))
        .await?
        .refuses(404, &format!("network {} not found", t.name("nothing")))
}

async fn the_list_has_it_and_the_three_of_every_engine(t: &Target) -> Result<(), Failure> {
    let id = t.network("lan", json!({})).await?;
    let rows = t.get("/networks").await?.is(200)?.list()?;
    holds("it is there", rows.iter().any(|r| r["Id"] == id.as_str()), &rows)?;
    for name in ["bridge", "host", "none"] {
        let there = rows.iter().any(|r| text(&r["Name"]).rsplit('/').next() == Some(name));
        holds(format_args!("{name} is there"), there, &rows)?;
    }
    Ok(())
}

async fn filter_by_name_id_driver_label_and_type(t: &Target) -> Result<(), Failure> {
    let one = t.network("one", json!({"Labels": {"color": "red"}})).await?;
    t.network("two", json!({"Labels": {"color": "blue"}})).await?;
    for (wanted, found) in [
        (json!({"name": [t.name("one")]}), vec!["one"]),
        (json!({"name": [t.name("")]}), vec!["one", "two"]),
        (json!({"id": [one]}), vec!["one"]),
        (json!({"id": [&one[..12]]}), vec!["one"]),
        (json!({"driver": ["bridge"]}), vec!["one", "two"]),
        (json!({"driver": ["host"]}), vec![]),
        (json!({"label": ["color=red"]}), vec!["one"]),
        (json!({"label": ["color"]}), vec!["one", "two"]),
        (json!({"type": ["custom"]}), vec!["one", "two"]),
        (json!({"type": ["builtin"]}), vec![]),
        (json!({"scope": ["local"], "label": ["color=blue"]}), vec!["two"]),
        (json!({"scope": ["swarm"]}), vec![]),
        (json!({"dangling": ["true"]}), vec!["one", "two"]),
    ] {
        same(format_args!("networks by {wanted}"), own(t, wanted.clone()).await?, found)?;
    }
    Ok(())
}

async fn a_filter_nobody_knows_is_refused(t: &Target) -> Result<(), Failure> {
    t.get(&format!("/networks?{}", filters(json!({"nonsense": ["1"]})))).await?.refuses(400, "invalid filter")?;
    t.get(&format!("/networks?{}", filters(json!({"type": ["nonsense"]})))).await?.rejects("nonsense")
}

async fn remove_and_it_is_gone(t: &Target) -> Result<(), Failure> {
    let id = t.network("lan", json!({})).await?;
    t.delete(&format!("/networks/{id}")).await?.is(204)?;
    t.get(&format!("/networks/{id}")).await?.is(404)?;
    same("the list", own(t, json!({"name": [t.name("lan")]})).await?.len(), 0)?;
    t.network("lan", json!({})).await.map(drop)
}

async fn remove_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    t.delete(&format!("/networks/{}", t.name("nothing"))).await?.refuses(404, "not found")
}

async fn remove_of_a_network_in_use_is_refused(t: &Target) -> Result<(), Failure> {
    let id = t.network("lan", json!({})).await?;
    t.started("one", json!({"HostConfig": {"NetworkMode": t.name("lan")}})).await?;
    t.delete(&format!("/networks/{id}")).await?.refuses(403, "has active endpoints")
}

async fn the_engines_own_networks_stay(t: &Target) -> Result<(), Failure> {
    for name in ["bridge", "host", "none"] {
        let rows = t
            .get(&format!("/networks?{}", filters(json!({"name": [name], "type": ["builtin"]}))))
            .await?
            .is(200)?
            .list()?;
        let id = text(&rows.first().cloned().unwrap_or_default()["Id"]);
        t.delete(&format!("/networks/{id}")).await?.refuses(403, "is a pre-defined network and cannot be removed")?;
    }
    Ok(())
}

/// As compose 1 does: a container leaves its network and comes back to it.
async fn connect_and_disconnect(t: &Target) -> Result<(), Failure> {
    let network = t.network("lan", json!({})).await?;
    let name = t.name("lan");
    let id = t.started("one", json!({"HostConfig": {"NetworkMode": name}})).await?;
    t.send(&format!("/networks/{name}/disconnect"), json!({"Container": t.name("one")})).await?.is(200)?;
    let networks = t.inspect(&id).await?["NetworkSettings"]["Networks"].clone();
    holds("it is gone", networks.get(&name).is_none(), networks)?;
    same("the network's own view", inspect(t, &name).await?["Containers"].clone(), json!({}))?;
    t.send(&format!("/networks/{network}/connect"), json!({"Container": id})).await?.is(200)?;
    let shown = t.inspect(&id).await?;
    let endpoint = &shown["NetworkSettings"]["Networks"][&name];
    holds("it has an address there", !text(&endpoint["IPAddress"]).is_empty(), &shown["NetworkSettings"]["Networks"])?;
    same("NetworkID", &endpoint["NetworkID"], network.as_str())?;
    let member = inspect(t, &name).await?["Containers"][&id].clone();
    same("the network's own view", &member["Name"], t.name("one").as_str())
}

async fn connect_with_an_address_and_names(t: &Target) -> Result<(), Failure> {
    let pool = json!({"Config": [{"Subnet": "198.51.100.128/26"}]});
    let network = t.network("lan", json!({"IPAM": pool})).await?;
    let id = t.started("one", json!({"HostConfig": {"NetworkMode": t.name("lan")}})).await?;
    t.send(&format!("/networks/{network}/disconnect"), json!({"Container": id, "Force": true})).await?.is(200)?;
    let settings = json!({"IPAMConfig": {"IPv4Address": "198.51.100.140"}, "Aliases": ["alias"]});
    let body = json!({"Container": id, "EndpointConfig": settings});
    t.send(&format!("/networks/{network}/connect"), body).await?.is(200)?;
    let endpoint = t.inspect(&id).await?["NetworkSettings"]["Networks"][t.name("lan")].clone();
    same("the address", &endpoint["IPAddress"], "198.51.100.140")?;
    holds("the alias", endpoint["Aliases"].as_array().is_some_and(|a| a.contains(&json!("alias"))), endpoint)
}

async fn connect_of_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let network = t.network("lan", json!({})).await?;
    let body = json!({"Container": t.name("nothing")});
    t.send(&format!("/networks/{network}/connect"), body).await?.refuses(404, "No such container")
}

async fn connect_to_nothing_is_not_found(t: &Target) -> Result<(), Failure> {
    let id = t.started("one", json!({})).await?;
    t.send(&format!("/networks/{}/connect", t.name("nothing")), json!({"Container": id}))
        .await?
        .refuses(404, "not found")
}

async fn disconnect_of_what_is_not_connected_is_refused(t: &Target) -> Result<(), Failure> {
    let network = t.network("lan", json!({})).await?;
    let id = t.started("one", json!({"HostConfig": {"NetworkMode": t.name("lan")}})).await?;
    let path = format!("/networks/{network}/disconnect");
    t.send(&path, json!({"Container": id})).await?.is(200)?;
    let reply = t.send(&path, json!({"Container": id})).await?;
    holds("it is refused", matches!(reply.status, 403 | 404 | 500), &reply)?;
    let status = reply.status;
    reply.refuses(status, "is not connected")
}

async fn containers_of_a_network_find_each_other_by_name(t: &Target) -> Result<(), Failure> {
    t.network("lan", json!({})).await?;
    let mode = json!({"NetworkMode": t.name("lan")});
    let aliases = json!({"EndpointsConfig": {t.name("lan"): {"Aliases": ["server"]}}});
    t.started("one", json!({"HostConfig": mode, "NetworkingConfig": aliases})).await?;
    let two = t.started("two", json!({"HostConfig": mode})).await?;
    for name in [t.name("one"), "server".to_owned()] {
        let (code, said) = t.exec(&two, &format!("ping -c 1 -W 5 {name}")).await?;
        holds(format_args!("{name} answers"), code == 0, said)?;
    }
    Ok(())
}

async fn an_address_asked_for_is_given(t: &Target) -> Result<(), Failure> {
    t.network("lan", json!({"IPAM": {"Config": [{"Subnet": "198.51.100.192/27"}]}})).await?;
    let settings = json!({
        "HostConfig": {"NetworkMode": t.name("lan")},
        "NetworkingConfig": {"EndpointsConfig": {t.name("lan"): {"IPAMConfig": {"IPv4Address": "198.51.100.200"}}}},
    });
    let id = t.started("one", settings).await?;
    same(
        "the address",
        &t.inspect(&id).await?["NetworkSettings"]["Networks"][t.name("lan")]["IPAddress"],
        "198.51.100.200",
    )
}

async fn a_network_that_is_not_there_fails_the_start(t: &Target) -> Result<(), Failure> {
    let name = t.name("nothing");
    let created = t.create("one", json!({"HostConfig": {"NetworkMode": name}})).await?;
    // Engines find out at the start, newer ones at the creation.
    let refused = match created.status {
        201 => t.post(&format!("/containers/{}/start", t.name("one"))).await?,
        _ => created,
    };
    refused.refuses(404, &format!("network {name} not found"))
}

async fn the_network_may_be_named_by_its_id(t: &Target) -> Result<(), Failure> {
    let network = t.network("lan", json!({})).await?;
    let id = t.started("one", json!({"HostConfig": {"NetworkMode": network}})).await?;
    let networks = t.inspect(&id).await?["NetworkSettings"]["Networks"].clone();
    let attached = networks.as_object().is_some_and(|n| n.values().any(|e| e["NetworkID"] == network.as_str()));
    holds("it is attached", attached, networks)
}
