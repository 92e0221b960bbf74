//! The output of a container as an engine sends it (Docker API, "attach": stream format), cut into lines.
//!
//! Must not know where the bytes come from. Without a terminal each piece has a head of eight bytes: which channel,
//! three zeros, the piece's length; with one it is the bare output.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Bytes after which a line is cut.
const LONGEST: usize = 1 << 20;

/// Where a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output, or a terminal.
    Out,
    /// Standard error.
    Err,
}

/// What came is no such stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the engine sends a piece of an unknown channel ({0})")]
pub struct FrameError(u8);

/// Cuts a stream into lines, whatever pieces it comes in.
#[derive(Debug)]
pub struct Frames {
    tty: bool,
    head: Vec<u8>,
    channel: Channel,
    /// Bytes of the present piece that are still to come.
    left: usize,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Frames {
    /// A stream with heads, or the bare output of a terminal.
    pub fn new(tty: bool) -> Self {
        Self { tty, head: Vec::new(), channel: Channel::Out, left: 0, out: Vec::new(), err: Vec::new() }
    }

    /// Takes more bytes and hands over every whole line, without its end.
    pub fn push(&mut self, mut bytes: &[u8], on_line: &mut impl FnMut(Channel, &str)) -> Result<(), FrameError> {
        if self.tty {
            self.take(bytes, on_line);
            return Ok(());
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let (head, rest) = bytes.split_at((8 - self.head.len()).min(bytes.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                if let [channel, _, _, _, a, b, c, d] = *self.head.as_slice() {
                    self.channel = match channel {
                        0 | 1 => Channel::Out,
                        2 => Channel::Err,
                        other => return Err(FrameError(other)),
                    };
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                }
                continue;
            }
            let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= piece.len();
            bytes = rest;
            self.take(piece, on_line);
        }
        Ok(())
    }

    /// Hands over last lines that have no end.
    pub fn finish(&mut self, on_line: &mut impl FnMut(Channel, &str)) {
        for channel in [Channel::Out, Channel::Err] {
            let line = std::mem::take(if channel == Channel::Out { &mut self.out } else { &mut self.err });
            if !line.is_empty() {
                hand_over(channel, &line, on_line);
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], on_line: &mut impl FnMut(Channel, &str)) {
        let channel = self.channel;
        let line = if channel == Channel::Out { &mut self.out } else { &mut self.err };
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            hand_over(channel, line, on_line);
            line.clear();
        }
        line.extend_from_slice(bytes);
        if line.len() >= LONGEST {
            hand_over(channel, line, on_line);
            line.clear();
        }
    }
}

fn hand_over(channel: Channel, line: &[u8], on_line: &mut impl FnMut(Channel, &str)) {
    let line = String::from_utf8_lossy(line);
    on_line(channel, line.strip_suffix('\r').unwrap_or(&line));
}

/// Takes the time (RFC 3339) from the beginning of a line: nanoseconds since 1970, and the rest.
pub fn stamped(line: &str) -> Option<(i128, &str)> {
    let (stamp, rest) = line.split_once(' ').unwrap_or((line, ""));
    let time = OffsetDateTime::parse(stamp, &Rfc3339).ok()?;
    Some((time.unix_timestamp_nanos(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(channel: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![channel, 0, 0, 0];
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    fn lines(tty: bool, pieces: &[&[u8]]) -> Vec<(Channel, String)> {
        let (mut frames, mut seen) = (Frames::new(tty), Vec::new());
        for piece in pieces {
            frames.push(piece, &mut |c, l| seen.push((c, l.to_owned()))).unwrap();
        }
        frames.finish(&mut |c, l| seen.push((c, l.to_owned())));
        seen
    }

    #[test]
    fn channels_are_told_apart_and_lines_span_pieces() {
        let bytes = [frame(1, "one\ntw"), frame(2, "oops\r\n"), frame(1, ""), frame(1, "o\nlast")].concat();
        let said = |channel, text: &str| (channel, text.to_owned());
        let expected = [
            said(Channel::Out, "one"),
            said(Channel::Err, "oops"),
            said(Channel::Out, "two"),
            said(Channel::Out, "last"),
        ];
        assert_eq!(lines(false, &[&bytes]), expected);
        assert_eq!(lines(true, &[b"a\r\nb"]), [said(Channel::Out, "a"), said(Channel::Out, "b")]);
        assert_eq!(Frames::new(false).push(&frame(9, "x"), &mut |_, _| {}), Err(FrameError(9)));
    }

    #[test]
    fn stamps_are_read() {
        assert_eq!(stamped("1970-01-01T00:00:01.000000002Z hello there"), Some((1_000_000_002, "hello there")));
        assert_eq!((stamped("hello there"), stamped("1970-01-01T00:00:00Z")), (None, Some((0, ""))));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(parts in prop::collection::vec((1_u8..3, "[a-z\n]{0,9}"), 0..8), cuts in prop::collection::vec(1_usize..7, 0..40)) {
            let bytes: Vec<u8> = parts.iter().flat_map(|(channel, text)| frame(*channel, text)).collect();
            let (mut pieces, mut rest) = (Vec::new(), bytes.as_slice());
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(head);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(lines(false, &pieces), lines(false, &[&bytes]));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), tty: bool) {
            let mut frames = Frames::new(tty);
            let _ = frames.push(&bytes, &mut |_, _| {});
            frames.finish(&mut |_, _| {});
        }
    }
}
