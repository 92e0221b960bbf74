//! Frames of a control connection. The format is in the crate's head.
//!
//! Must not know what TLS is or what a payload means.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest payload, in bytes: a node's whole set of facts has to fit.
pub(crate) const MAX_PAYLOAD: usize = 32 << 20;
/// Kind and id.
const HEAD: usize = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame each way: who speaks.
    Hello = 0,
    /// Shows that the sender lives.
    Beat = 1,
    /// A question for the node's request handler.
    Call = 2,
    /// A question about facts.
    Sync = 3,
    /// The answer to the question with the same id.
    Reply = 4,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Bytes of the frame on the wire, before TLS.
    pub(crate) fn size(&self) -> usize {
        4 + HEAD + self.payload.len()
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Writes one frame.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let length = u32::try_from(HEAD + frame.payload.len()).map_err(|_| invalid("the frame is too long"))?;
    let mut head = [0; 4 + HEAD];
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4] = frame.kind as u8;
    head[5..].copy_from_slice(&frame.id.to_be_bytes());
    let mut bytes = Vec::with_capacity(frame.size());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&frame.payload);
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Reads one frame; memory grows with what arrives, not with what the length says.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let length = from.read_u32().await? as usize;
    if !(HEAD..=HEAD + MAX_PAYLOAD).contains(&length) {
        return Err(invalid("the frame's length is out of range"));
    }
    let kind = match from.read_u8().await? {
        0 => Kind::Hello,
        1 => Kind::Beat,
        2 => Kind::Call,
        3 => Kind::Sync,
        4 => Kind::Reply,
        _ => return Err(invalid("the frame's kind is unknown")),
    };
    let id = from.read_u64().await?;
    let wanted = length - HEAD;
    let mut payload = Vec::new();
    from.take(wanted as u64).read_to_end(&mut payload).await?;
    if payload.len() < wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Frame { kind, id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn frames_round_trip_and_anything_else_is_an_error(
            id in any::<u64>(), payload in prop::collection::vec(any::<u8>(), 0..300),
            noise in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>(),
        ) {
            block_on(async {
                let frame = Frame { kind: Kind::Call, id, payload };
                let mut wire = Vec::new();
                write(&mut wire, &frame).await.unwrap();
                assert_eq!(wire.len(), frame.size());
                assert_eq!(read(&mut wire.as_slice()).await.unwrap(), frame);
                assert!(read(&mut &wire[..cut.index(wire.len())]).await.is_err(), "cut short");
                let _ = read(&mut noise.as_slice()).await;
            });
        }
    }

    #[test]
    fn a_length_out_of_range_is_refused_before_anything_is_read() {
        for length in [0, 8, (HEAD + MAX_PAYLOAD + 1) as u32, u32::MAX] {
            let error = block_on(read(&mut [&length.to_be_bytes()[..], &[0; 64]].concat().as_slice())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
