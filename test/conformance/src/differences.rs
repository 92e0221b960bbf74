//! Where a cluster answers otherwise than an engine, and is meant to.
//!
//! Each has a probe that a single engine denies and a cluster affirms, so that the list cannot outlive what it lists; the
//! same list, word for word, stands in SPECIFICATION.md.

use crate::{
    failure::Failure,
    target::{Target, filters, moment, now, text},
};
use http::Method;
use serde_json::json;
use std::{future::Future, pin::Pin};

/// A probe on its way: whether the host answers as a cluster does.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Result<bool, Failure>> + 'a>>;

/// One difference.
pub struct Difference {
    /// What a cluster does.
    pub what: &'static str,
    /// Why it is meant.
    pub why: &'static str,
    /// Whether a host does it.
    pub probe: for<'a> fn(&'a Target) -> Probing<'a>,
}

/// All of them.
pub const ALL: &[Difference] = &[
    Difference {
        what: "`ps` shows `node/name`; every call takes the name with and without its node",
        why: "one sees where a container runs, and classic Swarm's scripts parse it",
        probe: |t| Box::pin(names_carry_nodes(t)),
    },
    Difference {
        what: "`inspect` of a container has a member `Node`",
        why: "classic Swarm's clients read the node's name and address there",
        probe: |t| Box::pin(inspect_tells_the_node(t)),
    },
    Difference {
        what: "`info` has `SystemStatus` with strategy, filters and every node",
        why: "it is where operators look first, in classic Swarm's layout",
        probe: |t| Box::pin(info_tells_the_nodes(t)),
    },
    Difference {
        what: "`version` and `info` name Osier as the server",
        why: "the engines behind it may be of several versions",
        probe: |t| Box::pin(version_names_the_server(t)),
    },
    Difference {
        what: "`info` has an empty `ID`",
        why: "it is an engine's, and a cluster outlives its engines; each node's stands in `SystemStatus`",
        probe: |t| Box::pin(info_has_no_id(t)),
    },
    Difference {
        what: "`network ls` shows a network that belongs to one node as `node/name`",
        why: "every engine has networks of the same names, and each is another one",
        probe: |t| Box::pin(networks_carry_nodes(t)),
    },
    Difference {
        what: "a network of the driver `bridge` belongs to one node; a container of another node cannot be connected to it",
        why: "an engine's bridge ends at its host; the driver `osier` is the one that spans nodes",
        probe: |t| Box::pin(bridges_end_at_their_node(t)),
    },
    Difference {
        what: "pull, import and load act on every healthy node; `images --filter node=NAME` tells which has an image",
        why: "a container may then be created on any of them",
        probe: |t| Box::pin(every_node_has_the_image(t)),
    },
    Difference {
        what: "a local volume that is created without a node's name has no `Mountpoint` until a container uses it, then is \
               listed as `node/name`",
        why: "its data is on one node, and only the first container tells which",
        probe: |t| Box::pin(volumes_wait_for_their_node(t)),
    },
    Difference {
        what: "a container has the label `com.docker.swarm.id`, and wishes such as `constraint:…` move from its environment \
               to labels",
        why: "classic Swarm's tools read them there",
        probe: |t| Box::pin(wishes_become_labels(t)),
    },
    Difference {
        what: "an event carries its node, as a member and as attributes",
        why: "otherwise events of several engines could not be told apart",
        probe: |t| Box::pin(events_carry_nodes(t)),
    },
    Difference {
        what: "a port published on all addresses is shown with its node's address",
        why: "0.0.0.0 of some node is no address that a client could use",
        probe: |t| Box::pin(ports_have_the_nodes_address(t)),
    },
];

async fn names_carry_nodes(t: &Target) -> Result<bool, Failure> {
    let id = t.container("one", json!({})).await?;
    let row = t.row(&id, "all=1").await?.unwrap_or_default();
    Ok(text(&row["Names"][0]).matches('/').count() == 2)
}

