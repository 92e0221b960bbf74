//! The Docker API of the whole cluster: every route ends in one function below, which answers from the cache, forwards
//! to one engine, or asks several.

mod body;
mod build;
mod containers;
mod create;
mod events;
mod explain;
mod fanout;
mod images;
mod launch;
mod load;
mod networks;
mod nodes;
mod plugins;
mod proxy;
mod prune;
mod push;
mod supersede;
mod system;
mod transfer;
mod volumes;

use crate::{
    cluster::Cluster,
    meetings::Meetings,
    overview::{self, Overview},
    refusal::Refusal,
    replication::Role,
    tokens::Tokens,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use osier_dockerapi::{
    members,
    path::ApiPath,
    query::Query,
    route::{ContainerCall, ImageCall, NetworkCall, Route, route},
    version::ApiVersion,
};
use osier_engine::{Body, Client, Hijacker, empty, json_response, server::Handler};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;

/// The largest JSON body that is read whole.
const JSON_LIMIT: usize = 16 << 20;

/// Answers the API's requests.
#[derive(Clone)]
pub struct Api {
    cluster: Arc<Cluster>,
    tokens: Arc<Tokens>,
    meetings: Arc<Meetings>,
    experimental: bool,
    /// What this manager is to others, where there are others.
    role: Option<watch::Receiver<Role>>,
    /// The agent of the manager's own node, where the cluster has a network.
    agent: Option<Client>,
}

/// One request with what its path and query say.
pub(crate) struct Call {
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    /// The query as it came, to be passed on.
    pub(crate) raw_query: String,
    pub(crate) request: Request<Body>,
    pub(crate) hijacker: Hijacker,
    /// What its body is to be, where somebody here looks into it.
    pub(crate) body: Option<members::Body>,
    pub(crate) large: body::LargeBody,
}

pub(crate) type Answer = Result<Response<Body>, Refusal>;

impl Handler for Api {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        let mut response = self.answer(request, hijacker).await.unwrap_or_else(|refusal| refusal.response());
        let version = self.advertised().to_string();
        let headers = response.headers_mut();
        if let Ok(version) = HeaderValue::from_str(&version) {
            headers.insert("api-version", version);
        }
        headers.insert("ostype", HeaderValue::from_static("linux"));
        headers
            .insert("docker-experimental", HeaderValue::from_static(if self.experimental { "true" } else { "false" }));
        headers
            .insert(header::SERVER, HeaderValue::from_static(concat!("Osier/", env!("CARGO_PKG_VERSION"), " (linux)")));
        if head {
            *response.body_mut() = empty();
        }
        response
    }
}

impl Api {
    /// The API of this cluster, with its token service.
    pub fn new(cluster: Arc<Cluster>, tokens: Arc<Tokens>) -> Self {
        Self { cluster, tokens, meetings: Arc::default(), experimental: false, role: None, agent: None }
    }

    /// The same API, which tells clients that experimental features are on or off.
    #[must_use]
    pub fn experimental(self, experimental: bool) -> Self {
        Self { experimental, ..self }
    }

    /// The same API, which tells what this manager is to others.
    #[must_use]
    pub(crate) fn replicated(self, role: Option<watch::Receiver<Role>>) -> Self {
        Self { role, ..self }
    }

    /// The same API of a manager beside an agent.
    #[must_use]
    pub(crate) fn beside(self, agent: Client) -> Self {
        Self { agent: Some(agent), ..self }
    }

    async fn answer(&self, request: Request<Body>, hijacker: Hijacker) -> Answer {
        let path = ApiPath::parse(request.uri().path())?;
        let raw_query = request.uri().query().unwrap_or_default().to_owned();
        let query = Query::parse(Some(&raw_query))?;
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        // The classic's client leaves the version out where its URL has no path.
        if let ["v1", "clusters", rest @ ..] | ["clusters", rest @ ..] = segments.as_slice() {
            return self.tokens.answer(rest, &query, request).await;
        }
        let route = route(request.method(), &path.segments, |name| self.cluster.is_node(name));
        let body = members::Body::of(&route);
        let call = Call { version: path.version, query, raw_query, request, hijacker, body, large: None };
        if let ["osier", "v1", rest @ ..] = segments.as_slice() {
            return self.own(call, rest).await;
        }
        self.dispatch(route, call, &segments).await
    }

    async fn overview(&self) -> Overview {
        let network = match &self.agent {
            Some(agent) => Some(overview::network(agent).await),
            None => None,
        };
        let (version, api) = (env!("CARGO_PKG_VERSION").to_owned(), self.advertised().to_string());
        Overview { version, api, nodes: self.reports(), network }
    }

