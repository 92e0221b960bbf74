//! One rule of the ring per test.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use osier_model::PeerId;
use osier_ring::{Allocation, ChunkRecord, ChunkReply, Claim, Conflict, Owner, Refusal, Ring, RingError};
use std::net::Ipv4Addr;

const A: PeerId = PeerId([2, 0, 0, 0, 0, 1]);
const B: PeerId = PeerId([2, 0, 0, 0, 0, 2]);
const C: PeerId = PeerId([2, 0, 0, 0, 0, 3]);
const ALL: [PeerId; 3] = [A, B, C];

fn owner(name: &str) -> Owner {
    Owner::new(format!("container:{name}"))
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 1, last)
}

fn founded(range: &str) -> Ring {
    Ring::found(range.parse().unwrap(), A, &[])
}

fn joined(range: &str, me: PeerId) -> Ring {
    Ring::join(range.parse().unwrap(), me, &[])
}

fn granted(allocation: Allocation) -> Ipv4Addr {
    match allocation {
        Allocation::Granted(address) => address,
        other => panic!("no address: {other:?}"),
    }
}

#[test]
fn an_owner_keeps_its_address_and_edges_and_reserved_ones_are_never_given() {
    let mut ring = Ring::found("10.1.1.0/29".parse().unwrap(), A, &[address(1)]);
    assert_eq!(ring.allocate(&owner("a")), Allocation::Granted(address(2)));
    assert_eq!(ring.allocate(&owner("a")), Allocation::Granted(address(2)));
    let rest: Vec<_> = ["b", "c", "d", "e"].iter().map(|o| granted(ring.allocate(&owner(o)))).collect();
    assert_eq!(rest, [3, 4, 5, 6].map(address));
    assert_eq!(ring.allocate(&owner("f")), Allocation::Full);
    assert_eq!(ring.stats().free_mine, 0);
    for last in [0, 1, 7] {
        assert_eq!(ring.claim(&owner("f"), address(last)), Claim::Reserved, "{last}");
    }
    assert_eq!(ring.claim(&owner("f"), address(8)), Claim::OutsideRange);
    assert_eq!(ring.claim(&owner("f"), address(2)), Claim::Taken(owner("a")));
    assert_eq!(ring.claim(&owner("a"), address(2)), Claim::Granted);
}

#[test]
fn released_addresses_are_reused_last_and_the_latest_of_them_very_last() {
    let mut ring = founded("10.1.1.0/29");
    for name in ["a", "b", "c"] {
        ring.allocate(&owner(name));
    }
    assert_eq!(ring.release(&owner("b")), [address(2)]);
    assert_eq!(ring.release_address(address(1)), Some(owner("a")));
    assert_eq!(ring.release_address(address(1)), None);
    let order: Vec<_> = (0..5).map(|i| granted(ring.allocate(&owner(&i.to_string())))).collect();
    assert_eq!(order, [4, 5, 6, 2, 1].map(address));
}

#[test]
fn a_reservation_is_handed_to_the_container_it_was_made_for() {
    let mut ring = founded("10.1.1.0/29");
    let reserved = granted(ring.allocate(&Owner::new("create:1")));
    assert!(ring.rename(&Owner::new("create:1"), &owner("a")));
    assert!(!ring.rename(&Owner::new("create:1"), &owner("a")));
    assert_eq!(ring.allocate(&owner("a")), Allocation::Granted(reserved));
    assert_eq!(ring.owner_of(reserved), Some(&owner("a")));
}

#[test]
fn a_joiner_asks_the_largest_owner_and_gets_half() {
    let (mut a, mut b, mut c) = (founded("10.1.1.0/24"), joined("10.1.1.0/24", B), joined("10.1.1.0/24", C));
    assert_eq!(b.allocate(&owner("b")), Allocation::NeedChunk { ask: vec![] }, "nobody is known yet");
    for record in a.my_records() {
        b.merge(&record);
    }
    assert_eq!(b.allocate(&owner("b")), Allocation::NeedChunk { ask: vec![A] });
    a.allocate(&owner("a"));
    let request = b.request_chunk(7);
    let reply = a.give(B, &request, &ALL);
    assert!(b.accept(&reply).gained > 0);
    assert_eq!((a.stats().mine, b.stats().mine), (127, 127), "1 in use and 253 free, 127 of them given");
    assert_eq!(a.allocate(&owner("a2")), Allocation::Granted(address(2)));
    assert_eq!(b.allocate(&owner("b")), Allocation::Granted(address(128)));
    for record in b.my_records().iter().chain(&a.my_records()) {
        c.merge(record);
    }
    assert_eq!(c.allocate(&owner("c")), Allocation::NeedChunk { ask: vec![A, B] }, "both own 127 addresses");
}

