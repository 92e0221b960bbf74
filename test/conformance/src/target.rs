//! One scenario's view of a host: requests in, answers out, and a list of what has to be removed at the end.

use crate::{
    failure::Failure,
    host::Host,
    image,
    reply::{Reply, Stream},
    tunnel::Tunnel,
};
use bytes::Bytes;
use http::{Method, Request, header};
use osier_engine::{Body, empty, full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The API version that scenarios speak where the version is not their subject: that of the oldest engine supported.
pub(crate) const API: &str = "/v1.41";
/// How long a state may take to come about, on a slow machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at a state.
const PAUSE: Duration = Duration::from_millis(50);
/// A program that lasts until it is killed, and dies at the first signal.
const IDLE: [&str; 2] = ["sleep", "1000"];

/// A host that the suite has prepared itself on: the image is there.
pub struct Session {
    host: Host,
    /// Tells this run's names from those of another run on the same host.
    run: String,
    image: String,
    python: Option<PathBuf>,
    scenarios: AtomicUsize,
}

impl Session {
    /// Prepares a host. `python` is an interpreter that can import docker-py, for the scenarios that drive it.
    pub async fn open(host: Host, python: Option<&Path>) -> Result<Arc<Self>, Failure> {
        let run = format!("conf{:08x}", rand::random::<u32>());
        let image = format!("{run}:base");
        let python = python.map(Path::to_path_buf);
        let session = Arc::new(Self { host, run, image, python, scenarios: AtomicUsize::new(0) });
        image::import(&session.target()).await?;
        Ok(session)
    }

    /// Removes what [`Session::open`] has made.
    pub async fn close(self: &Arc<Self>) -> Result<(), Failure> {
        let target = self.target();
        target.later(format!("/images/{}?force=1", self.image));
        target.clean().await
    }

    /// A view for one scenario.
    pub fn target(self: &Arc<Self>) -> Target {
        let number = self.scenarios.fetch_add(1, Ordering::Relaxed);
        Target { session: self.clone(), number, made: Mutex::default() }
    }
}

/// One scenario's view of a host.
pub struct Target {
    session: Arc<Session>,
    number: usize,
    /// The paths to DELETE at the end, the last one first.
    made: Mutex<Vec<String>>,
}

/// A request that is being put together.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'static str, &'a str)],
    body: Option<(&'static str, Bytes)>,
}

impl Target {
    pub(crate) fn host(&self) -> &Host {
        &self.session.host
    }

    pub(crate) fn python(&self) -> Option<&Path> {
        self.session.python.as_deref()
    }

    /// The image that every scenario may use: busybox, no command, no entry point.
    pub(crate) fn image(&self) -> &str {
        &self.session.image
    }

    /// A name that nobody else uses.
    pub(crate) fn name(&self, word: &str) -> String {
        format!("{}-{}-{word}", self.session.run, self.number)
    }

    /// Has something removed when the scenario is over: the path of its DELETE, without a version.
    pub(crate) fn later(&self, path: impl Into<String>) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(path.into());
    }

    /// Has a container removed when the scenario is over.
    pub(crate) fn remove_container_later(&self, name: &str) {
        self.later(format!("/containers/{name}?force=1&v=1"));
    }

    /// Removes what the scenario has made. What is gone already is no failure.
    pub async fn clean(&self) -> Result<(), Failure> {
        let mut made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        made.reverse();
        let mut result = Ok(());
        for path in made {
            let reply = match self.delete(&path).await {
                // A container that removes itself, or that another request is still busy with.
                Ok(reply) if reply.status == 409 => self.removed_at_last(&path).await,
                other => other,
            };
            let judged = reply.and_then(|r| if r.status == 404 { Ok(()) } else { r.success().map(drop) });
            result = result.and(judged);
        }
        result
    }

    async fn removed_at_last(&self, path: &str) -> Result<Reply, Failure> {
        let start = Instant::now();
        loop {
            tokio::time::sleep(PAUSE).await;
            let reply = self.delete(path).await?;
            if reply.status != 409 || start.elapsed() > PATIENCE {
                return Ok(reply);
            }
        }
    }

    // Requests. Paths begin with the resource; the version is put before them.

    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn head(&self, path: &str) -> Result<Reply, Failure> {
        self.ask(Method::HEAD, path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Reply, Failure> {
        self.ask(Method::DELETE, path, None).await
    }

    /// A POST without a body.
    pub(crate) async fn post(&self, path: &str) -> Result<Reply, Failure> {
        self.ask(Method::POST, path, None).await
    }

    /// A POST of JSON.
    pub(crate) async fn send(&self, path: &str, body: Value) -> Result<Reply, Failure> {
        self.ask(Method::POST, path, Some(("application/json", body.to_string().into()))).await
    }

    /// A request with any body.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Reply, Failure> {
        self.open(method, path, &[], body).await?.whole().await
    }

    /// A request whose answer streams.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Stream, Failure> {
        self.exactly(Ask { method, path: &format!("{API}{path}"), headers, body }).await
    }

    /// A GET of exactly this path, whatever version it names.
    pub(crate) async fn unversioned(&self, method: Method, path: &str) -> Result<Reply, Failure> {
        self.exactly(Ask { method, path, headers: &[], body: None }).await?.whole().await
    }

    /// A POST of JSON to exactly this path, whatever version it names.
    pub(crate) async fn send_exactly(&self, path: &str, body: Value) -> Result<Reply, Failure> {
        let body = Some(("application/json", body.to_string().into()));
        self.exactly(Ask { method: Method::POST, path, headers: &[], body }).await?.whole().await
    }

    async fn exactly(&self, ask: Ask<'_>) -> Result<Stream, Failure> {
        let asked = format!("{} {}", ask.method, ask.path);
        let mut request = Request::builder().method(ask.method).uri(ask.path);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let body: Body = match ask.body {
            Some((kind, bytes)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                full(bytes)
            }
            None => empty(),
        };
        let request = request.body(body).map_err(|e| Failure::broken(format_args!("form {asked}"), e))?;
        let response = self.host().client().send(request).await;
        Ok(Stream::new(asked.clone(), response.map_err(|e| Failure::broken(asked, e))?))
    }

    /// Takes a connection over. `headers` are whole lines without their ends; with a body its length is added.
    pub(crate) async fn hijack(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<Value>,
    ) -> Result<Tunnel, Failure> {
        let asked = format!("{method} {API}{path}");
        let io = self.host().client().connect().await.map_err(|e| Failure::broken(&asked, e))?;
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let mut head = vec![format!("{asked} HTTP/1.1"), "Host: docker".to_owned()];
        if method == "POST" {
            head.push("Content-Type: application/json".to_owned());
            head.push(format!("Content-Length: {}", body.len()));
        }
        head.extend(headers.iter().map(|h| (*h).to_owned()));
        let request = format!("{}\r\n\r\n{body}", head.join("\r\n"));
        Tunnel::open(io, asked, request.into_bytes()).await
    }

    /// Takes a connection over as clients do since Docker 1.9.
    pub(crate) async fn upgrade(&self, path: &str, body: Option<Value>) -> Result<Tunnel, Failure> {
        self.hijack("POST", path, &["Connection: Upgrade", "Upgrade: tcp"], body).await?.is(101).await
    }

    // What scenarios make.

    /// Creates a container without a network of its own and gives its id. `settings` are members of the request's body.
    pub(crate) async fn container(&self, word: &str, settings: Value) -> Result<String, Failure> {
        let reply = self.create(word, settings).await?.is(201)?.json()?;
        Ok(text(&reply["Id"]))
    }

    /// As [`Self::container`], giving the answer.
    pub(crate) async fn create(&self, word: &str, settings: Value) -> Result<Reply, Failure> {
        let name = self.name(word);
        self.remove_container_later(&name);
        self.send(&format!("/containers/create?name={name}"), self.body(settings)).await
    }

    /// The body of a create request with these settings.
    pub(crate) fn body(&self, settings: Value) -> Value {
        let mut body = json!({"Image": self.image(), "Cmd": IDLE, "HostConfig": {"NetworkMode": "none"}});
        merge(&mut body, settings);
        body
    }

    /// Creates a container and starts it.
    pub(crate) async fn started(&self, word: &str, settings: Value) -> Result<String, Failure> {
        let id = self.container(word, settings).await?;
        self.post(&format!("/containers/{id}/start")).await?.is(204)?;
        Ok(id)
    }

    /// Runs a shell line in a container to its end and gives the container's id.
    pub(crate) async fn ran(&self, word: &str, line: &str) -> Result<String, Failure> {
        let id = self.started(word, json!({"Cmd": ["sh", "-c", line]})).await?;
        self.post(&format!("/containers/{id}/wait")).await?.is(200)?;
        Ok(id)
    }

    pub(crate) async fn inspect(&self, container: &str) -> Result<Value, Failure> {
        self.get(&format!("/containers/{container}/json")).await?.is(200)?.json()
    }

    /// Creates a network and gives its id.
    pub(crate) async fn network(&self, word: &str, settings: Value) -> Result<String, Failure> {
        let name = self.name(word);
        self.later(format!("/networks/{name}"));
        let mut body = json!({"Name": name, "CheckDuplicate": true});
        merge(&mut body, settings);
        let reply = self.send("/networks/create", body).await?.is(201)?.json()?;
        Ok(text(&reply["Id"]))
    }

    /// Creates a volume and gives its name.
    pub(crate) async fn volume(&self, word: &str, settings: Value) -> Result<String, Failure> {
        let name = self.name(word);
        self.later(format!("/volumes/{name}?force=1"));
        let mut body = json!({"Name": name});
        merge(&mut body, settings);
        self.send("/volumes/create", body).await?.is(201)?;
        Ok(name)
    }

    /// Gives the base image one more name, which is removed with the scenario.
    pub(crate) async fn tagged(&self, word: &str) -> Result<String, Failure> {
        let name = self.name(word);
        self.later(format!("/images/{name}:1?force=1"));
        let path = format!("/images/{}/tag?repo={name}&tag=1", self.image());
        self.post(&path).await?.is(201)?;
        Ok(format!("{name}:1"))
    }

    /// Runs a shell line inside a running container; gives its exit code and what it printed.
    pub(crate) async fn exec(&self, container: &str, line: &str) -> Result<(i64, String), Failure> {
        let body = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": ["sh", "-c", line]});
        let exec = self.send(&format!("/containers/{container}/exec"), body).await?.is(201)?.json()?;
        let id = text(&exec["Id"]);
        let tunnel = self.upgrade(&format!("/exec/{id}/start"), Some(json!({"Detach": false, "Tty": false}))).await?;
        let (out, err) = tunnel.frames().await?;
        let state = self.get(&format!("/exec/{id}/json")).await?.is(200)?.json()?;
        Ok((state["ExitCode"].as_i64().unwrap_or(-1), out + &err))
    }

    /// Looks again until something is so.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Result<T, String>, Failure>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            let last = match look().await? {
                Ok(found) => return Ok(found),
                Err(last) => last,
            };
            if start.elapsed() > PATIENCE {
                return Err(Failure::Late { what: format!("{what}, last {last}"), seconds: PATIENCE.as_secs() });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until a container's state is this one, and gives what inspect says then.
    pub(crate) async fn until_state(&self, container: &str, wanted: &str) -> Result<Value, Failure> {
        let look = async || {
            let found = self.inspect(container).await?;
            let state = text(&found["State"]["Status"]);
            Ok(if state == wanted { Ok(found) } else { Err(state) })
        };
        self.until(&format!("{container} is {wanted}"), look).await
    }

    /// Waits for the clock's next second. Lists tell times in whole ones: what has to be told apart by them is made in
    /// different ones.
    pub(crate) async fn next_second(&self) {
        tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(now().subsec_nanos()))).await;
    }

    /// The row of a container in a list with this query, if it is there.
    pub(crate) async fn row(&self, id: &str, query: &str) -> Result<Option<Value>, Failure> {
        let list = self.get(&format!("/containers/json?{query}")).await?.is(200)?.list()?;
        Ok(list.into_iter().find(|row| row["Id"] == id))
    }
}

/// JSON's text, or nothing.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Escapes a value for a query or a path's segment.
pub(crate) fn escape(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

/// How long ago 1970 is, by this machine's clock.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time as engines read it, to the nanosecond: one that is rounded misses what happened in between.
pub(crate) fn moment(time: Duration) -> String {
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

/// The `filters` parameter.
pub(crate) fn filters(value: Value) -> String {
    format!("filters={}", escape(&value.to_string()))
}

/// Whether a list's `Names` name a container, with or without its node before it.
pub(crate) fn names(row: &Value, name: &str) -> bool {
    let matches = |n: &Value| n.as_str().and_then(|n| n.rsplit('/').next()) == Some(name);
    row["Names"].as_array().is_some_and(|names| names.iter().any(matches))
}

/// Puts members into an object, objects in it member by member.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
