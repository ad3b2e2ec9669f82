//! The page table: what the engine knows of each page besides its bytes.

use crate::planted::planted;

use crate::page::{Location, PageId, PageIndex};
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The granules of a page are the units in which a checkpoint copies what changed.
pub(crate) const GRANULES_PER_PAGE: u64 = 64;
/// A granule is never smaller than this.
const MIN_GRANULE_BYTES: u64 = 4096;

/// Stands for "no node in the graph".
pub(crate) const NO_NODE: u32 = u32::MAX;

const LIVE: u32 = 1;
const DERIVED: u32 = 1 << 1;
const HAS_CHILDREN: u32 = 1 << 2;
const MIRRORED: u32 = 1 << 3;
const LOCATION_SHIFT: u32 = 8;

/// One entry. Structure (generation, place, flags, stripe, node) changes only under the exclusive
/// structure lock; content (epoch, LSN, dirty granules) only under the exclusive lock of its stripe.
/// The fields are atomics because readers look a page up before they hold its lock, and check again
/// once they do; hence accesses are relaxed, as the locks order them. Only `LIVE` is released and acquired: it is seen
/// before any lock is taken.
///
/// It fills one cache line and is aligned to it: a write to a page waits for one line, not two.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Slot {
    generation: AtomicU32,
    flags: AtomicU32,
    stripe: AtomicU32,
    node: AtomicU32,
    offset: AtomicU64,
    len_bytes: AtomicU64,
    epoch: AtomicU64,
    lsn: AtomicU64,
    dirty: AtomicU64,
    born: AtomicU64,
}

macro_rules! field {
    ($get:ident, $set:ident, $kind:ty) => {
        #[inline]
        pub(crate) fn $get(&self) -> $kind {
            self.$get.load(Ordering::Relaxed)
        }
        #[inline]
        pub(crate) fn $set(&self, value: $kind) {
            self.$get.store(value, Ordering::Relaxed);
        }
    };
}

macro_rules! flag {
    ($get:ident, $set:ident, $bit:expr) => {
        #[inline]
        pub(crate) fn $get(&self) -> bool {
            self.flags.load(Ordering::Relaxed) & $bit != 0
        }
        pub(crate) fn $set(&self, on: bool) {
            if on {
                self.flags.fetch_or($bit, Ordering::Relaxed);
            } else {
                self.flags.fetch_and(!$bit, Ordering::Relaxed);
            }
        }
    };
}

impl Slot {
    field!(generation, set_generation, u32);
    field!(stripe, set_stripe, u32);
    field!(node, set_node, u32);
    field!(offset, set_offset, u64);
    field!(len_bytes, set_len_bytes, u64);
    field!(epoch, set_epoch, u64);
    field!(lsn, set_lsn, u64);
    field!(dirty, set_dirty, u64);
    // LSN of the transaction that allocated the page; zero if a checkpoint brought it.
    field!(born, set_born, u64);
    flag!(is_derived, set_derived, DERIVED);
    flag!(has_children, set_has_children, HAS_CHILDREN);
    // Whether changes have to be noted for a mirror on the device. Set under the lock of the stripe, shared or not.
    flag!(is_mirrored, set_mirrored, MIRRORED);

    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.flags.load(Ordering::Acquire) & LIVE != 0
    }

    /// Whether `generation` is the one that lives here now.
    #[inline]
    pub(crate) fn holds(&self, generation: u32) -> bool {
        self.is_live() && self.generation() == generation
    }

    pub(crate) fn location(&self) -> Location {
        match (self.flags.load(Ordering::Relaxed) >> LOCATION_SHIFT) & 3 {
            1 => Location::Device,
            2 => Location::Unified,
            _ => Location::Host,
        }
    }

    /// Fills the entry for a new page, or for one that recovery brings back.
    pub(crate) fn occupy(
        &self,
        generation: u32,
        offset: u64,
        len_bytes: u64,
        location: Location,
        stripe: u32,
    ) {
        let location = match location {
            Location::Host => 0,
            Location::Device => 1,
            Location::Unified => 2,
        };
        self.set_generation(generation);
        self.set_offset(offset);
        self.set_len_bytes(len_bytes);
        self.set_stripe(stripe);
        self.set_node(NO_NODE);
        self.set_epoch(0);
        self.set_lsn(0);
        self.set_dirty(0);
        self.set_born(0);
        // Released, so that whoever finds the page alive also finds where it is.
        self.flags
            .store(LIVE | (location << LOCATION_SHIFT), Ordering::Release);
    }

    /// Empties the entry. The generation stays, so that the next page here gets the one after.
    pub(crate) fn vacate(&self) {
        self.flags.store(0, Ordering::Relaxed);
        self.set_node(NO_NODE);
        self.set_dirty(0);
    }

    /// Length of the granules of this page in bytes.
    pub(crate) fn granule_bytes(&self) -> u64 {
        granule_bytes(self.len_bytes())
    }

    /// Marks the granules that `offset..offset + len_bytes` touches. `len_bytes` is not zero.
    #[inline]
    pub(crate) fn mark_dirty(&self, offset: u64, len_bytes: u64) {
        let page_len_bytes = self.len_bytes();
        let len_bytes = if planted!(DirtyTooShort) {
            len_bytes.min(MIN_GRANULE_BYTES)
        } else {
            len_bytes
        };
        let bits = if page_len_bytes <= MIN_GRANULE_BYTES {
            1
        } else {
            let shift = granule_bytes(page_len_bytes).trailing_zeros();
            let first = (offset >> shift) as u32 & 63;
            let last = ((offset + len_bytes - 1) >> shift) as u32 & 63;
            (u64::MAX >> (63 - last)) & (u64::MAX << first)
        };
        self.set_dirty(self.dirty() | bits);
    }

    /// A transaction changes the page: its LSN is noted and the epoch moves on, once a transaction.
    #[inline]
    pub(crate) fn touch(&self, lsn: u64) {
        if self.lsn() < lsn {
            self.set_lsn(lsn);
            self.set_epoch(self.epoch() + 1);
        }
    }
}

