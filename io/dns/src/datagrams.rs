//! Datagrams by the batch: what has come is taken with one call to the kernel, and what is answered at once goes out with one.
//!
//! Must not know what is in them.

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::Arc,
};
use tokio::{io::Interest, net::UdpSocket};

/// How many are taken at once.
const BATCH: usize = 32;
/// The largest datagram there can be.
const LARGEST: usize = u16::MAX as usize;

/// A socket, and room for what comes.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Arc<UdpSocket>,
    /// A place for each of a batch; pages that nothing was ever written to take no memory.
    room: Vec<u8>,
    /// How long each is, and whose.
    came: Vec<Option<(usize, SocketAddr)>>,
}

impl Datagrams {
    pub(crate) fn new(socket: Arc<UdpSocket>) -> Self {
        Self { socket, room: vec![0; BATCH * LARGEST], came: Vec::with_capacity(BATCH) }
    }

    /// Waits until some have come, and takes them.
    pub(crate) async fn receive(&mut self) -> io::Result<impl Iterator<Item = (&[u8], SocketAddr)>> {
        let Self { socket, room, came } = self;
        socket.async_io(Interest::READABLE, || take(socket, room, came)).await?;
        let each = room.chunks_exact(LARGEST).zip(came.iter());
        Ok(each.filter_map(|(bytes, came)| came.map(|(length, from)| (&bytes[..length], from))))
    }
}

fn take(socket: &UdpSocket, room: &mut [u8], came: &mut Vec<Option<(usize, SocketAddr)>>) -> io::Result<()> {
    came.clear();
    let mut places: Vec<[IoSliceMut; 1]> = room.chunks_exact_mut(LARGEST).map(|p| [IoSliceMut::new(p)]).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(places.len(), None);
    let messages = recvmmsg(socket.as_raw_fd(), &mut headers, places.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    came.extend(messages.map(|m| Some((m.bytes, address(&m.address?)?))));
    Ok(())
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

/// Sends as many as the socket takes; the others are lost, as in any network.
pub(crate) fn send(socket: &UdpSocket, datagrams: &[(Vec<u8>, SocketAddr)]) {
    let slices: Vec<[IoSlice; 1]> = datagrams.iter().map(|(bytes, _)| [IoSlice::new(bytes)]).collect();
    let to: Vec<Option<SockaddrStorage>> = datagrams.iter().map(|(_, to)| Some((*to).into())).collect();
    let mut done = 0;
    while done < datagrams.len() {
        let mut headers = MultiHeaders::preallocate(datagrams.len() - done, None);
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices[done..], &to[done..], [], MsgFlags::MSG_DONTWAIT);
        done += match sent {
            Ok(messages) => messages.count().max(1),
            Err(Errno::EAGAIN) => return,
            // It is the first that cannot be sent.
            Err(_) => 1,
        };
    }
}
