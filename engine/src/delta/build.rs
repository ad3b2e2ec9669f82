//! Deltas from what callers have: a range, a list of ranges, a mask, or a decoded record.

use super::error::DeltaError;
use super::runs::{Delta, Run};
use crate::planted::planted;

impl Delta {
    /// One run: `bytes` at `offset`.
    ///
    /// # Errors
    /// [`DeltaError::Empty`] and [`DeltaError::TooLarge`], both as run 0.
    pub fn dense(offset: u64, bytes: impl Into<Vec<u8>>) -> Result<Self, DeltaError> {
        let payload = bytes.into();
        let run = Run::new(0, offset, payload.len())?;
        Ok(Self::single(run, payload))
    }

    /// Several runs, given as (offset, bytes) in any order. Runs that touch are kept apart. No runs
    /// at all is the empty delta.
    ///
    /// Linear when the runs come in order of offset, `O(n log n)` in their number otherwise.
    ///
    /// # Errors
    /// [`DeltaError::Empty`], [`DeltaError::TooLarge`], and [`DeltaError::Overlap`]: which of two
    /// runs came later must not decide, since a set of runs has no order.
    pub fn sparse<B: AsRef<[u8]>>(
        runs: impl IntoIterator<Item = (u64, B)>,
    ) -> Result<Self, DeltaError> {
        let mut parts = Vec::new();
        let mut len = 0;
        for (index, (offset, bytes)) in runs.into_iter().enumerate() {
            let run = Run::new(index, offset, bytes.as_ref().len())?;
            len += run.len();
            parts.push((run, index, bytes));
        }
        if !parts.is_sorted_by_key(|(run, ..)| run.first) {
            // Stable, so that the error for equal offsets does not depend on the sort.
            parts.sort_by_key(|(run, ..)| run.first);
        }
        for ((lower, lower_index, _), (upper, upper_index, _)) in
            parts.iter().zip(parts.iter().skip(1))
        {
            check_apart((*lower, *lower_index), (*upper, *upper_index))?;
        }
        let mut table = Vec::with_capacity(parts.len());
        let mut payload = Vec::with_capacity(len);
        for (run, _, bytes) in &parts {
            table.push(*run);
            payload.extend_from_slice(bytes.as_ref());
        }
        Ok(Self::from_canonical(table, payload))
    }

    /// The bytes that a mask selects.
    ///
    /// `mask` has one bit a byte, least significant bit first; bit 0 stands for the byte at
    /// `offset`. `bytes` holds the selected bytes only, one after the other, which is what
    /// [`Delta::payload`] gives back; the whole range with holes was rejected because it makes a
    /// delta cost what the range costs.
    ///
    /// # Errors
    /// [`DeltaError::MaskMismatch`] when the mask does not select as many bytes as were given, and
    /// [`DeltaError::TooLarge`].
    pub fn masked(offset: u64, mask: &[u8], bytes: impl Into<Vec<u8>>) -> Result<Self, DeltaError> {
        let payload = bytes.into();
        let selected_bytes = mask.iter().map(|byte| u64::from(byte.count_ones())).sum();
        if selected_bytes != payload.len() as u64 {
            return Err(DeltaError::MaskMismatch {
                selected_bytes,
                given_bytes: payload.len() as u64,
            });
        }
        let mut table = Vec::new();
        let mut position = 0;
        for (start, end) in MaskRanges::new(mask) {
            debug_assert!(position <= start && start < end);
            position = end;
            // An offset that saturates is far past the longest page and refused as such.
            let shift = u64::from(planted!(MaskShifted) && table.len() == 1);
            let run_offset = offset.saturating_add(start as u64 + shift);
            table.push(Run::new(table.len(), run_offset, end - start)?);
        }
        Ok(Self::from_canonical(table, payload))
    }

    /// The delta with these runs, given as (offset, length in bytes), and all their bytes, as read
    /// from a log record. Linear.
    ///
    /// # Errors
    /// The runs must already be canonical: [`DeltaError::Empty`], [`DeltaError::TooLarge`],
    /// [`DeltaError::Unsorted`], [`DeltaError::Overlap`], and [`DeltaError::LengthMismatch`] when
    /// the payload has not as many bytes as the runs.
    pub fn from_parts(
        runs: impl IntoIterator<Item = (u64, u64)>,
        payload: impl Into<Vec<u8>>,
    ) -> Result<Self, DeltaError> {
        let payload = payload.into();
        let mut table: Vec<Run> = Vec::new();
        let mut expected_bytes = 0;
        for (index, (offset, len_bytes)) in runs.into_iter().enumerate() {
            let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
            let run = Run::new(index, offset, len)?;
            if let Some(&previous) = table.last() {
                if run.first < previous.first {
                    return Err(DeltaError::Unsorted {
                        run: index,
                        offset,
                        len_bytes,
                    });
                }
                check_apart((previous, index - 1), (run, index))?;
            }
            expected_bytes += len_bytes;
            table.push(run);
        }
        let given_bytes = payload.len() as u64;
        if expected_bytes != given_bytes {
            return Err(DeltaError::LengthMismatch {
                expected_bytes,
                given_bytes,
            });
        }
        Ok(Self::from_canonical(table, payload))
    }
}

/// Refuses two runs, each with its index, that share a byte; `lower` does not start after `upper`.
fn check_apart(lower: (Run, usize), upper: (Run, usize)) -> Result<(), DeltaError> {
    let ((lower, lower_index), (upper, upper_index)) = (lower, upper);
    if lower.last < upper.first {
        return Ok(());
    }
    Err(DeltaError::Overlap {
        run: upper_index,
        offset: upper.offset(),
        len_bytes: upper.len() as u64,
        other_run: lower_index,
        other_offset: lower.offset(),
        other_len_bytes: lower.len() as u64,
    })
}

/// The ranges of set bits of a mask, in order, each as long as can be.
struct MaskRanges<'a> {
    mask: &'a [u8],
    position: usize,
}

impl<'a> MaskRanges<'a> {
    fn new(mask: &'a [u8]) -> Self {
        Self { mask, position: 0 }
    }

    /// The first position from `from` on whose bit is `wanted`, looking at a byte at a time.
    fn next_bit(&self, from: usize, wanted: bool) -> Option<usize> {
        let flip = if wanted { 0 } else { 0xff };
        let mut below = from % 8;
        for (index, &byte) in self.mask.iter().enumerate().skip(from / 8) {
            let candidates = (byte ^ flip) >> below << below;
            if candidates != 0 {
                return Some(index * 8 + candidates.trailing_zeros() as usize);
            }
            below = 0;
        }
        None
    }
}

impl Iterator for MaskRanges<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next_bit(self.position, true)?;
        let end = self.next_bit(start, false).unwrap_or(self.mask.len() * 8);
        self.position = end;
        Some((start, end))
    }
}
