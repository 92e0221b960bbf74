//! The fabric's planner: who the peers are and where the containers sit, turned into the whole kernel configuration
//! that carries them as one flat Ethernet segment per network.
//!
//! Must not know: netlink, interface indexes, what the kernel holds now, or how facts about peers travel. [`plan`] is a
//! total function: facts that contradict each other or make no sense are settled or left out here, by a stated rule,
//! so that one node's bad fact can never keep another node from applying its plan.

mod desired;
mod input;
mod plan;

pub use desired::{Address, Bridge, Desired, FdbEntry, FdbTarget, Guard, HostLink, Neighbour, Port, Route, Vxlan};
pub use input::{HostPort, Input, LocalPort, Network, Peer, Remote};
pub use plan::{HOST_PORT, TUNNEL_PREFIX, plan};
