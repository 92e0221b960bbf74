//! Reaching hosts that only a VPN's host reaches: the words that say how, the block for ssh_config(5), and what to do when a
//! connection ends.
//!
//! Must not know processes, files and clocks. What goes into a configuration is a checked word, so that nothing else can.

mod block;
mod supervise;
mod words;

pub use block::{Block, BrokenBlock, with_block, without_block};
pub use supervise::{HELD, LONGEST_WAIT, Next, Supervisor, Trouble};
pub use words::{Destination, Suffix, User, WordError};
