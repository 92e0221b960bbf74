//! The ring as its users meet it: one file of examples, one world of nodes that crash and lose messages.

mod examples;
mod world;
