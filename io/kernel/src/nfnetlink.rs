//! nfnetlink (linux/netfilter/nfnetlink.h) over one socket: batches that hold as a whole or not at all, and dumps.
//!
//! Must not know what tables, sets and rules are. A message is a netlink header, four bytes (family, version, resource) and
//! attributes; an attribute is its length and kind, 16 bits each in the machine's order, and a value filled up to four bytes.
//! Numbers within values are big-endian. The kernel answers while it takes a message, so nothing is waited for: an answer
//! that is not there will not come.

use nix::{
    errno::Errno,
    sys::socket::{
        setsockopt,
        sockopt::{SndBuf, SndBufForce},
    },
};
use rtnetlink::{
    packet_core::{
        DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
        NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};
use std::io;

const HEADER: usize = 4;
const KIND_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const UNSPECIFIED: u8 = 0;

/// Longer than any piece of a dump (32 KiB).
const PIECE: usize = 64 << 10;
const DUMP_ATTEMPTS: u32 = 10;

fn padded(length: usize) -> usize {
    length.next_multiple_of(HEADER)
}

/// A list of attributes, as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds a value of at most 65,531 bytes; of a longer one the kernel will say that it makes no sense.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(padded(self.0.len()), 0);
        self
    }

    /// Adds a text, which the kernel wants to end with a zero byte.
    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds a number.
    pub(crate) fn number(self, kind: u16, number: u32) -> Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Adds attributes as the value of one.
    pub(crate) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The attributes that these bytes are, with their kinds. What makes no sense ends the list.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l1, l2, k1, k2, ..] = *bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([l1, l2]));
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k1, k2]) & KIND_MASK, value))
    })
}

/// The value of the first attribute of this kind.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(k, value)| (k == kind).then_some(value))
}

/// A text without the zero byte at its end.
pub(crate) fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number; `None` where it has not four bytes.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A message to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Subsystem and operation.
    pub(crate) kind: u16,
    /// Flags besides those of every request.
    pub(crate) flags: u16,
    /// The protocol family (`NFPROTO_*`).
    pub(crate) family: u8,
    /// What it says.
    pub(crate) attributes: Attributes,
}

/// What follows a message's header.
#[derive(Debug)]
struct Body {
    kind: u16,
    bytes: Vec<u8>,
}

impl Body {
    fn new(kind: u16, family: u8, resource: u16, attributes: &Attributes) -> Self {
        let [high, low] = resource.to_be_bytes();
        Self { kind, bytes: [&[family, 0, high, low], attributes.as_bytes()].concat() }
    }
}

impl NetlinkSerializable for Body {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.bytes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.bytes);
    }
}

impl NetlinkDeserializable for Body {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { kind: header.message_type, bytes: payload.to_vec() })
    }
}

fn write(out: &mut Vec<u8>, body: Body, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(body));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = out.len();
    out.resize(start + message.buffer_len(), 0);
    message.serialize(&mut out[start..]);
}

/// The messages of one datagram. What makes no sense is an error.
fn read(mut datagram: &[u8]) -> io::Result<Vec<NetlinkMessage<Body>>> {
    let mut out = Vec::new();
    while !datagram.is_empty() {
        let message = NetlinkMessage::<Body>::deserialize(datagram).map_err(io::Error::other)?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(HEADER);
        datagram = datagram.get(length.checked_next_multiple_of(HEADER).unwrap_or(usize::MAX)..).unwrap_or_default();
        out.push(message);
    }
    Ok(out)
}

/// A socket, in the namespace of the thread that opened it.
pub(crate) struct Nfnetlink(Socket);

