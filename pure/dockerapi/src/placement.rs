//! What a create request says about where its container can run, and the edits that make it fit the engine it goes to.

use crate::{
    image::Reference,
    version::{ApiVersion, SEVERAL_ENDPOINTS},
};
use osier_model::{Bytes, Cpus};
pub use osier_scheduler::Binding;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The resources and networks that a create request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// The image, as the user named it.
    pub image: String,
    /// The cores to reserve (`HostConfig.NanoCpus`).
    pub cpus: Cpus,
    /// The relative weight among containers (`HostConfig.CpuShares`), which classic Swarm took for whole cores.
    pub cpu_shares: u64,
    /// The memory to reserve (`HostConfig.Memory`).
    pub memory: Bytes,
    /// The networks that must exist on the node; the engine's own words (`default`, `none`, …) are left out.
    pub networks: Vec<String>,
    /// The named volumes that it mounts, whose driver keeps their data on one node.
    pub volumes: Vec<String>,
    /// Whether it lives in the node's own network.
    pub host_network: bool,
}

/// The weight of one core on an engine whose cores are all given away.
const SHARES: u64 = 1024;

impl Needs {
    /// The cores that a create request reserves; shares count as whole cores where `shares_as_cpus` says so.
    pub fn requested_cpus(&self, shares_as_cpus: bool) -> Cpus {
        let classic = shares_as_cpus && self.cpus == Cpus(0);
        if classic { Cpus::whole(self.cpu_shares) } else { self.cpus }
    }

    /// The cores that a container has reserved which is on a node with so many: the reverse of [`scale_cpu_shares`].
    pub fn held_cpus(&self, shares_as_cpus: bool, node: u64) -> Cpus {
        let classic = shares_as_cpus && self.cpus == Cpus(0);
        if classic { Cpus::whole(self.cpu_shares.saturating_mul(node) / SHARES) } else { self.cpus }
    }
}

/// Makes shares that mean cores into the weight that they are on a node with so many.
pub fn scale_cpu_shares(body: &mut Value, node: u64) {
    if let Some(shares) = body.pointer_mut("/HostConfig/CpuShares")
        && let Some(cores) = shares.as_u64().filter(|cores| *cores > 0)
    {
        *shares = cores.saturating_mul(SHARES).div_ceil(node.max(1)).into();
    }
}

/// The node's ports that a create request, or an inspect answer, asks for: the published ones, and in the host's network
/// the exposed ones. Where the engine may choose among several, nothing can clash.
pub fn bindings(body: &Value) -> Vec<Binding> {
    let key = |key: &str| {
        let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        Some((port.parse::<u16>().ok()?, protocol.to_owned()))
    };
    let host = &body["HostConfig"];
    if host["NetworkMode"] == "host" {
        let exposed = body["ExposedPorts"].as_object().or(body["Config"]["ExposedPorts"].as_object());
        let ports = exposed.into_iter().flat_map(Map::keys).filter_map(|k| key(k));
        return ports.map(|(port, protocol)| Binding { ip: None, port, protocol }).collect();
    }
    let published = host["PortBindings"].as_object().into_iter().flatten();
    let published = published.flat_map(|(k, list)| list.as_array().into_iter().flatten().map(move |b| (k, b)));
    let binding = |(k, binding): (&String, &Value)| {
        let (_, protocol) = key(k)?;
        let port = binding["HostPort"].as_str()?.parse().ok().filter(|p| *p != 0)?;
        let ip = binding["HostIp"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()).filter(|ip| !ip.is_unspecified());
        Some(Binding { ip, port, protocol })
    };
    published.filter_map(binding).collect()
}

/// Reads a create request, or what an inspect answer says about the container's configuration.
pub fn needs(body: &Value) -> Needs {
    let host = &body["HostConfig"];
    let image = body["Image"].as_str().or(body["Config"]["Image"].as_str()).unwrap_or_default();
    let mut networks: Vec<String> = Vec::new();
    let mode = host["NetworkMode"].as_str().unwrap_or_default();
    let endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object();
    for name in std::iter::once(mode).chain(endpoints.into_iter().flat_map(Map::keys).map(String::as_str)) {
        let own_word = matches!(name, "" | "default" | "bridge" | "host" | "none") || name.starts_with("container:");
        if !own_word && !networks.iter().any(|n| n == name) {
            networks.push(name.to_owned());
        }
    }
    Needs {
        image: image.to_owned(),
        cpus: Cpus(host["NanoCpus"].as_u64().unwrap_or_default()),
        cpu_shares: host["CpuShares"].as_u64().unwrap_or_default(),
        memory: Bytes(host["Memory"].as_u64().unwrap_or_default()),
        networks,
        volumes: local_volumes(host),
        host_network: mode == "host",
    }
}

