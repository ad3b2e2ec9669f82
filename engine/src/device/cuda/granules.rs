//! Which granules of the address range have memory: read without a lock.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// One bit a granule.
#[derive(Debug)]
pub(super) struct Granules {
    words: Box<[AtomicU64]>,
    shift: u32,
    count: u64,
}

impl Granules {
    /// `granule_bytes` is a power of two, of which `reserved_bytes` is a multiple.
    pub(super) fn new(reserved_bytes: u64, granule_bytes: u64) -> Self {
        let shift = granule_bytes.trailing_zeros();
        let count = reserved_bytes >> shift;
        Self {
            words: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            shift,
            count,
        }
    }

    /// Whether all bytes of a range have memory. An empty range has, where one that is not could begin or end.
    #[inline]
    pub(super) fn contain(&self, range: &Range<u64>) -> bool {
        if range.start >= range.end {
            return range.start == range.end && range.end <= self.count << self.shift;
        }
        let last = (range.end - 1) >> self.shift;
        last < self.count && self.all(range.start >> self.shift..last + 1, true)
    }

    /// Whether whole granules all have memory, or all have none; `None` when the range does not consist of granules that there are.
    pub(super) fn whole(&self, range: &Range<u64>, is_mapped: bool) -> Option<Range<u64>> {
        let mask = (1 << self.shift) - 1;
        let granules = range.start >> self.shift..range.end >> self.shift;
        let is_whole = range.start & mask == 0
            && range.end & mask == 0
            && granules.start < granules.end
            && granules.end <= self.count;
        (is_whole && self.all(granules.clone(), is_mapped)).then_some(granules)
    }

    fn all(&self, granules: Range<u64>, is_mapped: bool) -> bool {
        parts(granules).all(|(word, mask)| {
            self.words.get(word).is_some_and(|bits| {
                let bits = bits.load(Ordering::Acquire);
                (if is_mapped { !bits } else { bits }) & mask == 0
            })
        })
    }

    /// Notes that granules have memory, or none.
    pub(super) fn set(&self, granules: Range<u64>, is_mapped: bool) {
        for (word, mask) in parts(granules) {
            if let Some(bits) = self.words.get(word) {
                if is_mapped {
                    bits.fetch_or(mask, Ordering::AcqRel);
                } else {
                    bits.fetch_and(!mask, Ordering::AcqRel);
                }
            }
        }
    }

    /// The end of the last granule that has memory, in bytes.
    pub(super) fn end_bytes(&self) -> u64 {
        let last = self
            .words
            .iter()
            .enumerate()
            .rev()
            .find_map(|(position, bits)| {
                let bits = bits.load(Ordering::Acquire);
                (bits != 0).then(|| position as u64 * 64 + 64 - u64::from(bits.leading_zeros()))
            });
        last.unwrap_or(0) << self.shift
    }

    /// The runs of granules that have memory, in order.
    pub(super) fn mapped(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for granule in (0..self.count).filter(|granule| self.all(*granule..granule + 1, true)) {
            match runs.last_mut() {
                Some(run) if run.end == granule => run.end += 1,
                _ => runs.push(granule..granule + 1),
            }
        }
        runs
    }
}

/// The words that a range of bits lies in, each with a mask of its bits.
fn parts(bits: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let words = bits.start / 64..bits.end.div_ceil(64);
    words.map(move |word| {
        let low = bits.start.max(word * 64) - word * 64;
        let high = bits.end.min(word * 64 + 64) - word * 64;
        (
            word as usize,
            (u64::MAX >> (64 - (high - low).max(1))) << low,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_mapped_bit_for_bit() {
        let granules = Granules::new(200 * 4096, 4096);
        assert_eq!(granules.end_bytes(), 0);
        granules.set(60..130, true);
        assert!(granules.contain(&(60 * 4096..130 * 4096)));
        assert!(granules.contain(&(60 * 4096 + 5..60 * 4096 + 6)));
        assert!(!granules.contain(&(60 * 4096 - 1..60 * 4096 + 6)));
        assert!(!granules.contain(&(130 * 4096 - 1..130 * 4096 + 1)));
        assert!(granules.contain(&(7..7)) && !granules.contain(&(8..7)));
        assert!(!granules.contain(&(u64::MAX - 1..u64::MAX)));
        assert_eq!(granules.end_bytes(), 130 * 4096);
        granules.set(64..65, false);
        assert!(!granules.contain(&(60 * 4096..130 * 4096)));
        assert_eq!(granules.mapped(), [60..64, 65..130]);
        assert_eq!(granules.whole(&(65 * 4096..66 * 4096), true), Some(65..66));
        assert_eq!(granules.whole(&(64 * 4096..65 * 4096), false), Some(64..65));
        for wrong in [1..4096, 0..0, 0..201 * 4096] {
            assert_eq!(granules.whole(&wrong, false), None, "{wrong:?}");
        }
    }
}
