//! Digests, against BLAKE3's own implementation.

use std::ops::Range;

use mmsb_engine::device::Work;

use super::{Check, MEMORY_BYTES, Open, noise, refused, upload, zeroed};
use crate::device::{Op, Pinned, perform};

pub const CHECKS: &[Check] = &[
    ("digest::of_every_length", of_every_length),
    ("digest::of_many_ranges_at_once", of_many_ranges_at_once),
    ("digest::of_nothing_is_refused", of_nothing_is_refused),
];

fn compare(open: Open<'_>, batches: &[Vec<Range<u64>>]) {
    let device = zeroed(open);
    let memory = noise(5, MEMORY_BYTES as usize);
    upload(&*device, 0, &memory);
    for ranges in batches {
        let ranges = ranges.clone();
        let digests = perform(
            &*device,
            &Op::Digest {
                ranges: ranges.clone(),
            },
        )
        .unwrap();
        for (position, range) in ranges.into_iter().enumerate() {
            let expected = blake3::hash(&memory[range.start as usize..range.end as usize]);
            assert_eq!(
                digests[position * 32..][..32],
                *expected.as_bytes(),
                "{range:?}, the {position}th"
            );
        }
    }
}

/// Lengths about which the tree of BLAKE3 or the plan of the kernels changes.
fn lengths() -> Vec<u64> {
    let kib = [
        1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 384,
        1000, 1024,
    ];
    let around = kib
        .into_iter()
        .flat_map(|kib| [kib * 1024 - 1, kib * 1024, kib * 1024 + 1]);
    [1, 2, 63, 64, 65, 127, 128, 129]
        .into_iter()
        .chain(around)
        .collect()
}

fn of_every_length(open: Open<'_>) {
    let one_by_one = lengths().into_iter().enumerate().map(|(position, len)| {
        let start = position as u64 % 19;
        std::iter::once(start..start + len).collect()
    });
    compare(open, &one_by_one.collect::<Vec<_>>());
}

fn of_many_ranges_at_once(open: Open<'_>) {
    let mixed: Vec<Range<u64>> = lengths()
        .into_iter()
        .enumerate()
        .map(|(position, len)| position as u64 * 777..position as u64 * 777 + len)
        .collect();
    let small = (0..3000u64).map(|i| i * 100..i * 100 + 1 + i % 5000);
    let cells = (0..20_000u64).map(|i| i * 64..i * 64 + 64);
    compare(open, &[mixed, small.collect(), cells.collect()]);
}

fn of_nothing_is_refused(open: Open<'_>) {
    let device = zeroed(open);
    let pinned = Pinned::new(&*device, 64);
    let to = pinned.whole();
    refused(
        &*device,
        &Work::Digest {
            ranges: &[0..10, 5..5],
            to,
        },
    );
}
