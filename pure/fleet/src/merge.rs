//! Lines of many sources as one, in the order of their times.
//!
//! Must not know clocks: the caller says when a line came. A line waits until every other source has gone further or
//! has ended. Where sources are followed, one that is quiet must not hold up the others for ever: then a line waits for
//! [`Merger::following`]'s grace at most. Within one source lines keep their order, whatever their times say.

use std::{collections::VecDeque, time::Duration};

/// How much of a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// Whether to go on with what is said from now on.
    pub follow: bool,
    /// Nothing before this moment, in seconds since 1970.
    pub since: Option<i64>,
    /// So many of the last lines of each source; all where it is not given.
    pub lines: Option<u32>,
}

/// Merges lines of type `T`, whose times are in any unit.
#[derive(Debug)]
pub struct Merger<T> {
    sources: Vec<Source<T>>,
    grace: Option<Duration>,
}

#[derive(Debug)]
struct Source<T> {
    lines: VecDeque<Line<T>>,
    ended: bool,
    /// The latest time so far; a line is never before the ones that it follows.
    latest: i128,
}

#[derive(Debug)]
struct Line<T> {
    time: i128,
    came: Duration,
    line: T,
}

impl<T> Source<T> {
    fn new() -> Self {
        Self { lines: VecDeque::new(), ended: false, latest: i128::MIN }
    }
}

impl<T> Merger<T> {
    /// So many sources that all come to an end: their lines are merged exactly.
    pub fn new(sources: usize) -> Self {
        Self { sources: (0..sources).map(|_| Source::new()).collect(), grace: None }
    }

    /// So many sources that go on: a line waits for this long at most.
    pub fn following(sources: usize, grace: Duration) -> Self {
        Self { grace: Some(grace), ..Self::new(sources) }
    }

    /// A source said something; it may be a new one. `now` is the time since any fixed moment.
    pub fn push(&mut self, source: usize, time: i128, line: T, now: Duration) {
        let source = self.source(source);
        source.latest = source.latest.max(time);
        source.lines.push_back(Line { time: source.latest, came: now, line });
    }

    fn source(&mut self, at: usize) -> &mut Source<T> {
        while self.sources.len() <= at {
            self.sources.push(Source::new());
        }
        &mut self.sources[at]
    }

    /// A source says no more.
    pub fn end(&mut self, source: usize) {
        self.source(source).ended = true;
    }

    /// The next line that is due, and its source.
    pub fn pop(&mut self, now: Duration) -> Option<(usize, T)> {
        let first = |(_, source): &(usize, &Source<T>)| source.lines.front().map(|l| l.time);
        let (at, _) = self.sources.iter().enumerate().filter(|s| !s.1.lines.is_empty()).min_by_key(first)?;
        let all_known = self.sources.iter().all(|s| s.ended || !s.lines.is_empty());
        // Whoever came first has waited longest, be it first by its time or not: what is before it goes with it.
        let has_waited = |grace| self.sources.iter().filter_map(|s| s.lines.front()).any(|l| l.came + grace <= now);
        if !all_known && !self.grace.is_some_and(has_waited) {
            return None;
        }
        self.sources[at].lines.pop_front().map(|l| (at, l.line))
    }

    /// When [`Self::pop`] is to be asked again although nothing came; never where nothing waits.
    pub fn timeout(&self) -> Option<Duration> {
        let oldest = self.sources.iter().filter_map(|s| s.lines.front()).map(|l| l.came).min()?;
        self.grace.map(|grace| oldest + grace)
    }

    /// Nobody says anything more.
    pub fn end_all(&mut self) {
        self.sources.iter_mut().for_each(|source| source.ended = true);
    }

