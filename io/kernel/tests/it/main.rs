//! The fabric on a real kernel: hosts and containers are network namespaces, packets are packets. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod guards;
mod lab;
mod repair;
mod traffic;