#[test]
fn a_repeated_request_gets_the_same_answer_without_what_has_moved_on() {
    let (mut a, mut b) = (founded("10.1.1.0/24"), joined("10.1.1.0/24", B));
    let request = b.request_chunk(7);
    assert_eq!(b.request_chunk(8), request, "not granted yet");
    let first = a.give(B, &request, &ALL);
    assert_eq!(a.give(B, &request, &ALL), first);
    b.accept(&first);
    assert_ne!(b.request_chunk(9), request);
    let moved = b.give(C, &joined("10.1.1.0/24", C).request_chunk(1), &ALL);
    let ChunkReply::Given { records, .. } = &moved else { panic!("{moved:?}") };
    for record in records {
        a.merge(record);
    }
    let ChunkReply::Given { records: left, .. } = a.give(B, &request, &ALL) else { panic!() };
    let count = |records: &[ChunkRecord]| records.iter().map(|r| r.count).sum::<u32>();
    let ChunkReply::Given { records: all, .. } = &first else { panic!() };
    assert_eq!(count(&left), count(all) - count(records));
}

#[test]
fn a_lost_reply_is_settled_by_the_givers_records() {
    let (mut a, mut b) = (founded("10.1.1.0/24"), joined("10.1.1.0/24", B));
    drop(a.give(B, &b.request_chunk(7), &ALL));
    let gained: u32 = a.my_records().iter().map(|record| b.merge(record).gained).sum();
    assert_eq!(gained, 127);
    assert!(matches!(b.allocate(&owner("b")), Allocation::Granted(_)));
}

#[test]
fn only_members_are_given_chunks_and_a_full_node_says_so() {
    let mut a = founded("10.1.1.0/30");
    let mut b = joined("10.1.1.0/30", B);
    let request = b.request_chunk(7);
    assert_eq!(a.give(B, &request, &[A, C]), ChunkReply::Nothing { id: 7, reason: Refusal::NotAMember });
    assert_eq!(a.give(A, &request, &ALL), ChunkReply::Nothing { id: 7, reason: Refusal::NotAMember });
    a.allocate(&owner("1"));
    a.allocate(&owner("2"));
    let reply = a.give(B, &request, &ALL);
    assert_eq!(reply, ChunkReply::Nothing { id: 7, reason: Refusal::NoneFree });
    assert_eq!(b.accept(&reply), osier_ring::MergeOutcome::default());
    a.release(&owner("1"));
    assert!(matches!(a.give(B, &request, &ALL), ChunkReply::Given { .. }), "the last free chunk may move too");
    assert_eq!(a.claim(&owner("1"), address(1)), Claim::Foreign(Some(B)));
}

#[test]
fn two_founders_stop_each_other_and_say_so() {
    let mut a = founded("10.1.1.0/24");
    let mut b = Ring::found("10.1.1.0/24".parse().unwrap(), B, &[]);
    a.allocate(&owner("a"));
    let outcomes: Vec<_> = b.my_records().iter().map(|record| a.merge(record)).collect();
    let conflict = &outcomes[0].conflicts[0];
    assert!(matches!(conflict, Conflict::TwoOwners { mine: A, theirs: B, .. }), "{conflict}");
    assert!(conflict.to_string().contains("10.1.1.0 to 10.1.1.255"), "one message: {conflict}");
    assert_eq!(a.allocate(&owner("a2")), Allocation::NeedChunk { ask: vec![] });
    assert!(matches!(a.give(B, &b.request_chunk(1), &ALL), ChunkReply::Nothing { .. }));
    assert_eq!(a.held().count(), 1);
    let reread: Ring = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
    assert_eq!(reread, a, "the dispute outlives a restart");
}

#[test]
fn a_rolled_back_disk_is_overruled_and_reported_with_what_it_holds() {
    let mut a = founded("10.1.1.0/24");
    let mut old = a.clone();
    old.claim(&owner("late"), address(200));
    let mut b = joined("10.1.1.0/24", B);
    b.accept(&a.give(B, &b.clone().request_chunk(7), &ALL));
    let conflicts: Vec<_> = b.my_records().iter().flat_map(|record| old.merge(record).conflicts).collect();
    assert!(
        matches!(&conflicts[..], [Conflict::Overruled { owner: B, held, .. }] if held == &[(address(200), owner("late"))]),
        "{conflicts:?}"
    );
    assert_eq!(old.claim(&owner("more"), address(201)), Claim::Foreign(Some(B)));
}

