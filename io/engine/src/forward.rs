//! The transparent proxy: one request to one engine, its answer back, streaming in both directions, and the tunnel
//! when the engine gives the connection up.

use crate::{
    body::{Body, collect, full},
    client::{Client, Error, Exchange},
    error_response,
    server::Hijacker,
};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::convert::Infallible;

/// The largest body of a request that takes its connection over (`exec start` carries a few bytes of JSON).
const HIJACK_BODY_LIMIT: usize = 1 << 20;

/// Headers that concern one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Sends the request on and gives its answer back; where the engine answers by giving the connection up, the
/// connection of our own client becomes a tunnel to it. Errors come back in the engine's shape.
pub async fn forward(client: &Client, request: Request<Body>, hijacker: Hijacker) -> Response<Body> {
    let raw = takes_over(request.method(), request.uri().path());
    // Some clients offer HTTP/2 with every request; where that means nothing to the engine it is no reason to hold the body.
    let upgrade = request.headers().get(header::UPGRADE).filter(|u| raw || is_raw_protocol(u)).cloned();
    let result = if raw || upgrade.is_some() {
        tunnel(client, request, upgrade, hijacker).await
    } else {
        plain(client, request).await
    };
    result.unwrap_or_else(|error| {
        let status = error.status().unwrap_or(match error {
            Error::Request { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        });
        error_response(status, error.chain())
    })
}

/// Whether this request may end in raw bytes although its client did not ask for an upgrade.
fn takes_over(method: &Method, path: &str) -> bool {
    let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    if segments.first().is_some_and(|s| s.starts_with('v') && s[1..].bytes().all(|b| b.is_ascii_digit() || b == b'.')) {
        segments.remove(0);
    }
    method == Method::POST
        && matches!(segments.as_slice(), ["containers", .., "attach"] | ["exec", _, "start"] | ["session"] | ["grpc"])
}

/// Whether the protocol that a client asks for is raw bytes on any path.
fn is_raw_protocol(protocol: &HeaderValue) -> bool {
    ["tcp", "websocket"].iter().any(|p| protocol.as_bytes().eq_ignore_ascii_case(p.as_bytes()))
}

fn strip(headers: &mut HeaderMap) {
    // Of two lengths the chunks' is right (RFC 9112, 6.3), and whoever comes next must not see another one.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("http2-settings");
    // The server has let the client send its body already.
    headers.remove(header::EXPECT);
}

async fn plain(client: &Client, mut request: Request<Body>) -> Result<Response<Body>, Error> {
    strip(request.headers_mut());
    // A proxy speaks its own version to either side: whoever spoke an older one says nothing about the other.
    *request.version_mut() = Version::HTTP_11;
    let mut response = client.send(request).await?;
    strip(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

async fn tunnel(
    client: &Client,
    request: Request<Body>,
    upgrade: Option<HeaderValue>,
    hijacker: Hijacker,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_11;
    // Read to its end before the takeover, or the rest of it would land in the raw stream.
    let body = collect(body, HIJACK_BODY_LIMIT).await;
    let body = body.map_err(|source| Error::Request { endpoint: client.name(), source })?;
    strip(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(header::UPGRADE, upgrade.clone().unwrap_or(HeaderValue::from_static("tcp")));
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let exchange = client.exchange(Request::from_parts(parts, full(body))).await?;
    let response = &exchange.response;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|h| response.headers().contains_key(h));
    if !switched && (response.status() != StatusCode::OK || framed) {
        let mut response = client.answer(exchange);
        strip(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        return Ok(response);
    }
    client.replenish();
    let Exchange { link, response, .. } = exchange;
    let head = head(&response, upgrade.is_some());
    // A 200 that lasts until the connection closes: hyper may have moved a first chunk into the body already. The
    // connection is polled no more, so what is there now is all there will be.
    let mut early = if switched { BytesMut::new() } else { drain(response.into_body()) };
    let raw = link.into_raw(switched).await;
    let (upstream, rest) = raw.map_err(|source| Error::Talk { endpoint: client.name(), source })?;
    early.extend_from_slice(&rest);
    let never: Infallible = hijacker.take(head, upstream, early.freeze()).await;
    match never {}
}

fn drain(mut body: Incoming) -> BytesMut {
    let mut bytes = BytesMut::new();
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        if let Ok(data) = frame.into_data() {
            let data: Bytes = data;
            bytes.extend_from_slice(&data);
        }
    }
    bytes
}

/// The head our client gets: 101 if it asked for an upgrade, else 200, with the engine's own headers.
fn head(response: &Response<Incoming>, upgraded: bool) -> Vec<u8> {
    let mut head: Vec<u8> = if upgraded {
        let mut line = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: ".to_vec();
        let protocol = response.headers().get(header::UPGRADE).map_or(&b"tcp"[..], HeaderValue::as_bytes);
        line.extend_from_slice(protocol);
        line.extend_from_slice(b"\r\n");
        line
    } else {
        b"HTTP/1.1 200 OK\r\n".to_vec()
    };
    for (name, value) in response.headers().iter().filter(|(name, _)| !HOP_BY_HOP.contains(name)) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_paths_are_known_with_and_without_version_and_node() {
        for path in ["/v1.41/containers/x/attach", "/containers/node/x/attach", "/exec/1/start", "/v1.24/session"] {
            assert!(takes_over(&Method::POST, path), "{path}");
        }
        for path in ["/v1.41/containers/attach/json", "/containers/x/start", "/vendor/grpc", "/"] {
            assert!(!takes_over(&Method::POST, path), "{path}");
        }
        assert!(!takes_over(&Method::GET, "/containers/x/attach"));
    }
}
