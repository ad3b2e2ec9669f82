//! Work of every kind, against plain bytes.

use mmsb_engine::device::Queue;
use mmsb_engine::device::layout::sum64;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{Check, MEMORY_BYTES, Open, noise, read, start_over, upload, zeroed};
use crate::device::{Op, model, ops, perform};

pub const CHECKS: &[Check] = &[
    (
        "work::does_what_it_does_to_plain_bytes",
        does_what_it_does_to_plain_bytes,
    ),
    ("work::copies_at_every_alignment", copies_at_every_alignment),
    ("work::fills_at_every_alignment", fills_at_every_alignment),
    ("work::sums_at_every_alignment", sums_at_every_alignment),
    ("work::reports_what_moved", reports_what_moved),
    ("work::of_no_bytes_is_done", of_no_bytes_is_done),
];

/// Part of the memory that random work uses.
const USED_BYTES: u64 = 256 * 1024;

fn does_what_it_does_to_plain_bytes(open: Open<'_>) {
    let device = zeroed(open);
    // The same programs in every run.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let programs = prop::collection::vec(ops(USED_BYTES), 1..20);
    TestRunner::new_with_rng(config, rng)
        .run(&programs, |program| {
            start_over(&*device);
            let mut memory = vec![0; USED_BYTES as usize];
            for op in &program {
                let expected = model(&mut memory, op);
                prop_assert_eq!(perform(&*device, op).unwrap(), expected, "{:?}", op);
            }
            prop_assert!(read(&*device, 0..USED_BYTES) == memory);
            Ok(())
        })
        .unwrap();
}

/// Lengths about which something changes: units, their multiples, blocks of threads.
const LENGTHS: [u64; 14] = [
    1, 3, 15, 16, 17, 31, 33, 255, 4095, 4097, 16_384, 16_385, 65_537, 200_003,
];

fn against_model(open: Open<'_>, program: impl Fn(u64, u64, u64) -> Op) {
    let device = zeroed(open);
    let mut memory = noise(1, MEMORY_BYTES as usize);
    upload(&*device, 0, &memory);
    for len in LENGTHS {
        for (from, to) in [
            (0, 0),
            (0, 1),
            (1, 0),
            (3, 7),
            (8, 4),
            (5, 5),
            (15, 2),
            (4, 8),
        ] {
            let op = program(from, 1 << 20 | to, len);
            let expected = model(&mut memory, &op);
            assert_eq!(perform(&*device, &op).unwrap(), expected, "{op:?}");
        }
    }
    assert!(read(&*device, 0..MEMORY_BYTES) == memory);
}

fn copies_at_every_alignment(open: Open<'_>) {
    against_model(open, |from, to, len| Op::Copy {
        from: from..from + len,
        to,
    });
}

fn fills_at_every_alignment(open: Open<'_>) {
    against_model(open, |from, to, len| Op::Fill {
        range: to..to + len,
        byte: (from + len) as u8,
    });
}

fn reports_what_moved(open: Open<'_>) {
    against_model(open, |from, to, len| Op::Move {
        from: from..from + len,
        to,
    });
    // Twice: the second time nothing changes.
    let device = zeroed(open);
    upload(&*device, 10, &[0, 0, 7, 0, 8, 0]);
    let op = Op::Move {
        from: 10..16,
        to: 1000,
    };
    let report = |first: u64, last: u64| [first.to_le_bytes(), last.to_le_bytes()].concat();
    assert_eq!(perform(&*device, &op).unwrap(), report(2, 4));
    assert_eq!(perform(&*device, &op).unwrap(), report(u64::MAX, 0));
}

fn sums_at_every_alignment(open: Open<'_>) {
    let device = zeroed(open);
    let memory = noise(2, MEMORY_BYTES as usize);
    upload(&*device, 0, &memory);
    for len in LENGTHS.into_iter().chain([8, 24, 2 << 20]) {
        for from in [0, 1, 4, 8, 13] {
            let range = from..from + len;
            let expected = sum64(&memory[from as usize..(from + len) as usize]);
            let sum = perform(&*device, &Op::Sum { range }).unwrap();
            assert_eq!(sum, expected.to_le_bytes(), "{len} bytes from {from}");
        }
    }
}

fn of_no_bytes_is_done(open: Open<'_>) {
    let device = zeroed(open);
    upload(&*device, 0, &[1; 16]);
    perform(&*device, &Op::Copy { from: 3..3, to: 9 }).unwrap();
    perform(
        &*device,
        &Op::Fill {
            range: 4..4,
            byte: 9,
        },
    )
    .unwrap();
    let sum = perform(&*device, &Op::Sum { range: 5..5 }).unwrap();
    assert_eq!(sum, [0; 8]);
    let moved = perform(&*device, &Op::Move { from: 3..3, to: 9 }).unwrap();
    assert_eq!(moved, [u64::MAX.to_le_bytes(), 0u64.to_le_bytes()].concat());
    assert_eq!(read(&*device, 0..16), [1; 16]);
    let fence = device.fence(Queue::Copy).unwrap();
    assert_eq!(device.is_reached(fence), Ok(true));
}
