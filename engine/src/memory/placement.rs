//! The pure model of the allocator: which offset a page gets.

use std::collections::BTreeMap;

use thiserror::Error;

use super::extents::{EXTENT_BYTES, Extents, SLAB_BYTES};
use super::slabs::{MAX_SMALL_LEN_BYTES, SMALL_STEP_BYTES, Slabs};
use crate::page::{MAX_PAGE_LEN_BYTES, MIN_PAGE_LEN_BYTES};

/// Longest address range, in bytes: a mapping's length is a signed 64-bit number.
const MAX_CAPACITY_BYTES: u64 = (i64::MAX as u64) & !(EXTENT_BYTES - 1);

/// Why a page could not be placed, released or restored. The placement is unchanged after any of
/// them, except that a failed [`Placement::restore`] returns none at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// A page has at least one byte.
    #[error("page length is zero: ask for at least 1 byte")]
    ZeroLength,
    /// The page is longer than any page may be.
    #[error(
        "page length {len_bytes} B is over the limit of {MAX_PAGE_LEN_BYTES} B: split the page"
    )]
    TooLong {
        /// The length asked for.
        len_bytes: u64,
    },
    /// No free range is long enough (for a small page: and no slab of its class has a free slot).
    #[error(
        "out of space for a page of {requested_bytes} B: it needs {needed_bytes} contiguous bytes \
         (aligned to their length for a slab of small pages), the largest free range has \
         {largest_free_range_bytes}: free pages or open with a larger capacity"
    )]
    OutOfSpace {
        /// The page length asked for.
        requested_bytes: u64,
        /// The contiguous bytes that would have been reserved: the footprint, or a new slab.
        needed_bytes: u64,
        /// The longest free range there is.
        largest_free_range_bytes: u64,
    },
    /// No live page starts at the offset: it never did, or it was released before.
    #[error("no live page at offset {offset}: it was released before or never allocated")]
    NotAllocated {
        /// The offset given.
        offset: u64,
    },
    /// The live page at the offset has another length.
    #[error(
        "the page at offset {offset} has {allocated_bytes} B, not {len_bytes} B: release it with \
         the length that it was allocated with"
    )]
    WrongLength {
        /// The offset given.
        offset: u64,
        /// The length given.
        len_bytes: u64,
        /// The length that the page was allocated with.
        allocated_bytes: u64,
    },
    /// A restored page lies, wholly or in part, where another one is or in a slab of another class.
    #[error("page of {len_bytes} B at offset {offset} overlaps another: the snapshot is damaged")]
    Overlap {
        /// Offset of the page that came second.
        offset: u64,
        /// Its length.
        len_bytes: u64,
    },
    /// A restored page lies where no page of its length can start.
    #[error("no page of {len_bytes} B can start at offset {offset}: the snapshot is damaged")]
    Misplaced {
        /// Offset of the page.
        offset: u64,
        /// Its length.
        len_bytes: u64,
    },
    /// A restored page ends past the capacity.
    #[error(
        "page of {len_bytes} B at offset {offset} ends past the capacity of {capacity_bytes} B: \
         open with at least the capacity that the snapshot was taken with"
    )]
    OutOfRange {
        /// Offset of the page.
        offset: u64,
        /// Its length.
        len_bytes: u64,
        /// The capacity given.
        capacity_bytes: u64,
    },
}

/// What a snapshot carries besides its live pages: counters that no live set can tell.
///
/// They never influence where a page goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The highest sum of footprints so far.
    pub peak_footprint_bytes: u64,
    /// Successful allocations so far.
    pub allocations_total: u64,
    /// Successful releases so far.
    pub releases_total: u64,
}

/// Figures of a [`Placement`]; see [`Placement::statistics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pages allocated and not released.
    pub live_pages: u64,
    /// Sum of their lengths, as requested.
    pub live_bytes: u64,
    /// Sum of their footprints; see [`footprint_bytes`].
    pub footprint_bytes: u64,
    /// The highest `footprint_bytes` so far.
    pub peak_footprint_bytes: u64,
    /// Bytes that no other page can get: whole slabs, and extents.
    pub reserved_bytes: u64,
    /// `reserved_bytes - live_bytes`: rounding, and free slots of slabs in use.
    pub waste_bytes: u64,
    /// The longest free range.
    pub largest_free_range_bytes: u64,
    /// Length of the whole address range.
    pub capacity_bytes: u64,
    /// Successful allocations so far.
    pub allocations_total: u64,
    /// Successful releases so far.
    pub releases_total: u64,
}

impl Statistics {
    /// The part of the figures that a snapshot has to carry.
    #[must_use]
    pub const fn history(&self) -> History {
        History {
            peak_footprint_bytes: self.peak_footprint_bytes,
            allocations_total: self.allocations_total,
            releases_total: self.releases_total,
        }
    }
}

