//! What stands before the API of a manager that was started by hand: permission for web pages of other origins.

use crate::api::Api;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use osier_engine::{Body, Hijacker, empty_response, server::Handler};

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
}

impl Handler for Front {
    async fn handle(&self, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
        if !self.cors {
            return self.api.handle(request, hijacker).await;
        }
        let mut response = if request.method() == Method::OPTIONS {
            empty_response(StatusCode::OK)
        } else {
            self.api.handle(request, hijacker).await
        };
        for (name, value) in CORS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
