//! Which bytes of a mirror are not those of its page any more.

use std::ops::Range;

use smallvec::SmallVec;

use crate::planted::planted;

/// So many ranges are told apart. Each is one run of an upload; what lies between two that are merged is sent once more, which is
/// wasted and never wrong, as the page has it.
const MAX_RANGES: usize = 4;

/// Ranges of a page, in order and apart, that its mirror has yet to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    ranges: SmallVec<[Range<u64>; MAX_RANGES]>,
}

impl Behind {
    /// All of a page.
    pub(super) fn whole(len_bytes: u64) -> Self {
        Self {
            ranges: SmallVec::from_iter(std::iter::once(0..len_bytes)),
        }
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// Adds a range, which is not empty. Where there are too many, the two that are closest become one.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let first = self.ranges.partition_point(|known| known.end < range.start);
        let end = self
            .ranges
            .partition_point(|known| known.start <= range.end);
        if first == end {
            self.ranges.insert(first, range);
            return self.bound();
        }
        let last = self.ranges.get(end - 1).map_or(range.end, |last| last.end);
        if let Some(known) = self.ranges.get_mut(first) {
            known.start = known.start.min(range.start);
            known.end = last.max(range.end);
        }
        self.ranges.drain(first + 1..end);
    }

    fn bound(&mut self) {
        if self.ranges.len() <= MAX_RANGES {
            return;
        }
        let gaps = self.ranges.windows(2).map(|pair| match pair {
            [a, b] => b.start - a.end,
            _ => u64::MAX,
        });
        let closest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
        if planted!(MirrorForgetsRange) {
            self.ranges.pop();
            return;
        }
        if let Some((at, _)) = closest {
            let next = self.ranges.remove(at + 1);
            if let Some(range) = self.ranges.get_mut(at) {
                range.end = next.end;
            }
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, of which some have one"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut behind = Behind::default();
        for range in ranges {
            behind.add(range.clone());
        }
        behind.ranges().collect()
    }

    #[test]
    fn ranges_that_meet_become_one_and_others_stay_apart() {
        assert_eq!(of(&[4..8, 0..2]), [0..2, 4..8]);
        assert_eq!(of(&[4..8, 0..2, 2..4]), [0..8]);
        assert_eq!(of(&[0..1, 4..5, 8..9, 3..20]), [0..1, 3..20]);
        assert_eq!(of(&[0..9, 3..4]), [0..9]);
    }

    #[test]
    fn of_too_many_the_closest_become_one() {
        let found = of(&[0..1, 10..11, 13..14, 30..31, 40..41]);
        assert_eq!(found, [0..1, 10..14, 30..31, 40..41]);
        assert_eq!(Behind::whole(7).ranges().collect::<Vec<_>>(), [0..7]);
    }

    proptest! {
        #[test]
        fn all_that_was_added_is_there(
            ranges in prop::collection::vec((0..200u64, 1..20u64), 0..30),
        ) {
            let ranges: Vec<_> = ranges.iter().map(|(at, len)| *at..at + len).collect();
            let found = of(&ranges);
            prop_assert!(found.len() <= MAX_RANGES);
            prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
            for range in &ranges {
                let covers = |known: &Range<u64>| known.start <= range.start && range.end <= known.end;
                prop_assert!(found.iter().any(covers), "{found:?} {range:?}");
            }
            // Nothing outside of what was added, but gaps.
            let first = ranges.iter().map(|range| range.start).min();
            let end = ranges.iter().map(|range| range.end).max();
            prop_assert_eq!(found.first().map(|range| range.start), first);
            prop_assert_eq!(found.last().map(|range| range.end), end);
        }
    }
}
