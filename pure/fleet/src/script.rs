//! How a script wants to be started.
//!
//! Must not know where the script is. The first line is read as Linux reads it (`execve(2)`, "Interpreter scripts"): the
//! interpreter's path, and behind it one argument at most, which may hold blanks.

/// The longest first line that Linux reads.
const LONGEST: usize = 255;

/// What starts a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A program and its argument, with the script's path behind them.
    Interpreter(Vec<String>),
    /// The script's own path: it is a program.
    Itself,
}

/// How the script with these contents is started. One that does not say so is `sh`'s.
pub fn start(contents: &[u8]) -> Start {
    if contents.starts_with(b"\x7fELF") {
        return Start::Itself;
    }
    let first = contents.strip_prefix(b"#!").unwrap_or_default();
    let first = &first[..first.len().min(LONGEST)];
    let line = String::from_utf8_lossy(first.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    let blank = [' ', '\t', '\r'];
    let (program, argument) = line.trim_matches(blank).split_once(blank).unwrap_or((line.trim_matches(blank), ""));
    let words = [program, argument.trim_matches(blank)];
    let words: Vec<String> = words.into_iter().filter(|w| !w.is_empty()).map(str::to_owned).collect();
    Start::Interpreter(if words.is_empty() { vec!["/bin/sh".to_owned()] } else { words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_line_says_what_starts_a_script() {
        for (text, words) in [
            ("echo x\n", &["/bin/sh"][..]),
            ("", &["/bin/sh"]),
            ("#!\n", &["/bin/sh"]),
            ("#!/bin/bash\nx", &["/bin/bash"]),
            ("#! /usr/bin/env -S python3 -u \r\nx", &["/usr/bin/env", "-S python3 -u"]),
            ("#!/bin/awk\t-f", &["/bin/awk", "-f"]),
        ] {
            let words = words.iter().map(|w| (*w).to_owned()).collect();
            assert_eq!(start(text.as_bytes()), Start::Interpreter(words), "{text}");
        }
        assert_eq!(start(b"\x7fELF\x02"), Start::Itself);
    }

    proptest! {
        #[test]
        fn no_script_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = start(&bytes);
            let _ = start(&[b"#!", bytes.as_slice()].concat());
        }
    }
}
