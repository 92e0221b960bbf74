//! An engine that is none: it answers what a test put into it, notes what it was asked, and can hang, refuse or lag.

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use osier_dockerapi::path::ApiPath;
use osier_engine::{
    Body, Hijacker,
    body::{BodySender, channel, collect},
    full, json_response,
    server::{Handler, Listener, serve},
};
use osier_manager::Target;
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use time::{
    OffsetDateTime,
    format_description::well_known::{Rfc2822, Rfc3339},
};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

/// One request that an engine got.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Vec<u8>,
}

/// An answer that a test has prepared for a method and a path without version.
type Prepared = (StatusCode, Value);

/// What the engine is at the moment.
pub(crate) struct State {
    pub(crate) api: &'static str,
    pub(crate) containers: BTreeMap<String, Value>,
    pub(crate) images: Vec<Value>,
    pub(crate) networks: Vec<Value>,
    pub(crate) volumes: BTreeMap<String, Value>,
    /// The name of a volume that it refuses to make.
    pub(crate) refused_volume: String,
    /// The engine's id, its host's name and its labels.
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) labels: Vec<String>,
    pub(crate) cpus: u64,
    /// Seconds that the engine's clock is ahead.
    pub(crate) clock: i64,
    /// Answers that come before all others.
    pub(crate) prepared: BTreeMap<(Method, String), Prepared>,
    pub(crate) asked: Vec<Asked>,
    /// What containers said, by their ids; others say the same for ever.
    pub(crate) logs: BTreeMap<String, Vec<u8>>,
    /// Logs that are being followed.
    pub(crate) following: usize,
    /// The size of the images that it saves; those that it loads are counted and not kept then.
    pub(crate) flood: u64,
    /// How many bytes were loaded so.
    pub(crate) loaded: u64,
    listeners: Vec<BodySender>,
    past: Vec<Value>,
    last_id: u64,
}

/// A fake engine; it is gone when this is dropped.
pub(crate) struct Fake {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
    hanging: watch::Sender<bool>,
    tls: Option<Arc<ServerConfig>>,
    server: Mutex<Option<AbortHandle>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Answers {
    name: String,
    state: Arc<Mutex<State>>,
    hanging: watch::Receiver<bool>,
}

impl Fake {
    pub(crate) async fn start(name: &str) -> Self {
        Self::listen(name, None).await
    }

    /// An engine that speaks TLS.
    pub(crate) async fn start_tls(name: &str, tls: Arc<ServerConfig>) -> Self {
        Self::listen(name, Some(tls)).await
    }

    async fn listen(name: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let state = State {
            api: "1.41",
            containers: BTreeMap::new(),
            images: vec![json!({"Id": "sha256:b0b0", "RepoTags": ["busybox:latest"], "Created": 1})],
            networks: vec![
                json!({"Id": format!("{name}-bridge"), "Name": "bridge", "Driver": "bridge", "Scope": "local"}),
            ],
            volumes: BTreeMap::new(),
            refused_volume: String::new(),
            id: format!("{name}-id"),
            host: name.to_owned(),
            labels: Vec::new(),
            cpus: 4,
            clock: 0,
            prepared: BTreeMap::new(),
            asked: Vec::new(),
            logs: BTreeMap::new(),
            following: 0,
            listeners: Vec::new(),
            past: Vec::new(),
            last_id: 0,
            flood: 0,
            loaded: 0,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            name: name.to_owned(),
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            hanging: watch::Sender::new(false),
            tls,
            server: Mutex::default(),
        };
        fake.serve(listener);
        fake
    }

    fn serve(&self, listener: TcpListener) {
        let answers = Answers { name: self.name.clone(), state: self.state.clone(), hanging: self.hanging.subscribe() };
        let listener = match &self.tls {
            Some(tls) => Listener::Tls(listener, tls.clone()),
            None => Listener::Tcp(listener),
        };
        let server = tokio::spawn(serve(listener, Arc::new(answers), pending()));
        *self.server.lock().unwrap() = Some(server.abort_handle());
    }

    /// Closes every connection and takes no new one.
    pub(crate) fn stop(&self) {
        self.state.lock().unwrap().listeners.clear();
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }

    /// Comes back at the same address.
    pub(crate) async fn restart(&self) {
        // The server that was stopped lets go of its socket when its task is next looked at.
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(listener);
    }

