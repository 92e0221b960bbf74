//! Which replies are kept, for how long, and that what is sent again is what came.

use super::*;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, NS, SOA, TXT},
    },
};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn query(id: u16, text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(name(text), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn reply_to(query: &Message) -> Message {
    let mut reply = query.clone();
    reply.metadata.message_type = MessageType::Response;
    reply
}

fn address(owner: &str, ttl: u32) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, 7)))
}

fn authority(ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.example."), name("hostmaster.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(soa))
}

fn read(message: &Message) -> Option<Query> {
    Query::read(&message.to_vec().unwrap())
}

/// For how many seconds this reply to this query holds.
fn lifetime(query: &Message, reply: &Message) -> Option<u32> {
    holds(&read(query)?, &reply.to_vec().unwrap()).map(|(lifetime, _)| lifetime)
}

#[test]
fn replies_hold_for_their_shortest_time_and_denials_as_their_authority_says() {
    let asked = query(1, "www.example.", RecordType::A);
    let chain = |ttl| Record::from_rdata(name("www.example."), ttl, RData::CNAME(CNAME(name("w.example."))));
    let server = Record::from_rdata(name("example."), 7, RData::NS(NS(name("ns.example."))));
    for (answers, authorities, code, expected) in [
        (vec![address("www.example.", 60)], vec![], ResponseCode::NoError, Some(60)),
        (vec![chain(9), address("w.example.", 60)], vec![], ResponseCode::NoError, Some(9)),
        (vec![address("www.example.", 60)], vec![server.clone()], ResponseCode::NoError, Some(7)),
        (vec![address("www.example.", 1 << 20)], vec![], ResponseCode::NoError, Some(LONGEST)),
        (vec![address("www.example.", 0)], vec![], ResponseCode::NoError, None),
        (vec![address("www.example.", 1 << 31)], vec![], ResponseCode::NoError, None),
        (vec![], vec![authority(50, 20)], ResponseCode::NXDomain, Some(20)),
        (vec![], vec![authority(10, 20)], ResponseCode::NoError, Some(10)),
        (vec![], vec![authority(5000, 5000)], ResponseCode::NXDomain, Some(LONGEST_DENIAL)),
        (vec![], vec![authority(50, 0)], ResponseCode::NXDomain, None),
        (vec![chain(9)], vec![authority(50, 20)], ResponseCode::NXDomain, Some(9)),
        (vec![chain(99)], vec![authority(50, 20)], ResponseCode::NoError, Some(20)),
        (vec![chain(9)], vec![], ResponseCode::NoError, None),
        (vec![], vec![], ResponseCode::NXDomain, None),
        (vec![], vec![server], ResponseCode::NoError, None),
        (vec![address("www.example.", 60)], vec![], ResponseCode::ServFail, None),
        (vec![address("www.example.", 60)], vec![], ResponseCode::Refused, None),
    ] {
        let mut reply = reply_to(&asked);
        reply.metadata.response_code = code;
        reply.add_answers(answers.clone());
        for authority in &authorities {
            reply.add_authority(authority.clone());
        }
        assert_eq!(lifetime(&asked, &reply), expected, "{answers:?} {authorities:?} {code}");
        reply.metadata.truncation = true;
        assert_eq!(lifetime(&asked, &reply), None, "truncated");
    }
}

#[test]
fn only_plain_queries_are_answered_from_what_is_kept() {
    let plain = query(1, "www.example.", RecordType::A);
    assert_eq!(read(&plain).unwrap().payload, 512);
    assert_eq!(read(&with_edns(plain.clone(), 1400)).unwrap().payload, 1400);
    assert_eq!(read(&with_edns(plain.clone(), 20)).unwrap().payload, 512);
    let mut edns = Edns::new();
    edns.options_mut().insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(10, vec![1; 8]));
    let mut cookie = plain.clone();
    cookie.set_edns(edns);
    let mut response = plain.clone();
    response.metadata.message_type = MessageType::Response;
    let mut extra = plain.clone();
    extra.add_additional(address("x.", 1));
    for other in [cookie, response, extra, query(1, "example.", RecordType::AXFR)] {
        assert_eq!(read(&other), None, "{other:?}");
    }
    let key = |m: &Message| read(m).unwrap().key;
    assert_eq!(key(&plain), key(&query(9, "WWW.Example.", RecordType::A)));
    let mut checking = plain.clone();
    checking.metadata.checking_disabled = true;
    let https = query(1, "www.example.", RecordType::HTTPS);
    let odd = query(1, "www.example.", RecordType::Unknown(97));
    for other in [&checking, &https, &with_edns(plain.clone(), 1400), &query(1, "ww.example.", RecordType::A)] {
        assert_ne!(key(&plain), key(other));
    }
    assert_ne!(key(&https), key(&odd), "only letters of names are folded, and the type 65 is no letter");
    let mut bytes = plain.to_vec().unwrap();
    bytes.push(0);
    assert_eq!(Query::read(&bytes), None, "bytes behind the message");
}

