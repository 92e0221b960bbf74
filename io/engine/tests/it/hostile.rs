//! Requests that are not what they should be: each gets its own error, and nobody else notices.

use crate::site::{BODY, PATIENCE, Site, ask, is_well, read_until, rest, send};
use osier_engine::server::Limits;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;

const HOST: &str = "Host: d\r\nConnection: close\r\n";

async fn site() -> (std::sync::Arc<Site>, SocketAddr) {
    Site::start(Limits::default()).await
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let (site, address) = site().await;
    let get = |headers: &str| format!("GET /x HTTP/1.1\r\n{HOST}{headers}\r\n");
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("\r\n\r\n\r\nnonsense\r\n\r\n".to_owned(), 400),
        ("GET /x\r\n\r\n".to_owned(), 400),
        ("GET /x HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("G\u{0}T /x HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{0}\u{a5}\u{1}\r\n\r\n".to_owned(), 400),
        (get("Name : value\r\n"), 400),
        (get("Name: a\u{0}b\r\n"), 400),
        (get(": value\r\n"), 400),
        (get("no colon\r\n"), 400),
        (get("A: b\r\n folded\r\n"), 400),
        (get("Content-Length: -1\r\n"), 400),
        (get("Content-Length: +5\r\n"), 400),
        (get("Content-Length: 0x5\r\n"), 400),
        (get("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        (get("Content-Length: 18446744073709551616\r\n"), 400),
        (get("Transfer-Encoding: gzip\r\n"), 400),
        (get("Transfer-Encoding: chunked, gzip\r\n"), 400),
        (get("Transfer-Encoding: xchunked\r\n"), 400),
        ("GET /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        (get(&many), 431),
        (get(&format!("Name: {}\r\n", "x".repeat(1 << 20))), 431),
        (format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(70_000)), 414),
    ] {
        let answer = ask(address, &request).await;
        let shown: String = request.chars().take(80).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
    }
    assert!(site.asked.lock().unwrap().is_empty(), "{:?}", site.asked);
    is_well(address).await;
}

#[tokio::test]
async fn a_body_has_one_length() {
    let (site, address) = site().await;
    // RFC 9112, 6.1: the encoding decides, and the connection is not used again.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: d\r\n\r\n";
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        let answer = ask(address, format!("POST /echo HTTP/1.1\r\nHost: d\r\n{framing}\r\n0\r\n\r\n{smuggled}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    }
    assert!(!site.was_asked("/smuggled"));
    is_well(address).await;
}

#[tokio::test]
async fn chunks_at_the_limits_are_read_or_refused() {
    let (_site, address) = site().await;
    let extension = |length: usize| format!("1;x={}\r\na\r\n0\r\n\r\n", "y".repeat(length));
    for (body, expected) in [
        ("0\r\n\r\n", Ok("")),
        ("1\r\na\r\n0\r\n\r\n", Ok("a")),
        ("00000000000001\r\na\r\n000\r\n\r\n", Ok("a")),
        ("A;name=\"value\"\r\n0123456789\r\n0\r\n\r\n", Ok("0123456789")),
        ("1\r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", Ok("a")),
        ("80000000\r\na", Err(400)),
        ("7fffffffffffffff\r\na", Err(400)),
        ("8000000000000000\r\na", Err(400)),
        ("ffffffffffffffff\r\na", Err(400)),
        ("10000000000000000\r\na\r\n0\r\n\r\n", Err(400)),
        ("-1\r\na\r\n0\r\n\r\n", Err(400)),
        ("+1\r\na\r\n0\r\n\r\n", Err(400)),
        ("0x1\r\na\r\n0\r\n\r\n", Err(400)),
        ("\r\na\r\n0\r\n\r\n", Err(400)),
        ("g\r\na\r\n0\r\n\r\n", Err(400)),
        ("1\r\nab\r\n0\r\n\r\n", Err(400)),
        ("1\r\na", Err(400)),
        (&extension(64 << 10), Err(400)),
        (&format!("0\r\nTrailer: {}\r\n\r\n", "x".repeat(1 << 20)), Err(400)),
    ] {
        let head = format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        let mut client = send(address, format!("{head}{body}")).await;
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        let shown: String = body.chars().take(40).collect();
        match expected {
            Ok(text) => assert!(
                answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{text}")),
                "{shown:?}: {answer}"
            ),
            Err(status) => assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}"),
        }
    }
    is_well(address).await;
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_turn() {
    let (_site, address) = site().await;
    let one =
        |n: u32, headers: &str| format!("POST /echo HTTP/1.1\r\nHost: d\r\n{headers}Content-Length: 1\r\n\r\n{n}");
    let all = [one(1, ""), one(2, ""), one(3, "Connection: close\r\n")].concat();
    let answer = ask(address, all).await;
    let bodies: Vec<&str> =
        answer.split("HTTP/1.1 200 OK").skip(1).filter_map(|a| a.split("\r\n\r\n").nth(1)).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends() {
    let (_site, address) = site().await;
    let mut client =
        send(address, format!("POST /echo HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")).await;
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    assert!(rest(&mut client).await.ends_with("\r\n\r\nbody"));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_and_the_refusal_arrives() {
    let (_site, address) = site().await;
    let length = 8 * BODY;
    for framing in [format!("Content-Length: {length}"), "Transfer-Encoding: chunked".to_owned()] {
        let head = format!("POST /echo HTTP/1.1\r\nHost: d\r\n{framing}\r\n\r\n{length:x}\r\n");
        let mut client = send(address, head).await;
        let (mut read, mut write) = client.split();
        // It goes on sending, as clients do that read only when they are done.
        let sending = async {
            for _ in 0..8 {
                if write.write_all(&vec![b'x'; BODY]).await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            let mut seen = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut seen).await;
            String::from_utf8(seen).unwrap()
        };
        let ((), answer) = tokio::time::timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{framing}: {answer}");
        assert!(answer.contains("length limit exceeded"), "{answer}");
    }
    is_well(address).await;
}
