//! Figures of a pool.

use crate::memory::small::{CLASSES, slot_bytes};

/// Classes of pages from 4 KiB on that are counted: one a doubling, up to 4 GiB.
const LARGE_CLASSES: usize = 21;
/// Classes that are counted.
const COUNTED: usize = CLASSES + LARGE_CLASSES;

/// A number of bytes over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// As of now.
    pub current_bytes: u64,
    /// The most that it was since the pool was made or restored.
    pub peak_bytes: u64,
    /// All that was ever added, released or not, since the pool was made or restored.
    pub total_bytes: u64,
}

impl Gauge {
    #[inline]
    pub(super) fn add(&mut self, bytes: u64) {
        self.current_bytes += bytes;
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        self.peak_bytes = self.peak_bytes.max(self.current_bytes);
    }

    #[inline]
    pub(super) fn subtract(&mut self, bytes: u64) {
        self.current_bytes = self.current_bytes.saturating_sub(bytes);
    }
}

/// Live pages of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassCount {
    /// The longest that pages of this class occupy, rounding included: the slot for small ones, a power of two for others.
    pub up_to_bytes: u64,
    /// How many are live.
    pub live_pages: u64,
    /// How many were ever allocated since the pool was made or restored; those it was restored with count.
    pub pages_total: u64,
}

/// What [`Pool::figures`](super::Pool::figures) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Lengths of live pages, as they were asked for.
    pub requested: Gauge,
    /// The same rounded up: slots for pages below 4 KiB, multiples of 4 KiB for others.
    pub allocated: Gauge,
    /// Bytes that no page of another class can get: whole slabs, and pages from 4 KiB on.
    pub held: Gauge,
    /// The address range in use: from its start to the end of the last page. Its total counts every byte that it grew by.
    pub reserved: Gauge,
    /// Free bytes in the range in use, between pages and slabs.
    pub hole_bytes: u64,
    /// The longest of the free ranges there.
    pub largest_hole_bytes: u64,
    /// Length of the whole address range.
    pub capacity_bytes: u64,
    /// Live pages.
    pub live_pages: u64,
    /// Slabs of 64 KiB that have pages.
    pub slabs: u64,
    /// Size classes that ever had a page, shortest first.
    pub classes: Vec<ClassCount>,
}

impl PoolStatistics {
    /// 1 − longest hole / all holes: 0 where what is free between pages is one range (or nothing), towards 1 where it is shreds.
    #[must_use]
    pub fn external_fragmentation(&self) -> f64 {
        external_fragmentation(self.hole_bytes, self.largest_hole_bytes)
    }

    /// The part of what is allocated that nobody asked for: rounding. Free slots of slabs are not in it.
    #[must_use]
    pub fn internal_fragmentation(&self) -> f64 {
        if self.allocated.current_bytes == 0 {
            return 0.0;
        }
        let waste = self.allocated.current_bytes - self.requested.current_bytes;
        waste as f64 / self.allocated.current_bytes as f64
    }
}

/// 1 − largest / all; 0 if there is nothing.
pub(super) fn external_fragmentation(all: u64, largest: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    1.0 - largest as f64 / all as f64
}

/// Counts by size class.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    live: [u64; COUNTED],
    total: [u64; COUNTED],
}

impl Counts {
    pub(super) const fn new() -> Self {
        Self {
            live: [0; COUNTED],
            total: [0; COUNTED],
        }
    }

    #[inline]
    pub(super) fn add(&mut self, counted: usize) {
        if let (Some(live), Some(total)) = (self.live.get_mut(counted), self.total.get_mut(counted))
        {
            *live += 1;
            *total += 1;
        }
    }

    #[inline]
    pub(super) fn subtract(&mut self, counted: usize) {
        if let Some(live) = self.live.get_mut(counted) {
            *live -= 1;
        }
    }

    /// Those that ever counted something.
    pub(super) fn list(&self) -> Vec<ClassCount> {
        let counts = self.live.iter().zip(&self.total).enumerate();
        counts
            .filter(|(_, (_, total))| **total > 0)
            .map(|(counted, (live, total))| ClassCount {
                up_to_bytes: match counted.checked_sub(CLASSES) {
                    None => slot_bytes(counted),
                    Some(large) => 4096 << large,
                },
                live_pages: *live,
                pages_total: *total,
            })
            .collect()
    }
}

/// Where a page that occupies `units` of 4 KiB is counted.
#[inline]
pub(super) const fn counted_large(units: u32) -> usize {
    CLASSES + units.next_power_of_two().ilog2() as usize
}