#[test]
fn long_replies_are_for_those_who_can_take_them() {
    let asked = query(1, "many.example.", RecordType::A);
    let mut reply = reply_to(&asked);
    reply.add_answers((0..60).map(|_| address("many.example.", 60)));
    let (bytes, long) = (asked.to_vec().unwrap(), reply.to_vec().unwrap());
    let (mut cache, now) = (Cache::new(10, 1 << 20), Instant::now());
    cache.put(read(&asked).unwrap(), &long, now);
    let get = |transport| cache.get(&read(&asked).unwrap(), &bytes, transport, now);
    assert_eq!((get(Transport::Tcp), get(Transport::Udp)), (Some(long), None));
}

#[test]
fn what_ends_first_makes_room() {
    let (mut cache, now) = (Cache::new(2, 1 << 20), Instant::now());
    let mut put = |text: &str, ttl| {
        let asked = query(1, text, RecordType::A);
        let mut reply = reply_to(&asked);
        reply.add_answer(address(text, ttl));
        cache.put(read(&asked).unwrap(), &reply.to_vec().unwrap(), now);
        let kept = |text: &str| {
            let asked = query(1, text, RecordType::A);
            cache.get(&read(&asked).unwrap(), &asked.to_vec().unwrap(), Transport::Udp, now).is_some()
        };
        [kept("a."), kept("b."), kept("c.")]
    };
    assert_eq!(put("a.", 60), [true, false, false]);
    assert_eq!(put("b.", 30), [true, true, false]);
    assert_eq!(put("b.", 90), [true, true, false]);
    assert_eq!(put("c.", 10), [false, true, true]);
}

fn any_reply() -> impl Strategy<Value = Message> {
    let kind = prop::sample::select(vec![RecordType::A, RecordType::TXT, RecordType::CNAME]);
    let owner = || prop::sample::select(vec!["www.example.", "W.example.", "example.", "a.b.c.example.", "."]);
    let data = prop_oneof![
        any::<u32>().prop_map(|a| RData::A(A(a.into()))),
        owner().prop_map(|n| RData::CNAME(CNAME(name(n)))),
        "[a-z]{0,80}".prop_map(|t| RData::TXT(TXT::new(vec![t]))),
        any::<u32>().prop_map(|m| authority(0, m).data),
    ];
    let ttl = prop_oneof![0..5_u32, 50..5000_u32, any::<u32>()];
    let record = (owner(), ttl, data).prop_map(|(owner, ttl, data)| Record::from_rdata(name(owner), ttl, data));
    let records = || prop::collection::vec(record.clone(), 0..4);
    let code = prop::sample::select(vec![ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail]);
    (owner(), kind, records(), records(), records(), any::<bool>(), code).prop_map(
        |(owner, kind, answers, authorities, additionals, edns, code)| {
            let mut reply = reply_to(&query(5, owner, kind));
            reply.metadata.response_code = code;
            reply.add_answers(answers);
            for record in authorities {
                reply.add_authority(record);
            }
            for record in additionals {
                reply.add_additional(record);
            }
            if edns { with_edns(reply, 1232) } else { reply }
        },
    )
}

