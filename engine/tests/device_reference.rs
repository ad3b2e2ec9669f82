//! What each piece of work does, on the host device: against plain bytes, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::reversed_empty_ranges,
    reason = "a test that fails panics, and bad ranges are meant"
)]

mod device;

use device::{Op, Pinned, batch, finish, model, ops, perform};
use mmsb_engine::device::layout::{Tile, TileRun};
use mmsb_engine::device::{Combine, Device, DeviceError, DeviceKind, HostDevice, Queue, Work};
use mmsb_engine::graph::{Form, Lane, Semiring};
use proptest::prelude::*;

/// A quarter of it is longer than what is computed at a time.
const MEMORY_BYTES: u64 = 256 * 1024;

fn mapped() -> HostDevice {
    let device = HostDevice::new(MEMORY_BYTES).unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    perform(
        &device,
        &Op::Fill {
            range: 0..MEMORY_BYTES,
            byte: 0,
        },
    )
    .unwrap();
    device
}

fn contents(device: &dyn Device) -> Vec<u8> {
    perform(
        device,
        &Op::Download {
            range: 0..MEMORY_BYTES,
        },
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn work_does_what_it_does_to_plain_bytes(ops in prop::collection::vec(ops(MEMORY_BYTES), 1..20)) {
        let device = mapped();
        let mut memory = vec![0; MEMORY_BYTES as usize];
        for op in &ops {
            let expected = model(&mut memory, op);
            prop_assert_eq!(perform(&device, op).unwrap(), expected, "{:?}", op);
        }
        prop_assert!(contents(&device) == memory);
    }
}

/// Each request is refused, and nothing changes.
fn refused(device: &dyn Device, work: &Work<'_>, message: &str) {
    let error = device.submit(Queue::Compute, work).unwrap_err();
    assert!(matches!(error, DeviceError::Invalid { .. }), "{error}");
    assert!(
        error.to_string().contains(message),
        "{error}, not {message}"
    );
}

#[test]
fn ranges_without_memory_are_refused() {
    let cases = |pinned: &Pinned| {
        let four = pinned.slice(0..4);
        let sixteen = pinned.slice(0..16);
        vec![
            (
                Work::Upload {
                    from: four,
                    to: MEMORY_BYTES - 3,
                },
                "never mapped",
            ),
            (
                Work::Upload {
                    from: four,
                    to: u64::MAX - 2,
                },
                "beyond the last offset",
            ),
            (
                Work::Download {
                    from: MEMORY_BYTES * 4,
                    to: four,
                },
                "outside of the address range",
            ),
            (Work::Copy { from: 0..8, to: 4 }, "overlap"),
            (
                Work::Copy {
                    from: 0..8,
                    to: MEMORY_BYTES,
                },
                "never mapped",
            ),
            (
                Work::Copy {
                    from: MEMORY_BYTES..MEMORY_BYTES + 1,
                    to: 0,
                },
                "never mapped",
            ),
            (
                Work::Move {
                    from: 8..16,
                    to: 4,
                    changed: sixteen,
                },
                "overlap",
            ),
            (
                Work::Move {
                    from: 8..16,
                    to: 0,
                    changed: four,
                },
                "4 pinned bytes for a result of 16",
            ),
            (
                Work::Fill {
                    range: 5..4,
                    byte: 1,
                },
                "outside of the address range",
            ),
            (
                Work::Sum {
                    range: 0..8,
                    to: four,
                },
                "4 pinned bytes for a result of 8",
            ),
            (
                Work::Digest {
                    ranges: &[],
                    to: four,
                },
                "4 pinned bytes for a result of 0",
            ),
        ]
    };
    let count = cases(&Pinned::new(&mapped(), 64)).len();
    for case in 0..count {
        let device = mapped();
        let pinned = Pinned::new(&device, 64);
        pinned.write(0, &[7; 64]);
        let before = contents(&device);
        let (work, message) = cases(&pinned).swap_remove(case);
        refused(&device, &work, message);
        let again = device.submit(
            Queue::Copy,
            &Work::Fill {
                range: 0..1,
                byte: 1,
            },
        );
        assert!(
            again.is_err(),
            "a failed device does nothing until it is reset"
        );
        device.reset().unwrap();
        device.map(0..MEMORY_BYTES).unwrap();
        perform(
            &device,
            &Op::Fill {
                range: 0..MEMORY_BYTES,
                byte: 0,
            },
        )
        .unwrap();
        assert!(contents(&device) == before);
        assert_eq!(pinned.all(), [7; 64]);
    }
}

#[test]
fn combinations_that_do_not_exist_are_refused() {
    let how = |semiring, lane, form| Combine {
        semiring,
        lane,
        form,
    };
    let plus = how(Semiring::PlusTimes, Lane::U32, Form::Sum);
    let products = how(Semiring::PlusTimes, Lane::U32, Form::Products);
    let cases: [(Combine, &[u64], std::ops::Range<u64>, &str); 6] = [
        (
            how(Semiring::XorAnd, Lane::F32, Form::Sum),
            &[4096],
            0..4,
            "f32",
        ),
        (plus, &[], 0..4, "0 parents"),
        (products, &[4096; 3], 0..4, "3 parents"),
        (plus, &[4096], 0..6, "whole lanes"),
        (plus, &[0], 0..4, "overlap"),
        (plus, &[MEMORY_BYTES], 0..4, "never mapped"),
    ];
    for (combine, inputs, range, message) in cases {
        let device = mapped();
        let pinned = Pinned::new(&device, 16);
        let changed = pinned.whole();
        refused(
            &device,
            &Work::Combine {
                combine,
                inputs,
                output: 0,
                range,
                changed,
            },
            message,
        );
    }
}

#[test]
fn tables_that_contradict_themselves_are_refused() {
    let tile = Tile {
        to: 8192,
        first_run: 0,
        run_count: 1,
    };
    let run = TileRun {
        from: 0,
        at: 0,
        last: 3,
    };
    let cases: Vec<(Vec<Tile>, TileRun, &str)> = vec![
        (vec![Tile { to: 8200, ..tile }], run, "no multiple of 4096"),
        (
            vec![Tile {
                run_count: 0,
                ..tile
            }],
            run,
            "no runs",
        ),
        (
            vec![Tile {
                run_count: 2,
                ..tile
            }],
            run,
            "of a table of 1",
        ),
        (
            vec![Tile {
                first_run: u32::MAX,
                ..tile
            }],
            run,
            "of a table of 1",
        ),
        (
            vec![Tile {
                to: MEMORY_BYTES,
                ..tile
            }],
            run,
            "never mapped",
        ),
        (
            vec![Tile {
                to: u64::MAX - 4095,
                ..tile
            }],
            TileRun { at: 4092, ..run },
            "beyond the last offset",
        ),
        (vec![tile, tile], run, "two tiles are the one at 8192"),
        (vec![tile], TileRun { at: 4093, ..run }, "leaves its tile"),
        (
            vec![tile],
            TileRun { last: 4, ..run },
            "leaves a payload of 4",
        ),
        (
            vec![tile],
            TileRun {
                from: u32::MAX,
                ..run
            },
            "leaves a payload of 4",
        ),
        (
            vec![Tile { to: 4096, ..tile }],
            run,
            "which the batch reads",
        ),
    ];
    for (tiles, run, message) in cases {
        let device = mapped();
        let mut table: Vec<u8> = tiles.iter().flat_map(|tile| tile.to_bytes()).collect();
        let runs = 4096 + table.len() as u64;
        table.extend(run.to_bytes());
        table.extend([1, 2, 3, 4]);
        perform(
            &device,
            &Op::Upload {
                to: 4096,
                bytes: table.clone(),
            },
        )
        .unwrap();
        let work = Work::Apply {
            tiles: 4096,
            tile_count: tiles.len() as u32,
            runs,
            run_count: 1,
            payload: runs + 8..runs + 12,
        };
        refused(&device, &work, message);
    }
    let device = mapped();
    let apply = |tiles, runs| Work::Apply {
        tiles,
        tile_count: 0,
        runs,
        run_count: 0,
        payload: 0..0,
    };
    refused(&device, &apply(8, 0), "no multiple of 16");
    device.reset().unwrap();
    refused(&device, &apply(0, 4), "no multiple of 8");
}

#[test]
fn the_last_run_wins() {
    let device = mapped();
    let runs = vec![
        (10, vec![1; 8]),
        (12, vec![2; 2]),
        (5000, vec![3]),
        (13, vec![4]),
    ];
    assert_eq!(batch(&runs).2, 2, "two tiles");
    perform(
        &device,
        &Op::Apply {
            staging: 131072,
            runs,
        },
    )
    .unwrap();
    let bytes = perform(&device, &Op::Download { range: 9..19 }).unwrap();
    assert_eq!(bytes, [0, 1, 1, 2, 4, 1, 1, 1, 1, 0]);
}

#[test]
fn mapping_is_by_whole_granules_and_within_memory() {
    const TWO_GRANULES: u64 = 128 * 1024;
    let device = HostDevice::new(TWO_GRANULES).unwrap();
    let info = device.info();
    assert_eq!(
        (info.kind, info.memory_bytes),
        (DeviceKind::Host, TWO_GRANULES)
    );
    let granule = info.granule_bytes;
    for bad in [
        0..0,
        0..1,
        1..granule,
        granule..0,
        0..info.reserved_bytes + granule,
    ] {
        assert_eq!(device.map(bad).unwrap_err().kind(), "device.invalid");
    }
    let last = info.reserved_bytes - granule;
    device.map(last..info.reserved_bytes).unwrap();
    assert_eq!(
        device.map(last..info.reserved_bytes).unwrap_err().kind(),
        "device.invalid"
    );
    device.map(0..granule).unwrap();
    let error = device.map(granule..granule * 2).unwrap_err();
    let expected = DeviceError::OutOfMemory {
        asked_bytes: granule,
        mapped_bytes: TWO_GRANULES,
        capacity_bytes: TWO_GRANULES,
    };
    assert_eq!(error, expected);
    device.unmap(0..granule).unwrap();
    assert_eq!(
        device.unmap(0..granule).unwrap_err().kind(),
        "device.invalid"
    );
    refused(
        &device,
        &Work::Fill {
            range: 0..1,
            byte: 1,
        },
        "unmapped",
    );
}

#[test]
fn pinned_memory_is_known_by_buffer_and_device() {
    let device = mapped();
    let pinned = Pinned::new(&device, 10);
    assert_eq!(pinned.all(), [0; 10]);
    assert!(pinned.0.slice(5..11).is_none());
    let slice = pinned.slice(5..10);
    let other = mapped();
    let _same_id = Pinned::new(&other, 10);
    refused(&other, &Work::Upload { from: slice, to: 0 }, "another one");
    drop(pinned);
    refused(&device, &Work::Upload { from: slice, to: 0 }, "is gone");
    assert_eq!(device.pin(0).unwrap_err().kind(), "device.invalid");
    device.reset().unwrap();
    assert_eq!(
        device.pin(usize::MAX / 2 + 1).unwrap_err().kind(),
        "device.pinned"
    );
}

#[test]
fn fences_are_reached_when_they_are_made() {
    let device = mapped();
    device
        .submit(
            Queue::Copy,
            &Work::Fill {
                range: 0..1,
                byte: 1,
            },
        )
        .unwrap();
    let fence = device.fence(Queue::Copy).unwrap();
    assert_eq!(
        (fence.sequence, device.is_reached(fence).unwrap()),
        (1, true)
    );
    device.order(Queue::Compute, fence).unwrap();
    let early = mmsb_engine::device::Fence {
        sequence: 2,
        ..fence
    };
    assert_eq!(device.wait(early).unwrap_err().kind(), "device.invalid");
    finish(&device, Queue::Compute).unwrap();
}
