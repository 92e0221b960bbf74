//! What stands in the way of reaching an engine, told apart so that people learn where to look.

use std::{error::Error, io};

/// The kind of obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Nobody listens there.
    Refused,
    /// No way leads there.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The two sides do not accept each other's certificates, or one of them speaks no TLS.
    Tls,
    /// What answered is no HTTP, or not the JSON that was asked for.
    Garbage,
    /// Anything else.
    Other,
}

/// A connection could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unopened {
    pub(crate) obstacle: Obstacle,
    pub(crate) message: String,
}

impl Unopened {
    pub(crate) fn new(obstacle: Obstacle, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(e) = cause {
            message = format!("{message}: {e}");
            cause = e.source();
        }
        Self { obstacle, message }
    }

    pub(crate) fn io(error: io::Error) -> Self {
        Self::new(obstacle(&error), &error)
    }
}

/// Tells the obstacle by the first cause that names one.
pub(crate) fn obstacle(error: &(dyn Error + 'static)) -> Obstacle {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if e.is::<rustls::Error>() {
            return Obstacle::Tls;
        }
        if e.is::<serde_json::Error>() || e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Obstacle::Garbage;
        }
        if let Some(e) = e.downcast_ref::<io::Error>() {
            match e.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => return Obstacle::Refused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                    return Obstacle::Unreachable;
                }
                io::ErrorKind::TimedOut => return Obstacle::Timeout,
                // What an I/O error carries is not its source.
                _ if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => return Obstacle::Tls,
                _ => {}
            }
        }
        cause = e.source();
    }
    Obstacle::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_obstacle_is_found_below_other_errors() {
        let io = |kind: io::ErrorKind| crate::StreamError(Box::new(io::Error::from(kind)));
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, Obstacle::Refused),
            (io::ErrorKind::HostUnreachable, Obstacle::Unreachable),
            (io::ErrorKind::TimedOut, Obstacle::Timeout),
            (io::ErrorKind::UnexpectedEof, Obstacle::Other),
        ] {
            assert_eq!(obstacle(&io(kind)), expected, "{kind:?}");
        }
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let carried = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(obstacle(&crate::StreamError(Box::new(carried))), Obstacle::Tls);
    }
}
