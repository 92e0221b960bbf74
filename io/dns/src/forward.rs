//! Asks the host's resolvers what the zone does not answer, with the client's own message.
//!
//! Must not know the zone. The message goes out byte for byte, so that EDNS options and types unknown here survive;
//! every attempt has a socket, and so a port, of its own. What comes back counts only from that resolver, with that id
//! and that question. Resolvers are asked in order; one that is silent, gone or refuses is passed over, and the silent come
//! last for a while.

use crate::{
    message::{self, HEADER, Transport},
    order::Order,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
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

/// The resolvers to ask, and what became of asking them.
#[derive(Debug)]
pub(crate) struct Upstream {
    resolvers: Box<[Asked]>,
    /// For datagrams and for connections: one that takes no connections may answer datagrams well.
    orders: [Mutex<Order>; 2],
}

/// One resolver, and how often it was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) address: SocketAddr,
    pub(crate) times: AtomicU64,
    /// Of these, how often it was silent, gone, or had no useful answer.
    pub(crate) failures: AtomicU64,
}

impl Upstream {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        let orders = [(); 2].map(|()| Mutex::new(Order::new(addresses.len())));
        let asked = |address| Asked { address, times: AtomicU64::new(0), failures: AtomicU64::new(0) };
        Self { resolvers: addresses.into_iter().map(asked).collect(), orders }
    }

    pub(crate) fn resolvers(&self) -> &[Asked] {
        &self.resolvers
    }

    /// The reply to a client's query: the first useful one, else the last useless one, else `None`. What came in one
    /// datagram may be truncated.
    pub(crate) async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let (first, last) = self.round(query, transport).await;
        if first.is_some() || transport == Transport::Udp {
            return first.or(last);
        }
        // There are resolvers that take datagrams only; what fits in one is as good.
        let (first, datagram) = self.round(query, Transport::Udp).await;
        first.filter(|reply| !is_truncated(reply)).or(last).or(datagram)
    }

    /// Asks one after the other: the first useful reply, and the last useless one before it.
    async fn round(&self, query: &[u8], transport: Transport) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut last = None;
        let order = self.order(transport).now(Instant::now());
        for index in order {
            let Some(resolver) = self.resolvers.get(index) else { continue };
            resolver.times.fetch_add(1, Ordering::Relaxed);
            let asking = async {
                match transport {
                    Transport::Udp => by_udp(resolver.address, query).await,
                    Transport::Tcp => by_tcp(resolver.address, query).await,
                }
            };
            let reply = timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            self.order(transport).note(index, reply.is_ok(), Instant::now());
            match reply {
                Ok(reply) if useful(&reply) => return (Some(reply), last),
                Ok(reply) => last = Some(reply),
                Err(error) => debug!(resolver = %resolver.address, %error, "a resolver did not answer"),
            }
            resolver.failures.fetch_add(1, Ordering::Relaxed);
        }
        (None, last)
    }

    fn order(&self, transport: Transport) -> MutexGuard<'_, Order> {
        let [datagrams, connections] = &self.orders;
        let order = if transport == Transport::Udp { datagrams } else { connections };
        order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// Whether asking another resolver would be pointless: anything but `SERVFAIL`, `NOTIMP` and `REFUSED`.
fn useful(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|flags| !matches!(flags & 0x0f, 2 | 4 | 5))
}

/// Whether this is the response to that query; resolvers may spell the question's letters otherwise.
fn answers(reply: &[u8], query: &[u8]) -> bool {
    let response = reply.len() >= HEADER && reply[2] & 0x80 != 0 && reply[..2] == query[..2];
    let questions = message::question(reply).zip(message::question(query));
    // Type and class follow the name and have no letters.
    let end = |question: &[u8]| question.len().saturating_sub(4);
    let same = |theirs: &[u8], ours: &[u8]| {
        theirs.eq_ignore_ascii_case(ours) && theirs.get(end(theirs)..) == ours.get(end(ours)..)
    };
    response && questions.is_some_and(|(theirs, ours)| same(theirs, ours))
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
