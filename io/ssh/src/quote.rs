//! The shell's quoting, both ways: words to one command line, and one line of arguments to words.
//!
//! Must not know who reads the line. The grammar is the POSIX shell's for words and quotes only (2.2 Quoting):
//! nothing is expanded.

/// The line of arguments cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote is opened and never closed.
    #[error("'{0}' has a quote that is never closed")]
    OpenQuote(String),
    /// The last character is a backslash.
    #[error("'{0}' ends with a backslash")]
    LoneBackslash(String),
}

/// `word` as a POSIX shell reads it back unchanged.
pub fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Splits `line` into words as a shell would, without expanding anything.
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let lone = || SplitError::LoneBackslash(line.to_owned());
    let open = || SplitError::OpenQuote(line.to_owned());
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or_else(lone)?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(open)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(open)? {
                        '"' => break,
                        '\\' => match chars.next().ok_or_else(open)? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_inventorys_arguments_split_as_in_a_shell() {
        let line = r#"-o ProxyCommand="ssh -W %h:%p 'jump host'" -o 'User=a b' x\ y """#;
        let words = split(line).unwrap();
        assert_eq!(words, ["-o", "ProxyCommand=ssh -W %h:%p 'jump host'", "-o", "User=a b", "x y", ""]);
        assert!(matches!(split("a 'b"), Err(SplitError::OpenQuote(_))));
        assert!(matches!(split(r"a\"), Err(SplitError::LoneBackslash(_))));
    }

    proptest! {
        #[test]
        fn splitting_what_was_quoted_gives_it_back(words in prop::collection::vec("\\PC*|[ \t\n'\"\\\\$`~*]*", 0..6)) {
            let line = words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line).unwrap(), words);
        }

        #[test]
        fn any_line_splits_or_is_refused(line in "\\PC*") {
            let _ = split(&line);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_shell_agrees(words in prop::collection::vec("[^\0]{0,20}|[ \t\n'\"\\\\$`~*#=;&|<>()!\\[\\]{}]{0,12}", 1..5)) {
            let script = words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
            let out = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\0' {script}")]).output().unwrap();
            let seen = String::from_utf8(out.stdout).unwrap();
            prop_assert_eq!(seen.strip_suffix('\0').unwrap().split('\0').collect::<Vec<_>>(), words);
        }
    }
}
