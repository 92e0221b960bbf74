//! The DNS server for containers: answers the zone from records, forwards everything else to the host's resolvers.
//!
//! Must not know containers, nodes or where records come from; what a name means is `osier-names`' business. The
//! caller makes the listening sockets (they may live in another network namespace); sockets to the resolvers are made
//! here, in the process's own. No address is ever looked up: resolvers are given as addresses.

mod forward;
mod message;
mod resolv_conf;
mod server;
mod slots;

pub use message::{Action, Transport, handle};
pub use resolv_conf::{ResolvConf, parse_resolv_conf};
pub use server::{Server, Sockets, StartError};
