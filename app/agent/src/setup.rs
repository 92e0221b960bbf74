//! What the engine must have before containers can join: Docker's gateway bridge on a subnet that collides with
//! nothing, the overlay's network, and the networks that users made anywhere in the cluster.

use crate::networks::Networks;
use http::{Method, StatusCode};
use ipnet::Ipv4Net;
use osier_engine::{Client, Error};
use osier_model::{NETWORK, NETWORK_ID_OPTION};
use osier_networks::{Network, Present, Step, wanted};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::PoisonError,
};
use tracing::{info, warn};

/// The bridge through which libnetwork gives overlay containers their way out and published ports.
const GATEWAY_BRIDGE: &str = "docker_gwbridge";

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("call the engine")]
    Engine(#[source] Error),
    #[error("keep what the engine calls a network")]
    Store(#[source] osier_store::Error),
    #[error("every private subnet that could serve '{GATEWAY_BRIDGE}' collides with a route of this host")]
    NoSubnet,
    #[error("the engine's network '{NETWORK}' is not Osier's: {0}; remove it or rename it")]
    Foreign(String),
}

/// Makes what is missing, and removes what the cluster has no more.
pub(crate) async fn ensure(engine: &Client, networks: &Networks, routes: &[Ipv4Net]) -> Result<(), SetupError> {
    ensure_own(engine, networks, routes).await?;
    ensure_others(engine, networks).await
}

/// Makes the engine's networks those of the cluster.
async fn ensure_others(engine: &Client, networks: &Networks) -> Result<(), SetupError> {
    let _turn = networks.engine.lock().await;
    let listed: Vec<Value> = engine.json(Method::GET, "/networks", None).await.map_err(SetupError::Engine)?;
    let (mut present, mut foreign) = (Vec::new(), BTreeSet::new());
    for network in &listed {
        let text = |name: &str| network[name].as_str().unwrap_or_default().to_owned();
        let id = network["Options"][NETWORK_ID_OPTION].as_str().and_then(|id| id.parse().ok());
        match id.filter(|_| network["Driver"] == NETWORK) {
            Some(id) => {
                if let Some(known) = networks.get(id) {
                    networks.note_engines(&text("Id"), &known.network).map_err(SetupError::Store)?;
                }
                // Lists do not tell who is on a network.
                let in_use = inspect(engine, &text("Id")).await?.is_some_and(|n| has_endpoints(&n));
                present.push(Present { engine_id: text("Id"), name: text("Name"), id, in_use });
            }
            None => drop(foreign.insert(text("Name"))),
        }
    }
    let mut problems = Vec::new();
    for step in wanted(&networks.records(), &present, &networks.gone(), &foreign) {
        let (what, result) = match step {
            Step::Create(network) => {
                (format!("make network {}", network.name), create(engine, &create_body(&network)).await)
            }
            Step::Remove(id) => (format!("remove network {id}"), remove(engine, &id).await),
            Step::Problem(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match result {
            Ok(()) => info!("{what}"),
            // One broken network does not hold up the others.
            Err(error) => problems.push(format!("cannot {what}: {}", crate::plugin::chain(&error))),
        }
    }
    let mut kept = networks.problems.lock().unwrap_or_else(PoisonError::into_inner);
    for problem in problems.iter().filter(|problem| !kept.contains(problem)) {
        warn!(problem, "a network is not as it should be");
    }
    *kept = problems;
    Ok(())
}

fn has_endpoints(network: &Value) -> bool {
    network["Containers"].as_object().is_some_and(|containers| !containers.is_empty())
}

/// What an engine is asked to make of a network of the cluster.
pub(crate) fn create_body(network: &Network) -> Value {
    let id = network.id.to_string();
    let mut config = json!({ "Subnet": network.subnet, "Gateway": network.gateway });
    if let Some(range) = network.range {
        config["IPRange"] = json!(range);
    }
    if !network.reserved.is_empty() {
        config["AuxiliaryAddresses"] = json!(network.reserved);
    }
    let mut options: BTreeMap<&str, &str> = network.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    options.insert(NETWORK_ID_OPTION, &id);
    json!({
        "Name": network.name, "CheckDuplicate": true, "Driver": NETWORK, "Internal": network.internal,
        "Attachable": network.attachable, "Labels": network.labels, "Options": options,
        "IPAM": { "Driver": NETWORK, "Options": { NETWORK_ID_OPTION: id }, "Config": [config] },
    })
}

/// Makes what every overlay container needs.
async fn ensure_own(engine: &Client, networks: &Networks, routes: &[Ipv4Net]) -> Result<(), SetupError> {
    let own = networks.main();
    let pool = own.network.subnet;
    if inspect(engine, GATEWAY_BRIDGE).await?.is_none() {
        let subnet = free_subnet(pool, routes).ok_or(SetupError::NoSubnet)?;
        let body = json!({
            "Name": GATEWAY_BRIDGE, "CheckDuplicate": true, "Driver": "bridge",
            "IPAM": { "Driver": "default", "Config": [{ "Subnet": subnet }] },
            "Options": {
                "com.docker.network.bridge.name": GATEWAY_BRIDGE,
                "com.docker.network.bridge.enable_icc": "false",
                "com.docker.network.bridge.enable_ip_masquerade": "true",
            },
        });
        create(engine, &body).await?;
    }
    match inspect(engine, NETWORK).await? {
        None => {
            let body = json!({
                "Name": NETWORK, "CheckDuplicate": true, "Driver": NETWORK,
                "IPAM": { "Driver": NETWORK, "Config": [{ "Subnet": pool }] },
            });
            create(engine, &body).await
        }
        Some(found) => {
            let subnet = found.pointer("/IPAM/Config/0/Subnet").and_then(Value::as_str).unwrap_or_default();
            if found["Driver"] == NETWORK && subnet.parse() == Ok(pool) {
                let id = found["Id"].as_str().unwrap_or_default();
                return networks.note_engines(id, &own.network).map_err(SetupError::Store);
            }
            Err(SetupError::Foreign(format!("driver {}, subnet '{subnet}', wanted {pool}", found["Driver"])))
        }
    }
}

async fn inspect(engine: &Client, network: &str) -> Result<Option<Value>, SetupError> {
    match engine.json(Method::GET, &format!("/networks/{network}"), None).await {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(e) => Err(SetupError::Engine(e)),
    }
}

async fn remove(engine: &Client, id: &str) -> Result<(), SetupError> {
    match engine.call(Method::DELETE, &format!("/networks/{id}"), None).await {
        Ok(_) => Ok(()),
        Err(e) if e.status() == Some(StatusCode::NOT_FOUND) => Ok(()),
        Err(e) => Err(SetupError::Engine(e)),
    }
}

async fn create(engine: &Client, body: &Value) -> Result<(), SetupError> {
    match engine.call(Method::POST, "/networks/create", Some(body)).await {
        Ok(_) => Ok(()),
        // Somebody else made it between our look and our call.
        Err(e) if e.status() == Some(StatusCode::CONFLICT) => Ok(()),
        Err(e) => Err(SetupError::Engine(e)),
    }
}

/// The first subnet for the gateway bridge that overlaps neither the pool nor any route: Docker's own range first, then
/// slices of 192.168/16.
fn free_subnet(pool: Ipv4Net, routes: &[Ipv4Net]) -> Option<Ipv4Net> {
    let large = (18..32).map(|b| Ipv4Net::new_assert(Ipv4Addr::new(172, b, 0, 0), 16));
    let small = (0..16).map(|b| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, b * 16, 0), 20));
    let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    large.chain(small).find(|s| !overlap(s, &pool) && !routes.iter().any(|r| overlap(s, r)))
}

/// The destinations of the kernel's IPv4 routes, the default route left out. (`/proc/net/route`: hexadecimal, in the
/// byte order of the host; lines that cannot be read are passed over.)
pub(crate) fn parse_routes(text: &str) -> Vec<Ipv4Net> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok().map(|n| Ipv4Addr::from(n.to_ne_bytes()));
        Ipv4Net::with_netmask(number(1)?, number(7)?).ok()
    };
    text.lines().skip(1).filter_map(parse).filter(|n| n.prefix_len() > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_bridge_keeps_clear_of_routes_and_the_pool() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            br\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\nnonsense\n";
        let routes = parse_routes(text);
        assert_eq!(routes, ["172.18.0.0/16".parse().unwrap()]);
        let pool = "10.1.1.0/24".parse().unwrap();
        assert_eq!(free_subnet(pool, &routes), "172.19.0.0/16".parse().ok());
        let everything = ["172.16.0.0/12".parse().unwrap(), "192.168.0.0/17".parse().unwrap()];
        assert_eq!(free_subnet(pool, &everything), "192.168.128.0/20".parse().ok());
    }
}
