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

/// Takes a line of `name=value` with blanks between them apart, as Ansible's `-e` has it: blanks within quotation marks or
/// `{{ }}` do not split, and marks around a whole value are removed. A backslash is one, but before such a mark.
///
/// Fails with the number, from 1, of the word that is no such pair or does not end; it may be part of a secret.
pub fn split_pairs(line: &str) -> Result<Vec<(String, String)>, usize> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut quote, mut depth, mut escaped, mut last) = (None, 0_usize, false, ' ');
    for c in line.chars() {
        if c.is_whitespace() && quote.is_none() && depth == 0 {
            words.push(std::mem::take(&mut word));
            (escaped, last) = (false, ' ');
            continue;
        }
        match c {
            '\'' | '"' if !escaped && quote == Some(c) => quote = None,
            '\'' | '"' if !escaped && quote.is_none() => quote = Some(c),
            '{' if last == '{' => depth += 1,
            '}' if last == '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        // Of three braces the first two are a pair.
        last = if last == c { ' ' } else { c };
        word.push(c);
    }
    // A single mark may be an apostrophe.
    let is_open = depth > 0 || quote.is_some() && word.contains(char::is_whitespace);
    words.push(word);
    words.retain(|word| !word.is_empty());
    if is_open {
        return Err(words.len());
    }
    let unquoted = |value: &str| {
        let inner = ['\'', '"'].iter().find_map(|q| Some((q, value.strip_prefix(*q)?.strip_suffix(*q)?)));
        inner.map_or(value.to_owned(), |(quote, inner)| inner.replace(&format!("\\{quote}"), &quote.to_string()))
    };
    let pair = |(at, word): (usize, String)| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), unquoted(value))),
        _ => Err(at + 1),
    };
    words.into_iter().enumerate().map(pair).collect()
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
    use proptest::prelude::*;

    #[test]
    fn pairs_are_taken_apart_as_ansible_has_them() {
        let pairs = |line: &str| {
            let pairs = split_pairs(line)?.into_iter().map(|(name, value)| format!("{name}|{value}"));
            Ok::<_, usize>(pairs.collect::<Vec<_>>().join(" "))
        };
        for (line, expected) in [
            ("a=1", "a|1"),
            (" a=1=2 \n b= ", "a|1=2 b|"),
            (r#"a='x y' b="z""#, "a|x y b|z"),
            (r#"b=x'y z' a=it"s"#, r#"b|x'y z' a|it"s"#),
            (r#"a="x \" y" b=1"#, r#"a|x " y b|1"#),
            ("a={{ b }}:{{ c }} d=2", "a|{{ b }}:{{ c }} d|2"),
            ("a={{{ b }}} d=2", "a|{{{ b }}} d|2"),
            ("", ""),
        ] {
            assert_eq!(pairs(line), Ok(expected.to_owned()), "{line}");
        }
        let open = [("a='x b=1", 1), ("c=1 a={{ b d=2", 2), (r#"a="x\" d=1"#, 1)];
        for (line, word) in [("a=1 b", 2), ("=1", 1), ("a=x y z", 2), ("a = 1", 1)].into_iter().chain(open) {
            assert_eq!(pairs(line), Err(word), "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoted_values_come_through_whole(values in prop::collection::vec("[a-z =#]{0,9}", 1..4), quote in "['\"]") {
            let line = values.iter().enumerate().map(|(n, value)| format!("n{n}={quote}{value}{quote}"));
            let pairs = split_pairs(&line.collect::<Vec<_>>().join(" ")).unwrap();
            prop_assert_eq!(pairs.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values);
        }

        #[test]
        fn any_line_is_taken_or_refused(line in "[ab ='\"{}\\\\]{0,24}|\\PC{0,24}") {
            let _ = split_pairs(&line);
        }
    }

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
