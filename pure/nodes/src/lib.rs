//! What a manager thinks of its nodes: whether one can be used, when it is asked again, who may have which name, which of
//! its events are news.
//!
//! Must not know sockets, clocks or HTTP: time and luck are arguments, and what was seen comes in as plain values.

mod availability;
mod claims;
mod clock;
mod past;
mod refresh;
mod standing;
mod trouble;

pub use availability::{Availability, ParseAvailabilityError};
pub use claims::{Claims, Conflict, Identity};
pub use clock::Clock;
pub use past::{Arrival, Past};
pub use refresh::Refresh;
pub use standing::{Health, Standing, Turn};
pub use trouble::{Reason, Trouble};
