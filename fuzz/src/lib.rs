//! What is fuzzed: one function for each kind of input that comes from the network or from files of others.
//!
//! A target panics when a promise is broken; refusing an input is no failure. `cargo xtask fuzz` feeds them what libFuzzer
//! makes up; `tests/corpus.rs` feeds them what is kept in `corpus/`, as an ordinary test.
#![expect(clippy::unwrap_used, reason = "a panic is how a target reports")]

mod calls;
mod cluster;
mod docker;
mod network;
mod stream;

/// Something that takes input from outside.
pub struct Target {
    /// The name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "path", run: docker::path },
    Target { name: "query", run: docker::query },
    Target { name: "filters", run: docker::filters },
    Target { name: "create", run: docker::create },
    Target { name: "expression", run: docker::expression },
    Target { name: "answers", run: docker::answers },
    Target { name: "moment", run: docker::moment },
    Target { name: "image", run: docker::image },
    Target { name: "json_stream", run: stream::json_stream },
    Target { name: "request", run: stream::request },
    Target { name: "response", run: stream::response },
    Target { name: "discovery", run: cluster::discovery },
    Target { name: "inventory", run: cluster::inventory },
    Target { name: "ring", run: cluster::ring },
    Target { name: "gossip", run: cluster::gossip },
    Target { name: "dns", run: cluster::dns },
    Target { name: "dns_cache", run: cluster::dns_cache },
    Target { name: "given", run: cluster::names_by_hand },
    Target { name: "members", run: cluster::members },
    Target { name: "control", run: calls::control },
    Target { name: "plugin", run: calls::plugin },
    Target { name: "endpoints", run: calls::endpoints },
    Target { name: "network", run: network::network },
    Target { name: "reach", run: cluster::reach },
    Target { name: "doctor", run: cluster::doctor },
    Target { name: "words", run: cluster::words },
    Target { name: "bundle", run: cluster::bundle },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

/// The input as text; most targets read nothing else.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
