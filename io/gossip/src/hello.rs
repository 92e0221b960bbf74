//! The first frame each way of a control connection: both ends say who they are and whom they expect, so that two nodes
//! with different membership lists part with a clear reason.

use crate::frame::{self, Frame, Kind};
use osier_model::PeerId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// The only version of the protocol.
const PROTOCOL: u16 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    protocol: u16,
    from: [u8; 6],
    to: [u8; 6],
}

/// Exchanges greetings with the member that the certificate named; the error says what does not fit.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    me: PeerId,
    peer: PeerId,
) -> Result<(), String> {
    let hello = Hello { protocol: PROTOCOL, from: me.0, to: peer.0 };
    let payload = postcard::to_stdvec(&hello).map_err(|e| format!("cannot greet: {e}"))?;
    let sent = frame::write(stream, &Frame { kind: Kind::Hello, id: 0, payload }).await;
    sent.map_err(|e| format!("cannot greet: {e}"))?;
    let answer = frame::read(stream).await.map_err(|e| format!("it did not greet: {e}"))?;
    check(&answer, me, peer)
}

fn check(answer: &Frame, me: PeerId, peer: PeerId) -> Result<(), String> {
    let hello = postcard::from_bytes::<Hello>(&answer.payload).ok().filter(|_| answer.kind == Kind::Hello);
    let hello = hello.ok_or("its greeting cannot be read")?;
    if hello.protocol != PROTOCOL {
        return Err(format!("it speaks protocol {}, this node {PROTOCOL}", hello.protocol));
    }
    let (from, to) = (PeerId(hello.from), PeerId(hello.to));
    if from != peer || to != me {
        return Err(format!("it is {from} and expects {to}, not {peer} and {me}: the membership lists differ"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PeerId = PeerId([2, 0, 0, 0, 0, 1]);
    const B: PeerId = PeerId([2, 0, 0, 0, 0, 2]);

    fn greeting(protocol: u16, from: PeerId, to: PeerId) -> Frame {
        let payload = postcard::to_stdvec(&Hello { protocol, from: from.0, to: to.0 }).unwrap();
        Frame { kind: Kind::Hello, id: 0, payload }
    }

    #[test]
    fn only_the_expected_peer_is_greeted() {
        assert_eq!(check(&greeting(PROTOCOL, B, A), A, B), Ok(()));
        assert!(check(&greeting(2, B, A), A, B).unwrap_err().contains("protocol 2"));
        assert!(check(&greeting(PROTOCOL, A, A), A, B).unwrap_err().contains("membership lists differ"));
        assert!(check(&greeting(PROTOCOL, B, B), A, B).is_err());
        assert!(check(&Frame { kind: Kind::Call, ..greeting(PROTOCOL, B, A) }, A, B).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_greetings_are_refused(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let frame = Frame { kind: Kind::Hello, id: 0, payload };
            prop_assert!(check(&frame, A, B).is_err());
        }
    }
}
