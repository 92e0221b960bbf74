//! Which engine requests meet on that belong together although each comes on a connection of its own: a build, its
//! session and the upload of its context. Whichever comes first decides or waits.

use crate::engine::Engine;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Meetings that are remembered.
const REMEMBERED: usize = 10_000;

/// What requests meet for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Meeting {
    /// A build, by its client's id.
    Build(String),
    /// A builder's session, by its id.
    Session(String),
    /// Building an image of this name again, where its layers are still cached.
    Image(String),
}

#[derive(Default)]
struct Places {
    engines: HashMap<Meeting, Weak<Engine>>,
    order: VecDeque<Meeting>,
    /// When the builder was last spoken to directly, which tells nothing of the sessions to come.
    direct: Option<Instant>,
}

/// All meetings.
#[derive(Default)]
pub(crate) struct Meetings(watch::Sender<Places>);

impl Meetings {
    /// Says where a meeting is, and to those who wait for it.
    pub(crate) fn hold(&self, meeting: Meeting, engine: &Arc<Engine>) {
        self.0.send_modify(|places| {
            if places.engines.insert(meeting.clone(), Arc::downgrade(engine)).is_none() {
                places.order.push_back(meeting);
            }
            while places.order.len() > REMEMBERED {
                if let Some(oldest) = places.order.pop_front() {
                    places.engines.remove(&oldest);
                }
            }
        });
    }

    /// Where a meeting is, if somebody said so and the engine answers.
    pub(crate) fn place(&self, meeting: &Meeting) -> Option<Arc<Engine>> {
        self.0.borrow().place(meeting)
    }

    /// Where a meeting is, once somebody says so.
    pub(crate) async fn wait(&self, meeting: &Meeting, patience: Duration) -> Option<Arc<Engine>> {
        let mut places = self.0.subscribe();
        let held = tokio::time::timeout(patience, places.wait_for(|places| places.place(meeting).is_some())).await;
        // The sender lives as long as `self`.
        held.ok()?.ok()?.place(meeting)
    }

    /// Notes that a client speaks to the builder directly.
    pub(crate) fn spoke_directly(&self) {
        self.0.send_modify(|places| places.direct = Some(Instant::now()));
    }

    /// Whether one did so within this time.
    pub(crate) fn direct_within(&self, time: Duration) -> bool {
        self.0.borrow().direct.is_some_and(|at| at.elapsed() <= time)
    }
}

impl Places {
    fn place(&self, meeting: &Meeting) -> Option<Arc<Engine>> {
        self.engines.get(meeting)?.upgrade().filter(|engine| engine.is_healthy())
    }
}
