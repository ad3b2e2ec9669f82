//! Views that belong to no thread: they are counted by stripe, and whoever would have to wait for one is refused.
//!
//! A guard of a thread can be waited for, because that thread goes on. A view that was handed to code which this process does not
//! schedule (a foreign caller, a garbage collector) may be released on the very thread that waits for it, or never.

use std::time::Duration;

use super::stripes::{StripeSet, Stripes};
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// How long a writer that waits for a guard may take to notice a detached view that joined it.
const NOTICE: Duration = Duration::from_millis(1);

/// A lock is needed that detached views hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ViewHeld {
    /// How many views hold it.
    pub views: usize,
}

/// How many detached views hold each stripe.
#[derive(Debug)]
pub(crate) struct DetachedCounts {
    total: AtomicUsize,
    by_stripe: Box<[AtomicU32]>,
}

impl DetachedCounts {
    pub(crate) fn new(stripes: usize) -> Self {
        Self {
            total: AtomicUsize::new(0),
            by_stripe: (0..stripes).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Whether there is any.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.total.load(Ordering::Acquire) > 0
    }

    fn on(&self, stripe: u32) -> usize {
        self.by_stripe
            .get(stripe as usize)
            .map_or(0, |count| count.load(Ordering::Acquire) as usize)
    }

    /// Waits until `lock` could be taken exclusively, or a detached view holds it.
    pub(crate) fn wait_unless_held<T>(&self, lock: &RwLock<T>, stripe: u32) {
        while self.on(stripe) == 0 && lock.try_write_for(NOTICE).is_none() {}
    }
}

/// One detached view in the counts, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Mark<'a> {
    counts: &'a DetachedCounts,
    stripes: MarkedStripes,
}

#[derive(Debug)]
enum MarkedStripes {
    One(u32),
    Many(Box<StripeSet>),
}

impl MarkedStripes {
    fn each(&self, mut visit: impl FnMut(u32)) {
        match self {
            Self::One(stripe) => visit(*stripe),
            Self::Many(stripes) => stripes.iter().for_each(visit),
        }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.stripes.each(|stripe| {
            if let Some(count) = self.counts.by_stripe.get(stripe as usize) {
                count.fetch_sub(1, Ordering::AcqRel);
            }
        });
        self.counts.total.fetch_sub(1, Ordering::AcqRel);
    }
}

impl DetachedCounts {
    fn add(&self, stripes: MarkedStripes) -> Mark<'_> {
        self.total.fetch_add(1, Ordering::AcqRel);
        stripes.each(|stripe| {
            if let Some(count) = self.by_stripe.get(stripe as usize) {
                count.fetch_add(1, Ordering::AcqRel);
            }
        });
        Mark {
            counts: self,
            stripes,
        }
    }

    /// Counts a view of one stripe, which the caller has locked shared.
    pub(crate) fn mark_one(&self, stripe: u32) -> Mark<'_> {
        self.add(MarkedStripes::One(stripe))
    }

    /// Counts a view of several stripes, which the caller has locked shared.
    pub(crate) fn mark(&self, stripes: StripeSet) -> Mark<'_> {
        self.add(MarkedStripes::Many(Box::new(stripes)))
    }
}

impl<T> Stripes<T> {
    /// Refuses if it is a detached view that keeps `busy` from being locked. Called before waiting for it.
    pub(crate) fn refuse_detached(&self, busy: u32) -> Result<(), ViewHeld> {
        match self.detached.on(busy) {
            0 => Ok(()),
            views => Err(ViewHeld { views }),
        }
    }
}
