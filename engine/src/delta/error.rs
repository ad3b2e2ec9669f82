//! Why bytes are not a delta, or a delta does not fit a page.

use thiserror::Error;

use crate::page::MAX_PAGE_LEN_BYTES;

/// Why a delta could not be built or applied.
///
/// Runs are counted from 0 in the order in which the caller gave them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// A run writes nothing.
    #[error("run {run} at offset {offset} is empty: leave it out")]
    Empty {
        /// Index of the run.
        run: usize,
        /// Its offset in the page.
        offset: u64,
    },
    /// Two runs write the same bytes, so that the result would hang on their order.
    #[error(
        "run {run} ({len_bytes} B at offset {offset}) overlaps run {other_run} ({other_len_bytes} B \
         at offset {other_offset}): make them two deltas and merge them, or keep one"
    )]
    Overlap {
        /// Index of the run with the higher offset.
        run: usize,
        /// Its offset in the page.
        offset: u64,
        /// Its length.
        len_bytes: u64,
        /// Index of the run with the lower offset.
        other_run: usize,
        /// Its offset in the page.
        other_offset: u64,
        /// Its length.
        other_len_bytes: u64,
    },
    /// A run table that has to be in order of offset is not.
    #[error("run {run} ({len_bytes} B at offset {offset}) is out of order: sort runs by offset")]
    Unsorted {
        /// Index of the first run that starts before its predecessor.
        run: usize,
        /// Its offset in the page.
        offset: u64,
        /// Its length.
        len_bytes: u64,
    },
    /// A run ends past the page.
    #[error(
        "run {run} ({len_bytes} B at offset {offset}) ends past the page of {page_len_bytes} B"
    )]
    OutOfRange {
        /// Index of the run.
        run: usize,
        /// Its offset in the page.
        offset: u64,
        /// Its length.
        len_bytes: u64,
        /// Length of the page.
        page_len_bytes: u64,
    },
    /// A run ends past the longest page that there can be.
    #[error(
        "run {run} ({len_bytes} B at offset {offset}) ends past the longest page, \
         {MAX_PAGE_LEN_BYTES} B"
    )]
    TooLarge {
        /// Index of the run.
        run: usize,
        /// Its offset in the page.
        offset: u64,
        /// Its length.
        len_bytes: u64,
    },
    /// The mask selects another number of bytes than were given.
    #[error("the mask selects {selected_bytes} B but {given_bytes} B were given")]
    MaskMismatch {
        /// Number of bits set in the mask.
        selected_bytes: u64,
        /// Number of bytes given.
        given_bytes: u64,
    },
    /// Two lengths that must be equal are not: the ranges of a diff, or a payload and its runs.
    #[error("lengths differ: {expected_bytes} B expected, {given_bytes} B given")]
    LengthMismatch {
        /// Length of the old range, or of all runs together.
        expected_bytes: u64,
        /// Length of the new range, or of the payload.
        given_bytes: u64,
    },
}
