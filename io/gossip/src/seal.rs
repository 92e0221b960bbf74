//! Sealing datagrams with the cluster's key, so that only its nodes can read or make them.
//!
//! Must not know what is inside. The format is in the crate's head.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use osier_model::PeerId;
use rand::RngExt;

/// The only version of the format.
const VERSION: u8 = 1;
/// Version and sender, which are authenticated but not secret.
const CLEAR: usize = 7;
const NONCE: usize = 24;

pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
    me: PeerId,
}

/// A datagram that was not made by a node of this cluster, or was damaged on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the datagram is not sealed with this cluster's key")]
pub(crate) struct NotSealed;

impl Sealer {
    pub(crate) fn new(key: &[u8; 32], me: PeerId) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.into()), me }
    }

    pub(crate) fn seal(&self, message: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let mut datagram = vec![VERSION];
        datagram.extend_from_slice(&self.me.0);
        let nonce: [u8; NONCE] = rand::rng().random();
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), Payload { msg: message, aad: &datagram });
        datagram.extend_from_slice(&nonce);
        datagram.extend_from_slice(&sealed.map_err(|_| NotSealed)?);
        Ok(datagram)
    }

    /// The sender and the message of a datagram.
    pub(crate) fn open(&self, datagram: &[u8]) -> Result<(PeerId, Vec<u8>), NotSealed> {
        let (clear, rest) = datagram.split_at_checked(CLEAR).ok_or(NotSealed)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(NotSealed)?;
        let [VERSION, sender @ ..] = clear else { return Err(NotSealed) };
        let sender = PeerId(sender.try_into().map_err(|_| NotSealed)?);
        let opened = self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: clear });
        Ok((sender, opened.map_err(|_| NotSealed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ME: PeerId = PeerId([2, 0, 0, 0, 0, 1]);

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_sealed_opens_once_and_nothing_else_does(
            message in prop::collection::vec(any::<u8>(), 0..osier_mesh::MAX_DATAGRAM),
            noise in prop::collection::vec(any::<u8>(), 0..1500),
            at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let sealer = Sealer::new(&[7; 32], ME);
            let sealed = sealer.seal(&message).unwrap();
            prop_assert!(sealed.len() < 1200);
            prop_assert_eq!(sealer.open(&sealed), Ok((ME, message)));
            prop_assert_eq!(Sealer::new(&[8; 32], ME).open(&sealed), Err(NotSealed));
            prop_assert_eq!(sealer.open(&noise), Err(NotSealed));
            let mut damaged = sealed.clone();
            damaged[at.index(sealed.len())] ^= flip;
            prop_assert_eq!(sealer.open(&damaged), Err(NotSealed), "every bit counts, the sender's too");
            prop_assert_eq!(sealer.open(&sealed[..at.index(sealed.len())]), Err(NotSealed));
        }
    }
}
