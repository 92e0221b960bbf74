//! From a socket to a byte stream: accepting, tuning, and the TLS handshake.

use super::Listener;
use crate::{ahead::ReadAhead, client::BoxIo};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// The largest head that is read of a request which should have been a handshake.
const PLAIN_HEAD: usize = 16 << 10;

/// A connection as it was accepted.
pub(super) enum Raw {
    Ready(BoxIo),
    Tls(TcpStream, TlsAcceptor),
}

pub(super) async fn accept(listener: &Listener) -> io::Result<Raw> {
    match listener {
        Listener::Tcp(l) => {
            let (stream, _) = l.accept().await?;
            tune(&stream);
            Ok(Raw::Ready(Box::new(stream)))
        }
        Listener::Tls(l, config) => {
            let (stream, _) = l.accept().await?;
            tune(&stream);
            Ok(Raw::Tls(stream, config.clone().into()))
        }
        Listener::Unix(l) => Ok(Raw::Ready(Box::new(l.accept().await?.0))),
    }
}

/// Interactive sessions want no Nagle; peers that vanish without a word are noticed by keepalive.
pub(crate) fn tune(stream: &TcpStream) {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    let tuned = stream.set_nodelay(true).and_then(|()| socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        debug!(%error, "cannot tune a connection");
    }
}

impl Raw {
    /// Does what has to be done before the first request.
    pub(super) async fn establish(self, deadline: Duration) -> io::Result<BoxIo> {
        match self {
            Self::Ready(io) => Ok(io),
            Self::Tls(stream, acceptor) => {
                let handshake = tokio::time::timeout(deadline, handshake(stream, acceptor)).await;
                handshake.map_err(|_| io::ErrorKind::TimedOut)?
            }
        }
    }
}

async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<BoxIo> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // TLS records begin with a number below 32, requests with a letter.
    if first[0].is_ascii_alphabetic() {
        tell_plain_client(&mut stream).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks HTTP without TLS"));
    }
    Ok(Box::new(acceptor.accept(ReadAhead::new(stream)).await?))
}

/// Tells a client that forgot TLS what is wrong, in the words that Docker's own server uses.
async fn tell_plain_client(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < PLAIN_HEAD {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let body = r#"{"message":"Client sent an HTTP request to an HTTPS server."}"#;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // A socket that is closed with unread bytes in it takes the answer back.
    while stream.read(&mut [0; 4096]).await? > 0 {}
    Ok(())
}
