//! The server over real sockets on the loopback address, with a resolver that says what each test needs.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA},
    },
};
use osier_dns::{Resolver, Server, Sockets};
use osier_model::{Hostname, NetworkId, PeerId};
use osier_names::{Records, Zone};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// No step of a test takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

fn records(names: &[(&str, [u8; 4])]) -> Arc<Records> {
    let record = |(name, address): &(&str, [u8; 4])| osier_names::Record {
        node: PeerId([2; 6]),
        network: Some(NetworkId::MAIN),
        container: format!("{name}-{address:?}"),
        address: (*address).into(),
        names: vec![name.parse().unwrap()],
        links: Vec::new(),
    };
    Arc::new(Records::new(names.iter().map(record).collect(), Vec::new()))
}

struct Harness {
    address: SocketAddr,
    publish: watch::Sender<Arc<Records>>,
    stop: watch::Sender<bool>,
    server: Server,
    resolver: Resolver,
}

/// Starts a server on a port of its own, the same for datagrams and connections.
fn serve(names: &[(&str, [u8; 4])], upstream: Vec<SocketAddr>) -> Harness {
    let sockets = loop {
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(tcp) = std::net::TcpListener::bind(udp.local_addr().unwrap()) {
            break Sockets { udp, tcp };
        }
    };
    let address = sockets.udp.local_addr().unwrap();
    let zone = Zone { domain: Hostname::default_domain(), pool: "10.1.1.0/24".parse().unwrap() };
    let (publish, receive) = watch::channel(records(names));
    let (stop, stopped) = watch::channel(false);
    let resolver = Resolver::new(zone, receive, upstream);
    let server = Server::start(sockets, resolver.clone(), stopped).unwrap();
    Harness { address, publish, stop, server, resolver }
}

