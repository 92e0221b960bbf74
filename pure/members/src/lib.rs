//! Who belongs to a cluster: statements that its operator signed, which any node may keep and pass on.
//!
//! Must not know how a signature is made or checked, or how statements travel.
//!
//! # The rules
//!
//! 1. A statement is about one node: it belongs to the cluster, or it was removed from it. Nothing else is signed, so
//!    statements of different nodes never wait for each other.
//! 2. A removal is final. A host that comes back is a new node with a new identity, because what the old one has said of
//!    itself may still be believed somewhere.
//! 3. Of two statements of one kind about one node the one with the higher serial holds, then the one whose text orders
//!    first. So every node that has seen the same statements holds the same ones, in whatever order they came, and two
//!    operators who were apart need no more than that their nodes meet.

mod known;
mod roll;
mod statement;

pub use known::{Host, State, known_as};
pub use roll::{Roll, RollError};
pub use statement::{CONTEXT, Removal, Signed, Statement};
