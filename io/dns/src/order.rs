//! In which order to ask resolvers: as they were given, but those last that were silent a moment ago.
//!
//! Must not know sockets or clocks: the time is an argument. Without this every query would wait for a dead resolver anew.

use std::time::{Duration, Instant};

/// How long a resolver that was silent comes after the others.
pub(crate) const BEHIND: Duration = Duration::from_secs(10);

/// When each resolver was last silent, if it has not answered since.
#[derive(Debug, Clone)]
pub(crate) struct Order(Vec<Option<Instant>>);

impl Order {
    /// For so many resolvers.
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// Every resolver once.
    pub(crate) fn now(&self, now: Instant) -> Vec<usize> {
        let silent = |at: &Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < BEHIND);
        let mut all: Vec<usize> = (0..self.0.len()).collect();
        all.sort_by_key(|n| self.0.get(*n).is_some_and(silent));
        all
    }

    /// Notes that one answered, or was silent.
    pub(crate) fn note(&mut self, resolver: usize, answered: bool, now: Instant) {
        if let Some(at) = self.0.get_mut(resolver) {
            *at = (!answered).then_some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silent_come_last_until_they_answer_or_some_time_has_passed() {
        let (mut order, start) = (Order::new(3), Instant::now());
        assert_eq!(order.now(start), [0, 1, 2]);
        order.note(0, false, start);
        assert_eq!(order.now(start), [1, 2, 0]);
        assert_eq!(order.now(start + BEHIND), [0, 1, 2]);
        order.note(1, false, start);
        assert_eq!(order.now(start), [2, 0, 1]);
        order.note(2, false, start);
        assert_eq!(order.now(start), [0, 1, 2], "where all are silent their own order counts");
        order.note(0, true, start);
        order.note(9, true, start);
        assert_eq!(order.now(start), [0, 1, 2]);
        order.note(2, true, start);
        assert_eq!(order.now(start), [0, 2, 1]);
        assert_eq!(Order::new(0).now(start), [0; 0]);
    }
}