    /// From now on, takes requests and never answers; or answers again.
    pub(crate) fn hang(&self, hang: bool) {
        self.hanging.send_replace(hang);
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            name: None,
            host: self.address.ip().to_string(),
            port: self.address.port(),
            server_name: self.address.ip().to_string(),
        }
    }

    /// Lets the engine have a container, as if somebody had made it there.
    pub(crate) fn has(&self, name: &str) -> String {
        self.state.lock().unwrap().make(&self.name, name, &json!({"Image": "busybox"}))
    }

    pub(crate) fn prepare(&self, method: Method, path: &str, status: StatusCode, body: Value) {
        self.state.lock().unwrap().prepared.insert((method, path.to_owned()), (status, body));
    }

    /// What was asked with this method under a path that ends so.
    pub(crate) fn asked(&self, method: Method, end: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|a| a.method == method && a.path.ends_with(end)).cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().containers.len()
    }

    /// Ends all event streams, and forgets what was told if the engine is to be a fresh one.
    pub(crate) fn end_events(&self, forget: bool) {
        let mut state = self.state.lock().unwrap();
        state.listeners.clear();
        if forget {
            state.past.clear();
        }
    }

    /// Tells an event to everybody who listens.
    pub(crate) fn tell(&self, kind: &str, action: &str, id: &str) {
        self.state.lock().unwrap().event(kind, action, id, json!({"name": "x"}));
    }
}

impl State {
    /// The path with a container's id where its name stands; engines know both.
    fn with_id(&self, method: &Method, path: &str) -> String {
        let mut segments: Vec<&str> = path.split('/').collect();
        let Some(at) = segments.iter().position(|s| *s == "containers") else { return path.to_owned() };
        let named = |word: &str| {
            let name = ApiPath::parse(&format!("/containers/{word}")).unwrap().segments[1].clone();
            self.containers.iter().find(|(_, c)| c["Name"].as_str().unwrap()[1..] == name)
        };
        if let Some((id, _)) = segments
            .get(at + 1)
            .filter(|_| segments.len() > at + 2 || method == Method::DELETE)
            .and_then(|word| named(word))
        {
            segments[at + 1] = id;
        }
        segments.join("/")
    }

    fn make(&mut self, node: &str, name: &str, body: &Value) -> String {
        self.last_id += 1;
        let id = format!("{:0>64}", format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()));
        let name = if name.is_empty() { format!("{node}_{}", self.last_id) } else { name.to_owned() };
        let network = body["HostConfig"]["NetworkMode"].as_str();
        let networks: Value = network.map(|n| (n.to_owned(), json!({"NetworkID": ""}))).into_iter().collect();
        let container = json!({
            "Id": id, "Name": format!("/{name}"), "Created": "2026-01-01T00:00:00Z", "Image": "sha256:b0b0",
            "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"},
            "Config": {"Image": body["Image"], "Labels": body["Labels"], "Env": body["Env"]}, "HostConfig": body["HostConfig"], "NetworkSettings": {"Ports": {}, "Networks": networks},
        });
        self.containers.insert(id.clone(), container);
        self.event("container", "create", &id, json!({"name": name}));
        id
    }

    fn event(&mut self, kind: &str, action: &str, id: &str, attributes: Value) {
        let nanos = self.now().unix_timestamp_nanos() as u64;
        let event = json!({"Type": kind, "Action": action, "status": action, "id": id, "from": "busybox",
            "Actor": {"ID": id, "Attributes": attributes}, "time": nanos / 1_000_000_000, "timeNano": nanos});
        for listener in &self.listeners {
            let (listener, line) = (listener.clone(), format!("{event}\n"));
            tokio::spawn(async move { drop(listener.send(line).await) });
        }
        self.past.push(event);
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + time::Duration::seconds(self.clock)
    }

    fn rows(&self, filters: &str) -> Value {
        let wanted = |id: &str| !filters.contains("%22id%22") || filters.contains(id);
        let mount = |bind: &Value| {
            let (name, to) = bind.as_str()?.split_once(':')?;
            Some(json!({"Type": "volume", "Name": name, "Destination": to}))
        };
        let row = |(id, c): (&String, &Value)| {
            let binds = c["HostConfig"]["Binds"].as_array().into_iter().flatten();
            json!({"Id": id, "Names": [c["Name"]], "Image": c["Config"]["Image"], "ImageID": "sha256:b0b0",
                   "Created": c["Seconds"].as_i64().unwrap_or(1), "State": c["State"]["Status"], "Status": "Up 1 second", "Labels": c["Config"]["Labels"], "Ports": [],
                   "Mounts": binds.filter_map(mount).collect::<Vec<_>>(),
                   "NetworkSettings": {"Networks": c["NetworkSettings"]["Networks"]}})
        };
        self.containers.iter().filter(|(id, _)| wanted(id)).map(row).collect()
    }
}