#[test]
fn records_of_another_range_are_reported() {
    let mut small = joined("10.1.1.0/29", B);
    let outcomes: Vec<_> = founded("10.1.1.0/24").my_records().iter().map(|r| small.merge(r)).collect();
    assert!(matches!(outcomes[0].conflicts[..], [Conflict::OutsideRange { .. }]));
    assert_eq!(small.stats().unowned, 6);
}

#[test]
fn a_ring_is_written_and_read_back_whole() {
    let mut a = founded("10.1.0.0/16");
    for name in ["a", "b", "c"] {
        a.allocate(&owner(name));
    }
    a.release(&owner("b"));
    a.give(B, &joined("10.1.0.0/16", B).request_chunk(7), &ALL);
    a.request_chunk(9);
    let text = serde_json::to_string(&a).unwrap();
    assert_eq!(serde_json::from_str::<Ring>(&text).unwrap(), a);
    assert!(text.len() < 2000, "runs are written, not chunks: {}", text.len());
}

#[test]
fn a_foreign_file_is_refused_with_the_reason() {
    let range = "10.1.1.0/24".parse().unwrap();
    let ring = founded("10.1.1.0/24");
    assert_eq!(ring.clone().resume(range, A, &[]).unwrap(), ring);
    assert_eq!(ring.clone().resume(range, B, &[]), Err(RingError::OtherNode { theirs: A, ours: B }));
    let other = "10.1.2.0/24".parse().unwrap();
    assert_eq!(ring.clone().resume(other, A, &[]), Err(RingError::OtherRange { theirs: range, ours: other }));
    let text = serde_json::to_string(&ring).unwrap();
    for (from, to) in [
        (r#""format":1"#, r#""format":2"#),
        (r#""count":256"#, r#""count":257"#),
        (r#""count":256"#, r#""count":0"#),
        (r#""first":0"#, r#""first":4294967295"#),
        (r#""held":{}"#, r#""held":{"10.9.9.9":"x"}"#),
        (r#""freed":[]"#, r#""freed":["10.9.9.9"]"#),
        (r#""disputed":[]"#, r#""disputed":[256]"#),
        (r#""format":1"#, r#""format":1,"more":1"#),
    ] {
        assert!(text.contains(from), "{text}");
        assert!(serde_json::from_str::<Ring>(&text.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn the_smallest_ranges_hold_nothing_and_the_largest_is_quick() {
    for range in ["10.1.1.1/32", "10.1.1.0/31"] {
        assert_eq!(founded(range).allocate(&owner("a")), Allocation::Full);
    }
    let mut all = founded("0.0.0.0/0");
    assert_eq!(all.allocate(&owner("a")), Allocation::Granted(Ipv4Addr::new(0, 0, 0, 1)));
    assert_eq!(all.stats().total, (1 << 32) - 2);
}

#[test]
fn founders_share_the_range_without_asking() {
    let together = [A, B, C].into();
    let rings = ALL.map(|me| Ring::found_among("10.1.1.0/29".parse().unwrap(), me, &together, &[address(6)]));
    assert_eq!(rings[0].records(), rings[2].records());
    let free: Vec<u64> = rings.iter().map(|r| r.stats().free_mine).collect();
    assert_eq!(free, [2, 3, 0], "of 0 to 7 the edges and a reserved one are not to be had");
    let alone = Ring::found_among("10.1.1.0/29".parse().unwrap(), A, &[B].into(), &[]);
    assert_eq!((alone.stats().mine, alone.stats().unowned), (0, 0));
}

#[test]
fn one_address_is_asked_of_its_owner_and_given_again_when_the_answer_was_lost() {
    let mut a = founded("10.1.1.0/24");
    let mut b = joined("10.1.1.0/24", B);
    a.claim(&owner("a"), address(8));
    assert!(matches!(a.give(B, &b.request_address(address(8), 1), &ALL), ChunkReply::Nothing { .. }), "in use");
    let reply = a.give(B, &b.request_address(address(9), 2), &ALL);
    assert_eq!(
        a.give(B, &b.request_address(address(9), 3), &ALL),
        match reply.clone() {
            ChunkReply::Given { records, .. } => ChunkReply::Given { id: 3, records },
            nothing => nothing,
        }
    );
    assert_eq!((b.accept(&reply).gained, b.claim(&owner("b"), address(9))), (1, Claim::Granted));
    assert_eq!(a.claim(&owner("a"), address(9)), Claim::Foreign(Some(B)));
    assert!(matches!(a.give(C, &b.request_address(address(9), 4), &ALL), ChunkReply::Nothing { .. }), "given already");
    assert!(matches!(a.give(B, &b.request_address(address(255), 5), &ALL), ChunkReply::Nothing { .. }), "an edge");
}
