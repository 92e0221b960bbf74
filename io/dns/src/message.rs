//! From the bytes of one query to what to do about it: reply, forward, or nothing.
//!
//! Must not know sockets. Every input ends in an [`Action`]: a response is never answered (RFC 1035, 7.3, or two
//! servers would talk for ever), what cannot be read but has an id gets `FORMERR`, an operation other than a query
//! `NOTIMP`. Own replies echo the question as it was spelt, EDNS (RFC 6891), and RD and CD (RFC 4035, 3.1.6).

use crate::plain::Plain;
use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, PTR, SOA},
    },
};
use osier_model::Hostname;
use osier_names::{Answer, QueryName, QueryType, Records, TTL, Zone};
use rand::Rng;
use std::net::{IpAddr, Ipv4Addr};

/// The UDP payload every client can take (RFC 1035, 4.2.1).
pub(crate) const PLAIN_PAYLOAD: u16 = 512;
/// The UDP payload that we take, and the most we send: larger ones do not pass every path
/// unfragmented (DNS Flag Day 2020).
const OWN_PAYLOAD: u16 = 1232;
/// Length of a message's fixed header.
pub(crate) const HEADER: usize = 12;

/// What to do about one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Drop,
    /// Send these bytes back.
    Reply(Vec<u8>),
    /// Ask a resolver.
    Forward,
}

/// How the query came, and so how long the reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A message of at most 65,535 bytes.
    Tcp,
}

/// Decides about one query from `asker`.
pub fn handle(
    bytes: &[u8],
    transport: Transport,
    asker: IpAddr,
    zone: &Zone,
    records: &Records,
    rng: &mut impl Rng,
) -> Action {
    let asker = match asker.to_canonical() {
        IpAddr::V4(asker) => Some(asker),
        IpAddr::V6(_) => None,
    };
    if let Some(plain) = Plain::read(bytes) {
        let (name, kind) = plain.wanted();
        match osier_names::answer(&name, kind, asker, zone, records, rng) {
            Answer::Forward => return Action::Forward,
            answer => {
                if let Some(reply) = plain.reply(&answer) {
                    return Action::Reply(reply);
                }
            }
        }
    }
    read_whole(bytes, transport, asker, zone, records, rng)
}

/// As [`handle`], for any query.
fn read_whole(
    bytes: &[u8],
    transport: Transport,
    asker: Option<Ipv4Addr>,
    zone: &Zone,
    records: &Records,
    rng: &mut impl Rng,
) -> Action {
    let Some(&[high, low]) = bytes.first_chunk() else { return Action::Drop };
    let id = u16::from_be_bytes([high, low]);
    let flags = bytes.get(2).copied().unwrap_or_default();
    if flags & 0x80 != 0 {
        return Action::Drop;
    }
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    if op_code != OpCode::Query {
        return reply(&Message::error_msg(id, op_code, ResponseCode::NotImp));
    }
    let query = match Message::from_vec(bytes) {
        Ok(message) if message.queries.len() == 1 && question(bytes).is_some() => message,
        _ => return reply(&Message::error_msg(id, op_code, ResponseCode::FormErr)),
    };
    if query.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return reply(&response(&query, ResponseCode::BADVERS));
    }
    let asked = &query.queries[0];
    if !matches!(asked.query_class, DNSClass::IN | DNSClass::ANY) {
        return Action::Forward;
    }
    let kind = match asked.query_type {
        RecordType::A => QueryType::A,
        RecordType::PTR => QueryType::Ptr,
        RecordType::ANY => QueryType::Any,
        _ => QueryType::Other,
    };
    let name = QueryName::from_labels(asked.name.iter());
    match osier_names::answer(&name, kind, asker, zone, records, rng) {
        Answer::Forward => Action::Forward,
        answer => match own(&query, answer) {
            Some(message) => fitting(message, limit(&query, transport)),
            None => reply(&response(&query, ResponseCode::ServFail)),
        },
    }
}

/// `SERVFAIL` for a query that no resolver answered.
pub(crate) fn failure(bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    response(&query, ResponseCode::ServFail).to_vec().ok()
}

