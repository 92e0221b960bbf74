//! The mesh on the network: sealed datagrams for gossip (UDP) and one control connection between each two nodes (mutual
//! TLS over TCP), both on port 6783.
//!
//! Must not know what a fact or a request means. Who is alive and which fact is newest is decided by `osier-mesh`; this
//! crate gives it time, randomness and the network.
//!
//! # Datagrams
//!
//! `1 | sender (6) | nonce (24) | XChaCha20-Poly1305(mesh datagram)`, sealed with the cluster's key, version and sender
//! authenticated with it. The nonce is random, which 24 bytes allow without counting. A replayed datagram does nothing
//! new: facts carry versions, news about a node its incarnation, and whoever is told wrongly that it is dead says
//! otherwise. Anything that does not open is counted and dropped.
//!
//! # Control connections
//!
//! Of two nodes the one with the smaller peer id dials, and redials with growing pauses, at once if gossip says that the
//! other came up. Both show certificates of the cluster's CA, whose common name must be the name of the member they say
//! they are; so neither a client's certificate nor another node's will do. Frames are `length (4) | kind (1) | id (8) |
//! payload`, big endian, the length without itself. Either side may ask; a reply carries the id of what it answers. Every
//! write has a deadline, and a connection on which nothing arrives for three signs of life is given up.
//!
//! Over it each node compares what it knows with one peer every two seconds and upon each new connection ([`sync`]).

mod accept;
mod cert;
mod connection;
mod core;
mod dial;
mod frame;
mod handle;
mod hello;
mod links;
mod node;
mod seal;
mod sync;
mod udp;

pub use crate::core::{Snapshot, Traffic};
pub use handle::{Config, Error, Gossip, Handle, RequestHandler};
pub use links::Link;
pub use osier_mesh::incarnation;