/// The driver that keeps a volume's data in the node's own file system.
const LOCAL: &str = "local";

/// Whether a driver's name is that of the engine's own, which is meant where none is given.
pub fn is_local_driver(driver: &str) -> bool {
    driver.is_empty() || driver == LOCAL
}

fn local_volumes(host: &Value) -> Vec<String> {
    let binds_are_local = is_local_driver(host["VolumeDriver"].as_str().unwrap_or_default());
    let binds = list(host, "Binds").filter(|_| binds_are_local).filter_map(|b| bind_volume(b.as_str()?));
    let mounts = list(host, "Mounts").filter_map(|mount| {
        let driver = mount.pointer("/VolumeOptions/DriverConfig/Name").and_then(Value::as_str).unwrap_or_default();
        mount_volume(mount).filter(|_| is_local_driver(driver))
    });
    let mut names: Vec<String> = Vec::new();
    for name in binds.chain(mounts) {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn list<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    object[key].as_array().into_iter().flatten()
}

/// The volume of a bind such as `data:/var/lib/data:ro`; a path is none.
fn bind_volume(bind: &str) -> Option<&str> {
    let (source, _) = bind.split_once(':')?;
    let path = source.is_empty() || source.starts_with(['/', '.', '~', '\\']);
    (!path).then_some(source)
}

/// The volume of a mount; an anonymous one has no name yet.
fn mount_volume(mount: &Value) -> Option<&str> {
    let source = mount["Source"].as_str().filter(|source| !source.is_empty())?;
    (mount["Type"] == "volume").then_some(source)
}

/// Rewrites every named volume that the request mounts, with `rename` giving the new name where there is one.
pub fn rename_volumes(body: &mut Value, mut rename: impl FnMut(&str) -> Option<String>) {
    let Some(host) = body.get_mut("HostConfig") else { return };
    for bind in host.get_mut("Binds").and_then(Value::as_array_mut).into_iter().flatten() {
        let renamed = bind.as_str().and_then(|text| {
            let name = bind_volume(text)?;
            Some(format!("{}{}", rename(name)?, &text[name.len()..]))
        });
        if let Some(renamed) = renamed {
            *bind = renamed.into();
        }
    }
    for mount in host.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(renamed) = mount_volume(mount).and_then(&mut rename) {
            mount["Source"] = renamed.into();
        }
    }
}

/// Every word that an expression about images may mean one of these list rows by: ids, references and repositories.
pub fn image_words<'a>(rows: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut words = Vec::new();
    for row in rows {
        words.extend(row["Id"].as_str().map(str::to_owned));
        let references = list(row, "RepoTags").chain(list(row, "RepoDigests")).filter_map(Value::as_str);
        for reference in references.filter(|r| !r.starts_with("<none>")) {
            words.push(reference.to_owned());
            let repository = Reference::parse(reference).repository();
            if !words.iter().any(|w| w == repository) {
                words.push(repository.to_owned());
            }
        }
    }
    words
}

/// Rewrites every network that the request names, with `rename` giving the new name where there is one.
pub fn rename_networks(body: &mut Value, mut rename: impl FnMut(&str) -> Option<String>) {
    if let Some(mode) = body.pointer_mut("/HostConfig/NetworkMode")
        && let Some(new) = mode.as_str().and_then(&mut rename)
    {
        *mode = new.into();
    }
    if let Some(Value::Object(endpoints)) = body.pointer_mut("/NetworkingConfig/EndpointsConfig") {
        let old = std::mem::take(endpoints);
        endpoints.extend(old.into_iter().map(|(name, settings)| (rename(&name).unwrap_or(name), settings)));
    }
}