fn query(id: u16, name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn client() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn ask_bytes(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = client().await;
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let (length, from) = timeout(LIMIT, socket.recv_from(&mut buffer)).await.expect("no reply").unwrap();
    assert_eq!(from, server);
    buffer.truncate(length);
    buffer
}

async fn ask(server: SocketAddr, message: &Message) -> Message {
    Message::from_vec(&ask_bytes(server, &message.to_vec().unwrap()).await).unwrap()
}

async fn write_tcp(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().unwrap();
    stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
}

async fn read_tcp(stream: &mut TcpStream) -> Message {
    let length = timeout(LIMIT, stream.read_u16()).await.expect("no reply").unwrap();
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

async fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    write_tcp(&mut stream, message).await;
    read_tcp(&mut stream).await
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let mut out: Vec<Ipv4Addr> =
        message.answers.iter().filter_map(|r| if let RData::A(a) = r.data { Some(a.0) } else { None }).collect();
    out.sort();
    out
}

/// The reply of an honest resolver: one address, from outside the zone.
fn honest(query: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut reply = query.clone();
    reply.metadata.message_type = MessageType::Response;
    let answer = Record::from_rdata(query.queries[0].name.clone(), 60, RData::A(A::new(192, 0, 2, 7)));
    reply.add_answer(answer);
    reply.to_vec().unwrap()
}

/// A resolver over UDP that sends these datagrams for every query.
async fn resolver(replies: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let socket = client().await;
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for reply in replies(&buffer[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn the_zone_is_answered_over_both_transports_from_the_newest_records() {
    let harness = serve(&[("b.weave.local", [10, 1, 1, 1])], vec![]);
    let question = query(1, "B.weave.local.", RecordType::A);
    for reply in [ask(harness.address, &question).await, ask_tcp(harness.address, &question).await] {
        assert_eq!((reply.metadata.id, addresses(&reply)), (1, vec![[10, 1, 1, 1].into()]));
    }
    harness.publish.send_replace(records(&[("b", [10, 1, 1, 2]), ("b", [10, 1, 1, 3])]));
    assert_eq!(addresses(&ask(harness.address, &question).await), [[10, 1, 1, 2], [10, 1, 1, 3]].map(Ipv4Addr::from));
    harness.publish.send_replace(records(&[]));
    assert_eq!(ask(harness.address, &question).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let many: Vec<(&str, [u8; 4])> = (1..=200).map(|n| ("many", [10, 1, 1, n])).collect();
    let harness = serve(&many, vec![]);
    let question = query(2, "many.weave.local.", RecordType::A);
    let short = ask(harness.address, &question).await;
    assert!(short.metadata.truncation && !short.answers.is_empty());
    let whole = ask_tcp(harness.address, &question).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(addresses(&whole).len(), 200);
}

#[tokio::test]
async fn other_names_are_forwarded_byte_for_byte_both_ways() {
    let (seen, mut queries) = tokio::sync::mpsc::unbounded_channel();
    let (upstream, _resolver) = resolver(move |query| {
        seen.send(query.to_vec()).unwrap();
        vec![honest(query)]
    })
    .await;
    let harness = serve(&[], vec![upstream]);
    let mut question = query(3, "Www.Example.", RecordType::Unknown(65_400));
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(4000);
    question.set_edns(edns);
    let bytes = question.to_vec().unwrap();
    let reply = ask_bytes(harness.address, &bytes).await;
    assert_eq!(queries.recv().await.unwrap(), bytes);
    assert_eq!(reply, honest(&bytes));
}

#[tokio::test]
async fn replies_with_another_id_or_question_do_not_count() {
    let (upstream, _resolver) = resolver(|query| {
        let right = honest(query);
        let mut other_id = right.clone();
        other_id[0] ^= 1;
        let mut other_name = right.clone();
        other_name[13] ^= 1;
        vec![other_id, other_name, query.to_vec(), vec![], right]
    })
    .await;
    let harness = serve(&[], vec![upstream]);
    let bytes = query(4, "www.example.", RecordType::A).to_vec().unwrap();
    assert_eq!(ask_bytes(harness.address, &bytes).await, honest(&bytes));
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_is_gone_refuses_or_is_silent() {
    let gone = client().await.local_addr().unwrap();
    let refusing = resolver(|query| {
        let mut reply = Message::from_vec(query).unwrap();
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.response_code = ResponseCode::Refused;
        vec![reply.to_vec().unwrap()]
    })
    .await;
    let silent = resolver(|_| vec![]).await;
    let good = resolver(|query| vec![honest(query)]).await;
    let question = query(5, "www.example.", RecordType::A);
    let harness = serve(&[], vec![gone, refusing.0, silent.0, good.0]);
    assert_eq!(addresses(&ask(harness.address, &question).await), [Ipv4Addr::new(192, 0, 2, 7)]);
    let harness = serve(&[], vec![refusing.0, gone]);
    assert_eq!(ask(harness.address, &question).await.metadata.response_code, ResponseCode::Refused);
    for upstream in [vec![], vec![gone]] {
        let harness = serve(&[], upstream);
        let reply = ask(harness.address, &question).await;
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (5, ResponseCode::ServFail));
        assert_eq!(ask_tcp(harness.address, &question).await.metadata.response_code, ResponseCode::ServFail);
    }
}

#[tokio::test]
async fn forwarding_over_tcp_brings_long_replies() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let question = read_tcp(&mut stream).await;
        let mut reply = question.clone();
        reply.metadata.message_type = MessageType::Response;
        let name = question.queries[0].name.clone();
        reply.add_answers((0..1000).map(|n: u32| Record::from_rdata(name.clone(), 60, RData::A(A(n.into())))));
        write_tcp(&mut stream, &reply).await;
    });
    let harness = serve(&[], vec![upstream]);
    let reply = ask_tcp(harness.address, &query(6, "long.example.", RecordType::A)).await;
    assert_eq!(reply.answers.len(), 1000);
}

/// A resolver that gives every query the reply made for it, and how often it was asked.
async fn counting(reply: impl Fn(&Message) -> Message + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (address, _) = resolver(move |query| {
        count.fetch_add(1, Ordering::SeqCst);
        let query = Message::from_vec(query).unwrap();
        let mut made = reply(&query);
        made.metadata.message_type = MessageType::Response;
        vec![made.to_vec().unwrap()]
    })
    .await;
    (address, asked)
}

#[tokio::test]
async fn a_reply_is_asked_for_once_and_its_time_to_live_is_counted_down() {
    let (upstream, asked) = counting(|query| Message::from_vec(&honest(&query.to_vec().unwrap())).unwrap()).await;
    let harness = serve(&[], vec![upstream]);
    let first = ask(harness.address, &query(1, "www.example.", RecordType::A)).await;
    assert_eq!(first.answers[0].ttl, 60);
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let again = ask(harness.address, &query(2, "WWW.Example.", RecordType::A)).await;
        assert_eq!((again.metadata.id, addresses(&again)), (2, addresses(&first)));
        assert!(
            again.queries[0].name.eq_case(&Name::from_ascii("WWW.Example.").unwrap()),
            "the question as it was spelt"
        );
        if again.answers[0].ttl < 60 {
            break;
        }
        assert!(std::time::Instant::now() < end, "the time to live is not counted down");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(addresses(&ask_tcp(harness.address, &query(3, "www.example.", RecordType::A)).await), addresses(&first));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    ask(harness.address, &query(4, "www.example.", RecordType::AAAA)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "another type is another question");
    let counts = harness.resolver.counts();
    assert_eq!((counts.cache_misses, counts.upstream[0].asked, counts.upstream[0].failed), (2, 2, 0));
    assert!(counts.cache_hits >= 2 && counts.cache_entries == 1, "{counts:?}: an answer of another type says no time");
}

#[tokio::test]
async fn denials_are_kept_and_failures_and_truncated_replies_are_not() {
    let (upstream, asked) = counting(|query| {
        let mut reply = query.clone();
        match query.queries[0].name.to_ascii().as_str() {
            "none.example." => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                let names = ["ns.example.", "hostmaster.example."].map(|n| Name::from_ascii(n).unwrap());
                let [server, mailbox] = names;
                let soa = RData::SOA(SOA::new(server, mailbox, 1, 2, 3, 4, 30));
                reply.add_authority(Record::from_rdata(Name::from_ascii("example.").unwrap(), 600, soa));
            }
            "fails.example." => reply.metadata.response_code = ResponseCode::ServFail,
            _ => reply.metadata.truncation = true,
        }
        reply
    })
    .await;
    let harness = serve(&[], vec![upstream]);
    for (name, code, times) in [
        ("none.example.", ResponseCode::NXDomain, 1),
        ("fails.example.", ResponseCode::ServFail, 3),
        ("long.example.", ResponseCode::NoError, 3),
    ] {
        let before = asked.load(Ordering::SeqCst);
        for _ in 0..3 {
            let reply = ask(harness.address, &query(1, name, RecordType::A)).await;
            assert_eq!(reply.metadata.response_code, code, "{name}");
        }
        assert_eq!(asked.load(Ordering::SeqCst) - before, times, "{name}");
    }
    let reply = ask(harness.address, &query(1, "none.example.", RecordType::A)).await;
    assert!(reply.authorities[0].ttl <= 30, "nobody may keep it for longer than it holds");
}

#[tokio::test]
async fn a_silent_resolver_is_waited_for_once() {
    let silent = resolver(|_| vec![]).await;
    let good = resolver(|query| vec![honest(query)]).await;
    let harness = serve(&[], vec![silent.0, good.0]);
    ask(harness.address, &query(1, "a.example.", RecordType::A)).await;
    let started = std::time::Instant::now();
    for n in 0..20 {
        ask(harness.address, &query(n, &format!("n{n}.example."), RecordType::A)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(2), "it is waited for with every query");
    let [first, second] = harness.resolver.counts().upstream[..] else { panic!() };
    assert_eq!((first.asked, first.failed, second.asked, second.failed), (1, 1, 21, 0));
}

#[tokio::test]
async fn names_are_looked_up_as_containers_are_answered() {
    let gone = client().await.local_addr().unwrap();
    // It takes datagrams only.
    let (upstream, _) = resolver(|query| vec![honest(query)]).await;
    let many: Vec<(&str, [u8; 4])> =
        (1..=200).map(|n| ("many", [10, 1, 1, n])).chain([("b", [10, 1, 1, 201])]).collect();
    let harness = serve(&many, vec![upstream]);
    let found = async |name: &str| {
        let found = harness.resolver.lookup(name, None).await.unwrap();
        (found.code, found.addresses.len(), found.names)
    };
    assert_eq!(found("B.weave.local").await, ("NOERROR".into(), 1, vec![]));
    assert_eq!(found("b").await.1, 1);
    assert_eq!(found("many").await.1, 200, "all of them, however many");
    assert_eq!(found("none.weave.local.").await, ("NXDOMAIN".into(), 0, vec![]));
    assert_eq!(found("www.example").await, ("NOERROR".into(), 1, vec![]));
    assert_eq!(found("10.1.1.201").await, ("NOERROR".into(), 0, vec!["b.weave.local".into()]));
    assert!(harness.resolver.lookup(&"x".repeat(70), None).await.is_err());
    let reply = ask_tcp(harness.address, &query(1, "tcp.example.", RecordType::A)).await;
    assert_eq!(addresses(&reply).len(), 1, "over a connection, too, where the resolver takes none");
    let harness = serve(&[], vec![gone]);
    assert_eq!(harness.resolver.lookup("www.example", None).await.unwrap().code, "SERVFAIL");
}

#[tokio::test]
async fn queries_are_counted_by_what_became_of_them() {
    let harness = serve(&[("b", [10, 1, 1, 1])], vec![]);
    for (name, kind) in [
        ("b.weave.local.", RecordType::A),
        ("b.weave.local.", RecordType::AAAA),
        ("c.weave.local.", RecordType::TXT),
        ("1.1.1.10.in-addr.arpa.", RecordType::PTR),
        ("www.example.", RecordType::A),
    ] {
        ask(harness.address, &query(1, name, kind)).await;
    }
    ask_bytes(harness.address, &[0; 12]).await;
    let counts = harness.resolver.counts();
    let mut counted: Vec<_> = counts.queries.iter().filter(|(_, _, n)| *n > 0).map(|(k, r, n)| (*k, *r, *n)).collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            ("A", "answered", 1),
            ("A", "forwarded", 1),
            ("AAAA", "empty", 1),
            ("PTR", "answered", 1),
            ("other", "error", 1),
            ("other", "nxdomain", 1),
        ]
    );
    assert_eq!((counts.cache_misses, counts.unanswered), (1, 1));
}

