//! A thousand engines, faked because nobody has them, and `osier manage` over them.

use crate::usage;
use anyhow::{Context, Result, ensure};
use osier_engine::{
    Body, Hijacker, full, json_response,
    server::{Handler, Listener, serve},
};
use std::{
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, runtime::Runtime};

/// How many engines there are.
pub(crate) const ENGINES: usize = 1000;
/// Containers on each.
pub(crate) const CONTAINERS: usize = 30;
/// How long the manager may take to know all engines.
const SETTLE: Duration = Duration::from_secs(180);

/// What the fakes run on: one thread, so that the manager has the other cores.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// One engine with [`CONTAINERS`] containers.
struct Fake {
    name: String,
    list: Vec<u8>,
}

impl Handler for Fake {
    async fn handle(&self, request: http::Request<Body>, _: Hijacker) -> http::Response<Body> {
        let filtered = request.uri().query().is_some_and(|q| q.contains("filters="));
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let versioned = path.strip_prefix('v').filter(|p| p.starts_with(|c: char| c.is_ascii_digit()));
        let bare = versioned.and_then(|p| p.split_once('/')).map_or(path.as_str(), |(_, bare)| bare);
        let ok = |value: serde_json::Value| json_response(http::StatusCode::OK, &value);
        let name = &self.name;
        match bare {
            "info" => ok(serde_json::json!({ "ID": name, "Name": name, "NCPU": 4, "MemTotal": 8u64 << 30,
                "Containers": CONTAINERS, "Labels": [], "OSType": "linux", "ServerVersion": "28.5.2" })),
            "version" => ok(serde_json::json!({ "Version": "28.5.2", "ApiVersion": "1.51", "MinAPIVersion": "1.24" })),
            "containers/json" if filtered => ok(serde_json::json!([])),
            "containers/json" => http::Response::new(full(self.list.clone())),
            "containers/create" => {
                let made = serde_json::json!({ "Id": format!("{:064x}", 1), "Warnings": [] });
                json_response(http::StatusCode::CREATED, &made)
            }
            "images/json" | "networks" => ok(serde_json::json!([])),
            "volumes" => ok(serde_json::json!({ "Volumes": [] })),
            "events" => {
                let (sender, body) = osier_engine::body::channel(1);
                // A quiet engine: the stream stays open for as long as somebody reads it.
                tokio::spawn(async move { sender.closed().await });
                http::Response::new(body)
            }
            "_ping" => {
                let mut pong = http::Response::new(full("OK"));
                pong.headers_mut().insert("Api-Version", http::HeaderValue::from_static("1.51"));
                pong
            }
            path if path.starts_with("containers/") => {
                let id = path.split('/').nth(1).unwrap_or_default();
                ok(serde_json::json!({ "Id": id, "Name": format!("/{name}-{id}"), "State": { "Running": true },
                    "Config": { "Labels": {} }, "HostConfig": {}, "NetworkSettings": { "Networks": {} } }))
            }
            _ => osier_engine::error_response(http::StatusCode::NOT_FOUND, "page not found"),
        }
    }
}

/// Starts so many fake engines on the runtime at hand.
pub(crate) async fn engines(count: usize) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::with_capacity(count);
    for engine in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let fake = Fake { name: format!("fake-{engine:04}"), list: list(engine) };
        tokio::spawn(serve(Listener::Tcp(listener), Arc::new(fake), pending()));
    }
    Ok(addresses)
}

/// The container list of one engine: rows of about 1 kB, as real ones with labels are.
fn list(engine: usize) -> Vec<u8> {
    let row = |c: usize| {
        let id = format!("{:064x}", (engine as u128) << 64 | c as u128 | 1 << 100);
        let labels: serde_json::Map<String, serde_json::Value> =
            (0..8).map(|l| (format!("com.example.some.label.number.{l}"), "a value of a label".into())).collect();
        serde_json::json!({
            "Id": id, "Names": [format!("/service-{c}")], "Image": "registry.example/team/service:1.2.3",
            "ImageID": format!("sha256:{:064x}", c), "Command": "/usr/bin/service --config /etc/service.conf",
            "Created": 1_700_000_000 + c, "Ports": [{ "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 30000 + c, "Type": "tcp" }],
            "Labels": labels, "State": "running", "Status": "Up 2 hours", "HostConfig": { "NetworkMode": "osier" },
            "NetworkSettings": { "Networks": { "osier": { "NetworkID": "n", "IPAddress": "10.1.1.9", "MacAddress": "02:6f:0a:01:01:09" } } },
            "Mounts": [],
        })
    };
    serde_json::Value::from_iter((0..CONTAINERS).map(row)).to_string().into_bytes()
}

/// `osier manage` over the fake engines.
pub(crate) struct Manager {
    child: Child,
    address: SocketAddr,
    _file: tempfile::NamedTempFile,
}

impl Manager {
    /// Starts it, and waits until it knows all containers.
    pub(crate) fn start(engines: &[SocketAddr]) -> Result<Self> {
        let osier = std::env::var_os("OSIER_BIN").context("OSIER_BIN is not set; run 'cargo xtask bench'")?;
        let mut file = tempfile::NamedTempFile::new()?;
        for engine in engines {
            writeln!(file, "{engine}")?;
        }
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(osier);
        command.args(["manage", "--log", "error", "-H", &format!("tcp://{address}")]);
        command.arg(format!("file://{}", file.path().display())).stdout(Stdio::null());
        let manager = Self { child: command.spawn().context("start the manager")?, address, _file: file };
        osier_e2e::eventually(SETTLE, || {
            let (body, _, _) = manager.get("/containers/json?all=1")?;
            let rows = serde_json::from_slice::<Vec<serde_json::Value>>(&body)?.len();
            ensure!(rows == engines.len() * CONTAINERS, "{rows} rows are listed");
            Ok(())
        })?;
        Ok(manager)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time that it has used so far, in seconds.
    pub(crate) fn busy(&self) -> Result<f64> {
        usage::busy(&std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?)
    }

    /// One request on a connection of its own: the body, the time to its first byte and to its last.
    pub(crate) fn get(&self, path: &str) -> Result<(Vec<u8>, Duration, Duration)> {
        get(self.address, path)
    }

    /// The memory that it occupies.
    pub(crate) fn resident_mib(&self) -> Result<u64> {
        Ok(usage::resident(&std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?)? >> 20)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own: the body, the time to its first byte and to its last.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(Vec<u8>, Duration, Duration)> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n")?;
    let mut bytes = vec![0; 64 << 10];
    let mut read = stream.read(&mut bytes)?;
    let first = started.elapsed();
    bytes.truncate(read);
    read = stream.read_to_end(&mut bytes)?;
    let end = started.elapsed();
    ensure!(bytes.starts_with(b"HTTP/1.") && read + bytes.len() > 0, "no answer");
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").context("the answer has no head")?;
    ensure!(bytes.get(9..12) == Some(b"200"), "{}", String::from_utf8_lossy(&bytes[..head]));
    Ok((bytes.split_off(head + 4), first, end))
}
