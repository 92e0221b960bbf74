//! Gossip between nodes on real sockets, each on a loopback address of its own.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod intruders;
mod site;
