//! The manager: one Docker API for all engines of a cluster, with scheduling and the token service.
//!
//! Must not know how nodes are provisioned or how their network works. Engines hold the truth; the manager holds a cache
//! made of their lists and events, and forgets nothing of value when it is restarted.

mod api;
mod args;
mod client;
mod cluster;
mod discovery;
mod engine;
mod hub;
mod meetings;
mod refusal;
mod run;
mod state;
mod stream;
mod tokens;

pub use api::Api;
pub use args::{CreateArgs, ListArgs, ManageArgs};
pub use client::{ManagerArgs, Place};
pub use cluster::Cluster;
pub use discovery::{Discovery, DiscoveryError, TokenUrl, parse_entry};
pub use engine::Target;
pub use hub::Engines;
pub use run::{create, list, manage};
pub use state::State;
pub use stream::JsonStream;
pub use tokens::Tokens;
