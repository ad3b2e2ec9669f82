//! Who wants to know of commits is told: by asking, or through a file descriptor that becomes readable.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mmsb_engine::{Event, Subscription};
use rustix::event::{EventfdFlags, eventfd};

use crate::border::{Out, Sized64, call, check_sized, fill, write_sized};
use crate::failure::Failure;
use crate::lookup::{BUSES, EVENTS};
use crate::status;

/// Wakes whoever polls the descriptor.
pub(crate) struct Waker {
    descriptor: OwnedFd,
}

impl Waker {
    fn wake(&self) {
        // It fails only when the counter is full, and is readable then.
        let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        // It fails only when nothing was written.
        let _ = rustix::io::read(&self.descriptor, &mut [0_u8; 8]);
    }
}

/// One commit.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_event {
    /// `sizeof(mmsb_event)`, set by the caller.
    pub size: u64,
    /// Its place in the order.
    pub lsn: u64,
    /// Events before this one that were thrown away, because the queue was full.
    pub lost: u64,
    /// How many pages it wrote, allocated, freed, connected or annotated.
    pub pages: u64,
}

// SAFETY: `repr(C)`, integers of 64 bits alone.
unsafe impl Sized64 for mmsb_event {
    const FIRST_SIZE: usize = 32;
}

/// Subscribes to the commits of a bus. At most `capacity` events wait to be taken; then the oldest is lost, and counted. Commits
/// never wait. Close it with `mmsb_events_close`; it may outlive the bus.
///
/// # Safety
/// `events` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_events_open(bus: u64, capacity: usize, events: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(events, "events")? };
        let bus = BUSES.share(bus)?;
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Failure::io("events.descriptor", &errno.into()))?;
        let waker = Arc::new(Waker { descriptor });
        let wake = Arc::clone(&waker);
        let subscription = bus.subscribe_with(capacity, Box::new(move || wake.wake()));
        out.set(EVENTS.insert(Queue::new(subscription, waker))?);
        Ok(())
    })
}

/// A subscription, and what was taken from it and not yet given to the caller.
pub(crate) struct Queue {
    subscription: Subscription,
    waker: Arc<Waker>,
    taken: VecDeque<Event>,
    lost: u64,
}

impl Queue {
    fn new(subscription: Subscription, waker: Arc<Waker>) -> Self {
        Self {
            subscription,
            waker,
            taken: VecDeque::new(),
            lost: 0,
        }
    }

    /// Takes what has come, if nothing is left. Afterwards the descriptor is readable if and only if there is something.
    fn refill(&mut self) {
        if self.taken.is_empty() {
            // Cleared before the queue is looked at: what comes in between wakes again.
            self.waker.clear();
            let drained = self.subscription.drain();
            self.lost += drained.lost;
            self.taken = drained.events.into();
            if !self.taken.is_empty() {
                self.waker.wake();
            }
        }
    }
}

/// Takes the oldest event that waits, or returns `MMSB_NOTHING`. `pages` gets the ids of its pages, in order; `needed` (may be null) is
/// how many there are. If they do not fit, the event stays.
///
/// # Safety
/// `event` is a structure that says its size; `pages` has room for `capacity` ids; `needed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_events_next(
    events: u64,
    event: *mut mmsb_event,
    pages: *mut u64,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        unsafe { check_sized(event, "event")? };
        let mut queue = EVENTS.alone(events)?;
        queue.refill();
        let Some(next) = queue.taken.front() else {
            let message = "no event is waiting";
            return Err(Failure::new(status::MMSB_NOTHING, "events.none", message));
        };
        let ids: Vec<u64> = next.pages.iter().map(|page| page.to_bits()).collect();
        let value = mmsb_event {
            size: 0,
            lsn: next.lsn.0,
            lost: queue.lost,
            pages: ids.len() as u64,
        };
        // SAFETY: the caller's contract.
        unsafe {
            fill(&ids, pages, capacity, needed)?;
            write_sized(event, &value, "event")?;
        }
        queue.taken.pop_front();
        queue.lost = 0;
        queue.refill();
        Ok(())
    })
}

/// The descriptor that is readable as long as an event waits, for `poll` and its like. It is the library's: do not read, write or close
/// it; it goes with the handle.
///
/// # Safety
/// `descriptor` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_events_fd(events: u64, descriptor: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(descriptor, "descriptor")? };
        out.set(EVENTS.share(events)?.waker.descriptor.as_raw_fd());
        Ok(())
    })
}

/// Ends a subscription.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_events_close(events: u64) -> i32 {
    call(|| EVENTS.remove(events).map(drop))
}
