//! Virtual time of a large cluster: what happens next, so that nobody has to be asked who has nothing to do. Must not know
//! what it means.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

/// Something that happens.
pub(crate) enum What {
    Start(usize),
    /// A node is due by its own timers.
    Wake(usize),
    Arrive {
        from: usize,
        to: usize,
        payload: Vec<u8>,
    },
    Compare(usize),
}

struct Due {
    at: Duration,
    sequence: u64,
    what: What,
}

/// See the module.
pub(crate) struct Clock {
    now: Duration,
    sequence: u64,
    due: BinaryHeap<Reverse<Due>>,
    /// When each node is woken next.
    wakes: Vec<Option<Duration>>,
}

impl Clock {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { now: Duration::ZERO, sequence: 0, due: BinaryHeap::new(), wakes: vec![None; nodes] }
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn push(&mut self, at: Duration, what: What) {
        self.sequence += 1;
        self.due.push(Reverse(Due { at, sequence: self.sequence, what }));
    }

    /// A node is to be woken at this time, and not as was said before.
    pub(crate) fn wake(&mut self, node: usize, at: Option<Duration>) {
        if self.wakes[node] != at {
            self.wakes[node] = at;
            if let Some(at) = at {
                self.push(at, What::Wake(node));
            }
        }
    }

    /// The next thing up to `end`, at its time; without one, time goes on to the end.
    pub(crate) fn pop(&mut self, end: Duration) -> Option<What> {
        loop {
            let next = self.due.peek().is_some_and(|Reverse(due)| due.at <= end);
            let Some(Reverse(Due { at, what, .. })) = next.then(|| self.due.pop()).flatten() else {
                self.now = end;
                return None;
            };
            if let What::Wake(node) = what {
                // It was put off since.
                if self.wakes[node] != Some(at) {
                    continue;
                }
                self.wakes[node] = None;
            }
            self.now = self.now.max(at);
            return Some(what);
        }
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Due {}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
