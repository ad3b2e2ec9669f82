//! What [`Placement`] refuses, and what it costs.

use super::placement::{History, Placement, PlacementError};
use crate::page::MAX_PAGE_LEN_BYTES;

const KIB: u64 = 1024;

#[test]
fn refuses_lengths_that_no_page_has() {
    let mut placement = Placement::new(64 << 30);
    assert_eq!(placement.allocate(0), Err(PlacementError::ZeroLength));
    let len_bytes = MAX_PAGE_LEN_BYTES + 1;
    let too_long = Err(PlacementError::TooLong { len_bytes });
    assert_eq!(placement.allocate(len_bytes), too_long);
    assert!(placement.allocate(u64::MAX).is_err());
    assert_eq!(placement.allocate(MAX_PAGE_LEN_BYTES), Ok(0));
    assert_eq!(
        placement.allocate(MAX_PAGE_LEN_BYTES - 1),
        Ok(MAX_PAGE_LEN_BYTES)
    );
}

#[test]
fn out_of_space_says_what_was_asked_for_and_what_there_is() {
    let mut placement = Placement::new(100 * KIB);
    let error = placement.allocate(101 * KIB).unwrap_err();
    assert_eq!(
        error,
        PlacementError::OutOfSpace {
            requested_bytes: 101 * KIB,
            needed_bytes: 104 * KIB,
            largest_free_range_bytes: 100 * KIB,
        }
    );
    assert!(
        error
            .to_string()
            .contains("the largest free range has 102400")
    );
    assert_eq!(placement.allocate(5000), Ok(0));
    assert_eq!(
        placement.allocate(1),
        Err(PlacementError::OutOfSpace {
            requested_bytes: 1,
            needed_bytes: 64 * KIB,
            largest_free_range_bytes: 92 * KIB,
        }),
        "92 KiB are free, but no aligned 64 KiB"
    );
    assert_eq!(placement.statistics().allocations_total, 1);
}

#[test]
fn release_knows_slots_and_extents_to_the_byte() {
    let mut placement = Placement::new(1024 * KIB);
    let small = placement.allocate(100).unwrap();
    let large = placement.allocate(9000).unwrap();
    for offset in [
        small + 64,
        small + 128,
        large + 4096,
        large - 4096,
        1 << 40,
        u64::MAX,
    ] {
        let refused = placement.release(offset, 100);
        assert_eq!(refused, Err(PlacementError::NotAllocated { offset }));
    }
    for (offset, len_bytes, allocated_bytes) in [
        (small, 101, 100),
        (small, 0, 100),
        (small, 9000, 100),
        (large, 8999, 9000),
        (large, 100, 9000),
    ] {
        assert_eq!(
            placement.release(offset, len_bytes),
            Err(PlacementError::WrongLength {
                offset,
                len_bytes,
                allocated_bytes
            })
        );
    }
    assert_eq!(placement.release(small, 100), Ok(()));
    assert_eq!(placement.release(large, 9000), Ok(()));
    assert_eq!(placement.statistics().peak_footprint_bytes, 128 + 12 * KIB);
}

#[test]
fn restore_refuses_damaged_snapshots() {
    let restore = |live: &[(u64, u64)]| {
        Placement::restore(256 * KIB, live.iter().copied(), History::default()).unwrap_err()
    };
    let overlap = |offset, len_bytes| PlacementError::Overlap { offset, len_bytes };
    let misplaced = |offset, len_bytes| PlacementError::Misplaced { offset, len_bytes };
    let out_of_range = |offset, len_bytes| PlacementError::OutOfRange {
        offset,
        len_bytes,
        capacity_bytes: 256 * KIB,
    };
    assert_eq!(restore(&[(0, 0)]), PlacementError::ZeroLength);
    assert_eq!(restore(&[(0, 64), (0, 64)]), overlap(0, 64));
    assert_eq!(
        restore(&[(0, 64), (128, 128)]),
        overlap(128, 128),
        "another class"
    );
    assert_eq!(
        restore(&[(0, 64), (4096, 5000)]),
        overlap(4096, 5000),
        "in a slab"
    );
    assert_eq!(
        restore(&[(4096, 5000), (0, 64)]),
        overlap(0, 64),
        "a slab over it"
    );
    assert_eq!(restore(&[(0, 9000), (8192, 4096)]), overlap(8192, 4096));
    assert_eq!(restore(&[(32, 64)]), misplaced(32, 64));
    assert_eq!(
        restore(&[(64, 128)]),
        misplaced(64, 128),
        "between two slots"
    );
    assert_eq!(
        restore(&[(65_024, 1024)]),
        misplaced(65_024, 1024),
        "not a slot"
    );
    assert_eq!(restore(&[(64, 4096)]), misplaced(64, 4096));
    assert_eq!(restore(&[(252 * KIB, 4097)]), out_of_range(252 * KIB, 4097));
    assert_eq!(restore(&[(u64::MAX, 1)]), out_of_range(u64::MAX, 1));
}

#[test]
#[cfg_attr(miri, ignore = "pure safe code, and minutes under Miri")]
fn a_million_small_pages_fill_their_slabs() {
    let mut placement = Placement::new(256 << 30);
    for page in 0..1_000_000 {
        assert_eq!(placement.allocate(64), Ok(page * 64));
    }
    let figures = placement.statistics();
    assert_eq!(figures.live_bytes, 64_000_000);
    assert!(figures.waste_bytes < 64 * KIB, "{} B", figures.waste_bytes);
}
