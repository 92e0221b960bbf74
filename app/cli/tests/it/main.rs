//! The binary itself, as a user runs it: under its own name and as classic Swarm's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod ansible_env;
mod classic;
mod copy;
mod dns;
mod etcd;
#[path = "../../../manager/tests/it/fake.rs"]
#[expect(dead_code, reason = "the manager's own tests make engines do more")]
mod fake;
mod fleet;
mod grace;
mod inventory;
mod logs;
mod manage;
mod node;
mod program;
mod replication;
#[path = "../../../../io/etcd/tests/it/server.rs"]
mod server;
#[path = "../../../../io/ssh/tests/it/sshd.rs"]
#[expect(dead_code, reason = "the tests of connections look closer")]
mod sshd;
mod token;
mod vpn;
mod vpn_world;
mod wait;
