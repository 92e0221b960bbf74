//! Counts what a server is asked, around its handler, which knows nothing of it.

use http::{Method, Request, Response};
use osier_engine::{Body, Hijacker, server::Handler};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Calls of libnetwork's and IPAM's plugin protocols; whatever else is asked counts as one kind.
const PLUGIN_CALLS: [&str; 18] = [
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.DiscoverNew",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
];

/// How often each kind of call was made, and how often it failed.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<BTreeMap<&'static str, (u64, u64)>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, (u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kind → calls and failures.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, (u64, u64)> {
        self.lock().clone()
    }
}

/// A handler whose calls are counted.
pub(crate) struct Counted<H> {
    handler: H,
    calls: Arc<Calls>,
    kind: fn(&Method, &str) -> Option<&'static str>,
}

impl<H> Counted<H> {
    /// Counts the calls for which `kind`, given method and path, returns a word; there must be few of them.
    pub(crate) fn new(handler: H, calls: Arc<Calls>, kind: fn(&Method, &str) -> Option<&'static str>) -> Self {
        Self { handler, calls, kind }
    }
}

impl<H: Handler> Handler for Counted<H> {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        let kind = (self.kind)(request.method(), request.uri().path());
        if let Some(kind) = kind {
            self.calls.lock().entry(kind).or_default().0 += 1;
        }
        let response = self.handler.handle(request, hijacker).await;
        let status = response.status();
        if let Some(kind) = kind.filter(|_| status.is_client_error() || status.is_server_error()) {
            self.calls.lock().entry(kind).or_default().1 += 1;
        }
        response
    }
}

/// The kind of a plugin call.
pub(crate) fn plugin_call(_: &Method, path: &str) -> Option<&'static str> {
    let call = path.trim_start_matches('/');
    Some(PLUGIN_CALLS.iter().find(|known| **known == call).copied().unwrap_or("other"))
}

/// Whether a call to the engine creates a container.
pub(crate) fn create(method: &Method, path: &str) -> Option<&'static str> {
    let bare = path.strip_prefix("/v").and_then(|rest| rest.find('/').and_then(|at| rest.get(at..))).unwrap_or(path);
    (method == Method::POST && bare == "/containers/create").then_some("create")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use osier_engine::{Client, empty_response, server};
    use tokio::net::UnixListener;

    struct Picky;

    impl Handler for Picky {
        async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
            let bad = request.uri().path().contains("Leave");
            empty_response(if bad { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK })
        }
    }

    #[tokio::test]
    async fn calls_and_failures_are_counted_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Arc::new(Calls::default());
        let handler = Arc::new(Counted::new(Picky, calls.clone(), plugin_call));
        tokio::spawn(server::serve(server::Listener::Unix(listener), handler, std::future::pending()));
        let client = Client::unix(&path);
        for call in ["NetworkDriver.Join", "NetworkDriver.Leave", "NetworkDriver.Join", "Made.Up", "Made.Up.Too"] {
            let _ = client.call(Method::POST, &format!("/{call}"), None).await;
        }
        let expected = [("NetworkDriver.Join", (2, 0)), ("NetworkDriver.Leave", (1, 1)), ("other", (2, 0))];
        assert_eq!(calls.counts(), expected.into());
    }

    #[test]
    fn creates_are_told_from_other_calls() {
        for (method, path, is) in [
            (Method::POST, "/v1.41/containers/create", true),
            (Method::POST, "/containers/create", true),
            (Method::GET, "/containers/create", false),
            (Method::POST, "/v1.41/volumes/create", false),
            (Method::POST, "/v1.41/containers/create/start", false),
            (Method::POST, "/v", false),
        ] {
            assert_eq!(create(&method, path).is_some(), is, "{path}");
        }
    }
}
