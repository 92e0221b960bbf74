//! What broke, in words for people. The HTTP library's own say which of its parts failed, not what happened.

use http_body_util::LengthLimitError;
use std::{error::Error, io};

/// The first cause that can be said plainly; the last one, in its own words, where there is none.
pub fn plain(error: &(dyn Error + 'static)) -> String {
    let (mut cause, mut last) = (Some(error), error);
    while let Some(e) = cause {
        if let Some(words) = known(e) {
            return words;
        }
        (last, cause) = (e, e.source());
    }
    last.to_string()
}

fn known(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(e) = error.downcast_ref::<hyper::Error>() {
        let words = match e {
            e if e.is_incomplete_message() => "the connection was closed before the answer",
            e if e.is_parse_too_large() => "the head of the answer is too long",
            e if e.is_parse() => "the answer is not HTTP",
            e if e.is_canceled() || e.is_closed() => "the connection was closed",
            e if e.is_timeout() => "no answer came in time",
            _ => return None,
        };
        return Some(words.to_owned());
    }
    if let Some(e) = error.downcast_ref::<serde_json::Error>() {
        return Some(format!("the answer is not the JSON that was asked for: {e}"));
    }
    if error.is::<LengthLimitError>() {
        return Some("the answer is too long".to_owned());
    }
    let words = match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed within the answer",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "the connection broke"
        }
        io::ErrorKind::TimedOut => "the other side is silent",
        // What is no HTTP within a body.
        io::ErrorKind::InvalidInput => "the answer is not HTTP",
        _ => return None,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamError;

    #[test]
    fn what_happened_is_said() {
        let io = |kind: io::ErrorKind| plain(&StreamError(Box::new(io::Error::from(kind))));
        assert_eq!(io(io::ErrorKind::UnexpectedEof), "the connection was closed within the answer");
        assert_eq!(io(io::ErrorKind::BrokenPipe), "the connection broke");
        assert_eq!(plain(&StreamError("the disk is full".into())), "the disk is full");
        let garbage = serde_json::from_str::<u8>("<html>").unwrap_err();
        assert!(plain(&garbage).starts_with("the answer is not the JSON that was asked for: expected value"));
    }
}
