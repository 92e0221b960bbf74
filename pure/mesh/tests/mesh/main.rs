//! The mesh as its users meet it: whole clusters over virtual time, and every decoder against random input.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod decoders;
mod world;
