//! What an agent is asked: by its engine through Docker's plugin socket, and by other agents over the mesh.
//!
//! Must not know what is done about it.

pub mod control;
pub mod plugin;
