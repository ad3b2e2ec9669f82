//! Two pieces of work that touch the same memory with nothing to order them.

use std::ops::Range;

use super::item::{Item, Label};
use crate::device::reference::{PinnedUse, Space, accesses, invalid, overlap, pinned_use};
use crate::device::{DeviceError, PinnedSlice};

/// What a piece of work touched.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) label: Label,
    reads: Vec<Range<u64>>,
    writes: Vec<Range<u64>>,
    pinned: PinnedUse,
}

impl Touched {
    /// What `item` is going to touch.
    pub(super) fn by<S: Space>(item: &Item, space: &S) -> Result<Self, DeviceError> {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        accesses(space, &item.work(), |range, is_write| {
            let list = if is_write { &mut writes } else { &mut reads };
            list.push(range);
        })?;
        Ok(Self {
            label: item.label,
            reads: joined(reads),
            writes: joined(writes),
            pinned: pinned_use(&item.work()),
        })
    }

    /// Fails if this and `other`, between which there is no order, touch the same memory and one of them writes.
    pub(super) fn race_with(&self, other: &Self) -> Result<(), DeviceError> {
        let shared = common(&self.writes, &other.writes)
            .or_else(|| common(&self.writes, &other.reads))
            .or_else(|| common(&self.reads, &other.writes));
        let place = match (shared, pinned_race(self.pinned, other.pinned)) {
            (Some(range), _) => format!("device memory {}..{}", range.start, range.end),
            (None, Some(slice)) => format!(
                "pinned buffer {} at {}..{}",
                slice.buffer(),
                slice.start(),
                slice.start() + slice.len_bytes()
            ),
            (None, None) => return Ok(()),
        };
        Err(invalid(format!(
            "race: {} and {} touch {place}, one of them writes, and nothing orders them; \
             order the queues, or wait for a fence between them",
            other.label, self.label
        )))
    }
}

/// Whether two parts of pinned memory have a byte in common.
pub(super) fn pinned_overlap(a: PinnedSlice, b: PinnedSlice) -> bool {
    let range = |slice: PinnedSlice| {
        let start = slice.start() as u64;
        start..start + slice.len_bytes() as u64
    };
    a.buffer() == b.buffer() && overlap(&range(a), &range(b))
}

fn pinned_race(a: PinnedUse, b: PinnedUse) -> Option<PinnedSlice> {
    let (a, b) = match (a, b) {
        (PinnedUse::Write(a), PinnedUse::Write(b) | PinnedUse::Read(b))
        | (PinnedUse::Read(a), PinnedUse::Write(b)) => (a, b),
        _ => return None,
    };
    pinned_overlap(a, b).then_some(a)
}

/// The ranges in order, with neighbours joined and empty ones left out.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, previous| {
        let joins = next.start <= previous.end;
        if joins {
            previous.end = previous.end.max(next.end);
        }
        joins
    });
    ranges
}

/// The first bytes that are in both of two lists that are in order.
fn common(a: &[Range<u64>], b: &[Range<u64>]) -> Option<Range<u64>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        if overlap(x, y) {
            return Some(x.start.max(y.start)..x.end.min(y.end));
        }
        if x.end <= y.end {
            a.next();
        } else {
            b.next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_intersected() {
        let list = joined(vec![8..12, 0..4, 20..20, 4..6, 9..10, 30..40]);
        assert_eq!(list, [0..6, 8..12, 30..40]);
        assert_eq!(common(&list, &joined(vec![6..8, 12..30, 40..50])), None);
        assert_eq!(common(&list, &joined(vec![6..8, 35..50])), Some(35..40));
        assert_eq!(
            common(&joined(vec![0..60, 50..100]), &[7..8, 200..201]),
            Some(7..8)
        );
    }
}
