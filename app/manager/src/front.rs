//! What stands before the API of a manager that was started by hand: permission for web pages of other origins, and the
//! way to the leader where there are several managers.

use crate::{api::Api, replication::Gate};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use osier_engine::{Body, Hijacker, empty_response, forward, server::Handler};

const CORS: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "Origin, X-Requested-With, Content-Type, Accept, X-Registry-Auth"),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, PUT, OPTIONS, HEAD"),
];

/// See the module.
pub(crate) struct Front {
    pub(crate) api: Api,
    /// Whether pages of any origin may use the API.
    pub(crate) cors: bool,
    /// Who answers; this manager where there are no others.
    pub(crate) gate: Option<Gate>,
}

impl Handler for Front {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        if !self.cors {
            return self.answer(request, hijacker).await;
        }
        let mut response = if request.method() == Method::OPTIONS {
            empty_response(StatusCode::OK)
        } else {
            self.answer(request, hijacker).await
        };
        for (name, value) in CORS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl Front {
    async fn answer(&self, mut request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        let Some(gate) = &self.gate else { return self.api.handle(request, hijacker).await };
        match gate.passes(&mut request).await {
            Ok(None) => self.api.handle(request, hijacker).await,
            Ok(Some(leader)) => forward(&leader, request, hijacker).await,
            Err(refusal) => refusal.response(),
        }
    }
}
