//! The part of the control socket that is about names: setting and removing them by hand, listing those, and looking up
//! what a container would be answered.

use crate::{
    given::{Given, GivenError},
    plugin::chain,
};
use http::{Method, Request, Response, StatusCode};
use osier_dns::Resolver;
use osier_engine::{Body, body::collect, error_response, json_response};
use osier_names::given::{Mistake, Wish};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{net::Ipv4Addr, sync::Arc};

/// Where all of it is.
pub(crate) const PATH: &str = "/v1/dns";
/// The largest request.
const BODY_LIMIT: usize = 64 << 10;

/// `POST /v1/dns/lookup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupRequest {
    /// A name, or an address.
    pub(crate) name: String,
    /// The container that asks: its name, its id, the beginning of its id, or its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

/// What a container would be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// What was asked.
    pub name: String,
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL` and so on.
    pub code: String,
    /// The addresses, in the order in which they were answered.
    pub addresses: Vec<Ipv4Addr>,
    /// The names, where an address was asked about.
    pub names: Vec<String>,
}

/// Why a request is not granted.
struct Refusal(StatusCode, String);

/// Answers what is asked about names.
pub(crate) struct Dns {
    pub(crate) given: Arc<Given>,
    pub(crate) resolver: Resolver,
}

impl Dns {
    /// Answers one request whose path begins with [`PATH`].
    pub(crate) async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let answered = match (&parts.method, path.strip_prefix(PATH).unwrap_or(path)) {
            (&Method::GET, "") => Ok(json_response(StatusCode::OK, &self.given.list())),
            (&Method::POST, "/add") => self.change(body, Given::add).await,
            (&Method::POST, "/remove") => self.change(body, Given::remove).await,
            (&Method::POST, "/lookup") => self.lookup(body).await,
            _ => Err(Refusal(StatusCode::NOT_FOUND, format!("no such path: '{path}'"))),
        };
        answered.unwrap_or_else(|Refusal(status, message)| error_response(status, message))
    }

    async fn change<T: Serialize>(
        &self,
        body: Body,
        change: impl FnOnce(&Given, &Wish) -> Result<T, GivenError>,
    ) -> Result<Response<Body>, Refusal> {
        let wish = read(body).await?;
        let done = change(&self.given, &wish).map_err(|e| Refusal(status(&e), chain(&e)))?;
        Ok(json_response(StatusCode::OK, &done))
    }

    async fn lookup(&self, body: Body) -> Result<Response<Body>, Refusal> {
        let LookupRequest { name, from } = read(body).await?;
        let asker = from.map(|from| self.asker(&from)).transpose()?;
        let found = self.resolver.lookup(&name, asker).await;
        let found = found.map_err(|e| Refusal(StatusCode::BAD_REQUEST, chain(&e)))?;
        let answer = Lookup { name, code: found.code, addresses: found.addresses, names: found.names };
        Ok(json_response(StatusCode::OK, &answer))
    }

    fn asker(&self, from: &str) -> Result<Ipv4Addr, Refusal> {
        if let Ok(address) = from.parse() {
            return Ok(address);
        }
        let addresses = self.given.find(from).ids.into_values().flatten().next();
        let unknown = || Refusal(StatusCode::NOT_FOUND, Mistake::Unknown(from.to_owned()).to_string());
        addresses.ok_or_else(unknown)
    }
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, format!("read the request: {text}"));
    let bytes = collect(body, BODY_LIMIT).await.map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

fn status(error: &GivenError) -> StatusCode {
    match error {
        GivenError::Mistake(Mistake::Unknown(_)) => StatusCode::NOT_FOUND,
        GivenError::Mistake(_) => StatusCode::BAD_REQUEST,
        GivenError::Full(_) => StatusCode::CONFLICT,
        GivenError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
