//! The pool: which offset a page on a device gets.

use std::fmt;
use std::ops::Range;

use super::blocks::{Block, Blocks, SLAB_UNITS};
use super::slabs::Slabs;
use super::statistics::{Counts, Gauge, PoolStatistics, counted_large, external_fragmentation};
use crate::memory::small::{
    MAX_SMALL_LEN_BYTES, SLAB_BYTES, SMALL_STEP_BYTES, class_of, slot_bytes,
};
use crate::memory::{
    History, PlacementError, Statistics, UNIT_BYTES, check_page_len, footprint_bytes,
};

/// Longest address range, in units: 8 TiB.
const MAX_CAPACITY_UNITS: u64 = 1 << 31;
/// The granule in which CUDA maps memory.
const DEFAULT_GRANULE_BYTES: u64 = 2 << 20;

/// A page that was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// Where it is.
    pub offset: u64,
    /// The granules that it needs and no page needed before, as a range of bytes that consists of whole granules; empty for none.
    /// They are always neighbours.
    pub needed: Range<u64>,
}

/// Places pages in one linear range of device addresses `[0, capacity_bytes)`, in constant time, without touching any memory.
///
/// Two-level segregated fit, after M. Masmano, I. Ripoll, A. Crespo and J. Real, *TLSF: a new dynamic memory allocator for
/// real-time systems*, ECRTS 2004: free blocks are kept by size class, 32 classes a doubling, and two levels of bitmaps find a
/// class that has any. It departs from the paper in that the blocks of a class are not a list, whose order would tell the order
/// of the releases, but a bitmap over addresses.
///
/// So **where a page goes is a function of the live pages**, as with [`Placement`](crate::memory::Placement), and a snapshot is the
/// list of live `(offset, length)` pairs. The policy, to the last offset:
///
/// 1. Pages of at most 4032 B go to the lowest free slot of the lowest slab of their class (the same 32 classes and slabs of 64 KiB
///    as `Placement` has). If none has room, a slab is opened: at the lowest aligned 64 KiB among the holes below 124 KiB that contain
///    one, else at the first aligned 64 KiB of the lowest hole of the lowest class from 124 KiB on that has any, else behind
///    everything.
/// 2. Longer pages, rounded up to 4 KiB, get the front of a hole: the first that is long enough among the lowest four of the class
///    that the length falls into, else the lowest one of the lowest higher class that has any.
/// 3. Where no hole was found the page goes behind everything that is in use. Where there is no room either, the rest of the class
///    of rule 2 is walked: a page is refused only if no free range is long enough. This is the one walk there is.
///
/// Holes are what is free below the end of the last page. The range behind it is in no class, so **placement does not depend on the
/// capacity** as long as it lasts: the same operations give the same offsets on a device of 80 GiB and on one of 141 GiB. A capacity
/// above 8 TiB counts as 8 TiB.
///
/// Because slots, slabs and steps are those of `Placement`, each can be restored from the live pages of the other.
///
/// Allocating and releasing are `O(1)`: a few bitmaps with a word for every 64 of the words below. Bookkeeping lies in flat arrays:
/// 24 bytes a block and a hole, 5 bytes for 4 KiB of the range in use, most of them never touched, and 17 bits a slot of a slab. They grow
/// with the highest address and the largest number of blocks that there ever were; below that nothing is allocated on the host.
///
/// ```
/// use mmsb_engine::device::pool::Pool;
/// let mut pool = Pool::new(1 << 30);
/// let small = pool.allocate(100)?;
/// let large = pool.allocate(10_000)?;
/// assert_eq!((small, large), (0, 65_536));
///
/// let restored = Pool::restore(1 << 30, pool.live(), pool.history())?;
/// assert_eq!(restored, pool);
/// # Ok::<(), mmsb_engine::memory::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    blocks: Blocks,
    slabs: Slabs,
    granule_units: u32,
    live_pages: u64,
    footprint_bytes: u64,
    history: History,
    requested: Gauge,
    allocated: Gauge,
    held: Gauge,
    reserved: Gauge,
    counts: Counts,
}

