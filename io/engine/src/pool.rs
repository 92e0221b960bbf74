//! Connections that are kept for the next request, because opening one with TLS takes longer than most requests.

use crate::link::Link;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long an unused connection is kept, at least; twice as long at most.
const KEPT: Duration = Duration::from_secs(20);
/// How many are kept: a manager has a thousand engines, and each connection buffers.
const MOST: usize = 2;

/// See the module.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    /// The one that was used last is at the end.
    links: Vec<(Instant, Link)>,
    reaped: bool,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can be used at once, if there is one.
    pub(crate) fn take(&self) -> Option<Link> {
        loop {
            let (_, mut link) = self.idle().links.pop()?;
            // The engine may have closed it meanwhile.
            if link.is_reusable() {
                return Some(link);
            }
        }
    }

    /// Whether one more would be kept.
    pub(crate) fn wants(&self) -> bool {
        self.idle().links.len() < MOST
    }

    /// Keeps a connection for whoever is next, if it can still be used.
    pub(crate) fn put(self: &Arc<Self>, mut link: Link) {
        // At the end of a runtime there is nobody who is next.
        let Ok(runtime) = Handle::try_current() else { return };
        if !link.is_reusable() {
            return;
        }
        let mut idle = self.idle();
        if idle.links.len() == MOST {
            idle.links.remove(0);
        }
        idle.links.push((Instant::now(), link));
        if !idle.reaped {
            idle.reaped = true;
            runtime.spawn(reap(Arc::downgrade(self)));
        }
    }
}

/// Closes what nobody has used for long, until nothing is left.
async fn reap(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEPT).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        idle.links.retain(|(since, _)| since.elapsed() < KEPT);
        if idle.links.is_empty() {
            idle.reaped = false;
            return;
        }
    }
}
