//! The delta that turns one byte range into another.
//!
//! Safe and portable code, in three steps of decreasing speed: blocks are compared with the
//! platform's `memcmp`, which uses the widest vectors that the processor has; 64-byte chunks of a
//! differing block become a 64-bit mask of differing bytes, by arithmetic on eight bytes at once;
//! runs are read off the mask by counting zeros. Vector intrinsics were rejected: equal ranges, the
//! common case, are bound by memory either way.

use super::error::DeltaError;
use super::runs::{Delta, Run};
use crate::planted::planted;

/// Bytes compared at once while nothing differs.
const BLOCK_BYTES: usize = 1024;
/// Bytes that one mask stands for.
const CHUNK_BYTES: usize = 64;

/// How [`Delta::diff`] makes runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffOptions {
    /// Offset in the page at which the two ranges start. Default 0.
    pub offset: u64,
    /// Runs become one when at most this many equal bytes lie between them. Default 16, which is
    /// what one more run costs in the log. 0 makes every run as short as can be.
    pub gap_merge_bytes: usize,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            offset: 0,
            gap_merge_bytes: 16,
        }
    }
}

impl Delta {
    /// The delta that turns `old` into `new`, two ranges of one length. The empty delta when they
    /// are equal. Linear.
    ///
    /// ```
    /// use mmsb_engine::{Delta, DiffOptions};
    /// let delta = Delta::diff(b"state", b"stale", DiffOptions::default())?;
    /// assert_eq!(delta, Delta::dense(3, b"l")?);
    /// # Ok::<(), mmsb_engine::DeltaError>(())
    /// ```
    ///
    /// # Errors
    /// [`DeltaError::LengthMismatch`], and [`DeltaError::TooLarge`] when a difference lies past the
    /// longest page.
    pub fn diff(old: &[u8], new: &[u8], options: DiffOptions) -> Result<Self, DeltaError> {
        if old.len() != new.len() {
            return Err(DeltaError::LengthMismatch {
                expected_bytes: old.len() as u64,
                given_bytes: new.len() as u64,
            });
        }
        let mut ranges = Ranges::new(options.gap_merge_bytes);
        let blocks = old.chunks(BLOCK_BYTES).zip(new.chunks(BLOCK_BYTES));
        for (index, (old, new)) in blocks.enumerate() {
            if old != new {
                scan_block(index * BLOCK_BYTES, old, new, &mut ranges);
            }
        }
        let mut table = Vec::with_capacity(ranges.done.len());
        let mut payload = Vec::with_capacity(ranges.total_len());
        for &(start, end) in &ranges.done {
            let offset = options.offset.saturating_add(start as u64);
            table.push(Run::new(table.len(), offset, end - start)?);
            payload.extend_from_slice(new.get(start..end).unwrap_or_default());
        }
        Ok(Self::from_canonical(table, payload))
    }
}

/// Finds the differing bytes of one block, which starts at `base`.
fn scan_block(base: usize, old: &[u8], new: &[u8], ranges: &mut Ranges) {
    let (old_chunks, old_rest) = old.as_chunks::<CHUNK_BYTES>();
    let (new_chunks, new_rest) = new.as_chunks::<CHUNK_BYTES>();
    let mut start = base;
    for (old, new) in old_chunks.iter().zip(new_chunks) {
        if old != new {
            ranges.push_mask(start, difference_mask(old, new));
        }
        start += CHUNK_BYTES;
    }
    if planted!(DiffMissesTail) {
        return;
    }
    for (old, new) in old_rest.iter().zip(new_rest) {
        ranges.push_mask(start, u64::from(old != new));
        start += 1;
    }
}

/// Bit `i` says whether byte `i` differs.
fn difference_mask(old: &[u8; CHUNK_BYTES], new: &[u8; CHUNK_BYTES]) -> u64 {
    let (old, _) = old.as_chunks::<8>();
    let (new, _) = new.as_chunks::<8>();
    let words = old.iter().zip(new).enumerate();
    words.fold(0, |mask, (index, (old, new))| {
        // Little-endian on every platform, so that the lowest byte is the first.
        let differing = u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new);
        mask | nonzero_bytes(differing) << (8 * index)
    })
}

/// Bit `i` of the low byte says whether byte `i` of the word is not zero.
const fn nonzero_bytes(word: u64) -> u64 {
    const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // The top bit of each byte: set where it was, or where adding 0x7f to the rest carried into it.
    let top_bits = (((word & LOW_SEVEN) + LOW_SEVEN) | word) & !LOW_SEVEN;
    // The product gathers the eight bits in its top byte: "multiply and shift" movemask.
    (top_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Ranges of differing bytes, merged over short gaps as they come.
struct Ranges {
    gap: usize,
    done: Vec<(usize, usize)>,
}

impl Ranges {
    fn new(gap: usize) -> Self {
        Self {
            gap,
            done: Vec::new(),
        }
    }

    /// Adds the differing bytes of a mask whose bit 0 stands for position `base`.
    #[inline]
    fn push_mask(&mut self, base: usize, mut mask: u64) {
        while mask != 0 {
            let start = mask.trailing_zeros();
            let len = (mask >> start).trailing_ones();
            self.push(base + start as usize, base + (start + len) as usize);
            let Some(above) = u64::MAX.checked_shl(start + len) else {
                return;
            };
            mask &= above;
        }
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize) {
        match self.done.last_mut() {
            Some((_, last_end)) if start - *last_end <= self.gap => *last_end = end,
            _ => self.done.push((start, end)),
        }
    }

    fn total_len(&self) -> usize {
        self.done.iter().map(|(start, end)| end - start).sum()
    }
}
