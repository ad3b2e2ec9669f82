//! The canonical form of a delta, and what can be asked of it.

use std::fmt;
use std::ops::Range;
use std::slice;

use super::error::DeltaError;
use crate::page::MAX_PAGE_LEN_BYTES;

/// The bytes of a page that one run covers, both ends included.
///
/// Inclusive bounds make a run non-empty by construction and let 32 bits reach the last byte of a
/// page of 4 GiB, which offset and length would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Run {
    /// The run of `len` bytes at `offset`; `index` is only for the error.
    pub(super) fn new(index: usize, offset: u64, len: usize) -> Result<Self, DeltaError> {
        let too_large = DeltaError::TooLarge {
            run: index,
            offset,
            len_bytes: len as u64,
        };
        if len == 0 {
            return Err(DeltaError::Empty { run: index, offset });
        }
        match offset.checked_add(len as u64) {
            Some(end) if end <= MAX_PAGE_LEN_BYTES => Ok(Self {
                first: offset as u32,
                last: (end - 1) as u32,
            }),
            _ => Err(too_large),
        }
    }

    pub(super) fn offset(self) -> u64 {
        self.first.into()
    }

    pub(super) fn len(self) -> usize {
        (self.last - self.first) as usize + 1
    }

    pub(super) fn end(self) -> u64 {
        u64::from(self.last) + 1
    }
}

/// The run table. Most deltas are one run, which needs no heap allocation of its own.
///
/// `Many` never holds exactly one run, so that equal deltas compare equal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Table {
    One(Run),
    Many(Vec<Run>),
}

/// Bytes to be written to one page, as runs.
///
/// The runs are in order of offset, none is empty and no two overlap; they may touch. All bytes lie
/// in one contiguous payload, in the order of the runs. Offsets are relative to the page and below
/// 4 GiB. A delta without runs is possible and changes nothing.
///
/// ```
/// use mmsb_engine::Delta;
/// let delta = Delta::sparse([(6, b"six"), (1, b"one")])?;
/// let mut page = *b"..........";
/// delta.apply_to(&mut page)?;
/// assert_eq!(&page, b".one..six.");
/// # Ok::<(), mmsb_engine::DeltaError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Delta {
    table: Table,
    payload: Vec<u8>,
}

impl Delta {
    /// The delta that changes nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            table: Table::Many(Vec::new()),
            payload: Vec::new(),
        }
    }

    /// One run and its bytes, whose lengths agree.
    pub(super) fn single(run: Run, payload: Vec<u8>) -> Self {
        debug_assert_eq!(run.len(), payload.len());
        Self {
            table: Table::One(run),
            payload,
        }
    }

    /// Runs that are in order, do not overlap, and have as many bytes as the payload.
    pub(super) fn from_canonical(runs: Vec<Run>, payload: Vec<u8>) -> Self {
        debug_assert!(runs.is_sorted_by(|a, b| a.last < b.first));
        debug_assert_eq!(
            runs.iter().map(|run| run.len()).sum::<usize>(),
            payload.len()
        );
        let table = match runs.as_slice() {
            &[run] => Table::One(run),
            _ => Table::Many(runs),
        };
        Self { table, payload }
    }

    pub(super) fn table(&self) -> &[Run] {
        match &self.table {
            Table::One(run) => slice::from_ref(run),
            Table::Many(runs) => runs,
        }
    }

    /// The runs as (offset in the page, bytes), in order of offset.
    #[inline]
    #[must_use]
    pub fn runs(&self) -> Runs<'_> {
        Runs {
            table: self.table().iter(),
            payload: &self.payload,
        }
    }

    /// The ranges of the page that the runs cover, in order.
    pub fn run_ranges(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.table().iter().map(|run| run.offset()..run.end())
    }

    /// All bytes of all runs, in order.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Number of bytes that the delta writes, whether or not they differ from what is there.
    #[inline]
    #[must_use]
    pub fn changed_bytes(&self) -> u64 {
        self.payload.len() as u64
    }

    /// Number of runs.
    #[inline]
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.table().len()
    }

    /// Whether the delta writes nothing.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// From the first byte written to one past the last; `None` for a delta without runs.
    #[must_use]
    pub fn bounds(&self) -> Option<Range<u64>> {
        let table = self.table();
        Some(table.first()?.offset()..table.last()?.end())
    }

    /// Checks that every run lies inside a page of `page_len_bytes`. `O(1)` when it does.
    ///
    /// # Errors
    /// [`DeltaError::OutOfRange`] names the first run that does not.
    pub fn validate(&self, page_len_bytes: u64) -> Result<(), DeltaError> {
        let table = self.table();
        if table.last().is_none_or(|last| last.end() <= page_len_bytes) {
            return Ok(());
        }
        let inside = table.partition_point(|run| run.end() <= page_len_bytes);
        match table.get(inside) {
            None => Ok(()),
            Some(run) => Err(DeltaError::OutOfRange {
                run: inside,
                offset: run.offset(),
                len_bytes: run.len() as u64,
                page_len_bytes,
            }),
        }
    }

    /// Writes the runs to `page`, in time proportional to the delta.
    ///
    /// # Errors
    /// [`DeltaError::OutOfRange`], and nothing is written, when a run ends past the page.
    pub fn apply_to(&self, page: &mut [u8]) -> Result<(), DeltaError> {
        self.validate(page.len() as u64)?;
        for (offset, bytes) in self.runs() {
            let start = offset as usize;
            if let Some(target) = page.get_mut(start..start + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// The bytes that the delta writes, as a mask of one bit a byte, least significant bit first,
    /// for a range of `len_bytes` that starts with the page. Runs beyond it are left out.
    ///
    /// `Delta::masked(0, &delta.mask(page_len), delta.payload())` is the same delta again, but that
    /// runs that touched have become one.
    #[must_use]
    pub fn mask(&self, len_bytes: usize) -> Vec<u8> {
        let mut mask = vec![0; len_bytes.div_ceil(8)];
        for run in self.table() {
            let first = run.first as usize;
            let end = len_bytes.min(first + run.len());
            if first < end {
                set_bits(&mut mask, first, end);
            }
        }
        mask
    }
}

/// Sets the bits `[first, end)`, which is not empty and lies inside.
fn set_bits(mask: &mut [u8], first: usize, end: usize) {
    let head = 0xff << (first % 8);
    let tail = 0xff >> (7 - (end - 1) % 8);
    match mask.get_mut(first / 8..=(end - 1) / 8) {
        Some([only]) => *only |= head & tail,
        Some([first, whole @ .., last]) => {
            *first |= head;
            whole.fill(0xff);
            *last |= tail;
        }
        _ => debug_assert!(false, "bits {first}..{end} are not in the mask"),
    }
}

impl Default for Delta {
    fn default() -> Self {
        Self::empty()
    }
}

/// Lists the ranges, not the bytes: payloads are long and often not for other eyes.
impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delta({} B in ", self.payload.len())?;
        f.debug_list().entries(self.run_ranges().take(8)).finish()?;
        match self.run_count().checked_sub(8) {
            None | Some(0) => f.write_str(")"),
            Some(more) => write!(f, " and {more} more)"),
        }
    }
}

/// Iterator over the runs of a delta; see [`Delta::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    table: slice::Iter<'a, Run>,
    payload: &'a [u8],
}

impl<'a> Iterator for Runs<'a> {
    type Item = (u64, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let run = self.table.next()?;
        let (bytes, rest) = self.payload.split_at_checked(run.len())?;
        self.payload = rest;
        Some((run.offset(), bytes))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.table.size_hint()
    }
}

impl ExactSizeIterator for Runs<'_> {}
