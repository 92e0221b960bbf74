//! A password on its way to `sudo`.
//!
//! Must not show it: neither in messages nor where values are printed for debugging.

use std::fmt;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it. Everything behind the first end of line is left out: a password is one line.
    pub fn new(text: &str) -> Self {
        Self(text.lines().next().unwrap_or_default().to_owned())
    }

    /// The line that a program reads.
    pub(crate) fn line(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_not_printed() {
        let secret = Secret::new("p'a ss\nmore");
        assert_eq!(secret.line(), b"p'a ss\n");
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
