//! Which granules of a device's address range have memory.

use std::ops::Range;

use super::bits::BitTree;

/// Figures of a [`Mapping`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappingStatistics {
    /// Bytes that have memory.
    pub mapped_bytes: u64,
    /// The most that they were.
    pub peak_mapped_bytes: u64,
    /// All that were ever mapped.
    pub total_mapped_bytes: u64,
    /// Those of the mapped bytes that no page needs: the reserve.
    pub idle_bytes: u64,
    /// How often memory was mapped.
    pub maps_total: u64,
    /// How often it was taken back.
    pub unmaps_total: u64,
}

/// Keeps track of which granules have memory: each is mapped when a page first needs it, and kept as a reserve when none does any
/// more, until [`Mapping::trim`] is asked to give some back. Mapping costs a device hundreds of microseconds, and a granule that
/// was needed a moment ago is likely to be needed again.
///
/// It calls no device: it says what to map and to unmap. What it keeps depends on history, and no placement depends on it.
///
/// ```
/// # #[cfg(feature = "gpu-allocator")] {
/// use mmsb_engine::device::pool::{Mapping, Pool};
/// let mut pool = Pool::with_granule(64 << 20, 2 << 20);
/// let mut mapping = Mapping::new(2 << 20);
/// let placed = pool.place(3 << 20)?;
/// let mut mapped = Vec::new();
/// mapping.need(placed.needed, |range| -> Result<(), ()> {
///     mapped.push(range);
///     Ok(())
/// }).expect("the closure does not fail");
/// assert_eq!(mapped, [0..4 << 20]);
///
/// let unneeded = pool.remove(placed.offset, 3 << 20)?;
/// mapping.unneed(unneeded);
/// let mut unmapped = Vec::new();
/// mapping.trim(2 << 20, |range| unmapped.push(range));
/// assert_eq!(unmapped, [2 << 20..4 << 20]);
/// # }
/// # Ok::<(), mmsb_engine::memory::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct Mapping {
    granule_bytes: u64,
    mapped: BitTree,
    idle: BitTree,
    statistics: MappingStatistics,
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("granule_bytes", &self.granule_bytes)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

impl Mapping {
    /// Nothing is mapped. `granule_bytes` is at least 1.
    #[must_use]
    pub fn new(granule_bytes: u64) -> Self {
        Self {
            granule_bytes: granule_bytes.max(1),
            mapped: BitTree::default(),
            idle: BitTree::default(),
            statistics: MappingStatistics::default(),
        }
    }

    /// The figures as of now.
    #[must_use]
    pub const fn statistics(&self) -> MappingStatistics {
        self.statistics
    }

    /// Whether the granule of an offset has memory.
    #[must_use]
    pub fn is_mapped(&self, offset: u64) -> bool {
        self.mapped.contains((offset / self.granule_bytes) as u32)
    }

    /// The ranges that have memory, in order, as long as they can be.
    pub fn mapped(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.mapped.next(at)?;
            at = first;
            while self.mapped.contains(at) {
                at += 1;
            }
            Some(self.bytes(first..at))
        })
    }

    /// Notes that a page needs `range`, which consists of granules that none needed before, and calls `map` for each longest part
    /// of it that has no memory.
    ///
    /// # Errors
    /// The first error of `map`: all of `range` is unneeded then, and what of it has memory belongs to the reserve.
    pub fn need<E>(
        &mut self,
        range: Range<u64>,
        mut map: impl FnMut(Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let granules = self.granules(&range);
        let mut at = granules.start;
        while at < granules.end {
            if self.mapped.contains(at) {
                if self.idle.contains(at) {
                    self.idle.remove(at);
                    self.statistics.idle_bytes -= self.granule_bytes;
                }
                at += 1;
                continue;
            }
            let next = self.mapped.next(at).unwrap_or(granules.end);
            let next = next.min(granules.end);
            if let Err(error) = map(self.bytes(at..next)) {
                self.keep(granules.start..at);
                return Err(error);
            }
            for granule in at..next {
                self.mapped.insert(granule);
            }
            let statistics = &mut self.statistics;
            let bytes = u64::from(next - at) * self.granule_bytes;
            statistics.mapped_bytes += bytes;
            statistics.total_mapped_bytes += bytes;
            statistics.peak_mapped_bytes =
                statistics.peak_mapped_bytes.max(statistics.mapped_bytes);
            statistics.maps_total += 1;
            at = next;
        }
        Ok(())
    }

    /// Notes that no page needs `range` any more: it belongs to the reserve.
    pub fn unneed(&mut self, range: Range<u64>) {
        let granules = self.granules(&range);
        self.keep(granules);
    }

    /// Calls `unmap` for granules of the reserve, highest addresses first, until it has at most `keep_bytes`.
    pub fn trim(&mut self, keep_bytes: u64, mut unmap: impl FnMut(Range<u64>)) {
        while self.statistics.idle_bytes > keep_bytes {
            let Some(last) = self.idle.last() else {
                return;
            };
            let mut first = last + 1;
            while self.statistics.idle_bytes > keep_bytes
                && first > 0
                && self.idle.contains(first - 1)
            {
                first -= 1;
                self.idle.remove(first);
                self.mapped.remove(first);
                self.statistics.idle_bytes -= self.granule_bytes;
                self.statistics.mapped_bytes -= self.granule_bytes;
            }
            self.statistics.unmaps_total += 1;
            unmap(self.bytes(first..last + 1));
        }
    }

    fn keep(&mut self, granules: Range<u32>) {
        for granule in granules {
            if self.mapped.contains(granule) && !self.idle.contains(granule) {
                self.idle.insert(granule);
                self.statistics.idle_bytes += self.granule_bytes;
            }
        }
    }

    fn granules(&self, range: &Range<u64>) -> Range<u32> {
        let start = range.start / self.granule_bytes;
        let end = range.end.div_ceil(self.granule_bytes);
        // A pool has fewer granules than that.
        let bounded = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
        bounded(start)..bounded(end)
    }

    fn bytes(&self, granules: Range<u32>) -> Range<u64> {
        u64::from(granules.start) * self.granule_bytes..u64::from(granules.end) * self.granule_bytes
    }
}