#[tokio::test]
async fn waiting_clients_and_stalled_connections_hold_up_nobody() {
    let (upstream, _resolver) = resolver(|query| {
        let asked = Message::from_vec(query).unwrap().queries[0].name.to_ascii();
        if asked.starts_with("slow") { vec![] } else { vec![honest(query)] }
    })
    .await;
    let harness = serve(&[("b", [10, 1, 1, 1])], vec![upstream]);
    let flood = client().await;
    for id in 0..2000 {
        let bytes = query(id, "slow.example.", RecordType::A).to_vec().unwrap();
        flood.send_to(&bytes, harness.address).await.unwrap();
        // Small enough steps for the server's receive buffer, which the flood shares with the others.
        if id % 50 == 0 {
            ask(harness.address, &query(7, "b.weave.local.", RecordType::A)).await;
        }
    }
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(harness.address).await.unwrap();
        stream.write_all(&[0, 40, 1]).await.unwrap();
        stalled.push(stream);
    }
    let started = std::time::Instant::now();
    let zone = query(8, "b.weave.local.", RecordType::A);
    assert_eq!(addresses(&ask(harness.address, &zone).await), [Ipv4Addr::new(10, 1, 1, 1)]);
    assert_eq!(addresses(&ask_tcp(harness.address, &zone).await), [Ipv4Addr::new(10, 1, 1, 1)]);
    // Another client (another address) still has its share of the waiting room.
    let other = UdpSocket::bind((IpAddr::from([127, 0, 0, 2]), 0)).await.unwrap();
    let forwarded = query(9, "quick.example.", RecordType::A).to_vec().unwrap();
    other.send_to(&forwarded, harness.address).await.unwrap();
    let mut buffer = [0; 512];
    timeout(LIMIT, other.recv_from(&mut buffer)).await.expect("no reply to the other client").unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waited for the silent resolver");
}

#[tokio::test]
async fn one_connection_carries_many_queries() {
    let harness = serve(&[("b", [10, 1, 1, 1])], vec![]);
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    for id in 0..20 {
        write_tcp(&mut stream, &query(id, "b.weave.local.", RecordType::A)).await;
    }
    for id in 0..20 {
        assert_eq!(read_tcp(&mut stream).await.metadata.id, id);
    }
}

#[tokio::test]
async fn a_stopped_server_gives_its_port_back() {
    async fn free(address: SocketAddr) {
        let mut stream = TcpStream::connect(address).await;
        while stream.is_ok() {
            tokio::task::yield_now().await;
            stream = TcpStream::connect(address).await;
        }
    }
    let Harness { address, stop, server, publish, .. } = serve(&[], vec![]);
    stop.send_replace(true);
    timeout(LIMIT, free(address)).await.expect("the signal stops it");
    drop((server, publish));
    let Harness { address, stop, server, .. } = serve(&[], vec![]);
    drop(server);
    timeout(LIMIT, free(address)).await.expect("dropping it stops it");
    drop(stop);
}