async fn inspect_tells_the_node(t: &Target) -> Result<bool, Failure> {
    let id = t.container("one", json!({})).await?;
    Ok(t.inspect(&id).await?["Node"]["Name"].is_string())
}

async fn info_tells_the_nodes(t: &Target) -> Result<bool, Failure> {
    let info = t.get("/info").await?.is(200)?.json()?;
    Ok(info["SystemStatus"].to_string().contains("Strategy"))
}

async fn version_names_the_server(t: &Target) -> Result<bool, Failure> {
    let version = t.get("/version").await?.is(200)?.json()?;
    Ok(text(&version["Platform"]["Name"]).contains("Osier"))
}

async fn info_has_no_id(t: &Target) -> Result<bool, Failure> {
    Ok(t.get("/info").await?.is(200)?.json()?["ID"] == "")
}

async fn networks_carry_nodes(t: &Target) -> Result<bool, Failure> {
    let id = t.network("lan", json!({})).await?;
    let rows = t.get("/networks").await?.is(200)?.list()?;
    Ok(rows.iter().any(|r| r["Id"] == id.as_str() && text(&r["Name"]).contains('/')))
}

/// Containers are spread, so of a few at least one is elsewhere.
async fn bridges_end_at_their_node(t: &Target) -> Result<bool, Failure> {
    let network = t.network("lan", json!({})).await?;
    for number in 0..6 {
        let host = json!({"NetworkMode": "bridge"});
        let id = t.container(&format!("c{number}"), json!({"HostConfig": host})).await?;
        let reply = t.send(&format!("/networks/{network}/connect"), json!({"Container": id})).await?;
        if reply.status == 400 && reply.text().contains("is not on node") {
            return Ok(true);
        }
        reply.is(200)?;
    }
    Ok(false)
}

async fn volumes_wait_for_their_node(t: &Target) -> Result<bool, Failure> {
    let name = t.volume("data", json!({})).await?;
    let shown = t.get(&format!("/volumes/{name}")).await?.is(200)?.json()?;
    Ok(text(&shown["Mountpoint"]).is_empty())
}

async fn wishes_become_labels(t: &Target) -> Result<bool, Failure> {
    let id = t.container("one", json!({"Env": ["constraint:ostype==linux"]})).await?;
    let config = t.inspect(&id).await?["Config"].clone();
    let kept = text(&config["Labels"]["com.docker.swarm.constraints"]) == "[\"ostype==linux\"]";
    Ok(kept && config["Labels"]["com.docker.swarm.id"].is_string() && !config["Env"].to_string().contains("ostype"))
}

/// The nodes' names are those before their bridges; the suite's own image was imported.
async fn every_node_has_the_image(t: &Target) -> Result<bool, Failure> {
    let networks = t.get("/networks").await?.is(200)?.list()?;
    let nodes = networks.iter().filter_map(|n| n["Name"].as_str()?.strip_suffix("/bridge"));
    let mut count = 0;
    for node in nodes {
        let path = format!("/images/json?{}", filters(json!({"node": [node], "reference": [t.image()]})));
        if t.get(&path).await?.is(200)?.list()?.len() != 1 {
            return Ok(false);
        }
        count += 1;
    }
    Ok(count > 1)
}

async fn events_carry_nodes(t: &Target) -> Result<bool, Failure> {
    let since = moment(now());
    let path = format!("/events?since={since}&{}", filters(json!({"container": [t.name("one")]})));
    let mut stream = t.open(Method::GET, &path, &[], None).await?;
    t.container("one", json!({})).await?;
    let event = stream.value("create", |e| e["Action"] == "create").await?;
    Ok(event["node"]["Name"].is_string() && event["Actor"]["Attributes"]["node.name"].is_string())
}

async fn ports_have_the_nodes_address(t: &Target) -> Result<bool, Failure> {
    let host = json!({"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": "0"}]}});
    let id = t.started("one", json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": host})).await?;
    let shown = t.inspect(&id).await?;
    Ok(shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"] != "0.0.0.0")
}
