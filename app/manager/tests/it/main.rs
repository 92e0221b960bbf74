//! The manager against engines: fake ones that can be made to fail in every way, and real ones with Docker's own
//! command line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod cluster;
mod docker;
mod dockerd;
mod engines;
mod events;
mod fake;
mod faults;
mod hostile;
mod images;
mod images_real;
mod nodes;
mod placing;
mod real;
mod registry;
mod security;
mod surface;
mod twisted;
mod versions;
mod world;
