//! What both ends of a control connection do once the TLS handshake is over.

use crate::{
    connection::{self, Answer, Connection},
    core::Core,
    frame::Kind,
    handle::RequestHandler,
    hello,
    links::Links,
    sync,
};
use osier_model::{PeerId, config::Member};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};
use tracing::info;

/// How long the TLS handshake and the greeting may take, each.
pub(crate) const GREETING: Duration = Duration::from_secs(5);

/// What every connection of this node needs.
pub(crate) struct Node<H> {
    pub(crate) core: Arc<Core>,
    pub(crate) links: Arc<Links>,
    pub(crate) handler: Arc<H>,
    /// Peers to compare facts with at once.
    pub(crate) compare: mpsc::UnboundedSender<PeerId>,
}

impl<H> Clone for Node<H> {
    fn clone(&self) -> Self {
        let (core, links, handler) = (Arc::clone(&self.core), Arc::clone(&self.links), Arc::clone(&self.handler));
        Self { core, links, handler, compare: self.compare.clone() }
    }
}

impl<H: RequestHandler> Node<H> {
    /// Greets the member and runs the connection until it ends; returns why it did not begin or why it ended.
    pub(crate) async fn talk(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        member: &Member,
        address: SocketAddr,
        outbound: bool,
    ) -> Result<String, String> {
        let peer = member.peer;
        let greeting = hello::exchange(&mut stream, self.core.me.peer, peer);
        timeout(GREETING, greeting).await.map_err(|_| format!("no greeting within {GREETING:?}"))??;
        let (connection, queue) = Connection::new();
        self.links.established(peer, address, outbound, &connection);
        info!(name = %member.name, %address, outbound, "connected");
        if outbound {
            // The receiver lives as long as this node's tasks.
            let _ = self.compare.send(peer);
        }
        let answerer = Answerer { node: self.clone(), peer };
        let ended = connection::run(stream, Arc::clone(&connection), queue, Arc::clone(&self.core), answerer).await;
        info!(name = %member.name, %address, reason = ended, "disconnected");
        self.links.ended(peer, &connection, ended.clone());
        Ok(ended)
    }
}

struct Answerer<H> {
    node: Node<H>,
    peer: PeerId,
}

impl<H> Clone for Answerer<H> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), peer: self.peer }
    }
}

impl<H: RequestHandler> Answer for Answerer<H> {
    async fn answer(&self, kind: Kind, question: Vec<u8>) -> Vec<u8> {
        match kind {
            Kind::Sync => sync::answer(&self.node.core, self.peer, &question),
            _ => self.node.handler.handle(self.peer, question).await,
        }
    }
}
