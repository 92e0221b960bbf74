//! What a manager that does not lead does with requests: it answers for itself what is asked of this manager, and passes
//! everything else on to the leader, streams and tunnels included.

use super::Role;
use crate::refusal::Refusal;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use osier_discovery::Entry;
use osier_dockerapi::path::ApiPath;
use osier_engine::{Body, BoxError, Client, resolve};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long a request waits for somebody to lead.
const PATIENCE: Duration = Duration::from_secs(5);
/// Marks a request that was passed on once: two managers that take each other for the leader must not play ball with it.
const PASSED_ON: HeaderName = HeaderName::from_static("x-osier-passed-on");

/// Whether a path asks about this very manager.
fn is_own(path: &str) -> bool {
    let segments = ApiPath::parse(path).map(|path| path.segments).unwrap_or_default();
    matches!(segments.as_slice(), [only] if only == "_ping" || only == "info")
}

/// Decides who answers a request.
pub(crate) struct Gate {
    role: watch::Receiver<Role>,
    /// How the leader is dialled.
    tls: Option<Arc<rustls::ClientConfig>>,
    leader: Mutex<Option<(Entry, Client)>>,
}

impl Gate {
    pub(crate) fn new(role: watch::Receiver<Role>, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { role, tls, leader: Mutex::default() }
    }

    /// The leader that has to answer this request, which is marked for it; `None` means that this manager answers.
    pub(crate) async fn passes(&self, request: &mut Request<Body>) -> Result<Option<Client>, Refusal> {
        if is_own(request.uri().path()) {
            return Ok(None);
        }
        let marked = request.headers().contains_key(PASSED_ON);
        let mut role = self.role.clone();
        let decided = |role: &Role| role.leads(Instant::now()) || (!marked && role.primary().is_some());
        let role = match tokio::time::timeout(PATIENCE, role.wait_for(decided)).await {
            Ok(Ok(role)) => role.clone(),
            _ => {
                let message = "No elected primary cluster manager: no manager leads, or the store is unavailable";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message));
            }
        };
        let Some(primary) = role.primary() else { return Ok(None) };
        let client = self.client(primary).await.map_err(|error| {
            Refusal::internal(format!("Unable to reach primary cluster manager ({error}): {primary}"))
        })?;
        request.headers_mut().insert(PASSED_ON, HeaderValue::from_static("1"));
        Ok(Some(client))
    }

    async fn client(&self, primary: &Entry) -> Result<Client, BoxError> {
        let known = self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, client)) = known.filter(|(leader, _)| leader == primary) {
            return Ok(client);
        }
        let address = resolve(primary.host(), primary.port()).await?;
        let client = match &self.tls {
            Some(tls) => Client::tls(address, primary.host(), tls.clone())?,
            None => Client::tcp(address),
        };
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = Some((primary.clone(), client.clone()));
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_of_this_manager_stays_here() {
        for own in ["/_ping", "/v1.41/_ping", "/info", "/v1.24/info"] {
            assert!(is_own(own), "{own}");
        }
        // A network may have any name.
        for other in ["/networks/info", "/v1.41/volumes/_ping", "/version", "/", "/v1/clusters"] {
            assert!(!is_own(other), "{other}");
        }
    }
}