impl Handler for Answers {
    async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
        if *self.hanging.borrow() {
            let mut hanging = self.hanging.clone();
            let _ = hanging.wait_for(|h| !*h).await;
        }
        let (parts, body) = request.into_parts();
        let path = self.state.lock().unwrap().with_id(&parts.method, parts.uri.path());
        let bare = match path[1..].split_once('/') {
            Some((version, rest)) if version.starts_with("v1.") => format!("/{rest}"),
            _ => path.clone(),
        };
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let prepared = self.state.lock().unwrap().prepared.get(&(parts.method.clone(), bare.clone())).cloned();
        // A prepared refusal does not wait for the upload to end.
        let flooded = self.state.lock().unwrap().flood > 0;
        let body = match &prepared {
            Some((status, _)) if !status.is_success() => Vec::new(),
            None if flooded && bare == "/images/load" => {
                let count = count(body).await;
                self.state.lock().unwrap().loaded += count;
                Vec::new()
            }
            _ => collect(body, 64 << 20).await.map(|b| b.to_vec()).unwrap_or_else(|e| format!("broken: {e}").into()),
        };
        let asked = Asked { method: parts.method.clone(), path, query: query.clone(), body: body.clone() };
        self.state.lock().unwrap().asked.push(asked);
        let mut response = match prepared {
            Some((status, value)) => json_response(status, &value),
            None => self.answer(&parts.method, &bare, &query, &body),
        };
        let date = self.state.lock().unwrap().now().format(&Rfc2822).unwrap().replace("+0000", "GMT");
        response.headers_mut().insert(header::DATE, date.parse().unwrap());
        response
    }
}

