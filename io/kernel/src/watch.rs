//! Notifications: something changed in the fabric's namespace that a plan could have an opinion on.
//!
//! Must not know whether the change was ours or is right; whoever hears of one applies the plan again. ARP's own comings
//! and goings are not told.

use crate::{
    error::{Doing, Error},
    guard,
    namespace::Namespace,
};
use futures::{Stream, StreamExt, future, stream};
use rtnetlink::{
    MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Link, Neigh},
    packet_core::NetlinkPayload,
    packet_route::{RouteNetlinkMessage as Message, neighbour::NeighbourState},
};
use tokio::task::JoinHandle;

pub(crate) fn watch(namespace: &Namespace) -> Result<impl Stream<Item = ()> + Send + use<>, Error> {
    let groups = [Link, Neigh, Ipv4Ifaddr, Ipv4Route];
    let socket = namespace.enter(|| rtnetlink::new_multicast_connection(&groups))?;
    let (connection, handle, messages) = socket.doing(|| "open a netlink socket for notifications")?;
    let connection = Connection(tokio::spawn(connection), handle);
    let configuration = messages.filter_map(move |(message, _)| {
        let _alive = &connection;
        future::ready(is_relevant(&message.payload).then_some(()))
    });
    Ok(stream::select(configuration, guard::watch(namespace)?))
}

/// The task that reads the socket, which ends with the stream; the handle keeps it from ending earlier.
struct Connection(JoinHandle<()>, #[expect(dead_code, reason = "held for its lifetime")] rtnetlink::Handle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn is_relevant(payload: &NetlinkPayload<Message>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(Message::NewNeighbour(n)) => !matches!(
            n.header.state,
            NeighbourState::Incomplete
                | NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Failed
        ),
        // All else, and the kernel's word that it had to drop notifications.
        _ => true,
    }
}
