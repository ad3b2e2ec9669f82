//! Locks: one reader-writer lock for the structure, and a fixed number of them, the *stripes*, for contents.
//!
//! Every page belongs to one stripe. Pages that the graph connects belong to the same one, so that a
//! wave runs entirely under a lock that its commit holds already.
//!
//! **No deadlock, by construction:** a writer never waits for a lock while it holds another. It *tries*
//! the locks that it needs; when one is taken it lets go of everything, waits for that one alone, and
//! starts over (the scheme of C++'s `std::lock`). So whoever holds a read guard can always acquire
//! another one. What remains is a thread that waits for its own guard; [`held`] counts guards per
//! thread, and a writer on a thread with a guard is refused.
//!
//! A waiting writer keeps new readers out of the stripe that it waits for. One that has lost that race
//! several times, because it needs many stripes, closes the *turnstile* ([`Stripes::insist`]): threads
//! that hold nothing wait there, those with guards pass by, so the stripes become free. A thread that already
//! holds something must not queue behind such a writer (the writer may wait for *it*), and reads
//! recursively instead.
//!
//! Rejected: a lock a page (8 bytes and two atomic operations a delta), and one lock for all writers
//! (disjoint commits would not run in parallel).

use std::cell::RefCell;

use smallvec::SmallVec;

use super::detached::DetachedCounts;
use crate::planted::planted;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, thread_local};

/// How many stripes there are. A commit of many pages takes at most this many locks.
pub(crate) const STRIPES: usize = if cfg!(any(shuttle, loom)) {
    // Few, so that explored schedules are about who meets whom and not about taking locks.
    4
} else {
    256
};
const WORDS: usize = STRIPES.div_ceil(64);

/// A set of stripes; iterates in ascending order without sorting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StripeSet([u64; WORDS]);

impl StripeSet {
    pub(crate) const ALL: Self = Self([u64::MAX >> (64 * WORDS - STRIPES); WORDS]);

