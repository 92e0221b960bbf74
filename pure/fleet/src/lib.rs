//! Work on many hosts at once, as decisions: batches, whose output comes when, lines of many sources in the order of
//! time, what of a folder has to be sent, what may be removed.
//!
//! Must not know how hosts are reached, nor what prints. Clocks are arguments.

mod batches;
mod frames;
mod harmless;
mod journal;
mod merge;
mod order;
mod script;
mod span;
mod spare;
mod tree;

pub use batches::{Serial, SerialError, batches, goes_on};
pub use frames::{Channel, FrameError, Frames, stamped};
pub use harmless::harmless;
pub use journal::{Record, record};
pub use merge::{Merger, Tail};
pub use order::Turns;
pub use script::{Start, start};
pub use span::{Since, SpanError, since, span};
pub use spare::{Item, Sparing, spare};
pub use tree::{Change, Found, Owner, OwnerError, Wanted, Why, changes, found, is_plain};
