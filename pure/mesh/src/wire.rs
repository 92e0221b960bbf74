//! What travels in datagrams: identities, facts, and the check that a datagram speaks of members only.
//!
//! A datagram is foca's: header, count and list of updates, then broadcasts. Must not know what foca does with it.

use crate::MAX_DATAGRAM;
use foca::{Header, Member, Message};
use osier_model::PeerId;
use serde::{Deserialize, Serialize};

/// A datagram, digest or delta that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not in the expected format.
    #[error("the message is malformed")]
    Malformed,
    /// It speaks for another node than the one that sent it, or of one that is no member.
    #[error("the message does not come from the member it speaks for")]
    NotAMember,
    /// Its sender is no member, and says so much that is true: who it is.
    #[error("the message comes from a node that is no member")]
    Stranger,
}

/// One life of a node. `bump` rises when the node finds that others count it as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Id {
    peer: [u8; 6],
    pub(crate) incarnation: u64,
    bump: u32,
}

/// One change of one fact, as it is broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broadcast {
    pub(crate) origin: [u8; 6],
    pub(crate) incarnation: u64,
    pub(crate) version: u64,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

impl Id {
    pub(crate) fn new(peer: PeerId, incarnation: u64) -> Self {
        Self { peer: peer.0, incarnation, bump: 0 }
    }

    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.peer)
    }
}

impl foca::Identity for Id {
    type Addr = [u8; 6];

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> Self::Addr {
        self.peer
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, self.bump) > (adversary.incarnation, adversary.bump)
    }
}

/// A datagram in which only members are spoken of.
pub(crate) struct Admitted {
    pub(crate) data: Vec<u8>,
    /// The latest incarnation of `me` that the sender knows.
    pub(crate) my_incarnation: u64,
}

/// Checks a datagram that `from` sent: it must speak for `from`; updates about nodes that are no members are taken out,
/// since lists of members change node by node.
pub(crate) fn admit(
    data: &[u8],
    from: PeerId,
    me: PeerId,
    is_member: impl Fn(PeerId) -> bool,
) -> Result<Admitted, Refused> {
    if data.len() > MAX_DATAGRAM {
        return Err(Refused::Malformed);
    }
    let (header, rest) = postcard::take_from_bytes::<Header<Id>>(data).map_err(|_| Refused::Malformed)?;
    let third = match &header.message {
        Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(*target),
        Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => Some(*origin),
        _ => None,
    };
    if header.src.peer() != from || from == me {
        return Err(Refused::NotAMember);
    }
    if !is_member(from) {
        return Err(Refused::Stranger);
    }
    if third.is_some_and(|id| !is_member(id.peer())) {
        return Err(Refused::NotAMember);
    }
    let mut mine: Vec<Id> = third.into_iter().chain([header.dst]).collect();
    let mut out = data[..data.len() - rest.len()].to_vec();
    if header.message == Message::Broadcast {
        out.extend_from_slice(rest);
    } else if let Some((count, mut rest)) = rest.split_first_chunk() {
        let mut kept = 0_u16;
        let at = out.len();
        out.extend_from_slice(&[0, 0]);
        for _ in 0..u16::from_be_bytes(*count) {
            let (member, after) = postcard::take_from_bytes::<Member<Id>>(rest).map_err(|_| Refused::Malformed)?;
            if is_member(member.id().peer()) {
                out.extend_from_slice(&rest[..rest.len() - after.len()]);
                kept += 1;
            }
            mine.push(*member.id());
            rest = after;
        }
        out[at..at + 2].copy_from_slice(&kept.to_be_bytes());
        out.extend_from_slice(rest);
    } else {
        out.extend_from_slice(rest);
    }
    let my_incarnation = mine.iter().filter(|id| id.peer() == me).map(|id| id.incarnation).max().unwrap_or(0);
    Ok(Admitted { data: out, my_incarnation })
}