/// Visits every container that the request needs on the same node (shared namespaces and volumes, links), and puts what
/// `find` makes of each word in its place. `find` is also told the condition in the user's terms.
pub fn map_companions<E>(body: &mut Value, mut find: impl FnMut(&str, String) -> Result<String, E>) -> Result<(), E> {
    let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) else { return Ok(()) };
    for (key, option) in [("NetworkMode", "net"), ("IpcMode", "ipc"), ("PidMode", "pid")] {
        let word = host.get(key).and_then(Value::as_str).and_then(|mode| mode.strip_prefix("container:"));
        if let Some(word) = word {
            let found = find(word, format!("--{option}=container:{word}"))?;
            host.insert(key.to_owned(), format!("container:{found}").into());
        }
    }
    for (key, option) in [("VolumesFrom", "volumes-from"), ("Links", "link")] {
        for source in host.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(text) = source.as_str() else { continue };
            let (word, rest) = text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest)));
            let found = find(word, format!("--{option}={word}"))?;
            // Without an alias, the other container is known by its own name.
            let own_name = word.rsplit('/').next().filter(|_| key == "Links");
            *source = match rest.or(own_name) {
                Some(rest) => format!("{found}:{rest}").into(),
                None => found.into(),
            };
        }
    }
    Ok(())
}

/// Makes a request fit an engine's version: engines before 1.44 attach a new container to one network only and take
/// its MAC address elsewhere. Returns the endpoints that are to be connected once the container exists.
pub fn defer_endpoints(body: &mut Value, engine: ApiVersion) -> Vec<(String, Value)> {
    if engine >= SEVERAL_ENDPOINTS {
        return Vec::new();
    }
    let mode = body["HostConfig"]["NetworkMode"].as_str().unwrap_or_default().to_owned();
    let Some(endpoints) = body.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let main = if endpoints.contains_key(&mode) { Some(mode) } else { endpoints.keys().next().cloned() };
    let Some((main, settings)) = main.and_then(|main| endpoints.shift_remove_entry(&main)) else { return Vec::new() };
    let deferred = std::mem::take(endpoints).into_iter().collect();
    let mac = settings["MacAddress"].as_str().filter(|m| !m.is_empty()).map(Value::from);
    endpoints.insert(main, settings);
    if let (Some(mac), Some(object)) = (mac, body.as_object_mut())
        && object.get("MacAddress").and_then(Value::as_str).unwrap_or_default().is_empty()
    {
        object.insert("MacAddress".to_owned(), mac);
    }
    deferred
}

