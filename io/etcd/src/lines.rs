//! The lines of a streamed answer, as they arrive.

use http_body_util::BodyExt;
use osier_engine::{Body, BoxError};

/// The longest line that is waited for.
const LIMIT: usize = 16 << 20;

/// Reads lines from a body.
pub(crate) struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next line with its end; `None` at the end of the body, where an unfinished line is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, BoxError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            if self.buffer.len() > LIMIT {
                return Err(format!("a line is longer than {LIMIT} bytes").into());
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
