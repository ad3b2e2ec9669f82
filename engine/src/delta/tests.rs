//! What a delta is, and what is refused.

use super::runs::Run;
use super::{Delta, DeltaError, DiffOptions};
use crate::page::MAX_PAGE_LEN_BYTES;

fn sparse(runs: &[(u64, &[u8])]) -> Result<Delta, DeltaError> {
    Delta::sparse(runs.iter().copied())
}

fn ranges(delta: &Delta) -> Vec<(u64, u64)> {
    delta
        .run_ranges()
        .map(|range| (range.start, range.end))
        .collect()
}

#[test]
fn a_dense_delta_is_one_run() {
    let delta = Delta::dense(10, b"abc").unwrap();
    assert_eq!(delta.runs().collect::<Vec<_>>(), [(10, &b"abc"[..])]);
    assert_eq!((delta.run_count(), delta.changed_bytes()), (1, 3));
    assert_eq!(delta.bounds(), Some(10..13));
    assert_eq!(delta, sparse(&[(10, b"abc")]).unwrap());
    assert_eq!(
        Delta::dense(4, []),
        Err(DeltaError::Empty { run: 0, offset: 4 })
    );
}

#[test]
fn the_empty_delta_changes_nothing() {
    let delta = Delta::empty();
    assert_eq!(delta, sparse(&[]).unwrap());
    assert_eq!(delta, Delta::default());
    assert_eq!(delta, Delta::masked(0, &[0, 0], []).unwrap());
    assert_eq!(delta, Delta::compact(Vec::<Delta>::new()));
    assert!(delta.is_empty() && delta.bounds().is_none());
    assert_eq!(delta.validate(0), Ok(()));
    assert_eq!(delta.mask(9), [0, 0]);
}

#[test]
fn runs_reach_the_last_byte_of_the_longest_page_and_no_further() {
    let last = MAX_PAGE_LEN_BYTES - 1;
    let delta = Delta::dense(last, b"z").unwrap();
    assert_eq!(delta.bounds(), Some(last..MAX_PAGE_LEN_BYTES));
    assert_eq!(delta.validate(MAX_PAGE_LEN_BYTES), Ok(()));
    let whole = Run::new(0, 0, 1 << 32).unwrap();
    assert_eq!((whole.len(), whole.end()), (1 << 32, MAX_PAGE_LEN_BYTES));
    for (offset, len) in [(last, 2), (last + 1, 1), (u64::MAX, 1), (0, (1 << 32) + 1)] {
        let len_bytes = len as u64;
        assert_eq!(
            Run::new(3, offset, len),
            Err(DeltaError::TooLarge {
                run: 3,
                offset,
                len_bytes
            })
        );
    }
    assert!(matches!(
        Delta::masked(u64::MAX, &[0b11], b"xy"),
        Err(DeltaError::TooLarge { .. })
    ));
}

#[test]
fn overlap_names_both_runs_as_they_were_given() {
    let error = sparse(&[(20, b"later"), (0, b"first"), (4, b"second")]).unwrap_err();
    assert_eq!(
        error,
        DeltaError::Overlap {
            run: 2,
            offset: 4,
            len_bytes: 6,
            other_run: 1,
            other_offset: 0,
            other_len_bytes: 5,
        }
    );
    assert!(
        error
            .to_string()
            .starts_with("run 2 (6 B at offset 4) overlaps run 1 (5 B")
    );
    assert_eq!(
        sparse(&[(0, b"ab"), (2, b"cd")]).unwrap().run_count(),
        2,
        "touching"
    );
}

#[test]
fn a_run_past_the_page_is_refused_before_anything_is_written() {
    let delta = sparse(&[(0, b"aa"), (3, b"bb"), (8, b"cc")]).unwrap();
    let mut page = *b"....";
    assert_eq!(
        delta.apply_to(&mut page),
        Err(DeltaError::OutOfRange {
            run: 1,
            offset: 3,
            len_bytes: 2,
            page_len_bytes: 4,
        })
    );
    assert_eq!(&page, b"....");
    assert_eq!(delta.validate(10), Ok(()));
    assert!(delta.validate(9).is_err());
}

#[test]
fn masked_takes_the_selected_bytes_only() {
    let delta = Delta::masked(100, &[0b1000_0001, 0b0000_0011, 0, 0x80], b"abcde").unwrap();
    assert_eq!(
        delta.runs().collect::<Vec<_>>(),
        [(100, &b"a"[..]), (107, b"bcd"), (131, b"e")]
    );
    assert_eq!(
        Delta::masked(0, &[0xff], b"seven b"),
        Err(DeltaError::MaskMismatch {
            selected_bytes: 8,
            given_bytes: 7
        })
    );
}

#[test]
fn parts_must_be_canonical() {
    let parts =
        |runs: &[(u64, u64)], payload: &[u8]| Delta::from_parts(runs.iter().copied(), payload);
    assert!(matches!(
        parts(&[(5, 1), (2, 1)], b"ab"),
        Err(DeltaError::Unsorted { run: 1, .. })
    ));
    assert!(matches!(
        parts(&[(5, 2), (6, 1)], b"abc"),
        Err(DeltaError::Overlap { run: 1, .. })
    ));
    assert!(matches!(
        parts(&[(5, 0)], b""),
        Err(DeltaError::Empty { run: 0, offset: 5 })
    ));
    assert!(matches!(
        parts(&[(0, u64::MAX)], b""),
        Err(DeltaError::TooLarge { run: 0, .. })
    ));
    for payload in [&b"a"[..], b"abc"] {
        assert_eq!(
            parts(&[(5, 1), (6, 1)], payload),
            Err(DeltaError::LengthMismatch {
                expected_bytes: 2,
                given_bytes: payload.len() as u64
            })
        );
    }
}

#[test]
fn diff_merges_gaps_up_to_the_limit_across_chunks() {
    let old = vec![0; 4096];
    let mut new = old.clone();
    for at in [0, 17, 35, 62, 64, 1023, 1024, 4095] {
        new[at] = 1;
    }
    let diff = |gap_merge_bytes| {
        let options = DiffOptions {
            offset: 0,
            gap_merge_bytes,
        };
        ranges(&Delta::diff(&old, &new, options).unwrap())
    };
    let merged = [(0, 18), (35, 36), (62, 65), (1023, 1025), (4095, 4096)];
    assert_eq!(diff(16), merged);
    assert_eq!(diff(0).len(), 7);
    assert_eq!(diff(usize::MAX), [(0, 4096)]);
    assert_eq!(
        Delta::diff(&old, &new[1..], DiffOptions::default()),
        Err(DeltaError::LengthMismatch {
            expected_bytes: 4096,
            given_bytes: 4095
        })
    );
}

#[test]
fn debug_lists_ranges_and_no_bytes() {
    let delta = Delta::sparse((0..10).map(|run| (run * 4, b"s"))).unwrap();
    let shown = format!("{delta:?}");
    assert!(shown.starts_with("Delta(10 B in [0..1, 4..5,"), "{shown}");
    assert!(shown.ends_with("and 2 more)"), "{shown}");
    assert_eq!(
        format!("{:?}", Delta::dense(7, b"s").unwrap()),
        "Delta(1 B in [7..8])"
    );
}
