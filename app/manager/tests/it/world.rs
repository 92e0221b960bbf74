//! A manager with some fake engines, and ways to ask it.

use crate::fake::Fake;
use http::{Method, Request, StatusCode};
use osier_engine::{
    Body, Client, body, full,
    server::{Listener, serve},
};
use osier_manager::{Api, Cluster, Engines, State, Target, Tokens};
use osier_scheduler::Policy;
use serde_json::Value;
use std::{future::pending, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::AbortHandle, time::Instant};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// A manager; it stops when this is dropped.
pub(crate) struct World {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    server: AbortHandle,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    /// A manager of these engines, once all of them are healthy.
    pub(crate) async fn of(fakes: &[&Fake]) -> Self {
        let world = Self::start().await;
        world.cluster.set_members(fakes.iter().map(|f| f.target()).collect());
        world.healthy(fakes.len()).await;
        world
    }

    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    /// A manager of no engines yet, which reaches and follows them like this.
    pub(crate) async fn with(engines: impl Into<Engines>) -> Self {
        Self::under(Policy::default(), engines).await
    }

    /// The same, placing containers like this.
    pub(crate) async fn under(policy: Policy, engines: impl Into<Engines>) -> Self {
        let cluster = Cluster::new(engines, policy);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api::new(cluster.clone(), Arc::new(Tokens::default()));
        let server = tokio::spawn(serve(Listener::Tcp(listener), Arc::new(api), pending())).abort_handle();
        Self { cluster, client: Client::tcp(address), address, server }
    }

    /// Waits until so many engines are healthy.
    pub(crate) async fn healthy(&self, count: usize) {
        until("the engines are healthy", async || self.status("Status", "Healthy").await == count).await;
    }

    /// How many nodes `info` shows with this value in this row.
    pub(crate) async fn status(&self, row: &str, value: &str) -> usize {
        let rows = self.rows().await;
        rows.iter().filter(|(k, v)| k.trim_start_matches([' ', '└']) == row && v == value).count()
    }

    /// The rows of `info`.
    pub(crate) async fn rows(&self) -> Vec<(String, String)> {
        let info = self.get("/info").await;
        serde_json::from_value(info["SystemStatus"].clone()).unwrap()
    }

    /// What the manager knows of the node at an address.
    pub(crate) async fn node_at(&self, target: &Target) -> Value {
        self.get(&format!("/osier/v1/nodes/{}", target.address())).await
    }

    /// A GET that must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let body = full(body.map(|b| b.to_string()).unwrap_or_default());
        let (status, bytes) = self.send(method, path, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Body) -> (StatusCode, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let response = self.client.send(request).await.unwrap();
        let status = response.status();
        (status, body::collect(response.into_body(), 256 << 20).await.unwrap().to_vec())
    }

    /// Creates a container, and tells the answer.
    pub(crate) async fn create(&self, name: &str, body: Value) -> (StatusCode, Value) {
        let query = if name.is_empty() { String::new() } else { format!("?name={name}") };
        self.ask(Method::POST, &format!("/v1.41/containers/create{query}"), Some(body)).await
    }

    /// The names of the containers that `ps` shows, in its order.
    pub(crate) async fn names(&self, query: &str) -> Vec<String> {
        let rows = self.get(&format!("/containers/json{query}")).await;
        rows.as_array().unwrap().iter().map(|row| row["Names"][0].as_str().unwrap().to_owned()).collect()
    }
}

/// Opens the state in a file, as soon as a manager that was dropped has let go of it.
pub(crate) async fn open_state(file: &Path) -> State {
    let mut state = None;
    until(&format!("'{}' is free", file.display()), async || {
        state = State::open(file).inspect_err(|error| assert!(error.is_in_use(), "{error}")).ok();
        state.is_some()
    })
    .await;
    state.unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
