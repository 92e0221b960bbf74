//! Keeping a connection with one peer that this node has to dial.
//!
//! An unreachable peer costs its own task and nobody else anything.

use crate::{
    cert,
    frame::{self, Frame, Kind},
    handle::RequestHandler,
    hello,
    node::{GREETING, Node},
};
use osier_model::{PeerId, config::Member};
use rand::RngExt;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::debug;

/// How long a TCP connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// The first pause before dialling again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How this node dials.
#[derive(Clone)]
pub(crate) struct Dialler {
    pub(crate) tls: Arc<ClientConfig>,
    /// The address to dial from.
    pub(crate) source: IpAddr,
}

impl Dialler {
    /// Runs until it is dropped.
    pub(crate) async fn run<H: RequestHandler>(self, node: Node<H>, member: Member, name: ServerName<'static>) {
        let address = node.core.address(&member);
        let mut pause = FIRST_PAUSE;
        loop {
            let result = match self.connect(address, name.clone(), &member).await {
                Ok(stream) => node.talk(stream, &member, address, true).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(_) => pause = FIRST_PAUSE,
                Err(error) => {
                    debug!(name = %member.name, %address, error, "cannot connect");
                    node.links.failed(member.peer, error);
                }
            }
            let jitter = pause.mul_f64(rand::rng().random_range(0.75..1.25));
            tokio::select! {
                () = sleep(jitter) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = node.core.came_up(member.peer) => pause = FIRST_PAUSE,
            }
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        name: ServerName<'static>,
        member: &Member,
    ) -> Result<TlsStream<TcpStream>, String> {
        let tls = self.handshake(address, name).await?;
        cert::member(tls.get_ref().1.peer_certificates(), std::slice::from_ref(member))?;
        Ok(tls)
    }

    /// Puts one question to a node that is no member here, as its request handler answers it, over a connection that is for
    /// that alone. Its certificate is one of the cluster's CA for the address where it was heard; what it is called, nobody
    /// here knows. It must count this node among its members.
    pub(crate) async fn ask_stranger(
        &self,
        me: PeerId,
        (peer, address): (PeerId, SocketAddr),
        question: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let mut stream = self.handshake(address, ServerName::IpAddress(address.ip().into())).await?;
        let greeting = hello::exchange(&mut stream, me, peer);
        timeout(GREETING, greeting).await.map_err(|_| format!("no greeting within {GREETING:?}"))??;
        let call = Frame { kind: Kind::Call, id: 1, payload: question };
        frame::write(&mut stream, &call).await.map_err(|e| format!("cannot send: {e}"))?;
        loop {
            // It takes the connection for one like any other, and asks something itself.
            let frame = frame::read(&mut stream).await.map_err(|e| format!("it did not answer: {e}"))?;
            if (frame.kind, frame.id) == (Kind::Reply, call.id) {
                return Ok(frame.payload);
            }
        }
    }

    async fn handshake(&self, address: SocketAddr, name: ServerName<'static>) -> Result<TlsStream<TcpStream>, String> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(|e| format!("cannot open a socket: {e}"))?;
        if !self.source.is_unspecified() {
            socket.bind((self.source, 0).into()).map_err(|e| format!("cannot dial from {}: {e}", self.source))?;
        }
        let stream = timeout(CONNECT, socket.connect(address)).await;
        let stream = stream.map_err(|_| format!("no connection within {CONNECT:?}"))?;
        let stream = stream.map_err(|e| format!("cannot connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("cannot set up the socket: {e}"))?;
        let tls = timeout(GREETING, TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream)).await;
        let tls = tls.map_err(|_| format!("no TLS handshake within {GREETING:?}"))?;
        tls.map_err(|e| format!("TLS handshake: {e}"))
    }
}
