//! One rtnetlink socket in one namespace: dumps, and requests whose errors are plain errno values.
//!
//! Must not know what the fabric looks like. A socket carries one dump at a time, so callers do not run dumps on
//! clones of one [`Netlink`] concurrently.

use crate::{
    error::{Doing, Error},
    namespace::Namespace,
};
use futures::{StreamExt, TryStreamExt, stream};
use nix::errno::Errno;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{RouteNetlinkMessage, link::LinkAttribute, link::LinkMessage},
};
use std::io;

/// Requests that are under way at once; more gains nothing and fills the socket's buffer.
const IN_FLIGHT: usize = 64;
const DUMP_ATTEMPTS: u32 = 10;

#[derive(Clone)]
pub(crate) struct Netlink(Handle);

impl Netlink {
    /// A socket inside `namespace`; ends with its last clone.
    pub(crate) fn open(namespace: &Namespace) -> Result<Self, Error> {
        let socket = namespace.enter(rtnetlink::new_connection_with_strict_check)?;
        let (mut connection, handle, _unsolicited) = socket.doing(|| "open a netlink socket")?;
        // So that an answer cut short by a lost connection cannot pass for a success.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) async fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).await.map(drop)
    }

    /// Sends requests, many at a time, in no particular order.
    pub(crate) async fn request_all(&self, requests: Vec<(String, Request)>) -> Result<(), Error> {
        let send = |(doing, Request { message, flags, tolerated }): (String, Request)| async move {
            match self.request(message, flags).await {
                Err(e) if tolerated.iter().any(|errno| is(&e, *errno)) => Ok(()),
                result => result.doing(|| doing),
            }
        };
        stream::iter(requests).map(send).buffer_unordered(IN_FLIGHT).try_collect().await
    }

    /// All objects that a GET request names.
    pub(crate) async fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut attempts = 0;
        loop {
            match self.exchange(message.clone(), NLM_F_DUMP).await {
                // Something changed while the kernel was listing.
                Err(e) if is(&e, Errno::EINTR) && attempts < DUMP_ATTEMPTS => attempts += 1,
                result => return result,
            }
        }
    }

    /// The link of this very name (an alternative name does not count), or `None`.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<LinkMessage>, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let own_name = |link: &LinkMessage| link.attributes.contains(&LinkAttribute::IfName(name.to_owned()));
        match self.exchange(RouteNetlinkMessage::GetLink(message), 0).await {
            Err(e) if is(&e, Errno::ENODEV) => Ok(None),
            found => {
                let found = found.doing(|| format!("look up '{name}'"))?;
                let links = found.into_iter().filter_map(|m| match m {
                    RouteNetlinkMessage::NewLink(link) => Some(link),
                    _ => None,
                });
                Ok(links.into_iter().find(own_name))
            }
        }
    }

    /// Deletes a link; one that is gone already is no error.
    pub(crate) async fn delete_link(&self, index: u32, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.request(RouteNetlinkMessage::DelLink(message), 0).await {
            Err(e) if is(&e, Errno::ENODEV) => Ok(()),
            result => result.doing(|| format!("delete '{name}'")),
        }
    }

    async fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.0.clone().request(request).map_err(io::Error::other)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        while let Some(answer) = answers.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => {
                    found.push(message);
                    if flags == 0 {
                        return Ok(found);
                    }
                }
                NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                NetlinkPayload::Done(d) if d.code != 0 => return Err(io::Error::from_raw_os_error(d.code.abs())),
                NetlinkPayload::Done(_) if interrupted => return Err(Errno::EINTR.into()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                _ => {}
            }
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the netlink connection ended before the answer did"))
    }
}

/// A request, its flags, and the answers that mean it was not needed.
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
    pub(crate) tolerated: &'static [Errno],
}

pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
