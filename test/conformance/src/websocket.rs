//! As much of WebSocket (RFC 6455) as an attach needs: masked frames out, unfragmented frames in.

use crate::{failure::Failure, tunnel::Tunnel};

/// Any mask will do, it hides nothing.
const MASK: [u8; 4] = [0x17, 0x2a, 0x5c, 0x03];
/// The largest payload whose length fits into the second byte.
const SHORT: usize = 125;

/// Sends text.
pub(crate) async fn send(tunnel: &mut Tunnel, text: &str) -> Result<(), Failure> {
    let payload = text.as_bytes();
    let length = u8::try_from(payload.len()).ok().filter(|l| usize::from(*l) <= SHORT);
    let length = length.ok_or_else(|| Failure::broken("form a frame", "the text is too long"))?;
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let frame: Vec<u8> = [0x81, 0x80 | length].into_iter().chain(MASK).chain(masked).collect();
    tunnel.write(&frame).await
}

/// Reads until this text has come.
pub(crate) async fn expect(tunnel: &mut Tunnel, text: &str) -> Result<(), Failure> {
    tunnel.until(text, |bytes| payloads(bytes).contains(text).then_some(())).await
}

/// What the data frames that came whole carry.
fn payloads(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match (second & 0x7f, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (127, _) | (126, _) => break,
            (length, rest) => (usize::from(length), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        // Text and binary; the others are control frames.
        if matches!(first & 0x0f, 0..=2) {
            text.extend_from_slice(payload);
        }
        bytes = rest;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_frames_are_read_and_control_frames_passed_over() {
        let long = [&b"\x82\x7e\0\x80"[..], &[b'x'; 128]].concat();
        assert_eq!(payloads(&[b"\x81\x02hi\x89\x01p", &long[..]].concat()), format!("hi{}", "x".repeat(128)));
        assert_eq!(payloads(b"\x81\x05hi"), "");
    }
}
