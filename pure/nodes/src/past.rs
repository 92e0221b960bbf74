//! Which of an engine's events are news. Within one stream all are, whatever their times say: engines' clocks are set
//! back at times. Only what an engine repeats at the beginning of the next stream was known before.

use std::{collections::VecDeque, time::Duration};

/// Events that are remembered; engines remember as many.
const REMEMBERED: usize = 256;
/// How much more than need be an engine is asked to repeat.
const MARGIN: Duration = Duration::from_secs(1);

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was told before.
    Known,
    /// It was not.
    New,
    /// It was not, and the engine no longer knew what it told last: there may have been others between.
    NewAfterGap,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    /// Nanoseconds since 1970, by the engine's clock.
    time: i128,
    /// What tells it from others of the same time.
    mark: u64,
}

/// What one engine has told.
#[derive(Debug, Default)]
pub struct Past {
    recent: VecDeque<Event>,
    /// When the last one came, by our own steady clock.
    heard: Duration,
    /// What the present stream may repeat.
    repeats: Vec<Event>,
    /// The last event of the stream before, until the present one has repeated it.
    awaited: Option<Event>,
}

impl Past {
    /// From when on the next stream is to tell, in nanoseconds since 1970 by the engine's clock; `None` for an engine
    /// that never told anything. `engine_now` is what the engine's clock shows, `now` our own steady clock. Where the
    /// engine's clock was set back, what it told meanwhile has times before the last event seen.
    pub fn resume(&mut self, engine_now: i128, now: Duration) -> Option<i128> {
        let last = *self.recent.back()?;
        let away = now.saturating_sub(self.heard) + MARGIN;
        let away = i128::try_from(away.as_nanos()).unwrap_or(i128::MAX);
        let since = last.time.min(engine_now.saturating_sub(away)).max(0);
        self.repeats = self.recent.iter().filter(|e| e.time >= since).copied().collect();
        self.awaited = Some(last);
        Some(since)
    }

    /// Takes an event of the present stream.
    pub fn take(&mut self, time: i128, mark: u64, now: Duration) -> Arrival {
        let same = |e: &Event| e.time == time && e.mark == mark;
        if let Some(at) = self.repeats.iter().position(same) {
            self.repeats.remove(at);
            self.awaited = self.awaited.filter(|e| !same(e));
            return Arrival::Known;
        }
        self.recent.push_back(Event { time, mark });
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        self.heard = now;
        match self.awaited.take() {
            Some(_) => Arrival::NewAfterGap,
            None => Arrival::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i128 = 1_000_000_000;

    /// An engine as it keeps its events: it repeats what it remembers, backwards until the first that is too old.
    #[derive(Default)]
    struct Engine {
        clock: i128,
        told: Vec<(i128, u64)>,
    }

    impl Engine {
        fn tell(&mut self, mark: u64) -> (i128, u64) {
            self.told.push((self.clock * SECOND, mark));
            (self.clock * SECOND, mark)
        }

        fn repeat(&self, since: i128) -> Vec<(i128, u64)> {
            let mut repeated: Vec<_> =
                self.told.iter().rev().take(REMEMBERED).take_while(|e| e.0 >= since).copied().collect();
            repeated.reverse();
            repeated
        }
    }

    #[test]
    fn what_was_told_while_the_clock_was_set_back_is_not_lost() {
        let (mut engine, mut past) = (Engine { clock: 10_000, told: Vec::new() }, Past::default());
        assert_eq!(past.resume(engine.clock * SECOND, Duration::ZERO), None);
        let (time, mark) = engine.tell(1);
        assert_eq!(past.take(time, mark, Duration::ZERO), Arrival::New);
        // Set back by an hour within the stream, and then told while nobody listens.
        engine.clock = 6_400;
        let (time, mark) = engine.tell(2);
        assert_eq!(past.take(time, mark, Duration::from_secs(1)), Arrival::New);
        engine.clock = 2_800;
        engine.tell(3);
        let since = past.resume(engine.clock * SECOND, Duration::from_secs(5)).unwrap();
        let arrivals: Vec<_> =
            engine.repeat(since).into_iter().map(|(t, m)| (m, past.take(t, m, Duration::from_secs(5)))).collect();
        assert_eq!(arrivals.last(), Some(&(3, Arrival::New)));
        assert!(arrivals[..arrivals.len() - 1].iter().all(|(_, a)| *a == Arrival::Known), "{arrivals:?}");
    }

    #[test]
    fn an_engine_that_forgot_what_it_told_left_a_gap() {
        let mut past = Past::default();
        past.take(5 * SECOND, 1, Duration::ZERO);
        assert_eq!(past.resume(9 * SECOND, Duration::from_secs(4)), Some(4 * SECOND));
        assert_eq!(past.take(9 * SECOND, 2, Duration::from_secs(4)), Arrival::NewAfterGap);
        assert_eq!(past.take(9 * SECOND, 3, Duration::from_secs(4)), Arrival::New);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Tell,
        Wait(u8),
        Set(i16),
        Break,
        Connect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Tell),
            2 => any::<u8>().prop_map(Step::Wait),
            1 => any::<i16>().prop_map(Step::Set),
            2 => Just(Step::Break),
            2 => Just(Step::Connect),
        ]
    }

    proptest! {
        #[test]
        fn every_event_is_news_exactly_once(steps in prop::collection::vec(step(), 0..120)) {
            let mut engine = Engine { clock: 1_000_000, told: Vec::new() };
            let (mut past, mut now, mut connected) = (Past::default(), Duration::ZERO, true);
            let (mut next, mut news) = (0, Vec::new());
            let take = |past: &mut Past, (time, mark), now, news: &mut Vec<u64>| {
                let arrival = past.take(time, mark, now);
                if arrival != Arrival::Known {
                    news.push(mark);
                }
                arrival
            };
            for step in steps.into_iter().chain([Step::Connect]) {
                match step {
                    Step::Tell => {
                        let event = engine.tell(next);
                        next += 1;
                        if connected {
                            take(&mut past, event, now, &mut news);
                        }
                    }
                    Step::Wait(seconds) => {
                        now += Duration::from_secs(seconds.into());
                        engine.clock += i128::from(seconds);
                    }
                    // While nobody listens, an engine that is set repeats less than it knows; see the next test.
                    Step::Set(by) if connected => engine.clock += i128::from(by),
                    Step::Set(_) => {}
                    // An engine that told nothing yet is asked for nothing.
                    Step::Break if !news.is_empty() => connected = false,
                    Step::Break => {}
                    Step::Connect if !connected => {
                        connected = true;
                        let since = past.resume(engine.clock * SECOND, now).unwrap();
                        for event in engine.repeat(since) {
                            prop_assert_ne!(take(&mut past, event, now, &mut news), Arrival::NewAfterGap);
                        }
                    }
                    Step::Connect => {}
                }
            }
            prop_assert_eq!(news, (0..next).collect::<Vec<_>>());
        }

        #[test]
        fn no_times_make_it_panic(times in prop::collection::vec((any::<i128>(), any::<u64>(), any::<bool>()), 0..50)) {
            let mut past = Past::default();
            for (time, mark, resume) in times {
                past.take(time, mark, Duration::from_secs(mark));
                if resume {
                    past.resume(time, Duration::from_secs(mark / 2));
                }
            }
        }
    }
}