proptest! {
    #[test]
    fn records_are_where_the_library_reads_them(reply in any_reply()) {
        let bytes = reply.to_vec().unwrap();
        let reply = Message::from_vec(&bytes).unwrap();
        let places = records(&bytes).unwrap();
        let found: Vec<u32> = places.iter().filter(|p| p.kind != OPT).map(|p| p.ttl).collect();
        let all = reply.answers.iter().chain(&reply.authorities).chain(&reply.additionals);
        prop_assert_eq!(found, all.map(|r| r.ttl).collect::<Vec<u32>>());
        prop_assert_eq!(places.iter().filter(|p| p.kind == OPT).count(), usize::from(reply.edns.is_some()));
    }

    #[test]
    fn what_is_sent_again_is_what_came_with_its_times_counted_down(reply in any_reply(), age in 0..6000_u64) {
        let bytes = reply.to_vec().unwrap();
        let reply = Message::from_vec(&bytes).unwrap();
        let mut asked = query(77, &reply.queries[0].name.to_ascii().to_ascii_uppercase(), reply.queries[0].query_type);
        if reply.edns.is_some() {
            asked = with_edns(asked, 1232);
        }
        let asked_bytes = asked.to_vec().unwrap();
        let (mut cache, now) = (Cache::new(10, 1 << 20), Instant::now());
        let key = Query::read(&asked_bytes).unwrap();
        cache.put(key.clone(), &bytes, now);
        let lifetime = holds(&key, &bytes).map_or(0, |(lifetime, _)| u64::from(lifetime));
        let got = cache.get(&key, &asked_bytes, Transport::Tcp, now + Duration::from_secs(age));
        prop_assert_eq!(got.is_some(), age < lifetime);
        let all = |m: &Message| [m.answers.clone(), m.authorities.clone(), m.additionals.clone()].concat();
        if let Some(got) = got {
            prop_assert_eq!(got.len(), bytes.len());
            let got = Message::from_vec(&got).unwrap();
            prop_assert_eq!(got.metadata.id, 77);
            prop_assert!(got.queries[0].name.eq_case(&asked.queries[0].name));
            for (then, now) in all(&reply).iter().zip(all(&got)) {
                prop_assert_eq!(&then.data, &now.data);
                prop_assert!(now.ttl >= 1 && u64::from(now.ttl) + age <= u64::from(then.ttl));
            }
        }
    }

    #[test]
    fn there_are_never_more_entries_or_bytes_than_allowed(
        puts in prop::collection::vec((0..40_u8, 1..300_u32, 0..400_u64, 1..20_usize), 0..40),
        most_entries in 0..20_usize,
        most_bytes in 0..8000_usize,
    ) {
        let (mut cache, start) = (Cache::new(most_entries, most_bytes), Instant::now());
        for (n, ttl, at, records) in puts {
            let owner = format!("n{n}.example.");
            let asked = query(1, &owner, RecordType::A);
            let mut reply = reply_to(&asked);
            reply.add_answers((0..records).map(|_| address(&owner, ttl)));
            cache.put(read(&asked).unwrap(), &reply.to_vec().unwrap(), start + Duration::from_secs(at));
            let (entries, bytes) = cache.size();
            prop_assert!(entries <= most_entries && bytes <= most_bytes && cache.ends.len() == entries);
            prop_assert_eq!(cache.kept.iter().map(|(key, kept)| size(key, &kept.reply)).sum::<usize>(), bytes);
        }
    }

    #[test]
    fn noise_never_panics(asked in prop::collection::vec(any::<u8>(), 0..80), noise in prop::collection::vec(any::<u8>(), 0..200), cut: prop::sample::Index, reply in any_reply()) {
        let (mut cache, now) = (Cache::new(10, 1 << 20), Instant::now());
        let mut damaged = reply.to_vec().unwrap();
        let at = cut.index(damaged.len());
        if let Some(byte) = noise.first() {
            damaged[at] = *byte;
        }
        let sound = query(1, "www.example.", RecordType::A).to_vec().unwrap();
        for asked in [&asked, &sound] {
            for reply in [&noise, &damaged] {
                let _ = records(reply);
                if let Some(query) = Query::read(asked) {
                    cache.put(query.clone(), reply, now);
                    cache.get(&query, asked, Transport::Udp, now);
                }
            }
        }
    }
}
