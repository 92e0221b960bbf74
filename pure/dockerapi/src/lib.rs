//! The Docker API without the network: routes, versions, names, filters, and the edits of requests and answers that make
//! many engines look like one.
//!
//! Must not know sockets, clocks or which engines exist. JSON passes through as it came: only named members are edited,
//! so fields that this program has never heard of survive.

mod ancestry;
pub mod build;
pub mod convert;
pub mod create;
pub mod event;
mod features;
pub mod filters;
pub mod image;
pub mod info;
pub mod inspect;
pub mod listing;
pub mod members;
pub mod moment;
pub mod names;
pub mod network;
pub mod network_create;
pub mod path;
pub mod placement;
pub mod query;
pub mod refusals;
pub mod route;
pub mod row;
pub mod state;
pub mod swarm;
pub mod totals;
pub mod version;
pub mod volume;
pub mod wishes;
