//! Shell-like splitting of one line into words, as host lines and ssh arguments are written.
//!
//! Must not know what the words mean. Quotes and backslashes work as in a POSIX shell (2.2 Quoting); nothing is
//! expanded.

/// A quote is left open, or a backslash is the last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No closing quotation mark.
    #[error("close the quotation mark")]
    OpenQuote,
    /// Nothing behind a backslash.
    #[error("put a character behind the last backslash")]
    OpenEscape,
}

/// Splits a line into words; quoted blanks do not split, quotation marks are removed.
pub fn split_words(line: &str) -> Result<Vec<String>, SplitError> {
    split(line, false)
}

/// As [`split_words`]; an unquoted `#` ends the line wherever it stands (as Python's `shlex` has it, and so Ansible).
pub(crate) fn split_words_and_comment(line: &str) -> Result<Vec<String>, SplitError> {
    split(line, true)
}

fn split(line: &str, comments: bool) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '#' if comments => {
                words.extend(word.take());
                return Ok(words);
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(SplitError::OpenEscape)?),
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing quotation mark. Between double quotes a backslash escapes only itself and the quote.
fn quoted(quote: char, chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match chars.next().ok_or(SplitError::OpenQuote)? {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next().ok_or(SplitError::OpenQuote)? {
                c @ ('\\' | '"') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_work_as_in_a_shell() {
        for (line, words) in [
            (r#"a b="c d" e='f "g"'"#, vec!["a", "b=c d", r#"e=f "g""#]),
            (r#"-o ProxyCommand="ssh -W %h:%p u@b""#, vec!["-o", "ProxyCommand=ssh -W %h:%p u@b"]),
            (r"a\ b c\\d", vec!["a b", r"c\d"]),
            (r#""a\"b\\c\n" ''"#, vec![r#"a"b\c\n"#, ""]),
            ("", vec![]),
        ] {
            assert_eq!(split_words(line).unwrap(), words, "{line}");
        }
        assert_eq!(split_words("a 'b"), Err(SplitError::OpenQuote));
        assert_eq!(split_words("a\\"), Err(SplitError::OpenEscape));
    }
}
