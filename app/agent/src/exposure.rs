//! Whether this host is on the overlay itself: kept on disk, changed by `osier expose` and `osier hide`.

use http::{Method, Request, Response, StatusCode};
use osier_engine::{Body, Client, body::collect, error_response, json_response};
use osier_model::config::path;
use osier_ui::{ExitKind, Failure, FailureExt, Ui};
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// Where the control socket serves it.
pub(crate) const PATH: &str = "/v1/host";
/// The largest request; real ones have a dozen bytes.
const LIMIT: usize = 1 << 10;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    joined: bool,
}

/// What the control socket answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlace {
    /// Whether the host is on the overlay.
    pub joined: bool,
    /// The host's address there, which it keeps while it is hidden; none where it has had none yet.
    pub address: Option<Ipv4Addr>,
}

/// The host's wish to be on the overlay.
pub(crate) struct Exposure {
    path: PathBuf,
    kept: Mutex<Kept>,
    /// Told when it is another.
    changed: Arc<Notify>,
}

impl Exposure {
    /// Reads what was said last; a host of which nothing was said is on the overlay.
    pub(crate) fn open(path: PathBuf, changed: Arc<Notify>) -> Result<Self, osier_store::Error> {
        let kept = osier_store::read_state(&path)?.unwrap_or(Kept { joined: true });
        Ok(Self { path, kept: Mutex::new(kept), changed })
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).joined
    }

    fn set(&self, new: Kept) -> Result<(), osier_store::Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != new {
            tokio::task::block_in_place(|| osier_store::write_state(&self.path, &new, osier_store::PUBLIC))?;
            *kept = new;
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Answers a request to [`PATH`]: `GET` tells, `PUT` changes. `address` is the host's.
    pub(crate) async fn handle(&self, request: Request<Body>, address: Option<Ipv4Addr>) -> Response<Body> {
        if request.method() == Method::PUT {
            let body = collect(request.into_body(), LIMIT).await;
            let wish =
                body.map_err(|e| e.to_string()).and_then(|b| serde_json::from_slice(&b).map_err(|e| e.to_string()));
            match wish.map(|wish| self.set(wish)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return error_response(StatusCode::INTERNAL_SERVER_ERROR, crate::plugin::chain(&error));
                }
                Err(problem) => return error_response(StatusCode::BAD_REQUEST, problem),
            }
        }
        json_response(StatusCode::OK, &HostPlace { joined: self.is_joined(), address })
    }
}

/// `osier expose` and `osier hide`, and Weave's. Prints the host's address where it is on the overlay afterwards.
pub async fn run_expose(joined: bool, ui: &Ui) -> Result<(), Failure> {
    let body = serde_json::json!(Kept { joined });
    let asked = Client::unix(path::AGENT_SOCKET).json::<HostPlace>(Method::PUT, PATH, Some(&body)).await;
    let asked = asked.map_err(|e| Failure::new(ExitKind::Failed, anyhow::Error::new(e).context("ask the agent")));
    let place = asked.hint(crate::client::NO_AGENT)?;
    match (ui.is_json(), place.address) {
        (true, _) => ui.json(&place),
        (false, Some(address)) if place.joined => ui.line(address),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hidden_host_stays_hidden_through_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Exposure::open(folder.path().join("host.json"), Arc::new(Notify::new())).unwrap();
        let exposure = open();
        assert!(exposure.is_joined());
        let put = |text: &str| {
            let body = osier_engine::full(text.to_owned());
            Request::builder().method(Method::PUT).uri(PATH).body(body).unwrap()
        };
        assert_eq!(exposure.handle(put("{\"joined\": false}"), None).await.status(), StatusCode::OK);
        assert_eq!(exposure.handle(put("{\"joined\": 7}"), None).await.status(), StatusCode::BAD_REQUEST);
        assert!(!exposure.is_joined() && !open().is_joined());
        exposure.set(Kept { joined: true }).unwrap();
        assert!(open().is_joined());
    }
}
