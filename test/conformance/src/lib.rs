//! A conformance suite for the Docker API: scenarios that a single engine passes, and that whatever stands in its place
//! has to pass as well.
//!
//! Must not know who answers: a scenario sees one `DOCKER_HOST` and nothing else. What a scenario makes carries names of
//! its own and is removed at its end; nothing else on the host is touched, so that it may be in use.

pub mod areas;
pub mod differences;
mod failure;
mod host;
mod image;
mod program;
mod reply;
pub mod report;
mod run;
mod scenario;
mod target;
mod tunnel;
mod websocket;

pub use failure::Failure;
pub use host::{Host, OpenError};
pub use run::{Outcome, Row, run};
pub use scenario::{Area, Running, Scenario};
pub use target::{Session, Target};
