//! The commonest query, one question and nothing else, answered without reading it into a message and writing one.
//!
//! Must not know records. What it answers is byte for byte what [`crate::message`] would say, which takes all that is less plain.

use crate::{
    message::{HEADER, PLAIN_PAYLOAD, question},
    wire::{A, ANY, IN, PTR, SOA, u16_at},
};
use osier_model::Hostname;
use osier_names::{Answer, QueryName, QueryType, TTL};

/// The longest name (RFC 1035, 2.3.4).
const LONGEST: usize = 255;

/// A query with one question.
#[derive(Debug)]
pub(crate) struct Plain<'a> {
    bytes: &'a [u8],
    /// The name of the question, as it is spelt.
    name: &'a [u8],
    kind: u16,
}

impl<'a> Plain<'a> {
    /// `None` where there is more to it.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let asked = question(bytes)?;
        let name = &asked[..asked.len() - 4];
        // A query of the operation 0 that is whole, with one question; of the other bits only RD and AD.
        let plain = bytes[2] & 0xfe == 0 && bytes[3] & 0xdf == 0 && bytes[4..HEADER] == [0, 1, 0, 0, 0, 0, 0, 0];
        let alone = bytes.len() == HEADER + asked.len() && name.len() <= LONGEST;
        let (kind, class) = (u16_at(asked, name.len())?, u16_at(asked, name.len() + 2)?);
        (plain && alone && class == IN).then_some(Self { bytes, name, kind })
    }

    /// What is asked for.
    pub(crate) fn wanted(&self) -> (QueryName, QueryType) {
        let mut rest = self.name;
        let labels = std::iter::from_fn(|| {
            let (length, tail) = rest.split_first().filter(|(length, _)| **length > 0)?;
            let (label, tail) = tail.split_at_checked(usize::from(*length))?;
            rest = tail;
            Some(label)
        });
        let kind = match self.kind {
            A => QueryType::A,
            PTR => QueryType::Ptr,
            ANY => QueryType::Any,
            _ => QueryType::Other,
        };
        (QueryName::from_labels(labels), kind)
    }

    /// The reply; `None` where it needs more thought.
    pub(crate) fn reply(&self, answer: &Answer) -> Option<Vec<u8>> {
        let reply = match answer {
            Answer::Addresses(addresses) => {
                let mut reply = self.begin(0, addresses.len(), 0, 16 * addresses.len())?;
                for address in addresses {
                    // The owner is the question's name.
                    record(&mut reply, HEADER, A, &address.octets());
                }
                reply
            }
            Answer::NoData(zone) => self.denial(0, zone)?,
            Answer::NxDomain(zone) => self.denial(3, zone)?,
            Answer::Pointer(_) | Answer::Forward => return None,
        };
        (reply.len() <= usize::from(PLAIN_PAYLOAD)).then_some(reply)
    }

    /// With the zone's start of authority, whose names end in the question's.
    fn denial(&self, code: u8, zone: &Hostname) -> Option<Vec<u8>> {
        // The dots become lengths, with one more in front and the root behind.
        let zone_at = self.name.len().checked_sub(zone.as_str().len() + 2)?;
        let in_wire = zone.as_str().split('.').flat_map(|label| {
            let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
            std::iter::once(length).chain(label.bytes())
        });
        if !self.name[zone_at..].iter().copied().eq(in_wire.chain([0])) {
            return None;
        }
        let zone = pointer(HEADER + zone_at);
        let mut data = Vec::with_capacity(40);
        for label in ["ns", "hostmaster"] {
            data.push(u8::try_from(label.len()).ok()?);
            data.extend_from_slice(label.as_bytes());
            data.extend_from_slice(&zone);
        }
        for number in [1, TTL, TTL, TTL, TTL] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        let mut reply = self.begin(code, 0, 1, 12 + data.len())?;
        record(&mut reply, HEADER + zone_at, SOA, &data);
        Some(reply)
    }

    /// The header and the question of a reply with authority, and room for more.
    fn begin(&self, code: u8, answers: usize, authorities: u8, room: usize) -> Option<Vec<u8>> {
        let asked = self.bytes.get(HEADER..)?;
        let mut reply = Vec::with_capacity(self.bytes.len() + room);
        reply.extend_from_slice(&self.bytes[..2]);
        reply.extend_from_slice(&[0x84 | self.bytes[2], 0x80 | code, 0, 1]);
        reply.extend_from_slice(&u16::try_from(answers).ok()?.to_be_bytes());
        reply.extend_from_slice(&[0, authorities, 0, 0]);
        reply.extend_from_slice(asked);
        Some(reply)
    }
}

/// A name that is elsewhere in the message (RFC 1035, 4.1.4). The question's name lies within reach.
fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(at).unwrap_or_default()).to_be_bytes()
}

fn record(reply: &mut Vec<u8>, owner: usize, kind: u16, data: &[u8]) {
    reply.extend_from_slice(&pointer(owner));
    reply.extend_from_slice(&kind.to_be_bytes());
    reply.extend_from_slice(&IN.to_be_bytes());
    reply.extend_from_slice(&TTL.to_be_bytes());
    reply.extend_from_slice(&u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    reply.extend_from_slice(data);
}
