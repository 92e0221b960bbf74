//! Scheduling: nodes and a request in, the best node or an explanation out.
//!
//! Must not know engines, sockets or clocks. The result depends on the arguments alone; equal nodes are told apart by
//! their names, so the same snapshot always gives the same answer. Weights and messages are classic Swarm's.

mod policy;
mod rank;
mod snapshot;

pub use policy::{BadOvercommit, Filter, Overcommit, Policy, Strategy, UnknownFilter, UnknownStrategy};
pub use rank::{Decision, Explanation, Unplaced, Verdict, schedule};
pub use snapshot::{Load, Node, Request, Tie};