    /// What no engine has.
    async fn own(&self, call: Call, segments: &[&str]) -> Answer {
        match segments {
            ["nodes", rest @ ..] => self.nodes(call, rest).await,
            ["status"] if call.request.method() == Method::GET => {
                Ok(json_response(StatusCode::OK, &self.overview().await))
            }
            ["explain"] => self.explain(Call { body: Some(members::Body::ContainerCreate), ..call }).await,
            _ => Err(Refusal::not_found("page not found")),
        }
    }

    async fn dispatch(&self, route: Route, call: Call, segments: &[&str]) -> Answer {
        match route {
            Route::Ping => Ok(self.ping()),
            Route::Version => Ok(self.version()),
            Route::Info => Ok(self.info(call.version)),
            Route::Events => self.events(call).await,
            Route::DiskUsage => self.disk_usage(call).await,
            Route::Auth | Route::ImageSearch | Route::Distribution { .. } => {
                self.forward(&self.cluster.any_healthy()?, call, segments).await
            }
            Route::Builder => self.builder(call, segments).await,
            Route::ContainerList => self.container_list(call).await,
            Route::ContainerCreate => self.container_create(call).await,
            Route::Container { name, call: what, rest } => {
                let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
                match what {
                    ContainerCall::Inspect => self.container_inspect(call, &name).await,
                    ContainerCall::Remove => self.container_remove(call, &name).await,
                    ContainerCall::Rename => self.container_rename(call, &name).await,
                    ContainerCall::ExecCreate => self.exec_create(call, &name).await,
                    ContainerCall::Change => self.container_change(call, &name, &rest).await,
                    ContainerCall::Other => self.container_other(call, &name, &rest).await,
                }
            }
            Route::Exec { id, rest } => {
                let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
                self.exec(call, &id, &rest).await
            }
            Route::Commit => self.commit(call).await,
            Route::ImageList => self.image_list(call).await,
            Route::ImageCreate => self.image_create(call).await,
            Route::ImageLoad => self.image_load(call).await,
            Route::ImageSave => self.image_save(call).await,
            Route::Image { name, call: ImageCall::Tag } => self.image_tag(call, &name).await,
            Route::Image { name, call: ImageCall::Remove } => self.image_remove(call, &name).await,
            Route::Image { name, call: ImageCall::Push } => self.image_push(call, &name).await,
            Route::Image { name, .. } => self.image_other(call, &name, segments).await,
            Route::NetworkList => self.network_list(&call),
            Route::NetworkCreate => self.network_create(call).await,
            Route::Network { name, call: what } => match what {
                NetworkCall::Inspect => self.network_inspect(call, &name).await,
                NetworkCall::Remove => self.network_remove(call, &name).await,
                NetworkCall::Connect => self.network_attachment(call, &name, "connect").await,
                NetworkCall::Disconnect => self.network_attachment(call, &name, "disconnect").await,
            },
            Route::VolumeList => self.volume_list(call).await,
            Route::VolumeCreate => self.volume_create(call).await,
            Route::VolumeInspect { name } => self.volume_inspect(call, &name).await,
            Route::VolumeRemove { name } => self.volume_remove(call, &name).await,
            Route::Prune(what) => self.prune(call, what).await,
            Route::PluginList => self.plugin_list(call).await,
            Route::Plugin { name, verb } => self.plugin(call, &name, verb).await,
            Route::PluginInstall => Err(Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "plugins are installed on the engine of each node, not through the cluster",
            )),
            Route::SwarmMode(swarm) => {
                let (status, message) = swarm.answer(call.query.flag("stdout") || call.query.flag("stderr"));
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                Err(Refusal::new(status, message))
            }
            Route::Options => Ok(osier_engine::empty_response(StatusCode::OK)),
            Route::Unknown => Err(Refusal::not_found("page not found")),
        }
    }
}

/// An id as engines make them: 64 hex digits.
fn random_id() -> String {
    rand::random::<[u8; 32]>().iter().map(|b| format!("{b:02x}")).collect()
}

/// What an engine's error answer says.
fn message(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let text = json.and_then(|v| v["message"].as_str().map(str::to_owned));
    text.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}

/// The error that a line of an engine's progress tells, if it tells one.
fn stream_error(line: &Value) -> Option<String> {
    line["errorDetail"]["message"].as_str().or(line["error"].as_str()).map(str::to_owned)
}