/// The body of the call that connects a container to one more network.
pub fn connect_body(container: &str, settings: Value) -> Value {
    json!({"Container": container, "EndpointConfig": settings})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Value {
        json!({"Image": "busybox", "HostConfig": {"NanoCpus": 1_500_000_000_u64, "Memory": 1 << 20, "NetworkMode": "a"},
               "NetworkingConfig": {"EndpointsConfig": {"b": {"Aliases": ["x"]}, "a": {"MacAddress": "02:00:00:00:00:01"}}}})
    }

    #[test]
    fn needs_are_read() {
        let needs = needs(&body());
        assert_eq!(
            (needs.cpus.to_string().as_str(), needs.memory, needs.networks.join(" ").as_str()),
            ("1.5", Bytes(1 << 20), "a b")
        );
        assert_eq!(super::needs(&json!([])), Needs::default());
    }

    #[test]
    fn shares_mean_cores_where_the_operator_wants_it() {
        let shares = |n: u64| json!({"HostConfig": {"CpuShares": n}});
        let two = needs(&shares(2));
        assert_eq!((two.requested_cpus(true), two.requested_cpus(false)), (Cpus::whole(2), Cpus(0)));
        for (cores, node, sent) in [(2, 4, 512), (1, 3, 342), (4, 4, 1024), (0, 4, 0)] {
            let mut body = shares(cores);
            scale_cpu_shares(&mut body, node);
            assert_eq!(body, shares(sent));
            assert_eq!(needs(&body).held_cpus(true, node), Cpus::whole(cores), "what is sent is read back");
        }
        let both = needs(&json!({"HostConfig": {"CpuShares": 512, "NanoCpus": 1}}));
        assert_eq!((both.requested_cpus(true), both.held_cpus(true, 4)), (Cpus(1), Cpus(1)));
        assert_eq!(both.held_cpus(false, 4), Cpus(1));
    }

    #[test]
    fn named_volumes_are_found_and_renamed() {
        let mut body = json!({"HostConfig": {
            "Binds": ["data:/a", "/host:/b:ro", "./x:/c", "/anonymous", "n1/logs:/d:ro", "data:/e"],
            "Mounts": [{"Type": "volume", "Source": "cache", "Target": "/f"}, {"Type": "bind", "Source": "x"},
                       {"Type": "volume", "Target": "/g"},
                       {"Type": "volume", "Source": "nas", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}],
        }});
        rename_volumes(&mut body, |name| Some(name.strip_prefix("n1/")?.to_owned()));
        assert_eq!(needs(&body).volumes, ["data", "logs", "cache"]);
        assert_eq!(body["HostConfig"]["Binds"][4], "logs:/d:ro");
        body["HostConfig"]["VolumeDriver"] = "nfs".into();
        assert_eq!(needs(&body).volumes, ["cache"]);
    }

    #[test]
    fn images_are_known_by_many_words() {
        let rows = [
            json!({"Id": "sha256:1", "RepoTags": ["reg:5000/app:2", "reg:5000/app:3"], "RepoDigests": ["reg:5000/app@sha256:9"]}),
            json!({"Id": "sha256:2", "RepoTags": ["<none>:<none>"], "RepoDigests": null}),
        ];
        assert_eq!(
            image_words(rows.iter()).join(" "),
            "sha256:1 reg:5000/app:2 reg:5000/app reg:5000/app:3 reg:5000/app@sha256:9 sha256:2"
        );
    }

    #[test]
    fn ports_clash_where_a_node_could_not_give_both() {
        let body = |ip: &str, port: &str| json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": ip, "HostPort": port}]}}});
        let one = |body: Value| bindings(&body).pop();
        let (any, local) = (one(body("0.0.0.0", "8080")).unwrap(), one(body("127.0.0.1", "8080")).unwrap());
        let other = one(body("10.0.0.1", "8080")).unwrap();
        assert!(any.clashes(&local) && local.clashes(&any) && local.clashes(&local) && !local.clashes(&other));
        assert!(!any.clashes(&Binding { protocol: "udp".into(), ..any.clone() }));
        assert!(!any.clashes(&one(body("", "8081")).unwrap()));
        for free in ["", "0", "8000-8010", "x"] {
            assert_eq!(one(body("", free)), None, "{free}");
        }
        let host = json!({"ExposedPorts": {"8080/tcp": {}, "x": {}}, "HostConfig": {"NetworkMode": "host"}});
        assert!(one(host).unwrap().clashes(&any));
    }

    #[test]
    fn old_engines_get_one_network_and_the_rest_later() {
        let mut old = body();
        let deferred = defer_endpoints(&mut old, "1.43".parse().unwrap());
        assert_eq!(deferred, [("b".to_owned(), json!({"Aliases": ["x"]}))]);
        assert_eq!(old["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap().len(), 1);
        assert_eq!(old["MacAddress"], "02:00:00:00:00:01");
        let mut new = body();
        assert!(defer_endpoints(&mut new, "1.44".parse().unwrap()).is_empty() && new == body());
        assert!(defer_endpoints(&mut json!({}), "1.40".parse().unwrap()).is_empty());
    }

    #[test]
    fn networks_and_companions_are_renamed_where_they_stand() {
        let mut request = body();
        rename_networks(&mut request, |n| (n == "b").then(|| "c".into()));
        let keys: Vec<&String> = request["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["c", "a"]);
        let mut request = json!({"HostConfig": {"NetworkMode": "container:web", "VolumesFrom": ["web:ro", "db"],
                                                "Links": ["n1/app", "db:store"]}});
        let mut conditions = Vec::new();
        map_companions::<()>(&mut request, |word, condition| {
            conditions.push(condition);
            Ok(format!("id-{word}"))
        })
        .unwrap();
        assert_eq!(
            request["HostConfig"],
            json!({"NetworkMode": "container:id-web", "VolumesFrom": ["id-web:ro", "id-db"],
                   "Links": ["id-n1/app:app", "id-db:store"]})
        );
        assert_eq!(
            conditions.join(" "),
            "--net=container:web --volumes-from=web --volumes-from=db --link=n1/app --link=db"
        );
        assert!(map_companions(&mut request, |word, _| Err(word.to_owned())).is_err());
    }
}