/// The question section of a message with one question. `None` where the message is too short or its name is
/// compressed, which a first name cannot be.
pub(crate) fn question(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        match *bytes.get(at)? {
            0 => break,
            length @ 1..=63 => at += usize::from(length) + 1,
            _ => return None,
        }
    }
    bytes.get(HEADER..at + 5)
}

/// The reply that carries the zone's answer; `None` where a name in it is too long for the wire.
fn own(query: &Message, answer: Answer) -> Option<Message> {
    let owner = &query.queries[0].name;
    let mut message = response(query, ResponseCode::NoError);
    message.metadata.authoritative = true;
    match answer {
        Answer::Forward => return None,
        Answer::Addresses(addresses) => {
            let record = |address| Record::from_rdata(owner.clone(), TTL, RData::A(A(address)));
            message.add_answers(addresses.into_iter().map(record));
        }
        Answer::Pointer(name) => {
            message.add_answer(Record::from_rdata(owner.clone(), TTL, RData::PTR(PTR(absolute(&name)?))));
        }
        Answer::NoData(zone) => {
            message.add_authority(authority(&zone)?);
        }
        Answer::NxDomain(zone) => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.add_authority(authority(&zone)?);
        }
    }
    Some(message)
}

/// An empty reply to this query.
fn response(query: &Message, code: ResponseCode) -> Message {
    let mut message = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    message.metadata = Metadata::response_from_request(&query.metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(query.queries.iter().cloned());
    if let Some(theirs) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_PAYLOAD).set_dnssec_ok(theirs.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

/// The start of authority that goes with a denial; its minimum is how long the denial may be kept (RFC 2308, 5).
fn authority(zone: &Hostname) -> Option<Record> {
    let apex = absolute(zone)?;
    let server = apex.prepend_label("ns").ok()?;
    let mailbox = apex.prepend_label("hostmaster").ok()?;
    let ttl = i32::try_from(TTL).ok()?;
    Some(Record::from_rdata(apex, TTL, RData::SOA(SOA::new(server, mailbox, 1, ttl, ttl, ttl, TTL))))
}

fn absolute(name: &Hostname) -> Option<Name> {
    let mut name = Name::from_labels(name.as_str().split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// How long a reply to this query may be.
fn limit(query: &Message, transport: Transport) -> usize {
    let payload = query.edns.as_ref().map_or(PLAIN_PAYLOAD, |e| e.max_payload().clamp(PLAIN_PAYLOAD, OWN_PAYLOAD));
    match transport {
        Transport::Udp => payload.into(),
        Transport::Tcp => u16::MAX.into(),
    }
}

/// The reply with as many answers as fit, and the truncation bit if some do not: clients without TCP make do with
/// those, all others ask again.
fn fitting(mut message: Message, limit: usize) -> Action {
    let Ok(bytes) = message.to_vec() else { return Action::Drop };
    if bytes.len() <= limit {
        return Action::Reply(bytes);
    }
    message.metadata.truncation = true;
    // No address record is smaller than 16 bytes, so that few rounds are needed.
    message.answers.truncate(limit / 16);
    loop {
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= limit || message.answers.is_empty() => return Action::Reply(bytes),
            Ok(bytes) => {
                let excess = (bytes.len() - limit).div_ceil(32).max(1);
                message.answers.truncate(message.answers.len().saturating_sub(excess));
            }
            Err(_) => return Action::Drop,
        }
    }
}

fn reply(message: &Message) -> Action {
    message.to_vec().map_or(Action::Drop, Action::Reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use osier_model::{NetworkId, PeerId};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    fn zone() -> Zone {
        Zone { domain: Hostname::default_domain(), pool: "10.1.0.0/16".parse().unwrap() }
    }

    fn records() -> Records {
        let record = |index: u16, name: &str| osier_names::Record {
            node: PeerId([2; 6]),
            network: Some(NetworkId::MAIN),
            container: index.to_string(),
            address: [10, 1, index.to_be_bytes()[0], index.to_be_bytes()[1]].into(),
            names: vec![name.parse().unwrap()],
            links: Vec::new(),
        };
        let many = (1000..1200).map(|i| record(i, "many"));
        Records::new(many.chain([record(1, "b.weave.local")]).collect(), Vec::new())
    }

    fn act(bytes: &[u8], transport: Transport) -> Action {
        handle(bytes, transport, [10, 1, 1, 9].into(), &zone(), &records(), &mut SmallRng::seed_from_u64(1))
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn replied(query: &Message, transport: Transport) -> (Message, usize) {
        let Action::Reply(bytes) = act(&query.to_vec().unwrap(), transport) else { panic!("no reply to {query:?}") };
        (Message::from_vec(&bytes).unwrap(), bytes.len())
    }

    #[test]
    fn replies_echo_the_question_and_carry_the_right_bits() {
        let mut query = query("B.weave.LOCAL.", RecordType::A);
        query.set_edns(Edns::new());
        let (reply, _) = replied(&query, Transport::Udp);
        let meta = reply.metadata;
        assert!(meta.id == 77 && meta.authoritative && meta.recursion_available && meta.recursion_desired);
        assert!(!meta.truncation && reply.edns.is_some());
        assert!(reply.queries[0].name.eq_case(&query.queries[0].name));
        assert_eq!(reply.answers.len(), 1);
        assert_eq!((reply.answers[0].ttl, &reply.answers[0].data), (1, &RData::A(A([10, 1, 0, 1].into()))));
        let plain = self::query("b.weave.local.", RecordType::A);
        assert!(replied(&plain, Transport::Udp).0.edns.is_none(), "EDNS only for those who use it");
    }

    #[test]
    fn denials_carry_the_start_of_authority() {
        for (name, kind, code) in [
            ("b.weave.local.", RecordType::AAAA, ResponseCode::NoError),
            ("c.weave.local.", RecordType::A, ResponseCode::NXDomain),
            ("9.9.1.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
        ] {
            let (reply, _) = replied(&query(name, kind), Transport::Udp);
            assert_eq!(reply.metadata.response_code, code, "{name}");
            assert!(reply.answers.is_empty());
            let authority = &reply.authorities[0];
            assert!(
                matches!(authority.data, RData::SOA(_)) && authority.name.zone_of(&reply.queries[0].name),
                "{name}"
            );
        }
        let (reply, _) = replied(&query("1.0.1.10.in-addr.arpa.", RecordType::PTR), Transport::Udp);
        assert_eq!(reply.answers[0].data, RData::PTR(PTR(Name::from_ascii("b.weave.local.").unwrap())));
    }

    #[test]
    fn replies_fit_the_client_and_tcp_takes_all() {
        for (payload, least) in [(None, 28), (Some(800), 44), (Some(65_535), 60)] {
            let mut query = query("many.weave.local.", RecordType::A);
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                query.set_edns(edns);
            }
            let (reply, length) = replied(&query, Transport::Udp);
            assert!(reply.metadata.truncation && length <= usize::from(payload.unwrap_or(512).min(1232)), "{length}");
            assert!(reply.answers.len() >= least, "{payload:?}: {} answers", reply.answers.len());
            assert_eq!(reply.edns.is_some(), payload.is_some());
            let (reply, _) = replied(&query, Transport::Tcp);
            assert!(!reply.metadata.truncation && reply.answers.len() == 200);
        }
    }

    #[test]
    fn what_is_not_a_plain_query_gets_its_code() {
        let good = query("b.weave.local.", RecordType::A);
        let code = |message: &Message| replied(message, Transport::Udp).0.metadata.response_code;
        let mut notify = good.clone();
        notify.metadata.op_code = OpCode::Notify;
        assert_eq!(code(&notify), ResponseCode::NotImp);
        let mut two = good.clone();
        two.add_query(good.queries[0].clone());
        assert_eq!(code(&two), ResponseCode::FormErr);
        let mut none = good.clone();
        none.queries.clear();
        assert_eq!(code(&none), ResponseCode::FormErr);
        let mut edns = Edns::new();
        edns.set_version(1);
        let mut newer = good.clone();
        newer.set_edns(edns);
        assert_eq!(u16::from(code(&newer)), u16::from(ResponseCode::BADVERS));

        let bytes = good.to_vec().unwrap();
        let Action::Reply(reply) = act(&bytes[..bytes.len() - 1], Transport::Udp) else { panic!() };
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::FormErr);
        assert_eq!(act(&bytes[..1], Transport::Udp), Action::Drop);
        let mut response = good;
        response.metadata.message_type = MessageType::Response;
        assert_eq!(act(&response.to_vec().unwrap(), Transport::Udp), Action::Drop);
    }

    #[test]
    fn the_short_way_is_taken_and_says_the_same() {
        for (name, kind, short) in [
            ("b.weave.local.", RecordType::A, true),
            ("B.weave.local.", RecordType::ANY, true),
            ("b.weave.local.", RecordType::AAAA, true),
            ("c.weave.local.", RecordType::A, true),
            ("weave.local.", RecordType::SOA, true),
            ("9.9.1.10.in-addr.arpa.", RecordType::PTR, true),
            ("c.WEAVE.local.", RecordType::A, false),
            ("b.", RecordType::AAAA, false),
            ("many.weave.local.", RecordType::A, false),
            ("1.0.1.10.in-addr.arpa.", RecordType::PTR, false),
        ] {
            let bytes = query(name, kind).to_vec().unwrap();
            let plain = Plain::read(&bytes).unwrap();
            let (asked, kind) = plain.wanted();
            let mut rng = SmallRng::seed_from_u64(1);
            let answer = osier_names::answer(&asked, kind, None, &zone(), &records(), &mut rng);
            assert_eq!(plain.reply(&answer).is_some(), short, "{name}");
            check(&bytes);
        }
    }

    #[test]
    fn other_names_and_classes_are_forwarded() {
        assert_eq!(act(&query("example.com.", RecordType::A).to_vec().unwrap(), Transport::Udp), Action::Forward);
        let mut chaos = query("b.weave.local.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(act(&chaos.to_vec().unwrap(), Transport::Udp), Action::Forward);
    }

    #[test]
    fn the_question_is_found_in_the_bytes() {
        let bytes = query("a.example.", RecordType::A).to_vec().unwrap();
        assert_eq!(question(&bytes), Some(&b"\x01a\x07example\0\0\x01\0\x01"[..]));
        assert_eq!(question(&bytes[..bytes.len() - 1]), None);
        assert_eq!(question(&[0; 12]), None);
        assert_eq!(question(&[[0; 12], [0xc0; 12]].concat()), None, "a first name cannot point back");
    }

    /// Queries with a few bytes changed: they reach deeper than noise does.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let kinds = prop::sample::select(vec![RecordType::A, RecordType::PTR, RecordType::AAAA, RecordType::ANY]);
        let names =
            prop::sample::select(vec!["many.weave.local.", "b.", "1.0.1.10.in-addr.arpa.", "example.com.", "."]);
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (names, kinds, any::<bool>(), changes, any::<prop::sample::Index>()).prop_map(
            |(name, kind, edns, changes, end)| {
                let mut message = query(name, kind);
                if edns {
                    message.set_edns(Edns::new());
                }
                let mut bytes = message.to_vec().unwrap();
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                let keep = bytes.len() - end.index(bytes.len()) / 8;
                bytes.truncate(keep);
                bytes
            },
        )
    }

    fn check(bytes: &[u8]) {
        for transport in [Transport::Udp, Transport::Tcp] {
            let (asker, mut rng) = (Some([10, 1, 1, 9].into()), SmallRng::seed_from_u64(1));
            let whole = read_whole(bytes, transport, asker, &zone(), &records(), &mut rng);
            if let Some(plain) = Plain::read(bytes) {
                let (name, kind) = plain.wanted();
                let answer =
                    osier_names::answer(&name, kind, asker, &zone(), &records(), &mut SmallRng::seed_from_u64(1));
                if let Some(reply) = plain.reply(&answer) {
                    assert_eq!(Action::Reply(reply), whole, "the short way says the same");
                }
            }
            if let Action::Reply(reply) = act(bytes, transport) {
                assert_eq!(reply[..2], bytes[..2], "the id is the query's");
                assert!(reply[2] & 0x80 != 0, "a reply is a response");
                assert!(transport == Transport::Tcp || reply.len() <= usize::from(OWN_PAYLOAD));
            }
        }
        let _ = (failure(bytes), question(bytes));
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            check(&bytes);
        }

        #[test]
        fn damaged_queries_never_panic(bytes in damaged()) {
            check(&bytes);
        }
    }
}
