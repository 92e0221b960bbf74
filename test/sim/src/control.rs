//! What two agents do over their control connection, and how long what they send is on the wire. The words are those of
//! `io/gossip`, told again. Must not know when they do it.

use osier_mesh::{Delta, Digest, Mesh};
use serde::Serialize;
use std::time::Duration;

/// The most bytes of facts in one message, roughly.
const PORTION: usize = 1 << 20;
/// Bytes around a datagram's payload: IPv4, UDP, and the seal with its version, sender, nonce and tag.
const AROUND_DATAGRAM: usize = 20 + 8 + 1 + 6 + 24 + 16;
/// Bytes around a message's payload: IPv4, TCP with timestamps, TLS's record, and the frame's length, kind and id.
const AROUND_MESSAGE: usize = 20 + 32 + 22 + 13;
/// Bytes of the acknowledgement of a message: IPv4, TCP with timestamps.
const ACKNOWLEDGED: usize = 20 + 32;

#[derive(Serialize)]
enum Question<'a> {
    Compare { fingerprint: u64 },
    Exchange { digest: &'a Digest, delta: &'a Delta },
}

#[derive(Serialize)]
enum Reply<'a> {
    Same,
    Differs(&'a Digest),
    Lacking(&'a Delta),
}

/// Bytes of a datagram on the wire.
pub(crate) fn seal(payload: usize) -> u64 {
    (payload + AROUND_DATAGRAM) as u64
}

fn size(message: &impl Serialize) -> u64 {
    let payload = postcard::to_stdvec(message).map_or(0, |bytes| bytes.len());
    (payload + AROUND_MESSAGE + ACKNOWLEDGED) as u64
}

/// Compares the facts of two, both ways; how many bytes that took.
pub(crate) fn equalise(now: Duration, a: &mut Mesh, b: &mut Mesh) -> u64 {
    let (digest_a, digest_b) = (a.digest(), b.digest());
    let asked = size(&Question::Compare { fingerprint: digest_a.fingerprint() });
    if digest_a.fingerprint() == digest_b.fingerprint() {
        return asked + size(&Reply::Same);
    }
    let (for_a, for_b) = (b.delta_since(&digest_a, PORTION), a.delta_since(&digest_b, PORTION));
    let exchange = Question::Exchange { digest: &digest_a, delta: &for_b };
    let sent = asked + size(&Reply::Differs(&digest_b)) + size(&exchange) + size(&Reply::Lacking(&for_a));
    a.note_digest(now, &digest_b);
    b.note_digest(now, &digest_a);
    // What one of them cannot take is told by the comparison that follows.
    let _ = a.apply_delta(now, for_a);
    let _ = b.apply_delta(now, for_b);
    sent
}
