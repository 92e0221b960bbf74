//! Output as lines while it arrives.
//!
//! Must not know what the lines mean. A line longer than [`LONGEST`] is handed on in pieces, so that a program which
//! never ends its line cannot fill the memory.

/// Which of a program's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Bytes after which a line is cut.
const LONGEST: usize = 1 << 20;

/// Bytes that do not make a whole line yet.
#[derive(Debug, Default)]
pub(crate) struct Splitter(Vec<u8>);

impl Splitter {
    /// Takes more bytes and hands every whole line to `on_line`, without its end.
    pub(crate) fn push(&mut self, mut bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.0.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.hand_over(on_line);
        }
        self.0.extend_from_slice(bytes);
        if self.0.len() >= LONGEST {
            self.hand_over(on_line);
        }
    }

    /// Hands over the last line, where it has no end.
    pub(crate) fn finish(&mut self, on_line: &mut impl FnMut(&str)) {
        if !self.0.is_empty() {
            self.hand_over(on_line);
        }
    }

    fn hand_over(&mut self, on_line: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.0);
        on_line(line.strip_suffix('\r').unwrap_or(&line));
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(text in "([a-zü ]{0,5}\r?\n?){0,12}", cuts in prop::collection::vec(1_usize..7, 0..20)) {
            let mut seen = Vec::new();
            let mut splitter = Splitter::default();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                splitter.push(head, &mut |l| seen.push(l.to_owned()));
                rest = tail;
            }
            splitter.push(rest, &mut |l| seen.push(l.to_owned()));
            splitter.finish(&mut |l| seen.push(l.to_owned()));
            let wanted: Vec<String> = text.split_terminator('\n').map(|l| l.strip_suffix('\r').unwrap_or(l).to_owned()).collect();
            prop_assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut count = 0;
        let mut splitter = Splitter::default();
        for _ in 0..200 {
            splitter.push(&[b'x'; 16 * 1024], &mut |l| count += usize::from(l.len() >= LONGEST));
        }
        assert_eq!((count, splitter.0.len() < LONGEST), (3, true));
    }
}
