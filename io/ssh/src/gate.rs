//! The start of a guarded command, read from its standard error: `sudo` asks for a password, then the command begins.
//!
//! Must not know pipes or passwords. Both signs carry a token that nobody can have foreseen: `TOKEN?` without an end of
//! line is the question, and `TOKEN PID` on a line of its own says that the command begins as soon as it may, as what
//! process.

/// Bytes that are held back at most while the command has not begun.
const LONGEST: usize = 64 * 1024;

/// What was seen in standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// `sudo` asks for the password.
    Asked,
    /// The command begins; the process that leads to it.
    Begun(u32),
}

/// Looks for the signs and holds back what comes before them.
#[derive(Debug)]
pub(crate) struct Gate {
    token: String,
    held: Vec<u8>,
    asked: bool,
    open: bool,
}

impl Gate {
    pub(crate) fn new(token: String) -> Self {
        Self { token, held: Vec::new(), asked: false, open: false }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Takes more of standard error; hands on what is the command's own, and gives back the signs in their order.
    pub(crate) fn push(&mut self, bytes: &[u8], on_bytes: &mut impl FnMut(&[u8])) -> Vec<Sign> {
        if self.open {
            on_bytes(bytes);
            return Vec::new();
        }
        self.held.extend_from_slice(bytes);
        let mut signs = Vec::new();
        while let Some((start, end, sign)) = self.sign() {
            signs.push(sign);
            match sign {
                Sign::Asked => {
                    // What `sudo` says around its question is no output of the command, unless it refuses.
                    self.held.drain(start..end);
                    self.asked = true;
                }
                Sign::Begun(_) => {
                    let before = &self.held[..start];
                    if !self.asked && !before.is_empty() {
                        on_bytes(before);
                    }
                    if end < self.held.len() {
                        on_bytes(&self.held[end..]);
                    }
                    (self.held, self.open) = (Vec::new(), true);
                    return signs;
                }
            }
        }
        if self.held.len() > LONGEST {
            let early = self.held.len() - LONGEST / 2;
            on_bytes(&self.held[..early]);
            self.held.drain(..early);
        }
        signs
    }

    /// Hands on what is held, where the command never began.
    pub(crate) fn finish(&mut self, on_bytes: &mut impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            on_bytes(&held);
        }
    }

    /// The first whole sign: where it begins and ends.
    fn sign(&self) -> Option<(usize, usize, Sign)> {
        let token = self.token.as_bytes();
        let mut from = 0;
        loop {
            let start = from + self.held.get(from..)?.windows(token.len()).position(|w| w == token)?;
            let rest = &self.held[start + token.len()..];
            match rest.first()? {
                b'?' => return Some((start, start + token.len() + 1, Sign::Asked)),
                b' ' => {
                    let end = rest.iter().position(|b| *b == b'\n')?;
                    let pid = std::str::from_utf8(&rest[1..end]).ok().and_then(|t| t.trim_end().parse().ok());
                    if let Some(pid) = pid {
                        return Some((start, start + token.len() + end + 1, Sign::Begun(pid)));
                    }
                }
                _ => {}
            }
            from = start + token.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(pieces: &[&[u8]]) -> (Vec<Sign>, String) {
        let (mut gate, mut signs, mut text) = (Gate::new("TOKEN".into()), Vec::new(), Vec::new());
        for piece in pieces {
            signs.extend(gate.push(piece, &mut |b| text.extend_from_slice(b)));
        }
        gate.finish(&mut |b| text.extend_from_slice(b));
        (signs, String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_question_and_a_beginning_are_taken_out() {
        assert_eq!(run(&[b"TOKEN 7\nout\n"]), (vec![Sign::Begun(7)], "out\n".into()));
        let lecture: &[&[u8]] = &[b"We trust you\nTOK", b"EN?", b"\nTOKEN 12", b"34\r\n", b"TOKEN 9\n"];
        assert_eq!(
            run(lecture),
            (vec![Sign::Asked, Sign::Begun(1234)], "TOKEN 9\n".into()),
            "once begun, all is output"
        );
    }

    #[test]
    fn what_a_refusal_says_is_kept() {
        let (signs, text) = run(&[b"TOKEN?Sorry, try again.\nTOKEN?", b"sudo: 1 incorrect password attempt\n"]);
        assert_eq!(signs, [Sign::Asked, Sign::Asked]);
        assert_eq!(text, "Sorry, try again.\nsudo: 1 incorrect password attempt\n");
        assert_eq!(run(&[b"warning\nTOKEN 1\nx"]), (vec![Sign::Begun(1)], "warning\nx".into()));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(text in "(TOKEN|TOKE|\\?|[0-9]{1,3}|\n| |x){0,16}", cuts in prop::collection::vec(1_usize..6, 0..30)) {
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(head);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(run(&pieces), run(&[text.as_bytes()]));
        }
    }
}
