//! The ring as its users meet it: one file of examples, one world of nodes that crash and lose messages, and one in
//! which nodes are removed.

mod examples;
mod removal;
mod world;
