//! The transparent proxy: one request to one engine, its answer back, streaming in both directions, and the tunnel
//! when the engine gives the connection up.

use crate::{
    body::{Body, boxed, collect, full},
    client::{BoxIo, Client, Error},
    error_response,
    server::Hijacker,
};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::poll_fn};

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
    let talk = |source: hyper::Error| Error::Talk { endpoint: client.name(), source: source.into() };
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_11;
    // Read to its end before the takeover, or the rest of it would land in the raw stream.
    let body = collect(body, HIJACK_BODY_LIMIT).await;
    let body = body.map_err(|source| Error::Request { endpoint: client.name(), source })?;
    strip(&mut parts.headers);
    parts.headers.insert(header::HOST, HeaderValue::from_static("docker"));
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(header::UPGRADE, upgrade.clone().unwrap_or(HeaderValue::from_static("tcp")));
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Some(path) = parts.uri.path_and_query().cloned() {
        parts.uri = path.into();
    }

    let io = client.connect().await?;
    let handshake = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(io)).await;
    let (mut sender, mut connection) = handshake.map_err(talk)?;
    let mut answer = Box::pin(sender.send_request(Request::from_parts(parts, full(body))));
    let mut ended = false;
    let response = loop {
        tokio::select! {
            biased;
            response = &mut answer => break response.map_err(talk)?,
            end = poll_fn(|cx| connection.poll_without_shutdown(cx)), if !ended => { end.map_err(talk)?; ended = true; }
        }
    };
    drop(answer);
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|h| response.headers().contains_key(h));
    if !switched && (response.status() != StatusCode::OK || framed) {
        tokio::spawn(async move {
            // The answer's body reports a connection that breaks; nobody is left to tell here.
            let _ = connection.await;
            drop(sender);
        });
        let mut response = response.map(boxed);
        strip(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        return Ok(response);
    }
    let head = head(&response, upgrade.is_some());
    let mut early = BytesMut::new();
    if switched {
        if !ended {
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await.map_err(talk)?;
        }
    } else {
        // A 200 that lasts until the connection closes: hyper may have moved a first chunk into the body already.
        // The connection is polled no more, so what is there now is all there will be.
        early = drain(response.into_body());
    }
    let parts = connection.into_parts();
    early.extend_from_slice(&parts.read_buf);
    let upstream: BoxIo = parts.io.into_inner();
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
