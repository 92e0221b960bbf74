//! Why a connection to an engine ended, and what kind of trouble that is.

use super::CallError;
use osier_engine::{BoxError, Error as ClientError, Obstacle, plain};
use osier_nodes::{Reason, Trouble};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("resolve '{host}'")]
    Resolve { host: String, source: BoxError },
    #[error("{doing}")]
    Call { doing: &'static str, source: CallError },
    /// The engine answered, and cannot be used as it is.
    #[error("{}", .0.text)]
    Verdict(Trouble),
    #[error("another engine answers at the address: '{now}' in place of '{before}'")]
    Replaced { before: String, now: String },
    #[error("the engine's event stream ended")]
    EventsEnded,
    #[error("read the engine's events")]
    Events(#[source] BoxError),
}

impl Lost {
    pub(super) fn call(doing: &'static str) -> impl FnOnce(CallError) -> Self {
        move |source| Self::Call { doing, source }
    }

    pub(super) fn verdict(reason: Reason, text: String) -> Self {
        Self::Verdict(Trouble { reason, text })
    }

    pub(super) fn trouble(&self) -> Trouble {
        let reason = match self {
            Self::Resolve { .. } => Reason::Dns,
            Self::Call { source, .. } => call(source),
            Self::Verdict(trouble) => return trouble.clone(),
            Self::Replaced { .. } | Self::EventsEnded | Self::Events(_) => Reason::Broken,
        };
        let text = match self {
            Self::Call { doing, source } => format!("{doing}: {}", source.chain()),
            Self::Resolve { source, .. } => format!("{self}: {source}"),
            Self::Events(source) => format!("{self}: {}", plain(source.as_ref())),
            other => other.to_string(),
        };
        Trouble { reason, text }
    }
}

fn call(error: &CallError) -> Reason {
    match error {
        CallError::Deadline(_) => Reason::Timeout,
        // Docker's own words.
        CallError::Client(ClientError::Engine { message, .. })
            if message.contains("HTTP request to an HTTPS server") =>
        {
            Reason::Tls
        }
        CallError::Client(e) => match e.obstacle() {
            Obstacle::Refused => Reason::Refused,
            Obstacle::Unreachable => Reason::Unreachable,
            Obstacle::Timeout => Reason::Timeout,
            Obstacle::Tls => Reason::Tls,
            Obstacle::Garbage => Reason::NotAnEngine,
            Obstacle::Other => Reason::Broken,
        },
        CallError::Lost { .. } | CallError::NotConnected => Reason::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use std::time::Duration;

    #[test]
    fn troubles_are_told_apart() {
        let reason = |source| Lost::call("reach the engine")(source).trouble().reason;
        assert_eq!(reason(CallError::Deadline(Duration::from_secs(2))), Reason::Timeout);
        let answer = |message: &str| {
            CallError::Client(ClientError::Engine { status: StatusCode::BAD_REQUEST, message: message.into() })
        };
        assert_eq!(reason(answer("Client sent an HTTP request to an HTTPS server.")), Reason::Tls);
        assert_eq!(reason(answer("no")), Reason::Broken);
        let garbage = serde_json::from_str::<u8>("<html>").unwrap_err();
        let talk = ClientError::Talk { endpoint: "x".into(), source: garbage.into() };
        assert_eq!(reason(CallError::Client(talk)), Reason::NotAnEngine);
    }
}