/// Granule length for a page: a power of two, at least 4 KiB, at most 64 of them in the page.
pub(crate) fn granule_bytes(page_len_bytes: u64) -> u64 {
    page_len_bytes
        .div_ceil(GRANULES_PER_PAGE)
        .next_power_of_two()
        .max(MIN_GRANULE_BYTES)
}

/// Slots of the smallest bucket; each further bucket doubles the table.
const FIRST_BUCKET_LOG2: u32 = 8;
const BUCKETS: usize = (32 - FIRST_BUCKET_LOG2) as usize + 1;

/// Grows without moving: a slot keeps its address for the life of the table, so look-ups need no lock.
#[derive(Debug)]
pub(crate) struct PageTable {
    buckets: [OnceLock<Box<[Slot]>>; BUCKETS],
}

impl PageTable {
    pub(crate) fn new() -> Self {
        Self {
            buckets: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// Bucket, and position in it. Bucket 0 has the first 256 slots, bucket k > 0 the 256·2^(k-1) after.
    #[inline]
    fn place(index: PageIndex) -> (usize, usize) {
        let bucket = (32 - (index >> FIRST_BUCKET_LOG2).leading_zeros()) as usize;
        let start = if bucket == 0 {
            0
        } else {
            1usize << (FIRST_BUCKET_LOG2 as usize + bucket - 1)
        };
        (bucket, index as usize - start)
    }

    /// The slot at `index`, if the table ever grew that far.
    #[inline]
    pub(crate) fn slot(&self, index: PageIndex) -> Option<&Slot> {
        let (bucket, position) = Self::place(index);
        self.buckets.get(bucket)?.get()?.get(position)
    }

    /// The slot at `index`; the table grows to hold it.
    pub(crate) fn slot_or_grow(&self, index: PageIndex) -> Option<&Slot> {
        let (bucket, position) = Self::place(index);
        let slots = self.buckets.get(bucket)?.get_or_init(|| {
            let count = 1usize << (FIRST_BUCKET_LOG2 as usize + bucket.saturating_sub(1));
            (0..count).map(|_| Slot::default()).collect()
        });
        slots.get(position)
    }

    /// The slot of a live page.
    #[inline]
    pub(crate) fn live(&self, page: PageId) -> Option<&Slot> {
        self.slot(page.index())
            .filter(|slot| slot.holds(page.generation()))
    }

    /// Why `page` is not live: it never was, or it is no more.
    pub(crate) fn explain(&self, page: PageId) -> PageFault {
        match self.slot(page.index()) {
            Some(slot)
                if slot.generation() > page.generation()
                    || (slot.generation() == page.generation()
                        && page.generation() > 0
                        && !slot.is_live()) =>
            {
                PageFault::Stale
            }
            _ => PageFault::Unknown,
        }
    }
}

/// Why an id does not name a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFault {
    /// No page ever had this id.
    Unknown,
    /// The page was freed or transferred.
    Stale,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (64, 64));
    }

    #[test]
    fn buckets_tile_the_index_space() {
        let mut expected = (0, 0);
        for index in 0..100_000u32 {
            let place = PageTable::place(index);
            if index > 0 && place.1 == 0 {
                expected = (expected.0 + 1, 0);
            }
            assert_eq!(place, expected, "index {index}");
            expected.1 += 1;
        }
        assert_eq!(PageTable::place(u32::MAX).0, BUCKETS - 1);
    }

    #[test]
    fn dirty_granules_cover_what_was_touched() {
        let slot = Slot::default();
        slot.occupy(1, 0, 64 << 20, Location::Host, 0);
        assert_eq!(slot.granule_bytes(), 1 << 20);
        slot.mark_dirty((1 << 20) - 1, 2);
        assert_eq!(slot.dirty(), 0b11);
        slot.set_dirty(0);
        slot.mark_dirty(0, 64 << 20);
        assert_eq!(slot.dirty(), u64::MAX);
        slot.set_dirty(0);
        slot.mark_dirty((64 << 20) - 1, 1);
        assert_eq!(slot.dirty(), 1 << 63);
        slot.occupy(1, 0, 1 << 32, Location::Host, 0);
        slot.mark_dirty((1 << 32) - 1, 1);
        assert_eq!(slot.dirty(), 1 << 63);
    }

    #[test]
    fn the_epoch_moves_once_a_transaction() {
        let slot = Slot::default();
        slot.touch(5);
        slot.touch(5);
        slot.touch(6);
        assert_eq!((slot.epoch(), slot.lsn()), (2, 6));
    }
}
