//! How often what was asked and what became of it.
//!
//! Must not know sockets; only the few kinds and results that are worth telling apart are counted.

use crate::{
    message::{Action, question},
    wire::u16_at,
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

/// Types of question that are told apart; the last stands for all others, and for what is no question.
const KINDS: [(&str, u16); 5] = [("A", 1), ("AAAA", 28), ("PTR", 12), ("ANY", 255), ("other", 0)];
/// What became of a query.
const RESULTS: [&str; 6] = ["answered", "empty", "nxdomain", "error", "forwarded", "dropped"];

/// What a resolver counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    queries: [[AtomicU64; RESULTS.len()]; KINDS.len()],
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_misses: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    pub(crate) overloads: AtomicU64,
}

/// What a resolver has counted since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries by type (`A`, `AAAA`, `PTR`, `ANY`, `other`) and by what was done: `answered` (from the zone, with records),
    /// `empty` (the name exists, but has nothing of that type), `nxdomain`, `error` (malformed or not supported),
    /// `forwarded` (not the zone's to answer) or `dropped`.
    pub queries: Vec<(&'static str, &'static str, u64)>,
    /// Of the forwarded ones, those that were answered from the cache.
    pub cache_hits: u64,
    /// Of the forwarded ones, those for which resolvers had to be asked.
    pub cache_misses: u64,
    /// Of these, those that no resolver answered.
    pub unanswered: u64,
    /// Of these, those that were dropped because too many were waiting.
    pub overloads: u64,
    /// Replies in the cache now; some may be out of date.
    pub cache_entries: u64,
    /// Bytes that they take.
    pub cache_bytes: u64,
    /// The host's resolvers, in the order in which they are asked.
    pub upstream: Vec<UpstreamCounts>,
}

/// How one of the host's resolvers has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamCounts {
    /// Its address.
    pub address: SocketAddr,
    /// How often it was asked.
    pub asked: u64,
    /// Of these, how often it was silent, gone, or had no useful answer.
    pub failed: u64,
}

impl Counters {
    /// Counts a query by what is to be done about it.
    pub(crate) fn note(&self, query: &[u8], action: &Action) {
        let number = question(query).and_then(|q| u16_at(q, q.len() - 4));
        let kind = KINDS.iter().position(|(_, n)| Some(*n) == number && *n != 0).unwrap_or(KINDS.len() - 1);
        let result = match action {
            Action::Drop => "dropped",
            Action::Forward => "forwarded",
            Action::Reply(reply) => match (reply.get(3).map(|flags| flags & 0x0f), u16_at(reply, 6)) {
                // The codes above 15 have their upper bits elsewhere and look like none; they come with no answer.
                (Some(0), Some(1..)) => "answered",
                (Some(0), _) => "empty",
                (Some(3), _) => "nxdomain",
                _ => "error",
            },
        };
        let result = RESULTS.iter().position(|r| *r == result);
        let counter = self.queries.get(kind).zip(result).and_then(|(row, result)| row.get(result));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What has been counted of queries.
    pub(crate) fn queries(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = KINDS.iter().zip(&self.queries);
        let cells = rows.flat_map(|((kind, _), row)| RESULTS.iter().zip(row).map(|(result, n)| (*kind, *result, n)));
        cells.map(|(kind, result, n)| (kind, result, n.load(Ordering::Relaxed))).collect()
    }
}