impl Nfnetlink {
    /// Opens a socket. Kernels without nfnetlink answer EPROTONOSUPPORT.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self(socket))
    }

    /// Has all messages carried out as one change, which packets see whole or not at all; or, on an error, none of them.
    /// The error is the first message's that has one.
    pub(crate) fn batch(&self, subsystem: u8, messages: &[Message]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let frame = |kind| Body::new(kind, UNSPECIFIED, subsystem.into(), &Attributes::default());
        write(&mut bytes, frame(BATCH_BEGIN), 0, 0);
        let mut last = 0;
        for (message, sequence) in messages.iter().zip(1..) {
            last = sequence;
            let Message { kind, flags, family, attributes } = message;
            // One acknowledgement for all: that of the last one comes when the whole batch holds.
            let ack = if messages.len().try_into() == Ok(sequence) { NLM_F_ACK } else { 0 };
            write(&mut bytes, Body::new(*kind, *family, 0, attributes), flags | ack, sequence);
        }
        write(&mut bytes, frame(BATCH_END), 0, last.saturating_add(1));
        self.send(&bytes)?;

        let (mut acknowledged, mut failure) = (false, None);
        while let Some(answers) = self.receive()? {
            for answer in answers {
                let NetlinkPayload::Error(e) = answer.payload else { continue };
                match e.code {
                    Some(_) => drop(failure.get_or_insert_with(|| e.to_io())),
                    None => acknowledged |= answer.header.sequence_number == last,
                }
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if acknowledged => Ok(()),
            None => Err(ended()),
        }
    }

    /// The attributes of each object that a query asks for.
    pub(crate) fn dump(&self, query: &Message) -> io::Result<Vec<Vec<u8>>> {
        let mut attempts = 0;
        loop {
            match self.dump_once(query) {
                // Something changed while the kernel was listing.
                Err(e) if e.raw_os_error() == Some(Errno::EINTR as i32) && attempts < DUMP_ATTEMPTS => attempts += 1,
                result => return result,
            }
        }
    }

    fn dump_once(&self, query: &Message) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = Vec::new();
        let body = Body::new(query.kind, query.family, 0, &query.attributes);
        write(&mut bytes, body, query.flags | NLM_F_DUMP, 1);
        self.send(&bytes)?;
        let (mut found, mut interrupted) = (Vec::new(), false);
        while let Some(answers) = self.receive()? {
            for answer in answers {
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(body) => {
                        found.push(body.bytes.get(HEADER..).unwrap_or_default().into());
                    }
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Done(d) if d.code != 0 => return Err(io::Error::from_raw_os_error(d.code.abs())),
                    NetlinkPayload::Done(_) if interrupted => return Err(Errno::EINTR.into()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
        Err(ended())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // A batch has to go as one piece, however long it is.
        let room = bytes.len().saturating_add(PIECE);
        // In a user namespace of its own, a host may only ask for as much as its administrator allows.
        setsockopt(&self.0, SndBufForce, &room).or_else(|_| setsockopt(&self.0, SndBuf, &room))?;
        self.0.send_to(bytes, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// The next datagram of answers; `None` where there is none.
    fn receive(&self) -> io::Result<Option<Vec<NetlinkMessage<Body>>>> {
        let mut datagram = Vec::with_capacity(PIECE);
        match self.0.recv(&mut datagram, 0) {
            Ok(_) => read(&datagram).map(Some),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel's answer is not complete")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let inner = Attributes::default().number(1, 0xfffe_fed4).text(2, "osier");
        let outer = Attributes::default().bytes(3, &[7]).nested(4, &inner).bytes(5, &[]);
        assert_eq!(outer.as_bytes().len() % 4, 0);
        let seen: Vec<(u16, &[u8])> = attributes(outer.as_bytes()).collect();
        assert_eq!(seen, [(3, &[7][..]), (4, inner.as_bytes()), (5, &[])]);
        let inner = attribute(outer.as_bytes(), 4).unwrap();
        assert_eq!(attribute(inner, 1).and_then(number), Some(0xfffe_fed4));
        assert_eq!(attribute(inner, 2).map(text), Some(&b"osier"[..]));
        assert_eq!(attribute(inner, 3), None);
    }

    #[test]
    fn bytes_that_make_no_sense_end_the_list() {
        let whole = Attributes::default().number(1, 1).text(2, "a text");
        for cut in 0..whole.as_bytes().len() {
            assert!(attributes(&whole.as_bytes()[..cut]).count() <= 2);
        }
        for length in [0u16, 3, 200, u16::MAX] {
            let [l1, l2] = length.to_ne_bytes();
            assert_eq!(attributes(&[l1, l2, 0, 0, 1, 2, 3, 4]).count(), 0);
        }
        assert_eq!((number(&[1, 2, 3]), text(&[])), (None, &[][..]));
    }

    #[test]
    fn datagrams_are_read_as_they_were_written_or_refused() {
        let body = |kind| Body::new(kind, 7, 10, &Attributes::default().text(1, "x"));
        let mut bytes = Vec::new();
        write(&mut bytes, body(0xa00), NLM_F_ACK, 1);
        write(&mut bytes, body(0xa01), 0, 2);
        let seen = read(&bytes).unwrap();
        let numbers: Vec<_> = seen.iter().map(|m| (m.header.sequence_number, m.header.message_type)).collect();
        assert_eq!(numbers, [(1, 0xa00), (2, 0xa01)]);
        for cut in 1..bytes.len() {
            let cut_short = read(&bytes[..cut]);
            assert!(cut_short.is_err() || cut_short.unwrap().len() == 1);
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_no_panic() {
        let long = Attributes::default().bytes(1, &vec![0; 100_000]);
        assert_eq!(attributes(long.as_bytes()).next().map(|(_, value)| value.len()), Some(65_531));
    }
}
