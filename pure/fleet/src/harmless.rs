//! Text of others that goes to a terminal.

use std::fmt;

/// Shows a line with its control characters spelled out, so that it can neither overwrite what stands before it nor give
/// the terminal orders. Tabs stay.
pub fn harmless(line: &str) -> impl fmt::Display + '_ {
    struct Harmless<'a>(&'a str);
    impl fmt::Display for Harmless<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            use fmt::Write;
            self.0.chars().try_for_each(|c| {
                if c.is_control() && c != '\t' { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
            })
        }
    }
    Harmless(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_no_orders() {
        assert_eq!(
            harmless("a\tb\r\u{1b}]0;x\u{7} \u{e9}\u{9b}").to_string(),
            "a\tb\\r\\u{1b}]0;x\\u{7} \u{e9}\\u{9b}"
        );
    }
}
