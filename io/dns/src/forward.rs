//! Asks the host's resolvers what the zone does not answer, with the client's own message.
//!
//! Must not know the zone. The message goes out byte for byte, so that EDNS options and types unknown here survive;
//! every attempt has a socket, and so a port, of its own. What comes back counts only from that resolver, with that id
//! and that question. Resolvers are asked in order; one that is silent, gone or refuses is passed over.

use crate::message::{self, HEADER};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tracing::debug;

/// How long each resolver has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest message there can be.
const LARGEST: usize = u16::MAX as usize;

/// The resolvers to ask, in order.
#[derive(Debug, Clone)]
pub(crate) struct Upstream(pub(crate) Arc<[SocketAddr]>);

impl Upstream {
    /// The reply to a client's datagram: the first useful one, else the last useless one, else `SERVFAIL`.
    pub(crate) async fn ask_udp(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.ask(query, by_udp).await
    }

    /// As [`Self::ask_udp`], over TCP, so that the reply is never truncated.
    pub(crate) async fn ask_tcp(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.ask(query, by_tcp).await
    }

    async fn ask(&self, query: &[u8], by: impl AsyncFn(SocketAddr, &[u8]) -> io::Result<Vec<u8>>) -> Option<Vec<u8>> {
        let mut last = None;
        for &resolver in self.0.iter() {
            match timeout(PATIENCE, by(resolver, query)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(reply) if useful(&reply) => return Some(reply),
                Ok(reply) => last = Some(reply),
                Err(error) => debug!(%resolver, %error, "a resolver did not answer"),
            }
        }
        last.or_else(|| message::failure(query))
    }
}

/// Whether asking another resolver would be pointless: anything but `SERVFAIL`, `NOTIMP` and `REFUSED`.
fn useful(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|flags| !matches!(flags & 0x0f, 2 | 4 | 5))
}

/// Whether this is the response to that query; resolvers may spell the question's letters otherwise.
fn answers(reply: &[u8], query: &[u8]) -> bool {
    let response = reply.len() >= HEADER && reply[2] & 0x80 != 0 && reply[..2] == query[..2];
    let questions = message::question(reply).zip(message::question(query));
    response && questions.is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours))
}

async fn by_udp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket takes datagrams from this resolver only, and hears of its port being closed.
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut reply = Vec::with_capacity(LARGEST);
    loop {
        reply.clear();
        socket.recv_buf(&mut reply).await?;
        if answers(&reply, query) {
            return Ok(reply);
        }
    }
}

async fn by_tcp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_message(&mut stream, query).await?;
    let reply = read_message(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if answers(&reply, query) { Ok(reply) } else { Err(io::Error::other("the reply is to another question")) }
}

/// Reads one message with its length before it (RFC 1035, 4.2.2); `None` at the end of the stream.
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

/// Writes one message with its length before it, in one piece.
pub(crate) async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await
}
