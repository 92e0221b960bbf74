//! Taking connections of peers that dial this node.

use crate::{
    cert,
    handle::RequestHandler,
    node::{GREETING, Node},
};
use rustls::ServerConfig;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// How many connections may be in their handshake at a time; more wait in the kernel's queue.
const HANDSHAKES: usize = 128;
/// The pause after an error of the listener.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until it is dropped, and ends its connections then.
pub(crate) async fn run<H: RequestHandler>(listener: TcpListener, tls: Arc<ServerConfig>, node: Node<H>) {
    let acceptor = TlsAcceptor::from(tls);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (acceptor, node) = (acceptor.clone(), node.clone());
        connections.spawn(async move {
            if let Err(error) = take(stream, address, acceptor, permit, node).await {
                debug!(%address, error, "refused a connection");
            }
        });
    }
}

async fn take<H: RequestHandler>(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    permit: tokio::sync::OwnedSemaphorePermit,
    node: Node<H>,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| format!("cannot set up the socket: {e}"))?;
    let tls = timeout(GREETING, acceptor.accept(stream)).await;
    drop(permit);
    let tls = tls.map_err(|_| format!("no TLS handshake within {GREETING:?}"))?;
    let tls = tls.map_err(|e| format!("TLS handshake: {e}"))?;
    let member = cert::member(tls.get_ref().1.peer_certificates(), &node.core.others)?.clone();
    node.talk(tls, &member, address, false).await.map(drop)
}
