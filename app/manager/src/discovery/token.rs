//! The client of a token service: this program's own, or any that speaks the protocol that Docker Hub once spoke.

use crate::client::Place;
use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use osier_discovery::{Entry, Scheme, TokenService, TokenUrl, parse_list};
use osier_engine::{BoxError, Client, body::collect, full, resolve};
use osier_pki::public_client;
use osier_ui::{ExitKind, Failure};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long the service may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest answer: a list of every engine there can be.
const LIMIT: usize = 64 << 20;
/// Where the usual distributions keep the CAs that they trust.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// See the module.
pub(crate) struct TokenClient {
    url: TokenUrl,
    service: TokenService,
    tls: Option<Arc<rustls::ClientConfig>>,
    place: Option<Place>,
}

impl TokenClient {
    /// The service that a URL names, or the manager that this machine knows to serve the token. It is spoken to with TLS
    /// where the URL says so, where there are certificates to show, or where this machine's records have some.
    pub(crate) fn new(
        url: TokenUrl,
        tls: Option<Arc<rustls::ClientConfig>>,
        place: Option<Place>,
    ) -> Result<Self, Failure> {
        let service = match (&url.service, &place) {
            (Some(service), _) => service.clone(),
            (None, Some(place)) => {
                let (host, port) = (place.address.ip().to_string(), place.address.port());
                TokenService { scheme: None, host, port, base: "/v1".to_owned() }
            }
            (None, None) => {
                let message = format!("no cluster of this machine has the token {}", url.token);
                return Err(Failure::message_only(ExitKind::Failed, message)
                    .hint("name the manager that serves it: token://HOST[:PORT]/TOKEN"));
            }
        };
        let tls = match (service.scheme, &place, tls) {
            (Some(Scheme::Http), _, _) => None,
            (_, Some(place), None) => Some(place.identity.client().context("set up TLS")?),
            (Some(Scheme::Https), None, None) => Some(public_client(&bundle()).context("set up TLS")?),
            (_, _, tls) => tls,
        };
        Ok(Self { url, service, tls, place })
    }

    /// Who is registered, in the order that the service tells.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>, BoxError> {
        let (status, body) = self.ask(Method::GET, "", Bytes::new()).await?;
        if status != StatusCode::OK {
            let status = status.as_u16();
            return Err(format!("Failed to fetch entries, Discovery service returned {status} HTTP status code").into());
        }
        let entries: Vec<String> =
            serde_json::from_slice(&body).map_err(|e| format!("read the list of {self}: {e}"))?;
        Ok(parse_list(entries.iter().map(String::as_str)).map_err(|e| format!("read the list of {self}: {e}"))?)
    }

    /// Asks about this token; `rest` follows it in the path and query.
    async fn ask(&self, method: Method, rest: &str, body: Bytes) -> Result<(StatusCode, Bytes), BoxError> {
        let path = format!("{}/clusters/{}{rest}", self.service.base, self.url.token);
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(full(body))?;
        let asking = async {
            let client = self.client().await?;
            let response = client.send(request).await.map_err(|e| e.chain())?;
            let status = response.status();
            Ok::<_, BoxError>((status, collect(response.into_body(), LIMIT).await?))
        };
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(answer) => answer.map_err(|e| format!("ask {self}: {e}").into()),
            Err(_) => Err(format!("{self} does not answer").into()),
        }
    }

    async fn client(&self) -> Result<Client, BoxError> {
        let TokenService { host, port, .. } = &self.service;
        let known = self.place.as_ref().filter(|place| place.server_name == *host || self.url.service.is_none());
        let address = match (resolve(host, *port).await, known) {
            (Ok(address), _) => address,
            // The user may call the manager by a name that only the cluster's own records know.
            (Err(_), Some(place)) => place.address,
            (Err(e), None) => return Err(format!("resolve '{host}': {e}").into()),
        };
        let server_name =
            if self.url.service.is_none() { known.map_or(host, |place| &place.server_name) } else { host };
        Ok(match &self.tls {
            Some(tls) => Client::tls(address, server_name, tls.clone())?,
            None => Client::tcp(address),
        })
    }
}

impl std::fmt::Display for TokenClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the token service at {}:{}", self.service.host, self.service.port)
    }
}

/// The CAs that this machine trusts, by the variable that OpenSSL and Go heed too.
fn bundle() -> PathBuf {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|v| !v.is_empty()).map(PathBuf::from);
    let usual = || BUNDLES.iter().map(Path::new).find(|path| path.exists()).unwrap_or(Path::new(BUNDLES[0])).into();
    named.unwrap_or_else(usual)
}

/// An engine's registration under a token.
pub(crate) struct TokenRegistration {
    client: Arc<TokenClient>,
    address: String,
    ttl: Duration,
}

impl TokenRegistration {
    pub(crate) fn new(client: Arc<TokenClient>, engine: &Entry, ttl: Duration) -> Self {
        Self { client, address: engine.to_string(), ttl }
    }

    pub(crate) async fn renew(&mut self) -> Result<(), BoxError> {
        // A part of a second counts as a whole one, so that the entry does not end early.
        let ttl = self.ttl.as_secs() + u64::from(self.ttl.subsec_nanos() > 0);
        self.done(self.client.ask(Method::POST, &format!("?ttl={ttl}"), self.address.clone().into()).await?)
    }

    /// The classic protocol has no call for this; a service that does not know ours forgets the engine when its time is up.
    pub(crate) async fn remove(self) -> Result<(), BoxError> {
        self.done(self.client.ask(Method::DELETE, &format!("/{}", self.address), Bytes::new()).await?)
    }

    fn done(&self, (status, body): (StatusCode, Bytes)) -> Result<(), BoxError> {
        if status.is_success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        Err(format!("{} answered {status}: {}", self.client, said.trim()).into())
    }
}
