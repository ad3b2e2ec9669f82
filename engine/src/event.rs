//! Subscriptions: who wants to know of commits is told, and a slow one is told what it missed.

use crate::planted::planted;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::lsn::Lsn;
use crate::page::PageId;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};

/// One commit.
///
/// It is sent when the commit has its place in the order, which may be before it is durable. Whoever reads
/// a page after receiving it sees the commit, or a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order.
    pub lsn: Lsn,
    /// The pages that it wrote, allocated, freed, connected or annotated, in id order, without repeats.
    /// Derived pages that a wave changed in consequence are not among them.
    pub pages: Arc<[PageId]>,
}

/// What a subscriber takes in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events that were thrown away before `events`, because the queue was full.
    pub lost: u64,
    /// The newest events, oldest first.
    pub events: Vec<Event>,
}

/// Called when an event comes to an empty queue.
pub type WakeFn = Box<dyn Fn() + Send + Sync>;

struct Queue {
    wake: Option<WakeFn>,
    capacity: usize,
    state: Mutex<Waiting>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("capacity", &self.capacity)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    lost: u64,
    events: VecDeque<Event>,
}

/// A bounded queue of events. It never makes a commit wait: when it is full the oldest event goes, and is counted.
///
/// Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

impl Subscription {
    /// Takes everything that is there.
    #[must_use]
    pub fn drain(&self) -> Drained {
        let mut state = self.queue.state.lock();
        Drained {
            lost: std::mem::take(&mut state.lost),
            events: state.events.drain(..).collect(),
        }
    }
}

/// The subscribers of one bus.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    count: AtomicUsize,
    queues: RwLock<Vec<Weak<Queue>>>,
}

impl Publisher {
    pub(crate) fn subscribe(&self, capacity: usize, wake: Option<WakeFn>) -> Subscription {
        let queue = Arc::new(Queue {
            wake,
            capacity: capacity.max(1),
            state: Mutex::default(),
        });
        let mut queues = self.queues.write();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        self.count.store(queues.len(), Ordering::Release);
        Subscription { queue }
    }

    /// Whether anyone may be listening; commits build no event otherwise.
    pub(crate) fn is_wanted(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Called in the order of LSNs.
    pub(crate) fn publish(&self, event: &Event) {
        for queue in self.queues.read().iter().filter_map(Weak::upgrade) {
            let mut state = queue.state.lock();
            let was_empty = state.events.is_empty();
            if state.events.len() >= queue.capacity {
                state.events.pop_front();
                state.lost += u64::from(!planted!(LossNotCounted));
            }
            state.events.push_back(event.clone());
            drop(state);
            if let (true, Some(wake)) = (was_empty, &queue.wake) {
                wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(lsn: u64) -> Event {
        Event {
            lsn: Lsn(lsn),
            pages: Arc::from([]),
        }
    }

    #[test]
    fn a_full_queue_loses_the_oldest_and_says_so() {
        let publisher = Publisher::default();
        let subscription = publisher.subscribe(2, None);
        (1..=5).for_each(|lsn| publisher.publish(&event(lsn)));
        let drained = subscription.drain();
        assert_eq!(
            (drained.lost, drained.events),
            (3, vec![event(4), event(5)])
        );
        assert_eq!(subscription.drain(), Drained::default());
    }

    #[test]
    fn a_dropped_subscription_is_forgotten() {
        let publisher = Publisher::default();
        drop(publisher.subscribe(1, None));
        let _kept = publisher.subscribe(1, None);
        assert_eq!(publisher.queues.read().len(), 1);
    }
}