/// The bytes that a page of `len_bytes` occupies: rounded up to 64 B, from 4 KiB up to 4 KiB.
///
/// The page is aligned to the same step. The result saturates; lengths that no page may have are
/// rounded like any other.
#[must_use]
pub const fn footprint_bytes(len_bytes: u64) -> u64 {
    let step = if len_bytes <= MAX_SMALL_LEN_BYTES {
        SMALL_STEP_BYTES
    } else {
        EXTENT_BYTES
    };
    match len_bytes.checked_next_multiple_of(step) {
        Some(rounded) => rounded,
        None => u64::MAX,
    }
}

/// Places pages in one linear address range `[0, capacity_bytes)` without touching any memory.
///
/// Where a page goes is a pure function of the pages that are live at that moment, and so of the
/// sequence of operations before: the same operations give the same offsets on every machine, and
/// a snapshot is the list of live `(offset, length)` pairs.
///
/// Pages whose footprint is below 4 KiB share slabs of 64 KiB, one size class a slab: the lowest
/// slab with room, its lowest free slot. Longer pages get extents of 4 KiB steps: best fit, lowest
/// address on a tie, neighbours coalesced at once. A fresh slab is the lowest free aligned 64 KiB.
/// A binary buddy scheme was rejected for its rounding (up to half of a large page), first fit for
/// breaking up the long ranges.
///
/// Every operation is `O(log n)` in the number of slabs and extents. A small page costs about
/// 2.2 bytes of bookkeeping, a large one an entry in an ordered map.
///
/// ```
/// use mmsb_engine::memory::Placement;
/// let mut placement = Placement::new(1 << 20);
/// let small = placement.allocate(100)?;
/// let large = placement.allocate(10_000)?;
/// assert_eq!((small, large), (0, 65_536));
///
/// let statistics = placement.statistics();
/// let restored = Placement::restore(1 << 20, placement.live(), statistics.history())?;
/// assert_eq!(restored, placement);
/// # Ok::<(), mmsb_engine::memory::PlacementError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    capacity_bytes: u64,
    extents: Extents,
    slabs: Slabs,
    /// Large pages: offset to requested length.
    large: BTreeMap<u64, u64>,
    large_reserved_bytes: u64,
    live_pages: u64,
    live_bytes: u64,
    footprint_bytes: u64,
    history: History,
}