impl Pool {
    /// An empty pool over `[0, capacity_bytes)`, rounded down to 4 KiB, whose memory is mapped in granules of 2 MiB.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self::with_granule(capacity_bytes, DEFAULT_GRANULE_BYTES)
    }

    /// As [`Pool::new`], with granules of a power of two of bytes, at least 4096; another length counts as the next one up.
    #[must_use]
    pub fn with_granule(capacity_bytes: u64, granule_bytes: u64) -> Self {
        let capacity = (capacity_bytes / UNIT_BYTES).min(MAX_CAPACITY_UNITS);
        let granule = granule_bytes
            .div_ceil(UNIT_BYTES)
            .clamp(1, MAX_CAPACITY_UNITS);
        Self {
            blocks: Blocks::new(capacity as u32),
            slabs: Slabs::new(),
            granule_units: (granule as u32).next_power_of_two(),
            live_pages: 0,
            footprint_bytes: 0,
            history: History::default(),
            requested: Gauge::default(),
            allocated: Gauge::default(),
            held: Gauge::default(),
            reserved: Gauge::default(),
            counts: Counts::new(),
        }
    }

    /// The pool that has exactly these live pages, given as (offset, length) in any order.
    ///
    /// From then on it behaves as the one that the pages were listed from, to the last offset; with a larger capacity too, until
    /// the smaller one would have been full. `O(n log n)`.
    ///
    /// # Errors
    /// [`PlacementError::ZeroLength`], [`TooLong`](PlacementError::TooLong), [`Overlap`](PlacementError::Overlap),
    /// [`Misplaced`](PlacementError::Misplaced) and [`OutOfRange`](PlacementError::OutOfRange): the list is not one of live pages.
    pub fn restore(
        capacity_bytes: u64,
        live: impl IntoIterator<Item = (u64, u64)>,
        history: History,
    ) -> Result<Self, PlacementError> {
        let mut pool = Self::new(capacity_bytes);
        let mut live: Vec<_> = live.into_iter().collect();
        live.sort_unstable();
        for (offset, len_bytes) in live {
            pool.place_at(offset, len_bytes)?;
        }
        pool.history = History {
            peak_footprint_bytes: history.peak_footprint_bytes.max(pool.footprint_bytes),
            ..history
        };
        Ok(pool)
    }

    /// Places a page of `len_bytes` and returns its offset.
    ///
    /// # Errors
    /// [`PlacementError::ZeroLength`], [`PlacementError::TooLong`] (over 4 GiB) and [`PlacementError::OutOfSpace`].
    #[inline]
    pub fn allocate(&mut self, len_bytes: u64) -> Result<u64, PlacementError> {
        Ok(self.place(len_bytes)?.offset)
    }

    /// Places a page of `len_bytes`; also says which granules need memory because of it.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    #[inline]
    pub fn place(&mut self, len_bytes: u64) -> Result<Placed, PlacementError> {
        check_page_len(len_bytes)?;
        let placed = if len_bytes <= MAX_SMALL_LEN_BYTES {
            self.place_small(len_bytes)
        } else {
            self.place_large(len_bytes)
        };
        let placed = placed.ok_or_else(|| self.out_of_space(len_bytes))?;
        self.count_in(len_bytes);
        self.history.allocations_total += 1;
        self.history.peak_footprint_bytes =
            self.history.peak_footprint_bytes.max(self.footprint_bytes);
        Ok(placed)
    }

    /// Releases the page at `offset`, which was allocated with `len_bytes`.
    ///
    /// # Errors
    /// [`PlacementError::NotAllocated`] (a double release is one) and [`PlacementError::WrongLength`].
    #[inline]
    pub fn release(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        self.remove(offset, len_bytes).map(|_| ())
    }

    /// Releases a page; also says which granules no page needs any more because of it, as [`Placed::needed`] does.
    ///
    /// # Errors
    /// As [`Pool::release`].
    #[inline]
    pub fn remove(&mut self, offset: u64, len_bytes: u64) -> Result<Range<u64>, PlacementError> {
        let unneeded = if self.slabs.covers(offset) {
            self.remove_small(offset, len_bytes)?
        } else {
            self.remove_large(offset, len_bytes)?
        };
        self.live_pages -= 1;
        self.requested.subtract(len_bytes);
        self.footprint_bytes -= footprint_bytes(len_bytes);
        self.history.releases_total += 1;
        Ok(unneeded)
    }

    /// Sets the counters back to what they were before operations that have been taken back since. Peaks of [`Pool::figures`]
    /// stay: the room was in use.
    pub fn rewind(&mut self, history: History) {
        self.history = history;
    }

    /// The live pages as (offset, requested length), in order of offset: the whole snapshot, together with [`Pool::history`].
    pub fn live(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.blocks.used().flat_map(|(unit, tag)| {
            let site = unit / SLAB_UNITS;
            let is_slab = unit.is_multiple_of(SLAB_UNITS) && self.slabs.is_open(site);
            let large = (!is_slab).then(|| (bytes_of(unit), len_of(tag)));
            let small = is_slab.then(|| self.slabs.live(site));
            large.into_iter().chain(small.into_iter().flatten())
        })
    }

    /// The counters that no live set can tell.
    #[must_use]
    pub const fn history(&self) -> History {
        self.history
    }

    /// The figures that every allocator of the engine has. Walks a size class where a hole may be longer than the free range
    /// behind everything.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let live_bytes = self.requested.current_bytes;
        Statistics {
            live_pages: self.live_pages,
            live_bytes,
            footprint_bytes: self.footprint_bytes,
            peak_footprint_bytes: self.history.peak_footprint_bytes,
            reserved_bytes: self.held.current_bytes,
            waste_bytes: self.held.current_bytes - live_bytes,
            largest_free_range_bytes: bytes_of(self.blocks.largest_free()),
            capacity_bytes: self.capacity_bytes(),
            allocations_total: self.history.allocations_total,
            releases_total: self.history.releases_total,
        }
    }

    /// All figures, and counts by size class. Walks the highest size class that has holes.
    #[must_use]
    pub fn figures(&self) -> PoolStatistics {
        PoolStatistics {
            requested: self.requested,
            allocated: self.allocated,
            held: self.held,
            reserved: self.reserved,
            hole_bytes: bytes_of(self.blocks.hole_units()),
            largest_hole_bytes: bytes_of(self.blocks.largest_hole()),
            capacity_bytes: self.capacity_bytes(),
            live_pages: self.live_pages,
            slabs: self.slabs.open_slabs(),
            classes: self.counts.list(),
        }
    }

    /// Lengths of live pages, rounded up to what they occupy; also in [`Pool::figures`].
    #[must_use]
    pub const fn allocated(&self) -> Gauge {
        self.allocated
    }

    /// As [`PoolStatistics::external_fragmentation`], without the other figures.
    #[must_use]
    pub fn external_fragmentation(&self) -> f64 {
        external_fragmentation(
            self.blocks.hole_units().into(),
            self.blocks.largest_hole().into(),
        )
    }

    /// What a page of `len_bytes` occupies: its slot, or a multiple of 4 KiB. It saturates.
    #[must_use]
    pub const fn occupied_bytes(len_bytes: u64) -> u64 {
        if len_bytes <= MAX_SMALL_LEN_BYTES {
            slot_bytes(class_of(len_bytes))
        } else {
            footprint_bytes(len_bytes)
        }
    }

    /// Length of the address range, in bytes.
    #[must_use]
    pub const fn capacity_bytes(&self) -> u64 {
        bytes_of(self.blocks.capacity())
    }

    /// Length of a granule, in bytes.
    #[must_use]
    pub const fn granule_bytes(&self) -> u64 {
        bytes_of(self.granule_units)
    }

    #[inline]
    fn place_small(&mut self, len_bytes: u64) -> Option<Placed> {
        let class = class_of(len_bytes);
        let (offset, needed) = match self.slabs.allocate(len_bytes) {
            Some(offset) => (offset, 0..0),
            None => {
                let taken = self.blocks.take_slab()?;
                let needed = self.unshared_granules(taken.start, SLAB_UNITS, &taken.hole);
                self.slabs.open(taken.start / SLAB_UNITS, len_bytes);
                self.held.add(SLAB_BYTES);
                self.note_reserved();
                (self.slabs.allocate(len_bytes)?, needed)
            }
        };
        self.allocated.add(slot_bytes(class));
        self.counts.add(class);
        Some(Placed { offset, needed })
    }

    #[inline]
    fn place_large(&mut self, len_bytes: u64) -> Option<Placed> {
        let units = units_of(len_bytes);
        let taken = self.blocks.take(units)?;
        self.count_large(taken.block, units, len_bytes);
        Some(Placed {
            offset: bytes_of(taken.start),
            needed: self.unshared_granules(taken.start, units, &taken.hole),
        })
    }

    #[inline]
    fn count_large(&mut self, block: Block, units: u32, len_bytes: u64) {
        self.blocks.set_tag(block, tag_of(len_bytes));
        self.held.add(bytes_of(units));
        self.allocated.add(bytes_of(units));
        self.counts.add(counted_large(units));
        self.note_reserved();
    }

    fn remove_small(&mut self, offset: u64, len_bytes: u64) -> Result<Range<u64>, PlacementError> {
        let released = self.slabs.release(offset, len_bytes)?;
        self.allocated.subtract(released.slot_bytes);
        self.counts.subtract(released.class);
        let Some(site) = released.closed else {
            return Ok(0..0);
        };
        let start = site * SLAB_UNITS;
        let Some((block, _)) = self.blocks.find_used(start) else {
            return Err(PlacementError::NotAllocated { offset });
        };
        let hole = self.blocks.give(block);
        self.held.subtract(SLAB_BYTES);
        self.note_reserved();
        Ok(self.unshared_granules(start, SLAB_UNITS, &hole))
    }

    #[inline]
    fn remove_large(&mut self, offset: u64, len_bytes: u64) -> Result<Range<u64>, PlacementError> {
        let start = u32::try_from(offset / UNIT_BYTES).ok();
        let found = start
            .filter(|_| offset.is_multiple_of(UNIT_BYTES))
            .and_then(|start| Some((start, self.blocks.find_used(start)?)));
        let Some((start, (block, tag))) = found else {
            return Err(PlacementError::NotAllocated { offset });
        };
        let allocated_bytes = len_of(tag);
        if allocated_bytes != len_bytes {
            return Err(PlacementError::WrongLength {
                offset,
                len_bytes,
                allocated_bytes,
            });
        }
        let units = units_of(len_bytes);
        let hole = self.blocks.give(block);
        self.held.subtract(bytes_of(units));
        self.allocated.subtract(bytes_of(units));
        self.counts.subtract(counted_large(units));
        self.note_reserved();
        Ok(self.unshared_granules(start, units, &hole))
    }

    /// The granules of a block that lie wholly in a free range before it is taken, or after it is given back: those that no other
    /// block needs.
    #[inline]
    fn unshared_granules(&self, start: u32, units: u32, hole: &Range<u32>) -> Range<u64> {
        let log = self.granule_units.trailing_zeros();
        let round_up = |unit: u32| (u64::from(unit) + u64::from(self.granule_units) - 1) >> log;
        // Behind the capacity there is nothing, so the last granule counts as a whole one.
        let hole_end = if hole.end == self.blocks.capacity() {
            round_up(hole.end)
        } else {
            u64::from(hole.end >> log)
        };
        let end = round_up(start + units).min(hole_end);
        let start = u64::from(start >> log).max(round_up(hole.start));
        if start >= end {
            return 0..0;
        }
        let granule_bytes = self.granule_bytes();
        start * granule_bytes..end * granule_bytes
    }

    #[inline]
    fn note_reserved(&mut self) {
        let reserved_bytes = bytes_of(self.blocks.top());
        match reserved_bytes.checked_sub(self.reserved.current_bytes) {
            Some(more) => self.reserved.add(more),
            None => self.reserved.current_bytes = reserved_bytes,
        }
    }

    #[inline]
    fn count_in(&mut self, len_bytes: u64) {
        self.live_pages += 1;
        self.requested.add(len_bytes);
        self.footprint_bytes += footprint_bytes(len_bytes);
    }

    /// Places the next page of a snapshot; they come in order of offset.
    fn place_at(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        check_page_len(len_bytes)?;
        let is_small = len_bytes <= MAX_SMALL_LEN_BYTES;
        let footprint = footprint_bytes(len_bytes);
        let (start, block_bytes, step) = if is_small {
            (offset - offset % SLAB_BYTES, SLAB_BYTES, SMALL_STEP_BYTES)
        } else {
            (offset, footprint, UNIT_BYTES)
        };
        let capacity_bytes = self.capacity_bytes();
        if start
            .checked_add(block_bytes)
            .is_none_or(|end| end > capacity_bytes)
        {
            return Err(PlacementError::OutOfRange {
                offset,
                len_bytes,
                capacity_bytes,
            });
        }
        if !offset.is_multiple_of(step) {
            return Err(PlacementError::Misplaced { offset, len_bytes });
        }
        let (start, units) = (
            (start / UNIT_BYTES) as u32,
            (block_bytes / UNIT_BYTES) as u32,
        );
        if is_small && self.slabs.covers(offset) {
            self.slabs.place_at(offset, len_bytes)?;
        } else {
            let overlap = PlacementError::Overlap { offset, len_bytes };
            let taken = self.blocks.take_behind(start, units).ok_or(overlap)?;
            if is_small {
                self.slabs.open(start / SLAB_UNITS, len_bytes);
                self.slabs.place_at(offset, len_bytes)?;
                self.held.add(SLAB_BYTES);
            } else {
                self.count_large(taken.block, units, len_bytes);
            }
        }
        if is_small {
            self.allocated.add(slot_bytes(class_of(len_bytes)));
            self.counts.add(class_of(len_bytes));
            self.note_reserved();
        }
        self.count_in(len_bytes);
        Ok(())
    }

    #[cold]
    fn out_of_space(&self, len_bytes: u64) -> PlacementError {
        PlacementError::OutOfSpace {
            requested_bytes: len_bytes,
            needed_bytes: if len_bytes <= MAX_SMALL_LEN_BYTES {
                SLAB_BYTES
            } else {
                footprint_bytes(len_bytes)
            },
            largest_free_range_bytes: bytes_of(self.blocks.largest_free()),
        }
    }
}

/// Capacity, live pages and counters: everything else follows from them, but for the gauges, which are no part of the state.
impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        self.capacity_bytes() == other.capacity_bytes()
            && self.history == other.history
            && self.live().eq(other.live())
    }
}

impl Eq for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("statistics", &self.statistics())
            .field("live", &self.live().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[inline]
const fn bytes_of(units: u32) -> u64 {
    units as u64 * UNIT_BYTES
}

#[inline]
const fn units_of(len_bytes: u64) -> u32 {
    len_bytes.div_ceil(UNIT_BYTES) as u32
}

/// A length of 1 to 2³² in 32 bits.
#[inline]
const fn tag_of(len_bytes: u64) -> u32 {
    (len_bytes - 1) as u32
}

#[inline]
const fn len_of(tag: u32) -> u64 {
    tag as u64 + 1
}