impl Answers {
    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Response<Body> {
        let mut state = self.state.lock().unwrap();
        let json = |value: Value| json_response(StatusCode::OK, &value);
        let empty = || osier_engine::empty_response(StatusCode::NO_CONTENT);
        let missing = || osier_engine::error_response(StatusCode::NOT_FOUND, "page not found");
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), segments.as_slice()) {
            ("GET", ["_ping"]) => Response::new(full("OK")),
            ("GET", ["info"]) => json(json!({"ID": state.id, "Name": state.host, "NCPU": state.cpus,
                "MemTotal": 8_000_000_000_u64, "Driver": "overlay2", "Architecture": "x86_64", "Labels": state.labels,
                "SystemTime": state.now().format(&Rfc3339).unwrap()})),
            ("GET", ["version"]) => {
                json(json!({"Version": "20.10.24", "ApiVersion": state.api, "MinAPIVersion": "1.12"}))
            }
            ("GET", ["events"]) => {
                let (sender, body) = channel(64);
                let line = |e: &Value| format!("{e}\n");
                if query.contains("until=") {
                    return Response::new(full(state.past.iter().map(line).collect::<String>()));
                }
                let since = query.strip_prefix("since=").map(|s| (s.parse::<f64>().unwrap() * 1e9) as i64);
                if let Some(since) = since {
                    // Backwards, until one is too old: as engines do.
                    let recent = state.past.iter().rev().take_while(|e| e["timeNano"].as_i64() >= Some(since - 1000));
                    let mut recent: Vec<String> = recent.map(line).collect();
                    recent.reverse();
                    let sender = sender.clone();
                    tokio::spawn(async move { drop(sender.send(recent.concat()).await) });
                }
                state.listeners.push(sender);
                Response::new(body)
            }
            ("GET", ["networks"]) => json(state.networks.clone().into()),
            ("GET", ["volumes"]) => {
                json(json!({"Volumes": state.volumes.values().collect::<Vec<_>>(), "Warnings": null}))
            }
            ("GET", ["volumes", name]) => state.volumes.get(*name).map_or_else(missing, |v| json(v.clone())),
            ("POST", ["volumes", "create"]) => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                let name = asked["Name"].as_str().unwrap().to_owned();
                if name == state.refused_volume {
                    return osier_engine::error_response(StatusCode::BAD_REQUEST, "no such option");
                }
                let volume = json!({"Name": name, "Driver": asked["Driver"].as_str().unwrap_or("local"), "Scope": "local",
                    "Labels": asked["Labels"], "Options": asked["DriverOpts"], "Mountpoint": "/somewhere"});
                let volume = state.volumes.entry(name).or_insert(volume).clone();
                json_response(StatusCode::CREATED, &volume)
            }
            ("DELETE", ["volumes", name]) => {
                state.volumes.remove(*name);
                empty()
            }
            ("GET", ["images", "json"]) => json(state.images.clone().into()),
            ("GET", ["containers", "json"]) => json(state.rows(query)),
            ("POST", ["containers", "create"]) => {
                let name =
                    query.split('&').find_map(|p| p.strip_prefix("name=")).unwrap_or_default().replace("%5F", "_");
                let id = state.make(&self.name, &name, &serde_json::from_slice(body).unwrap());
                json_response(StatusCode::CREATED, &json!({"Id": id, "Warnings": [], "Novelty": true}))
            }
            ("GET", ["containers", id, "json"]) => state.containers.get(*id).map_or_else(missing, |c| json(c.clone())),
            ("GET", ["containers", id, "logs"]) if state.logs.contains_key(*id) => {
                Response::new(full(state.logs[*id].clone()))
            }
            ("GET", ["containers", _, "logs" | "stats"]) => {
                let (sender, body) = channel(1);
                state.following += 1;
                let shared = self.state.clone();
                tokio::spawn(async move {
                    while sender.send("line\n").await.is_ok() {}
                    shared.lock().unwrap().following -= 1;
                });
                Response::new(body)
            }
            ("DELETE", ["containers", id]) => {
                state.containers.remove(*id);
                state.event("container", "destroy", id, json!({}));
                empty()
            }
            ("POST", ["networks", "create"]) => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                let id = format!("{}-network-{}", self.name, state.networks.len());
                let driver = asked["Driver"].as_str().filter(|d| !d.is_empty()).unwrap_or("bridge");
                let network = json!({"Id": id, "Name": asked["Name"], "Driver": driver, "Scope": "local"});
                state.networks.push(network);
                json_response(StatusCode::CREATED, &json!({"Id": id, "Warning": ""}))
            }
            ("DELETE", ["networks", word]) => {
                state.networks.retain(|n| n["Name"] != *word && n["Id"] != *word);
                empty()
            }
            ("POST", ["containers", id, "exec"]) => {
                json_response(StatusCode::CREATED, &json!({"Id": format!("exec-of-{id}")}))
            }
            ("GET", ["exec", id, "json"]) => match state.containers.keys().any(|c| *id == format!("exec-of-{c}")) {
                true => json(json!({"ID": id, "ExitCode": 7})),
                false => missing(),
            },
            ("POST", ["containers", id, change @ ("start" | "stop")]) => {
                let status = if *change == "start" { "running" } else { "exited" };
                if let Some(container) = state.containers.get_mut(*id) {
                    container["State"]["Status"] = status.into();
                }
                empty()
            }
            ("POST", ["containers", id, "rename"]) => {
                let name = query.strip_prefix("name=").unwrap_or_default();
                if let Some(container) = state.containers.get_mut(*id) {
                    container["Name"] = format!("/{name}").into();
                }
                empty()
            }
            ("POST", ["containers", _, _] | ["networks", _, "connect"]) => empty(),
            ("GET", ["images", "get"]) if state.flood > 0 => flood(state.flood),
            ("POST", ["build"]) => {
                let tag = query.split('&').find_map(|p| p.strip_prefix("t=")).unwrap_or_default().replace("%3A", ":");
                state.images.retain(|image| image["RepoTags"][0] != *tag);
                state
                    .images
                    .push(json!({"Id": format!("sha256:b{:063}", query.len()), "RepoTags": [tag], "Created": 9}));
                json(json!({"stream": "built"}))
            }
            ("POST", ["images", "load"]) => Response::new(full("{\"stream\":\"Loaded image: x:1\\n\"}\n")),
            ("POST", ["images", "create"]) => Response::new(full("{\"status\":\"Status: Downloaded\"}\n")),
            _ => missing(),
        }
    }
}

/// An answer of so many bytes.
fn flood(bytes: u64) -> Response<Body> {
    const CHUNK: usize = 64 << 10;
    let (sender, body) = channel(1);
    tokio::spawn(async move {
        for _ in 0..bytes / CHUNK as u64 {
            if sender.send(vec![7; CHUNK]).await.is_err() {
                return;
            }
        }
    });
    Response::new(body)
}

/// Reads a body without keeping it; one that broke counts for nothing.
async fn count(mut body: Body) -> u64 {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return 0 };
        count += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    count
}
