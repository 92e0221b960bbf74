//! The DNS server for containers: answers the zone from records, forwards everything else to the host's resolvers, whose
//! replies it keeps for as long as they hold.
//!
//! Must not know containers, nodes or where records come from; what a name means is `osier-names`' business. The
//! caller makes the listening sockets (they may live in another network namespace); sockets to the resolvers are made
//! here, in the process's own. No address is ever looked up: resolvers are given as addresses.

mod cache;
mod counts;
mod datagrams;
mod forward;
mod message;
mod order;
mod plain;
mod resolv_conf;
mod resolver;
mod server;
mod slots;
mod wire;

pub use counts::{Counts, UpstreamCounts};
pub use message::{Action, Transport, handle};
pub use resolv_conf::{ResolvConf, parse_resolv_conf};
pub use resolver::{Found, LookupError, Resolver, replay};
pub use server::{Server, Sockets, StartError};
