//! What a manager thinks of its nodes: whether one can be used, when it is asked again, who may have which name.
//!
//! Must not know sockets, clocks or HTTP: time and luck are arguments, and what was seen comes in as plain values.

mod availability;
mod refresh;

pub use availability::{Availability, ParseAvailabilityError};
pub use refresh::Refresh;