    #[inline]
    pub(crate) fn insert(&mut self, stripe: u32) {
        if let Some(word) = self.0.get_mut(stripe as usize / 64) {
            *word |= 1 << (stripe % 64);
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u32> {
        self.0
            .into_iter()
            .enumerate()
            .flat_map(|(position, mut word)| {
                std::iter::from_fn(move || {
                    (word != 0).then(|| {
                        let bit = word.trailing_zeros();
                        word &= word - 1;
                        position as u32 * 64 + bit
                    })
                })
            })
    }
}

/// What the lock of a stripe protects. It is told of exclusive locks as long as pages are exported, whose readers know no locks.
pub(crate) trait Contents {
    /// Page contents may change from here on.
    fn begin_changes(&mut self) {}
    /// They do not change any more. Also called where nothing was begun.
    fn end_changes(&mut self) {}
}

impl Contents for () {}
#[cfg(all(test, any(shuttle, loom)))]
impl Contents for u32 {}

/// All stripes, each with what it protects besides page contents.
#[derive(Debug)]
pub(crate) struct Stripes<T> {
    stripes: Box<[RwLock<T>]>,
    turnstile: RwLock<()>,
    /// Writers that have closed the turnstile, or are about to.
    insisting: AtomicUsize,
    /// Tells the guards of one bus from those of another on the same thread.
    owner: u64,
    /// Views that belong to no thread; nobody waits for them.
    pub(crate) detached: DetachedCounts,
    /// How many pages are exported. Whether one of a stripe is can be relied on by whoever has that stripe exclusively, as
    /// it takes that to export one. So the order of accesses is that of the locks, and there is nothing for an explorer of
    /// schedules to try: it is no atomic of `sync`.
    pub(crate) exported: std::sync::atomic::AtomicUsize,
}

/// The exclusive locks of a writer.
pub(crate) struct Exclusive<'a, T: Contents> {
    // Inline for the common commit, which touches few pages: no allocation.
    guards: SmallVec<[(u32, RwLockWriteGuard<'a, T>); 8]>,
    exported: &'a std::sync::atomic::AtomicUsize,
}

impl<T: Contents> Drop for Exclusive<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.exported.load(Ordering::Relaxed) > 0 {
            end_changes(&mut self.guards);
        }
    }
}

#[cold]
fn begin_changes<T: Contents>(guards: &mut [(u32, RwLockWriteGuard<'_, T>)]) {
    for (_, guard) in guards {
        guard.begin_changes();
    }
}

#[cold]
fn end_changes<T: Contents>(guards: &mut [(u32, RwLockWriteGuard<'_, T>)]) {
    for (_, guard) in guards {
        guard.end_changes();
    }
}

impl<'a, T: Contents> Exclusive<'a, T> {
    /// What stripe `stripe` protects, if it is among the locked ones.
    pub(crate) fn get(&self, stripe: u32) -> Option<&T> {
        let position = self.guards.binary_search_by_key(&stripe, |(held, _)| *held);
        self.guards.get(position.ok()?).map(|(_, guard)| &**guard)
    }

    /// What stripe `stripe` protects, if it is among the locked ones, to be changed.
    pub(crate) fn get_mut(&mut self, stripe: u32) -> Option<&mut T> {
        let position = self
            .guards
            .binary_search_by_key(&stripe, |(held, _)| *held)
            .ok()?;
        self.guards.get_mut(position).map(|(_, guard)| &mut **guard)
    }

    /// All locked stripes, in ascending order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.guards
            .iter_mut()
            .map(|(stripe, guard)| (*stripe, &mut **guard))
    }
}

impl<T: Default> Stripes<T> {
    pub(crate) fn new() -> Self {
        static OWNERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::default()).collect(),
            turnstile: RwLock::new(()),
            insisting: AtomicUsize::new(0),
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            detached: DetachedCounts::new(STRIPES),
            exported: std::sync::atomic::AtomicUsize::new(0),
        }
    }
}

impl<T: Contents> Stripes<T> {
    /// Tries to lock all of `set`; on failure nothing is held and the stripe that was taken is returned.
    pub(crate) fn try_exclusive(&self, set: StripeSet) -> Result<Exclusive<'_, T>, u32> {
        let mut guards = SmallVec::new();
        for stripe in set.iter() {
            let Some(lock) = self.stripes.get(stripe as usize) else {
                continue;
            };
            match lock.try_write() {
                Some(guard) => guards.push((stripe, guard)),
                None => return Err(stripe),
            }
        }
        if self.exported.load(Ordering::Relaxed) > 0 {
            begin_changes(&mut guards);
        }
        Ok(Exclusive {
            guards,
            exported: &self.exported,
        })
    }
}

impl<T> Stripes<T> {
    /// Goes through the turnstile. The caller holds nothing.
    #[inline]
    pub(crate) fn pass(&self) {
        if self.insisting.load(Ordering::Acquire) > 0 {
            drop(self.turnstile.read());
        }
    }

    /// Closes the turnstile for as long as the result lives. The caller holds nothing. Nobody that
    /// holds a lock ever waits at the turnstile, so waiting for locks behind it cannot deadlock.
    pub(crate) fn insist(&self) -> Insisting<'_> {
        self.insisting.fetch_add(1, Ordering::AcqRel);
        Insisting {
            insisting: &self.insisting,
            _closed: self.turnstile.write(),
        }
    }

    /// Waits until `stripe` could be locked, or a detached view holds it. The caller holds nothing.
    pub(crate) fn wait_for(&self, stripe: u32) {
        if let Some(lock) = self.stripes.get(stripe as usize) {
            self.detached.wait_unless_held(lock, stripe);
        }
    }

    /// Whether this thread must not queue behind a writer: it holds a guard, or may hold a detached view.
    #[inline]
    pub(crate) fn is_reader(&self) -> bool {
        held(self.owner) > 0 || self.detached.any()
    }

