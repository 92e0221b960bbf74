//! The listening sockets: every query is decided at once, and whatever must wait for a resolver waits in a task of
//! its own. All of it is in a thread of its own: a datagram is answered where it was waited for, and not by whichever of
//! several threads is free, which must be woken for it.
//!
//! Must not know what a query means. No client can hold up another: answers from the zone never wait, forwarded
//! queries and connections are bounded in all and per client, and what is above the bound is dropped (clients ask
//! again).

use crate::{
    datagrams::{self, Datagrams},
    forward::{read_message, write_message},
    message::Transport,
    resolver::{Resolver, Step},
    slots::Slots,
};
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Forwarded datagrams under way, in all and per client.
const QUERIES: (usize, usize) = (1024, 256);
/// Open connections, in all and per client.
const CONNECTIONS: (usize, usize) = (256, 32);
/// How long a connection may be silent, or take to accept a reply (RFC 7766, 6.2.3).
const SILENCE: Duration = Duration::from_secs(10);
/// How long to wait when a socket cannot be read; the reason may pass.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The sockets to serve on, bound by the caller in whatever namespace the clients are.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For connections.
    pub tcp: TcpListener,
}

/// The sockets cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("prepare the sockets for DNS")]
pub struct StartError(#[source] io::Error);

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    _stay: oneshot::Sender<()>,
}

impl Server {
    /// Answers on the sockets until `stopped` is true, its sender is gone, or the server is dropped.
    pub fn start(sockets: Sockets, resolver: Resolver, stopped: watch::Receiver<bool>) -> Result<Self, StartError> {
        let (stay, left) = oneshot::channel();
        let (say, said) = mpsc::channel();
        let work = move || match serve(sockets, resolver, &say, stopped, left) {
            Ok(()) => {}
            // The first word is the start's; nobody waits for another.
            Err(error) => drop(say.send(Err(error))),
        };
        std::thread::Builder::new().name("dns".to_owned()).spawn(work).map_err(StartError)?;
        let started = said.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        started.map(|()| Self { _stay: stay }).map_err(StartError)
    }
}

/// Says that it has started, and serves until it is to stop.
fn serve(
    Sockets { udp, tcp }: Sockets,
    resolver: Resolver,
    say: &mpsc::Sender<io::Result<()>>,
    mut stopped: watch::Receiver<bool>,
    left: oneshot::Receiver<()>,
) -> io::Result<()> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (udp, tcp) = (tokio::net::UdpSocket::from_std(udp)?, tokio::net::TcpListener::from_std(tcp)?);
        tokio::spawn(serve_datagrams(Arc::new(udp), resolver.clone()));
        tokio::spawn(serve_connections(tcp, resolver));
        drop(say.send(Ok(())));
        tokio::select! {
            // Nothing is ever sent.
            _ = left => {}
            _ = stopped.wait_for(|&s| s) => {}
        }
        Ok(())
    })
}

async fn serve_datagrams(socket: Arc<tokio::net::UdpSocket>, resolver: Resolver) {
    let slots = Slots::new(QUERIES.0, QUERIES.1);
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    // The set ends its tasks when it is dropped, and so does the server.
    let mut waiting = JoinSet::new();
    let mut datagrams = Datagrams::new(socket.clone());
    let mut replies = Vec::new();
    loop {
        let received = match datagrams.receive().await {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "cannot receive DNS queries; trying again");
                sleep(BACK_OFF).await;
                continue;
            }
        };
        for (query, client) in received {
            match resolver.begin(query, Transport::Udp, client.ip(), &mut rng) {
                Step::Drop => {}
                Step::Reply(reply) => replies.push((reply, client)),
                Step::Ask(pending) => {
                    let Some(slot) = slots.take(client.ip()) else {
                        debug!(%client, "dropped a query: too many are waiting for resolvers");
                        resolver.note_overload();
                        continue;
                    };
                    let (socket, resolver, query) = (socket.clone(), resolver.clone(), query.to_vec());
                    waiting.spawn(async move {
                        if let Some(reply) = resolver.finish(&query, Transport::Udp, pending).await {
                            drop(socket.send_to(&reply, client).await);
                        }
                        drop(slot);
                    });
                }
            }
        }
        datagrams::send(&socket, &replies);
        replies.clear();
        while waiting.try_join_next().is_some() {}
    }
}

async fn serve_connections(listener: tokio::net::TcpListener, resolver: Resolver) {
    let slots = Slots::new(CONNECTIONS.0, CONNECTIONS.1);
    let mut open = JoinSet::new();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept DNS connections; trying again");
                sleep(BACK_OFF).await;
                continue;
            }
        };
        while open.try_join_next().is_some() {}
        let Some(slot) = slots.take(client.ip()) else {
            debug!(%client, "closed a connection: too many are open");
            continue;
        };
        let resolver = resolver.clone();
        open.spawn(async move {
            if let Err(error) = serve_connection(stream, client.ip(), resolver).await {
                debug!(%client, %error, "a DNS connection broke");
            }
            drop(slot);
        });
    }
}

/// Answers the queries of one connection, one after the other.
async fn serve_connection(mut stream: TcpStream, asker: IpAddr, resolver: Resolver) -> io::Result<()> {
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    stream.set_nodelay(true)?;
    while let Some(query) = timeout(SILENCE, read_message(&mut stream)).await?? {
        let reply = match resolver.begin(&query, Transport::Tcp, asker, &mut rng) {
            // Whoever sends what deserves no reply has lost its place in the stream.
            Step::Drop => return Ok(()),
            Step::Reply(reply) => Some(reply),
            Step::Ask(pending) => resolver.finish(&query, Transport::Tcp, pending).await,
        };
        if let Some(reply) = reply {
            timeout(SILENCE, write_message(&mut stream, &reply)).await??;
        }
    }
    Ok(())
}
