//! Small sets of byte ranges: what of a page is to be computed, and what of it changed.

use std::ops::Range;

/// Ranges kept apart for one page. More are merged where the gap is smallest.
pub(super) const MAX_SPANS: usize = 8;

/// Ranges nearer than this are merged: computing so many bytes more is cheaper than another call.
const MERGE_GAP_BYTES: u32 = 64;

/// A non-empty range of bytes of a page. The end is inclusive so that 4 GiB fit in 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Span {
    /// The whole of a page of that length.
    #[inline]
    pub(super) fn whole(len_bytes: u64) -> Self {
        Self {
            first: 0,
            last: len_bytes.saturating_sub(1).min(u64::from(u32::MAX)) as u32,
        }
    }

    /// The part of `range` that lies in a page of that length, if any.
    pub(super) fn clip(range: &Range<u64>, len_bytes: u64) -> Option<Self> {
        let end = range.end.min(len_bytes);
        if range.start >= end {
            return None;
        }
        Some(Self {
            first: u32::try_from(range.start).ok()?,
            last: u32::try_from(end - 1).ok()?,
        })
    }

    #[inline]
    pub(super) fn range(self) -> Range<u64> {
        u64::from(self.first)..u64::from(self.last) + 1
    }

    #[inline]
    pub(super) fn len_bytes(self) -> u64 {
        u64::from(self.last) - u64::from(self.first) + 1
    }

    /// Rounded outwards to the granule, and cut at the end of the page.
    #[inline]
    pub(super) fn round(self, granule_mask: u32, page_len_bytes: u64) -> Self {
        Self {
            first: self.first & !granule_mask,
            last: (self.last | granule_mask).min(Self::whole(page_len_bytes).last),
        }
    }

    #[inline]
    pub(super) fn union(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// Bytes between two spans; 0 if they overlap or touch.
    #[inline]
    pub(super) fn gap_bytes(self, other: Self) -> u32 {
        let after = other.first.saturating_sub(self.last);
        let before = self.first.saturating_sub(other.last);
        after.max(before).saturating_sub(1)
    }

    /// Whether the two should be computed as one.
    #[inline]
    pub(super) fn is_near(self, other: Self) -> bool {
        self.gap_bytes(other) < MERGE_GAP_BYTES
    }
}

/// Up to [`MAX_SPANS`] spans in ascending order, none near another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spans {
    len: usize,
    // One more than is kept, so that a new one has a place before two are merged.
    spans: [Span; MAX_SPANS + 1],
}

impl Spans {
    /// Makes it hold `span` alone.
    #[inline]
    pub(super) fn set(&mut self, span: Span) {
        self.len = 1;
        if let Some(first) = self.spans.first_mut() {
            *first = span;
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[Span] {
        self.spans.get(..self.len).unwrap_or(&[])
    }

    /// Adds a span after all others, unchanged; used for results, which come in order.
    #[inline]
    pub(super) fn push(&mut self, span: Span) {
        if let Some(slot) = self.spans.get_mut(self.len) {
            *slot = span;
            self.len += 1;
        }
    }

    /// Adds a span, merging it with those that it is near, and the two nearest if there are too
    /// many. O([`MAX_SPANS`]).
    pub(super) fn insert(&mut self, span: Span) {
        let mut merged = Self::default();
        let mut new = span;
        let mut is_placed = false;
        for old in self.as_slice().iter().copied() {
            if old.is_near(new) {
                new = new.union(old);
                continue;
            }
            if old.first > new.last && !is_placed {
                merged.push(new);
                is_placed = true;
            }
            merged.push(old);
        }
        if !is_placed {
            merged.push(new);
        }
        if merged.len > MAX_SPANS {
            merged.merge_nearest();
        }
        *self = merged;
    }

    fn merge_nearest(&mut self) {
        let gaps = self
            .as_slice()
            .windows(2)
            .enumerate()
            .filter_map(|(i, pair)| match pair {
                [a, b] => Some((a.gap_bytes(*b), i)),
                _ => None,
            });
        let Some((_, at)) = gaps.min() else { return };
        let (old, mut at_old) = (*self, 0);
        self.clear();
        while let Some(span) = old.as_slice().get(at_old) {
            match old.as_slice().get(at_old + 1).filter(|_| at_old == at) {
                Some(next) => {
                    self.push(span.union(*next));
                    at_old += 2;
                }
                None => {
                    self.push(*span);
                    at_old += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_pages_fit() {
        assert_eq!(Span::whole(1 << 32).last, u32::MAX);
        assert_eq!(Span::whole(1 << 32).range(), 0..1 << 32);
        assert_eq!(Span::whole(1 << 32).len_bytes(), 1 << 32);
        assert_eq!(Span::clip(&(3..9), 5), Some(Span { first: 3, last: 4 }));
        assert_eq!(Span::clip(&(5..9), 5), None);
        assert_eq!(Span::clip(&Range { start: 4, end: 2 }, 5), None);
        assert_eq!(
            Span { first: 5, last: 9 }.round(7, 12),
            Span { first: 0, last: 11 }
        );
    }

    proptest! {
        #[test]
        fn spans_cover_what_was_added(
            added in prop::collection::vec((0_u32..4000, 0_u32..200), 1..40)
        ) {
            let mut spans = Spans::default();
            let mut exact = Vec::new();
            for (first, len) in added {
                let span = Span { first, last: first + len };
                spans.insert(span);
                exact.push(span);
                prop_assert!(spans.as_slice().len() <= MAX_SPANS);
            }
            for span in &exact {
                prop_assert!(spans.as_slice().iter().any(|s| s.first <= span.first && span.last <= s.last));
            }
            for pair in spans.as_slice().windows(2) {
                prop_assert!(pair[0].last < pair[1].first);
                prop_assert!(!pair[0].is_near(pair[1]));
            }
        }
    }

    #[test]
    fn far_spans_stay_apart_and_the_nearest_merge() {
        let mut spans = Spans::default();
        for i in 0..8_u32 {
            spans.insert(Span {
                first: i * 1000,
                last: i * 1000 + 15,
            });
        }
        assert_eq!(spans.as_slice().len(), 8);
        spans.insert(Span {
            first: 3200,
            last: 3215,
        });
        assert_eq!(spans.as_slice().len(), 8);
        assert!(spans.as_slice().contains(&Span {
            first: 3000,
            last: 3215
        }));
    }
}
