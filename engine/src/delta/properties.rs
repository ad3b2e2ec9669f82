//! Deltas against plain byte arrays.

use proptest::prelude::*;

use super::{Delta, DeltaError, DiffOptions};

const PAGE_LEN: usize = 300;

fn applied(delta: &Delta, page: &[u8]) -> Vec<u8> {
    let mut page = page.to_vec();
    delta.apply_to(&mut page).unwrap();
    page
}

fn ranges(delta: &Delta) -> Vec<(u64, u64)> {
    delta
        .run_ranges()
        .map(|range| (range.start, range.end))
        .collect()
}

/// A delta that fits a page of [`PAGE_LEN`], with gaps and touching runs.
fn delta() -> impl Strategy<Value = Delta> {
    let piece = (0..12_usize, prop::collection::vec(any::<u8>(), 1..20));
    prop::collection::vec(piece, 0..12).prop_map(|pieces| {
        let mut runs = Vec::new();
        let mut position = 0;
        for (gap, bytes) in pieces {
            let start = position + gap;
            position = start + bytes.len();
            if position <= PAGE_LEN {
                runs.push((start as u64, bytes));
            }
        }
        Delta::sparse(runs).unwrap()
    })
}

/// A page and another one that differs in some ranges.
fn two_pages() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let edits = prop::collection::vec(
        (any::<prop::sample::Index>(), 1..90_usize, any::<u8>()),
        0..12,
    );
    (prop::collection::vec(any::<u8>(), 0..5000), edits).prop_map(|(old, edits)| {
        let mut new = old.clone();
        for (start, len, flip) in edits.iter().filter(|_| !old.is_empty()) {
            let start = start.index(old.len());
            let end = old.len().min(start + len);
            for byte in &mut new[start..end] {
                *byte ^= flip;
            }
        }
        (old, new)
    })
}

/// The differing ranges, found a byte at a time.
fn naive_ranges(old: &[u8], new: &[u8], gap: usize) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for at in (0..old.len()).filter(|&at| old[at] != new[at]) {
        let at = at as u64;
        match ranges.last_mut() {
            Some((_, end)) if at - *end <= gap as u64 => *end = at + 1,
            _ => ranges.push((at, at + 1)),
        }
    }
    ranges
}

proptest! {
    #[test]
    fn diff_applied_to_the_old_is_the_new(
        (old, new) in two_pages(),
        gap_merge_bytes in 0..100_usize,
        offset in 0..200_u64,
    ) {
        let options = DiffOptions { offset: 0, gap_merge_bytes };
        let delta = Delta::diff(&old, &new, options).unwrap();
        prop_assert_eq!(ranges(&delta), naive_ranges(&old, &new, gap_merge_bytes));
        prop_assert_eq!(applied(&delta, &old), new.clone());

        let shifted = Delta::diff(&old, &new, DiffOptions { offset, gap_merge_bytes }).unwrap();
        prop_assert_eq!(shifted.payload(), delta.payload());
        let moved: Vec<_> = ranges(&delta).iter().map(|(a, b)| (a + offset, b + offset)).collect();
        prop_assert_eq!(ranges(&shifted), moved);
    }

    #[test]
    fn merge_does_what_both_do(earlier in delta(), later in delta()) {
        let page = vec![0xee; PAGE_LEN];
        let merged = earlier.merge(&later);
        prop_assert_eq!(applied(&merged, &page), applied(&later, &applied(&earlier, &page)));
        let touched: Vec<u8> = earlier.mask(PAGE_LEN).iter().zip(later.mask(PAGE_LEN))
            .map(|(a, b)| a | b).collect();
        prop_assert_eq!(merged.mask(PAGE_LEN), touched);
        let found = ranges(&merged);
        prop_assert!(found.iter().zip(found.iter().skip(1)).all(|(a, b)| a.1 < b.0));
    }

    #[test]
    fn compact_does_what_all_do(deltas in prop::collection::vec(delta(), 0..20)) {
        let page = vec![0xee; PAGE_LEN];
        let one_by_one = deltas.iter().fold(page.clone(), |page, delta| applied(delta, &page));
        let compacted = Delta::compact(&deltas);
        prop_assert_eq!(applied(&compacted, &page), one_by_one);
        let folded = deltas.iter().fold(Delta::empty(), |all, delta| all.merge(delta));
        if deltas.len() > 1 {
            prop_assert_eq!(compacted, folded);
        }
    }

    #[test]
    fn mask_and_payload_are_the_delta_again(delta in delta(), offset in 0..100_u64) {
        let mask = delta.mask(PAGE_LEN);
        let again = Delta::masked(0, &mask, delta.payload()).unwrap();
        prop_assert_eq!(&again, &Delta::empty().merge(&delta));
        let moved = Delta::masked(offset, &mask, delta.payload()).unwrap();
        prop_assert_eq!(moved.payload(), delta.payload());
        prop_assert_eq!(
            moved.bounds(),
            delta.bounds().map(|range| range.start + offset..range.end + offset)
        );
    }

    #[test]
    fn mask_marks_what_runs_cover(delta in delta(), len in 0..2 * PAGE_LEN) {
        let mask = delta.mask(len);
        prop_assert_eq!(mask.len(), len.div_ceil(8));
        for at in 0..mask.len() * 8 {
            let covered = delta.run_ranges().any(|range| range.contains(&(at as u64)));
            prop_assert_eq!(mask[at / 8] >> (at % 8) & 1 == 1, covered && at < len);
        }
    }

    #[test]
    fn parts_are_the_delta_again(delta in delta()) {
        let parts = delta.run_ranges().map(|range| (range.start, range.end - range.start));
        let again = Delta::from_parts(parts, delta.payload()).unwrap();
        prop_assert_eq!(&again, &delta);
        prop_assert_eq!(Delta::sparse(delta.runs()).unwrap(), delta.clone());
        let reversed: Vec<_> = delta.runs().collect();
        prop_assert_eq!(Delta::sparse(reversed.into_iter().rev()).unwrap(), delta);
    }

    #[test]
    fn sparse_refuses_exactly_what_overlaps(
        runs in prop::collection::vec((0..60_u64, 0..6_usize), 0..8),
    ) {
        let mut hits = [0; 70];
        for (offset, len) in &runs {
            hits[*offset as usize..][..*len].iter_mut().for_each(|hit| *hit += 1);
        }
        let built = Delta::sparse(runs.iter().map(|(offset, len)| (*offset, vec![0; *len])));
        if runs.iter().any(|(_, len)| *len == 0) {
            let refused = matches!(built, Err(DeltaError::Empty { .. }));
            prop_assert!(refused);
        } else if hits.iter().any(|hit| *hit > 1) {
            let refused = matches!(built, Err(DeltaError::Overlap { .. }));
            prop_assert!(refused);
        } else {
            prop_assert_eq!(built.unwrap().run_count(), runs.len());
        }
    }
}
