//! The manager: one Docker API for all engines of a cluster, with scheduling and the token service.
//!
//! Must not know how nodes are provisioned or how their network works. Engines hold the truth; the manager holds a cache
//! made of their lists and events, and forgets nothing of value when it is restarted.

mod api;
mod args;
mod client;
mod cluster;
mod container_logs;
mod discovery;
mod engine;
mod explain;
mod front;
mod hub;
mod join;
mod list;
mod listen;
mod manage;
mod meetings;
mod nodes;
mod overview;
mod picture;
mod placing;
mod ps;
mod refusal;
mod replication;
mod settings;
mod state;
mod stream;
mod tokens;

pub use api::Api;
pub use args::{CreateArgs, JoinArgs, ListArgs, ManageArgs};
pub use client::{ManagerArgs, Place};
pub use cluster::Cluster;
pub use container_logs::{ContainerLogsArgs, run_container_logs};
pub use engine::Target;
pub use explain::{ExplainArgs, run_explain};
pub use hub::Engines;
pub use join::join;
pub use list::{create, list};
pub use manage::manage;
pub use nodes::{NodeCommand, run_node};
pub use overview::run_overview;
pub use ps::{PsArgs, run_ps};
pub use settings::Caller;
pub use state::State;
pub use stream::JsonStream;
pub use tokens::Tokens;
