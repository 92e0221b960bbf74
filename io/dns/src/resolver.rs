//! What is answered to a query, whoever carries it: from the zone, from the cache, or by the host's resolvers.
//!
//! Must not know the listening sockets. Nothing here waits but [`Resolver::finish`] and [`Resolver::lookup`].

use crate::{
    cache::{self, Cache},
    counts::{Counters, Counts, UpstreamCounts},
    forward::Upstream,
    message::{Action, Transport, failure, handle},
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use osier_names::{Records, Zone};
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The most replies that are kept, and the bytes they may take in all.
const CACHE: (usize, usize) = (8192, 8 << 20);

/// Answers queries. Clones are the same.
#[derive(Debug, Clone)]
pub struct Resolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    zone: Zone,
    records: watch::Receiver<Arc<Records>>,
    upstream: Upstream,
    cache: Mutex<Cache>,
    counters: Counters,
}

/// What to do about one query.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing.
    Drop,
    /// Send these bytes back.
    Reply(Vec<u8>),
    /// Wait for [`Resolver::finish`].
    Ask(Pending),
}

/// A query that resolvers must be asked about, and how to keep what they say.
#[derive(Debug)]
pub(crate) struct Pending(Option<cache::Query>);

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL` and so on.
    pub code: String,
    /// The addresses, in the order in which they were answered.
    pub addresses: Vec<Ipv4Addr>,
    /// The names, where an address was asked about.
    pub names: Vec<String>,
}

/// A name cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It is no name.
    #[error("'{0}' cannot be a name in DNS")]
    Name(String),
    /// The answer cannot be read.
    #[error("look up '{0}': the answer cannot be read")]
    Answer(String),
}

impl Resolver {
    /// Answers the zone from the newest records, and asks `upstream` about everything else, in this order.
    pub fn new(zone: Zone, records: watch::Receiver<Arc<Records>>, upstream: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Inner {
            zone,
            records,
            upstream: Upstream::new(upstream),
            cache: Mutex::new(Cache::new(CACHE.0, CACHE.1)),
            counters: Counters::default(),
        }))
    }

    /// What to do about one query from `asker`, at once.
    pub(crate) fn begin(&self, query: &[u8], transport: Transport, asker: IpAddr, rng: &mut SmallRng) -> Step {
        let this = &*self.0;
        let records = this.records.borrow().clone();
        let action = handle(query, transport, asker, &this.zone, &records, rng);
        this.counters.note(query, &action);
        match action {
            Action::Drop => Step::Drop,
            Action::Reply(reply) => Step::Reply(reply),
            Action::Forward => {
                let key = cache::Query::read(query);
                let kept = key.as_ref().and_then(|key| self.cache().get(key, query, transport, Instant::now()));
                let counter = if kept.is_some() { &this.counters.cache_hits } else { &this.counters.cache_misses };
                counter.fetch_add(1, Ordering::Relaxed);
                kept.map_or(Step::Ask(Pending(key)), Step::Reply)
            }
        }
    }

    /// The reply to a query that [`Self::begin`] left open; `SERVFAIL` where no resolver answers.
    pub(crate) async fn finish(&self, query: &[u8], transport: Transport, pending: Pending) -> Option<Vec<u8>> {
        let Some(reply) = self.0.upstream.ask(query, transport).await else {
            self.0.counters.unanswered.fetch_add(1, Ordering::Relaxed);
            return failure(query);
        };
        if let Some(key) = pending.0 {
            self.cache().put(key, &reply, Instant::now());
        }
        Some(reply)
    }

    /// Notes that a query was dropped because too many wait for resolvers.
    pub(crate) fn note_overload(&self) {
        self.0.counters.overloads.fetch_add(1, Ordering::Relaxed);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a name or an address up as a container at `asker` would: what that container alone calls others counts, too.
    /// No search domain is tried, but a name of one label is looked up in the domain first.
    pub async fn lookup(&self, name: &str, asker: Option<Ipv4Addr>) -> Result<Found, LookupError> {
        let bad = || LookupError::Name(name.to_owned());
        let (owner, kind) = match name.parse::<Ipv4Addr>() {
            Ok(address) => (Name::from(IpAddr::V4(address)), RecordType::PTR),
            Err(_) => (Name::from_ascii(name).map_err(|_| bad())?, RecordType::A),
        };
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(owner, kind));
        let query = message.to_vec().map_err(|_| bad())?;
        let unreadable = || LookupError::Answer(name.to_owned());
        let mut reply = None;
        for transport in [Transport::Udp, Transport::Tcp] {
            let bytes = self.answer(&query, transport, asker.unwrap_or(Ipv4Addr::UNSPECIFIED)).await;
            let message = Message::from_vec(&bytes.ok_or_else(unreadable)?).map_err(|_| unreadable())?;
            let whole = !message.metadata.truncation;
            reply = Some(message);
            if whole {
                break;
            }
        }
        let reply = reply.ok_or_else(unreadable)?;
        let mut found = Found { code: code(reply.metadata.response_code), addresses: Vec::new(), names: Vec::new() };
        for record in &reply.answers {
            match &record.data {
                RData::A(address) if kind == RecordType::A => found.addresses.push(address.0),
                RData::PTR(name) if kind == RecordType::PTR => {
                    found.names.push(name.0.to_ascii().trim_end_matches('.').to_owned());
                }
                _ => {}
            }
        }
        Ok(found)
    }

    async fn answer(&self, query: &[u8], transport: Transport, asker: Ipv4Addr) -> Option<Vec<u8>> {
        // A generator of its own, since it must not be held while waiting.
        let step = self.begin(query, transport, asker.into(), &mut SmallRng::from_rng(&mut rand::rng()));
        match step {
            Step::Drop => None,
            Step::Reply(reply) => Some(reply),
            Step::Ask(pending) => self.finish(query, transport, pending).await,
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let this = &*self.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (entries, bytes) = self.cache().size();
        let upstream = this.upstream.resolvers().iter().map(|r| UpstreamCounts {
            address: r.address,
            asked: read(&r.times),
            failed: read(&r.failures),
        });
        Counts {
            queries: this.counters.queries(),
            cache_hits: read(&this.counters.cache_hits),
            cache_misses: read(&this.counters.cache_misses),
            unanswered: read(&this.counters.unanswered),
            overloads: read(&this.counters.overloads),
            cache_entries: entries.try_into().unwrap_or(u64::MAX),
            cache_bytes: bytes.try_into().unwrap_or(u64::MAX),
            upstream: upstream.collect(),
        }
    }
}

/// What the reply of a resolver to one query is sent again as to the same query, so much later; `None` where it is not
/// kept for so long, or does not fit. For whoever wants to try the cache without a resolver.
pub fn replay(query: &[u8], reply: &[u8], transport: Transport, later: Duration) -> Option<Vec<u8>> {
    let (mut cache, now) = (Cache::new(1, 1 << 20), Instant::now());
    let key = cache::Query::read(query)?;
    cache.put(key.clone(), reply, now);
    cache.get(&key, query, transport, now.checked_add(later)?)
}

fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
