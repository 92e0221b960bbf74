//! Scheduling: nodes and a request in, the best node or an explanation out.
//!
//! Must not know engines, sockets or clocks. The result depends on the arguments alone; equal nodes are told apart by
//! their names, so the same snapshot and luck always give the same answer. Weights and messages are classic Swarm's.

mod decide;
mod expression;
mod filter;
mod policy;
mod port;
mod rank;
mod snapshot;

pub use decide::{Decision, Explanation, Reason, Unplaced, Verdict, schedule};
pub use expression::{Expression, ExpressionError};
pub use policy::{BadOvercommit, Filter, Overcommit, Policy, Strategy, UnknownFilter, UnknownStrategy};
pub use port::Binding;
pub use snapshot::{Census, Load, Node, Request, Resident, Tie, Wishes};