    /// Whether every source has ended and was heard out.
    pub fn is_done(&self) -> bool {
        self.sources.iter().all(|s| s.ended && s.lines.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_millis(500);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn all<T>(merger: &mut Merger<T>, now: Duration) -> Vec<T> {
        std::iter::from_fn(|| merger.pop(now)).map(|(_, line)| line).collect()
    }

    #[test]
    fn a_line_waits_until_nobody_can_be_before_it() {
        let mut merger = Merger::new(2);
        merger.push(0, 10, "b", ms(0));
        assert_eq!(all(&mut merger, ms(100_000)), [""; 0], "the other may be before it");
        merger.push(1, 5, "a", ms(0));
        assert_eq!(all(&mut merger, ms(0)), ["a"]);
        merger.end(1);
        assert_eq!((all(&mut merger, ms(0)), merger.is_done()), (vec!["b"], false));
        merger.end(0);
        assert!(merger.is_done());
    }

    #[test]
    fn a_quiet_source_holds_up_others_for_the_grace_only() {
        let mut merger = Merger::following(2, GRACE);
        assert_eq!(merger.timeout(), None);
        merger.push(0, 10, "b", ms(100));
        assert_eq!((merger.pop(ms(599)), merger.timeout()), (None, Some(ms(600))));
        merger.push(0, 20, "c", ms(599));
        assert_eq!(all(&mut merger, ms(600)), ["b"]);
        merger.push(1, 15, "late", ms(700));
        assert_eq!(all(&mut merger, ms(700)), ["late"]);
        assert_eq!(all(&mut merger, ms(1099)), ["c"]);
    }

    #[test]
    fn a_source_may_come_later() {
        let mut merger = Merger::following(0, GRACE);
        assert!(merger.is_done());
        merger.push(2, 7, "c", ms(0));
        assert_eq!((merger.pop(ms(499)), merger.is_done()), (None, false), "two others may be before it");
        merger.end(0);
        merger.end_all();
        assert_eq!((all(&mut merger, ms(499)), merger.is_done()), (vec!["c"], true));
    }

    #[test]
    fn a_source_keeps_its_own_order() {
        let mut merger = Merger::new(1);
        for (time, line) in [(5, "a"), (3, "b"), (4, "c")] {
            merger.push(0, time, line, ms(0));
        }
        assert_eq!(all(&mut merger, ms(0)), ["a", "b", "c"]);
    }

    proptest! {
        #[test]
        fn what_ends_is_sorted_whatever_comes_when(lines in prop::collection::vec((0_usize..3, 0_i128..50), 0..60), pops in any::<u64>()) {
            let mut sorted = lines.clone();
            sorted.sort_by_key(|(_, time)| *time);
            // Each source says its lines in the order of their times; they come in any order among sources.
            let mut queues: Vec<VecDeque<i128>> =
                (0..3).map(|s| sorted.iter().filter(|(of, _)| *of == s).map(|(_, t)| *t).collect()).collect();
            let (mut merger, mut seen) = (Merger::new(3), Vec::new());
            for (at, (source, _)) in lines.iter().enumerate() {
                let time = queues[*source].pop_front().unwrap();
                merger.push(*source, time, time, ms(0));
                if pops >> (at % 64) & 1 == 1 {
                    seen.extend(all(&mut merger, ms(0)));
                }
            }
            (0..3).for_each(|s| merger.end(s));
            seen.extend(all(&mut merger, ms(0)));
            prop_assert!(merger.is_done());
            prop_assert_eq!(seen, sorted.into_iter().map(|(_, t)| t).collect::<Vec<_>>());
        }

        #[test]
        fn nothing_waits_longer_than_the_grace(lines in prop::collection::vec((0_usize..3, 0_i128..50, 0_u64..2000), 0..40)) {
            let mut merger = Merger::following(3, GRACE);
            let mut now = ms(0);
            for (source, time, after) in lines {
                now += ms(after);
                merger.push(source, time, now, now);
                for came in all(&mut merger, now) {
                    // What is behind a line of its own source waits with it.
                    prop_assert!(came <= now);
                }
                prop_assert!(merger.timeout().is_none_or(|t| t > now), "{:?} at {:?}", merger.timeout(), now);
            }
            while let Some(timeout) = merger.timeout() {
                prop_assert!(!all(&mut merger, timeout).is_empty());
            }
        }
    }
}
