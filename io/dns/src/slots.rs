//! How many queries may wait for resolvers at once: in all, and per client, so that none starves the others.
//!
//! Must not know what the queries ask.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what is under way.
#[derive(Debug)]
pub(crate) struct Slots {
    total: usize,
    per_client: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One thing under way; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    client: IpAddr,
}

impl Slots {
    pub(crate) fn new(total: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self { total, per_client, taken: Mutex::default() })
    }

    /// Takes a slot, unless all are taken or this client has its share.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.by_client.get(&client).copied().unwrap_or(0);
        if taken.total >= self.total || mine >= self.per_client {
            return None;
        }
        taken.total += 1;
        taken.by_client.insert(client, mine + 1);
        Some(Slot { slots: self.clone(), client })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(mine) = taken.by_client.get_mut(&self.client) {
            *mine -= 1;
            if *mine == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_all_have_a_bound() {
        let slots = Slots::new(3, 2);
        let client = |n: u8| IpAddr::from([10, 1, 1, n]);
        let first = slots.take(client(1)).unwrap();
        let _second = slots.take(client(1)).unwrap();
        assert!(slots.take(client(1)).is_none(), "the share is used up");
        let third = slots.take(client(2)).unwrap();
        assert!(slots.take(client(3)).is_none(), "all are taken");
        drop(third);
        drop(first);
        assert!(slots.take(client(1)).is_some());
        assert_eq!(slots.taken.lock().unwrap().by_client.len(), 1, "nothing is kept of clients that have left");
    }
}
