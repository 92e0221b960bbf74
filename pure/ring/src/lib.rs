//! The address ring: one range of addresses cut into chunks, who owns which chunk, and which of its own addresses
//! this node has handed out.
//!
//! Must not know how records or requests travel, where the ring is kept, what a container is, or which peers are
//! reachable. There is no clock and no randomness in it.
//!
//! # The rules that make a double allocation impossible
//!
//! 1. A node hands out addresses of the chunks that its *own* records say it owns, and of no others.
//! 2. Only the owner of a chunk edits its record: giving it away names the new owner and raises the version. From that
//!    edit on the giver no longer owns the chunk, whether or not the reply ever arrives.
//! 3. **The caller persists the ring after every call that takes `&mut self`, before anything that the call returned
//!    leaves the process** (a reply is sent, an address is used). So a crash forgets only what nobody has seen.
//! 4. A record is taken over only if it is newer (generation, then version); so a repeated, late or reordered message
//!    changes nothing. Two different owners in one version, and a newer record for a chunk this node owns, cannot
//!    happen while rule 3 holds; they mean two founders, a cloned disk, one rolled back, or a removal that was forced.
//!    Both are reported as a [`Conflict`], and this node stops using the chunk.
//! 5. The chunks of a node that was removed for good are frozen until every remaining member has acknowledged that and the
//!    heir knows all that they knew of the ring by then; then that one heir takes them over in the next generation
//!    ([`inheritance`] says who and when, [`Ring::inherit`] does it). No other edit is made by anybody but the owner.
//!
//! A lost reply needs no repair of its own: the giver's record is a fact that it publishes ([`Ring::my_records`]), and
//! the new owner learns from it what it owns.
//!
//! # Chunks
//!
//! A range of up to 1024 addresses has chunks of one address, a larger one has 1024 equal chunks. So 200 nodes can
//! share any range from a /24 up (each gets four chunks or more of a /22), the whole table never passes 1024 records,
//! and since neighbours with the same history are written as one [`ChunkRecord`], a young ring is a handful of them.

mod exchange;
mod layout;
mod owner;
mod record;
mod removal;
mod ring;
mod saved;

pub use exchange::{Conflict, MergeOutcome};
pub use owner::Owner;
pub use record::{ChunkRecord, ChunkReply, ChunkRequest, Refusal};
pub use removal::{Inheritance, Removal, Waiting, estates, heir, inheritance};
pub use ring::{Allocation, Claim, Ring, Stats};
pub use saved::RingError;