    /// Locks one stripe shared. `recursively` when the thread holds any other lock of this bus.
    pub(crate) fn shared(&self, stripe: u32, recursively: bool) -> Option<RwLockReadGuard<'_, T>> {
        let lock = self.stripes.get(stripe as usize)?;
        Some(if recursively && !planted!(GuardsQueue) {
            lock.read_recursive()
        } else {
            lock.read()
        })
    }

    /// The identity under which [`held`] counts.
    pub(crate) const fn owner(&self) -> u64 {
        self.owner
    }
}

/// The turnstile is closed.
pub(crate) struct Insisting<'a> {
    insisting: &'a AtomicUsize,
    _closed: RwLockWriteGuard<'a, ()>,
}

impl Drop for Insisting<'_> {
    fn drop(&mut self) {
        self.insisting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// So many times a writer loses the race for its stripes before it insists.
const PATIENCE: u32 = 8;

/// What a writer does between two tries.
pub(crate) struct Patience<'a, T> {
    stripes: &'a Stripes<T>,
    tries: u32,
    insisting: Option<Insisting<'a>>,
}

impl<'a, T> Patience<'a, T> {
    pub(crate) const fn new(stripes: &'a Stripes<T>) -> Self {
        Self {
            stripes,
            tries: 0,
            insisting: None,
        }
    }

    /// Waits for the stripe that was taken. The caller holds nothing else.
    pub(crate) fn wait_for(&mut self, stripe: u32) {
        self.tries += 1;
        if self.tries >= PATIENCE && self.insisting.is_none() {
            self.insisting = Some(self.stripes.insist());
        }
        self.stripes.wait_for(stripe);
    }
}

thread_local! {
    /// Bus and number of guards. A thread works with few buses, so a list beats a map; its capacity stays.
    static HELD: RefCell<Vec<(u64, usize)>> = const { RefCell::new(Vec::new()) };
}

/// How many guards of the bus `owner` this thread holds.
pub(crate) fn held(owner: u64) -> usize {
    HELD.with(|held| {
        held.borrow()
            .iter()
            .find(|(bus, _)| *bus == owner)
            .map_or(0, |(_, count)| *count)
    })
}

/// Counts one guard on this thread for as long as it lives. It cannot move to another thread.
#[derive(Debug)]
pub(crate) struct Held {
    owner: u64,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Held {
    pub(crate) fn new(owner: u64) -> Self {
        HELD.with(|held| {
            let mut held = held.borrow_mut();
            match held.iter_mut().find(|(bus, _)| *bus == owner) {
                Some((_, count)) => *count += 1,
                None => held.push((owner, 1)),
            }
        });
        Self {
            owner,
            _not_send: std::marker::PhantomData,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The thread may be ending, its list gone already: then nobody counts any more.
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(position) = held.iter().position(|(bus, _)| *bus == self.owner)
                && let Some((_, count)) = held.get_mut(position)
            {
                *count -= 1;
                if *count == 0 {
                    held.swap_remove(position);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_iterates_in_order() {
        let mut set = StripeSet::default();
        for stripe in [200, 3, 64, 3, 255, 0] {
            set.insert(stripe);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 64, 200, 255]);
        assert_eq!(StripeSet::ALL.iter().count(), STRIPES);
    }

    #[test]
    fn a_failed_try_holds_nothing() {
        let stripes = Stripes::<()>::new();
        let reader = stripes.shared(7, false).unwrap();
        assert_eq!(stripes.try_exclusive(StripeSet::ALL).err(), Some(7));
        let mut others = StripeSet::default();
        others.insert(6);
        assert!(stripes.try_exclusive(others).is_ok());
        drop(reader);
        assert!(stripes.try_exclusive(StripeSet::ALL).is_ok());
    }

    #[test]
    fn guards_are_counted_by_bus_and_thread() {
        let one = Held::new(1_000_001);
        let two = Held::new(1_000_001);
        assert_eq!((held(1_000_001), held(1_000_002)), (2, 0));
        std::thread::spawn(|| assert_eq!(held(1_000_001), 0))
            .join()
            .unwrap();
        drop((one, two));
        assert_eq!(held(1_000_001), 0);
    }
}
