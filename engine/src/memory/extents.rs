//! Free ranges of an address range, in steps of 4 KiB.

use crate::planted::planted;
use std::collections::{BTreeMap, BTreeSet};

/// Granularity and alignment of every extent.
pub(crate) const EXTENT_BYTES: u64 = 4096;
/// Length and alignment of a slab.
pub(crate) const SLAB_BYTES: u64 = 64 * 1024;

/// The free ranges, always fully coalesced.
///
/// Because neighbours are merged at once, the set of free ranges is the complement of what is in
/// use and nothing else: no order of operations can be read from it. Every operation is
/// `O(log free ranges)`.
///
/// Ranges are keyed by their end, because space is taken from their front: the entry stays where it
/// is and only its start moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    /// End to start.
    by_end: BTreeMap<u64, u64>,
    /// (length, end): best fit, and the lowest address among equals.
    by_len: BTreeSet<(u64, u64)>,
    /// Ends of the ranges that hold at least one aligned slab. Without it, looking for an aligned
    /// slab would have to walk over every range that is long enough but badly aligned.
    slab_sites: BTreeSet<u64>,
}

impl Extents {
    /// One free range `[0, capacity_bytes)`; the capacity is a multiple of [`EXTENT_BYTES`].
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let mut extents = Self {
            by_end: BTreeMap::new(),
            by_len: BTreeSet::new(),
            slab_sites: BTreeSet::new(),
        };
        extents.insert(0, capacity_bytes);
        extents
    }

    /// Length of the longest free range.
    pub(super) fn largest_bytes(&self) -> u64 {
        self.by_len.last().map_or(0, |&(len, _)| len)
    }

    /// Takes `len` bytes from the shortest range that holds them, the lowest one on a tie.
    pub(super) fn take_best(&mut self, len: u64) -> Option<u64> {
        let &(range_len, end) = self.by_len.range((len, 0)..).next()?;
        let start = end - range_len;
        let taken = if planted!(ExtentOverlap) && len > EXTENT_BYTES {
            len - EXTENT_BYTES
        } else {
            len
        };
        self.move_start(end, start, start + taken);
        Some(start)
    }

    /// Takes the lowest free aligned slab.
    pub(super) fn take_slab(&mut self) -> Option<u64> {
        let end = self.slab_sites.first()?;
        let site = self.by_end.get(end)?.next_multiple_of(SLAB_BYTES);
        self.take_at(site, SLAB_BYTES).then_some(site)
    }

    /// Takes exactly `[start, start + len)`, or nothing and returns `false` where it is not free.
    pub(super) fn take_at(&mut self, start: u64, len: u64) -> bool {
        let Some(end) = start.checked_add(len) else {
            return false;
        };
        let Some((&range_end, &range_start)) = self.by_end.range(end..).next() else {
            return false;
        };
        if start < range_start {
            return false;
        }
        self.move_start(range_end, range_start, end);
        self.insert(range_start, start);
        true
    }

    /// Gives `[start, start + len)` back. The range must be in use as a whole.
    pub(super) fn give(&mut self, start: u64, len: u64) {
        let end = start + len;
        let merged_start = match self.by_end.get(&start) {
            Some(&before_start) => {
                self.move_start(start, before_start, start);
                before_start
            }
            None => start,
        };
        match self.by_end.range(end..).next() {
            Some((&after_end, &after_start)) if after_start == end => {
                self.move_start(after_end, after_start, merged_start);
            }
            after => {
                debug_assert!(
                    after.is_none_or(|(_, &after_start)| after_start > end),
                    "the range was free"
                );
                self.insert(merged_start, end);
            }
        }
    }

    /// Adds the range `[start, end)`, unless it is empty.
    fn insert(&mut self, start: u64, end: u64) {
        if start < end {
            self.by_end.insert(end, start);
            self.by_len.insert((end - start, end));
            if holds_slab(start, end - start) {
                self.slab_sites.insert(end);
            }
        }
    }

    /// Moves the start of the range that ends at `end`; it goes when nothing is left.
    fn move_start(&mut self, end: u64, from: u64, to: u64) {
        self.by_len.remove(&(end - from, end));
        if to < end {
            self.by_len.insert((end - to, end));
            self.by_end.insert(end, to);
        } else {
            self.by_end.remove(&end);
        }
        match (holds_slab(from, end - from), holds_slab(to, end - to)) {
            (true, false) => {
                self.slab_sites.remove(&end);
            }
            (false, true) => {
                self.slab_sites.insert(end);
            }
            _ => {}
        }
    }
}

/// Whether `[start, start + len)` contains a slab at a multiple of its own length.
fn holds_slab(start: u64, len: u64) -> bool {
    start.next_multiple_of(SLAB_BYTES) - start + SLAB_BYTES <= len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_fit_takes_the_shortest_range_and_the_lowest_on_a_tie() {
        let mut extents = Extents::new(16 * EXTENT_BYTES);
        for i in 0..16 {
            assert_eq!(
                extents.take_best(EXTENT_BYTES),
                Some(i * EXTENT_BYTES),
                "extent {i}"
            );
        }
        assert_eq!(extents.take_best(EXTENT_BYTES), None);
        extents.give(EXTENT_BYTES, 3 * EXTENT_BYTES);
        extents.give(6 * EXTENT_BYTES, 2 * EXTENT_BYTES);
        extents.give(10 * EXTENT_BYTES, 2 * EXTENT_BYTES);
        assert_eq!(
            extents.take_best(2 * EXTENT_BYTES),
            Some(6 * EXTENT_BYTES),
            "two ranges fit exactly, the lower one is taken"
        );
        assert_eq!(extents.take_best(3 * EXTENT_BYTES), Some(EXTENT_BYTES));
        assert_eq!(extents.largest_bytes(), 2 * EXTENT_BYTES);
    }

    #[test]
    fn everything_given_back_is_one_range_again() {
        let capacity = 64 * EXTENT_BYTES;
        let mut extents = Extents::new(capacity);
        let fresh = extents.clone();
        let slab = extents.take_slab();
        assert_eq!(slab, Some(0));
        assert!(extents.take_at(5 * SLAB_BYTES / 4, EXTENT_BYTES));
        assert!(!extents.take_at(5 * SLAB_BYTES / 4, EXTENT_BYTES), "taken");
        assert!(!extents.take_at(capacity, EXTENT_BYTES), "past the end");
        assert!(!extents.take_at(u64::MAX - 4095, EXTENT_BYTES), "overflow");
        assert_eq!(extents.take_slab(), Some(2 * SLAB_BYTES));
        extents.give(5 * SLAB_BYTES / 4, EXTENT_BYTES);
        extents.give(0, SLAB_BYTES);
        extents.give(2 * SLAB_BYTES, SLAB_BYTES);
        assert_eq!(extents, fresh);
    }
}
