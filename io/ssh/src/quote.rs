//! The shell's quoting: any word as one that a shell reads back unchanged.
//!
//! Must not know what the words mean (POSIX shell, 2.2 Quoting).

/// `word` as a POSIX shell reads it back unchanged.
pub fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