impl Placement {
    /// An empty placement over `[0, capacity_bytes)`, rounded down to 4 KiB.
    ///
    /// Small pages need at least one whole aligned slab, so a capacity below 64 KiB holds only
    /// pages from 4033 B up.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        let capacity_bytes = capacity_bytes.min(MAX_CAPACITY_BYTES) & !(EXTENT_BYTES - 1);
        Self {
            capacity_bytes,
            extents: Extents::new(capacity_bytes),
            slabs: Slabs::new(),
            large: BTreeMap::new(),
            large_reserved_bytes: 0,
            live_pages: 0,
            live_bytes: 0,
            footprint_bytes: 0,
            history: History::default(),
        }
    }

    /// The placement that has exactly these live pages, given as (offset, length) in any order.
    ///
    /// From then on it behaves as the one that the pages were listed from, to the last offset. The
    /// capacity may be larger than it was; where a page goes next may then differ, since there is
    /// more room to choose from. `O(n log n)`.
    ///
    /// # Errors
    /// [`PlacementError::ZeroLength`], [`TooLong`](PlacementError::TooLong),
    /// [`Overlap`](PlacementError::Overlap), [`Misplaced`](PlacementError::Misplaced) and
    /// [`OutOfRange`](PlacementError::OutOfRange): the list is not one of live pages.
    pub fn restore(
        capacity_bytes: u64,
        live: impl IntoIterator<Item = (u64, u64)>,
        history: History,
    ) -> Result<Self, PlacementError> {
        let mut placement = Self::new(capacity_bytes);
        for (offset, len_bytes) in live {
            placement.place_at(offset, len_bytes)?;
            placement.count_in(len_bytes);
        }
        placement.history = History {
            peak_footprint_bytes: history.peak_footprint_bytes.max(placement.footprint_bytes),
            ..history
        };
        Ok(placement)
    }

    /// Places a page of `len_bytes` and returns its offset.
    ///
    /// # Errors
    /// [`PlacementError::ZeroLength`], [`PlacementError::TooLong`] (over 4 GiB) and
    /// [`PlacementError::OutOfSpace`].
    pub fn allocate(&mut self, len_bytes: u64) -> Result<u64, PlacementError> {
        check_page_len(len_bytes)?;
        let footprint = footprint_bytes(len_bytes);
        let small = len_bytes <= MAX_SMALL_LEN_BYTES;
        let offset = if small {
            self.slabs.allocate(len_bytes, &mut self.extents)
        } else {
            self.extents.take_best(footprint)
        };
        let offset = offset.ok_or_else(|| PlacementError::OutOfSpace {
            requested_bytes: len_bytes,
            needed_bytes: if small { SLAB_BYTES } else { footprint },
            largest_free_range_bytes: self.extents.largest_bytes(),
        })?;
        if !small {
            self.large.insert(offset, len_bytes);
            self.large_reserved_bytes += footprint;
        }
        self.count_in(len_bytes);
        self.history.allocations_total += 1;
        self.history.peak_footprint_bytes =
            self.history.peak_footprint_bytes.max(self.footprint_bytes);
        Ok(offset)
    }

    /// Releases the page at `offset`, which was allocated with `len_bytes`.
    ///
    /// # Errors
    /// [`PlacementError::NotAllocated`] (a double release is one) and
    /// [`PlacementError::WrongLength`].
    pub fn release(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        if self.slabs.covers(offset) {
            self.slabs.release(offset, len_bytes, &mut self.extents)?;
        } else {
            self.release_large(offset, len_bytes)?;
        }
        self.live_pages -= 1;
        self.live_bytes -= len_bytes;
        self.footprint_bytes -= footprint_bytes(len_bytes);
        self.history.releases_total += 1;
        Ok(())
    }

    /// Sets the counters back to what they were before operations that have been taken back since.
    pub(crate) fn rewind(&mut self, history: History) {
        self.history = history;
    }

    /// The live pages as (offset, requested length), in order of offset: the whole snapshot,
    /// together with [`Statistics::history`].
    pub fn live(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut small = self.slabs.live().peekable();
        let mut large = self.large.iter().map(|(&at, &len)| (at, len)).peekable();
        std::iter::from_fn(move || match (small.peek(), large.peek()) {
            (Some(a), Some(b)) if a < b => small.next(),
            (_, Some(_)) => large.next(),
            (_, None) => small.next(),
        })
    }

    /// The counters that no live set can tell.
    #[must_use]
    pub const fn history(&self) -> History {
        self.history
    }

    /// The figures as of now. `O(log n)`.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let reserved_bytes = self.slabs.reserved_bytes() + self.large_reserved_bytes;
        Statistics {
            live_pages: self.live_pages,
            live_bytes: self.live_bytes,
            footprint_bytes: self.footprint_bytes,
            peak_footprint_bytes: self.history.peak_footprint_bytes,
            reserved_bytes,
            waste_bytes: reserved_bytes - self.live_bytes,
            largest_free_range_bytes: self.extents.largest_bytes(),
            capacity_bytes: self.capacity_bytes,
            allocations_total: self.history.allocations_total,
            releases_total: self.history.releases_total,
        }
    }

    /// Length of the address range, in bytes.
    #[must_use]
    pub const fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    fn place_at(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        check_page_len(len_bytes)?;
        let footprint = footprint_bytes(len_bytes);
        let fits = offset
            .checked_add(footprint)
            .is_some_and(|end| end <= self.capacity_bytes);
        if !fits {
            return Err(PlacementError::OutOfRange {
                offset,
                len_bytes,
                capacity_bytes: self.capacity_bytes,
            });
        }
        if len_bytes <= MAX_SMALL_LEN_BYTES {
            return self.slabs.place_at(offset, len_bytes, &mut self.extents);
        }
        if !offset.is_multiple_of(EXTENT_BYTES) {
            return Err(PlacementError::Misplaced { offset, len_bytes });
        }
        if !self.extents.take_at(offset, footprint) {
            return Err(PlacementError::Overlap { offset, len_bytes });
        }
        self.large.insert(offset, len_bytes);
        self.large_reserved_bytes += footprint;
        Ok(())
    }

    fn release_large(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        let Some(&allocated_bytes) = self.large.get(&offset) else {
            return Err(PlacementError::NotAllocated { offset });
        };
        if allocated_bytes != len_bytes {
            return Err(PlacementError::WrongLength {
                offset,
                len_bytes,
                allocated_bytes,
            });
        }
        self.large.remove(&offset);
        let footprint = footprint_bytes(len_bytes);
        self.extents.give(offset, footprint);
        self.large_reserved_bytes -= footprint;
        Ok(())
    }

    fn count_in(&mut self, len_bytes: u64) {
        self.live_pages += 1;
        self.live_bytes += len_bytes;
        self.footprint_bytes += footprint_bytes(len_bytes);
    }
}

pub(crate) fn check_page_len(len_bytes: u64) -> Result<(), PlacementError> {
    if len_bytes < MIN_PAGE_LEN_BYTES {
        return Err(PlacementError::ZeroLength);
    }
    if len_bytes > MAX_PAGE_LEN_BYTES {
        return Err(PlacementError::TooLong { len_bytes });
    }
    Ok(())
}
