//! The mesh: which nodes are alive, and what each node says about itself (its facts), without a socket or a clock.
//!
//! Must not know what a fact means, how datagrams are sealed and sent, or how digests and deltas travel. Time is an
//! argument (a duration since any fixed moment, never going back), and so is the random number generator.
//!
//! # Membership
//!
//! Who *belongs* is a list given from outside; datagrams from and news about anybody else are refused. Who is *alive* is
//! found out by SWIM (the crate `foca`). A node's identity there carries its incarnation, which its caller raises at each
//! start, so that a restarted node is accepted at once although its former life may count as dead.
//!
//! # Facts
//!
//! A fact is a key and a value that one node, its origin, says about itself; nobody else writes it. Each change gets the
//! origin's next version. Two ways carry facts:
//!
//! * the fast one: a change rides in datagrams at once, best effort, if it is small enough ([`MAX_ITEM`]);
//! * the sure one: two nodes compare [`Digest`]s, which say per origin up to which version everything is known, and send
//!   each other the [`Delta`].
//!
//! Facts of a dead node are kept, because traffic to its containers still flows. A new incarnation of a node starts with
//! no facts; others keep showing the former ones beside the new until the node has said that its set is whole
//! ([`Mesh::settle`], or by itself after [`MeshConfig::settle_after`]), so that a restart takes nothing away from anybody.
//!
//! A node that hears of itself in a later incarnation or version than its own (its state was lost) outbids it: it takes
//! a higher incarnation and says everything again. Where that is answered by a still later one, again and again, another
//! machine runs under the same identity (its disk was cloned), and both are told so ([`Event::Duplicate`]). Others
//! may know no more of the later incarnation than that it died; then they tell the node that it is dead, whatever it
//! answers, and after a few seconds it takes a much higher one by itself.
//!
//! What a node has to hear after a start before it gives anything out is said in [`CatchUp`].

mod catch_up;
mod facts;
mod mesh;
mod rivals;
mod swim;
mod sync;
mod wire;

pub use catch_up::CatchUp;
pub use facts::Facts;
pub use mesh::{Event, FactError, Mesh, MeshConfig, Transmit};
pub use sync::{Delta, Digest};
pub use wire::Refused;

/// The incarnation of a node's start, from how often it has started by its own count and a random number. A disk that was
/// lost or put back counts the same starts once more; by luck alone two lives are told apart then, and the one that others
/// know as the later is outbid. Without it they would pass for one, and what the two said would never be told apart.
pub fn incarnation(starts: u64, luck: u64) -> u64 {
    starts.wrapping_mul(LUCK) | (luck % LUCK)
}

/// How many incarnations one start may take by luck.
const LUCK: u64 = 1 << 24;

/// The longest datagram a mesh makes or takes, in bytes. With the seal it stays below 1200, which fits every path that
/// can carry IPv6 (RFC 8200 §5) under two layers of tunnels.
pub const MAX_DATAGRAM: usize = 1150;
/// The longest encoded fact that rides in a datagram; longer ones take the sure way only.
pub const MAX_ITEM: usize = MAX_DATAGRAM - 150;
/// The longest key of a fact, in bytes.
pub const MAX_KEY: usize = 200;
/// The longest value of a fact, in bytes.
pub const MAX_VALUE: usize = 64 << 10;
