//! Swarm mode's routes, answered as an engine answers them that is in no swarm: this cluster is another kind of swarm,
//! and its nodes must not be drawn into one of their own behind its back.

use http::Method;

/// A call of swarm mode, by what is answered to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwarmCall {
    /// `POST /swarm/init` and `/swarm/join`: an engine would do it, a cluster's endpoint does not.
    Form,
    /// `POST /swarm/leave`
    Leave,
    /// `GET …/logs`, which first wants to know which streams.
    Logs,
    /// `PUT /volumes/{name}`
    UpdateVolume,
    /// Everything else that only a swarm's manager does.
    Any,
}

/// What an engine says to everything that only a swarm's manager does.
const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                             connect this node to swarm and try again.";

/// The call of swarm mode that a request is, if it is one.
pub(crate) fn call(method: &Method, segments: &[&str]) -> Option<SwarmCall> {
    use SwarmCall::*;
    Some(match (method.as_str(), segments) {
        ("POST", ["swarm", "init" | "join"]) => Form,
        ("POST", ["swarm", "leave"]) => Leave,
        ("GET", ["services" | "tasks", _, "logs"]) => Logs,
        ("PUT", ["volumes", _]) => UpdateVolume,
        ("GET", ["swarm"] | ["swarm", "unlockkey"]) | ("POST", ["swarm", "update" | "unlock"]) => Any,
        ("GET", ["nodes" | "services" | "tasks" | "secrets" | "configs"] | ["tasks", _]) => Any,
        ("GET" | "DELETE", ["nodes" | "services" | "secrets" | "configs", _]) => Any,
        ("POST", ["services" | "secrets" | "configs", "create"]) => Any,
        ("POST", ["nodes" | "services" | "secrets" | "configs", _, "update"]) => Any,
        _ => return None,
    })
}

impl SwarmCall {
    /// The status and the message of the answer; `streams` tells whether the query names a stream to read.
    pub fn answer(self, streams: bool) -> (u16, &'static str) {
        match self {
            Self::Form => (
                503,
                "This is the endpoint of a whole cluster, whose nodes are joined already: swarm mode is not available here.",
            ),
            Self::Leave => (503, "This node is not part of a swarm"),
            Self::Logs if !streams => (500, "Bad parameters: you must choose at least one stream"),
            Self::UpdateVolume => (503, "volume update only valid for cluster volumes, but swarm is unavailable"),
            Self::Logs | Self::Any => (503, NOT_A_MANAGER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_those_of_an_engine_outside_a_swarm() {
        let ask = |method: &str, path: &str| {
            let segments: Vec<&str> = path.split('/').collect();
            call(&method.parse().unwrap(), &segments).map(|c| c.answer(false))
        };
        for (method, path) in [
            ("GET", "swarm"),
            ("GET", "nodes"),
            ("GET", "services/x"),
            ("POST", "services/create"),
            ("POST", "nodes/x/update"),
            ("DELETE", "secrets/x"),
            ("GET", "tasks/x"),
            ("POST", "swarm/update"),
        ] {
            assert_eq!(ask(method, path), Some((503, NOT_A_MANAGER)), "{method} {path}");
        }
        assert_eq!(ask("GET", "services/x/logs").unwrap().0, 500);
        assert_eq!(SwarmCall::Logs.answer(true), (503, NOT_A_MANAGER));
        assert_eq!(ask("POST", "swarm/leave").unwrap().1, "This node is not part of a swarm");
        for (method, path) in [("POST", "swarm"), ("GET", "swarm/x"), ("GET", "services/x/y"), ("PUT", "services")] {
            assert_eq!(ask(method, path), None, "{method} {path}");
        }
    }
}
