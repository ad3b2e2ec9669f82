//! Who last wrote which range of one page.

use std::collections::BTreeMap;

use crate::lsn::Lsn;

/// A range of a page that one run wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub start: u64,
    pub end: u64,
    pub lsn: Lsn,
    /// Number of the segment.
    pub sequence: u64,
    pub record_offset: u64,
    /// Where the byte at `start` stands in the segment.
    pub byte_offset: u64,
    pub by_disconnect: bool,
}

impl Extent {
    /// The part from `start` on.
    const fn from(self, start: u64) -> Self {
        Self {
            start,
            byte_offset: self.byte_offset + (start - self.start),
            ..self
        }
    }
}

/// Ranges that do not overlap, by their starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extents(BTreeMap<u64, Extent>);

impl Extents {
    /// Puts a range over what was there.
    pub(super) fn insert(&mut self, new: Extent) {
        if let Some((_, before)) = self.0.range_mut(..new.start).next_back()
            && before.end > new.start
        {
            let old = *before;
            before.end = new.start;
            if old.end > new.end {
                self.0.insert(new.end, old.from(new.end));
            }
        }
        while let Some((&start, &old)) = self.0.range(new.start..new.end).next() {
            self.0.remove(&start);
            if old.end > new.end {
                self.0.insert(new.end, old.from(new.end));
            }
        }
        self.0.insert(new.start, new);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The range that holds `offset`.
    pub(super) fn at(&self, offset: u64) -> Option<Extent> {
        let (_, extent) = self.0.range(..=offset).next_back()?;
        (offset < extent.end).then_some(*extent)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_run_over_a_byte_is_the_one_that_is_found(
            runs in prop::collection::vec((0..64_u64, 1..32_u64), 0..40),
        ) {
            let mut extents = Extents::default();
            let mut bytes = [None; 96];
            for (number, (start, len)) in runs.into_iter().enumerate() {
                let number = number as u64;
                extents.insert(Extent {
                    start,
                    end: start + len,
                    lsn: Lsn(number),
                    sequence: 1,
                    record_offset: 0,
                    byte_offset: 1000 * number,
                    by_disconnect: false,
                });
                for at in start..start + len {
                    bytes[at as usize] = Some((Lsn(number), 1000 * number + (at - start)));
                }
            }
            for (at, expected) in bytes.iter().enumerate() {
                let found = extents.at(at as u64);
                let found = found.map(|e| (e.lsn, e.byte_offset + at as u64 - e.start));
                prop_assert_eq!(found, *expected, "byte {}", at);
            }
            let all: Vec<_> = extents.iter().collect();
            prop_assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
