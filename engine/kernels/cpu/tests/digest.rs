//! Digests are those of the `blake3` crate, for ranges of every kind of length, alone and together.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use common::{Memory, ORDERS, noise, run};
use mmsb_engine::device::kernels::DigestPlan;
use mmsb_kernels_cpu::Order;
use proptest::prelude::*;
use std::ops::Range;

/// Computes the digests of all ranges and compares.
fn check(bytes: &[u8], memory: &Memory, ranges: &[Range<u64>], order: Order) {
    let plan = DigestPlan::new(ranges).unwrap();
    let mut tables = Memory::new(plan.table_bytes());
    plan.write_tables(ranges, tables.bytes_mut()).unwrap();
    // Garbage to begin with, as on a device.
    let scratch = Memory::new(plan.scratch_bytes() as usize);
    let digests = Memory::new(plan.digest_bytes() as usize + 8);
    let (chunks, roots) = plan.launches(
        memory.address(),
        tables.address(),
        digests.address(),
        scratch.address(),
    );
    run(&chunks, order);
    if let Some(roots) = roots {
        run(&roots, order);
    }
    for (range, digest) in ranges.iter().zip(digests.bytes().as_chunks::<32>().0) {
        let expected = blake3::hash(&bytes[range.start as usize..range.end as usize]);
        assert_eq!(
            digest,
            expected.as_bytes(),
            "{range:?} of {} ranges",
            ranges.len()
        );
    }
    assert_eq!(digests.bytes()[plan.digest_bytes() as usize..], [0xa5; 8]);
}

/// Where something begins or ends: blocks, chunks, what shares a block of threads, one block of threads, and powers of two of them.
fn boundaries() -> Vec<u64> {
    let kib = 1024;
    let mut lengths = vec![1, 2, 3, 4, 5, 15, 16, 17];
    let edges = [
        64,
        128,
        kib,
        2 * kib,
        3 * kib,
        15 * kib,
        16 * kib,
        17 * kib,
        31 * kib,
        64 * kib,
        127 * kib,
        128 * kib,
        129 * kib,
    ]
    .into_iter()
    .chain([2, 3, 4, 5, 7, 8, 9].map(|blocks| blocks * 128 * kib))
    .chain([255, 256, 257].map(|blocks| blocks * 4 * kib));
    for edge in edges {
        lengths.extend([
            edge - 1,
            edge,
            edge + 1,
            edge + 64,
            edge + kib - 1,
            edge + kib,
        ]);
    }
    lengths
}

#[test]
fn every_boundary_alone() {
    let bytes = noise(2 << 20, 3);
    let memory = Memory::of(&bytes);
    for len_bytes in boundaries() {
        check(
            &bytes,
            &memory,
            std::slice::from_ref(&(0..len_bytes)),
            Order::Ascending,
        );
    }
}

#[test]
fn all_boundaries_in_one_launch_at_any_place() {
    let bytes = noise(2 << 20, 4);
    let memory = Memory::of(&bytes);
    let ranges: Vec<_> = boundaries()
        .into_iter()
        .enumerate()
        .map(|(i, len_bytes)| i as u64 * 7..i as u64 * 7 + len_bytes)
        .collect();
    for order in ORDERS {
        check(&bytes, &memory, &ranges, order);
    }
}

#[test]
fn several_mebibytes_and_more_nodes_than_threads() {
    // 34 MiB are 272 nodes for the second kernel, which has 256 threads; odd numbers of nodes on most levels.
    let bytes = noise((34 << 20) + 77, 5);
    let memory = Memory::of(&bytes);
    let len_bytes = bytes.len() as u64;
    check(
        &bytes,
        &memory,
        &[0..len_bytes, 4096..4096 + (3 << 20), 1..len_bytes],
        Order::Descending,
    );
}

#[test]
fn many_small_pages_take_one_launch() {
    let bytes = noise(64 * 10_000, 6);
    let memory = Memory::of(&bytes);
    let ranges: Vec<_> = (0..10_000).map(|i| i * 64..i * 64 + 64).collect();
    assert_eq!(
        DigestPlan::new(&ranges)
            .unwrap()
            .launches(0, 0, 0, 0)
            .0
            .grid_blocks(),
        79
    );
    check(&bytes, &memory, &ranges, Order::Ascending);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_ranges(
        ranges in prop::collection::vec((0_u64..200_000, prop_oneof![1_u64..200, 1_u64..20_000, 100_000_u64..300_000]), 1..60),
        seed: u64,
    ) {
        let bytes = noise(500_000, 7);
        let memory = Memory::of(&bytes);
        let ranges: Vec<_> = ranges.into_iter().map(|(start, len_bytes)| start..start + len_bytes).collect();
        check(&bytes, &memory, &ranges, Order::Shuffled(seed));
    }
}
