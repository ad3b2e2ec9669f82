//! Runs of bytes, applied in order.

use mmsb_engine::device::layout::{TILE_BYTES, Tile, TileRun};
use mmsb_engine::device::{Device, Work};

use super::{
    Check, MEMORY_BYTES, Open, failure_of, noise, read, refused, start_over, upload, zeroed,
};
use crate::device::{Op, Run, perform};

pub const CHECKS: &[Check] = &[
    ("apply::the_last_run_wins", the_last_run_wins),
    (
        "apply::many_runs_of_a_tile_keep_their_order",
        many_runs_of_a_tile_keep_their_order,
    ),
    (
        "apply::runs_of_every_length_and_alignment",
        runs_of_every_length_and_alignment,
    ),
    ("apply::many_tiles", many_tiles),
    (
        "apply::tables_that_contradict_themselves_are_told",
        tables_that_contradict_themselves_are_told,
    ),
    (
        "apply::tables_must_be_mapped_and_aligned",
        tables_must_be_mapped_and_aligned,
    ),
];

const STAGING: u64 = 3 << 20;

fn apply(device: &dyn Device, memory: &mut [u8], runs: Vec<Run>) {
    for (to, bytes) in &runs {
        memory[*to as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    let staging = STAGING;
    perform(device, &Op::Apply { staging, runs }).unwrap();
    assert!(read(device, 0..memory.len() as u64) == memory);
}

fn the_last_run_wins(open: Open<'_>) {
    let device = zeroed(open);
    let mut memory = vec![0; 64 << 10];
    let nested = (0..100u64).map(|i| (i, vec![i as u8; 200 - 2 * i as usize]));
    apply(&*device, &mut memory, nested.collect());
    let grown = (0..100u64).map(|i| (8192 + 99 - i, vec![i as u8; 2 * i as usize + 1]));
    apply(&*device, &mut memory, grown.collect());
    let whole_then_one = vec![
        (4096, vec![1; 4096]),
        (5000, vec![2]),
        (4096, vec![3; 4096]),
    ];
    apply(&*device, &mut memory, whole_then_one);
}

fn many_runs_of_a_tile_keep_their_order(open: Open<'_>) {
    let device = zeroed(open);
    let mut memory = vec![0; 64 << 10];
    // More than threads of a block, in a pattern that overlaps across rounds.
    for count in [127, 128, 129, 255, 256, 257, 1000] {
        let runs = (0..count as u64).map(|i| {
            let at = i * 37 % 3500;
            (at, noise(i, 1 + (i * 13 % 300) as usize))
        });
        apply(&*device, &mut memory, runs.collect());
    }
}

fn runs_of_every_length_and_alignment(open: Open<'_>) {
    let device = zeroed(open);
    let mut memory = vec![0; 1 << 20];
    let lengths = [
        1u64, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 100, 1000, 4000, 4096,
    ];
    let mut runs = Vec::new();
    let mut tile = 0;
    for len in lengths {
        for skew in 0..18 {
            if skew + len <= TILE_BYTES && tile < 250 {
                runs.push((tile * TILE_BYTES + skew, noise(tile, len as usize)));
                // Its end at the end of the tile, if both have room.
                if skew + 2 * len <= TILE_BYTES {
                    runs.push((
                        (tile + 1) * TILE_BYTES - len,
                        noise(tile + 999, len as usize),
                    ));
                }
                tile += 1;
            }
        }
    }
    apply(&*device, &mut memory, runs);
}

fn many_tiles(open: Open<'_>) {
    let device = zeroed(open);
    let mut memory = vec![0; 2 << 20];
    let runs = (0..2048u64).map(|i| {
        let tile = i * 7 % 512;
        (
            tile * TILE_BYTES + i % 4000,
            noise(i, 1 + (i % 96) as usize),
        )
    });
    apply(&*device, &mut memory, runs.collect());
}

fn table(tile: Tile, run: TileRun) -> Vec<u8> {
    let payload = [1, 2, 3, 4];
    [&tile.to_bytes()[..], &run.to_bytes(), &payload].concat()
}

fn work() -> Work<'static> {
    Work::Apply {
        tiles: STAGING,
        tile_count: 1,
        runs: STAGING + 16,
        run_count: 1,
        payload: STAGING + 24..STAGING + 28,
    }
}

fn tables_that_contradict_themselves_are_told(open: Open<'_>) {
    let device = zeroed(open);
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
    upload(&*device, STAGING, &table(tile, run));
    crate::device::perform(
        &*device,
        &Op::Fill {
            range: 0..1,
            byte: 0,
        },
    )
    .unwrap();
    let wrong = [
        (Tile { to: 8200, ..tile }, run),
        (
            Tile {
                run_count: 2,
                ..tile
            },
            run,
        ),
        (
            Tile {
                first_run: u32::MAX,
                ..tile
            },
            run,
        ),
        (
            Tile {
                to: MEMORY_BYTES * 4096,
                ..tile
            },
            run,
        ),
        (tile, TileRun { at: 4093, ..run }),
        (tile, TileRun { last: 4, ..run }),
        (tile, TileRun { from: 1, ..run }),
        (
            tile,
            TileRun {
                from: u32::MAX,
                ..run
            },
        ),
    ];
    for (tile, run) in wrong {
        upload(&*device, STAGING, &table(tile, run));
        let error = failure_of(&*device, &work());
        assert_eq!(error.kind(), "device.invalid", "{tile:?} {run:?}: {error}");
        assert!(device.fence(mmsb_engine::device::Queue::Compute).is_err());
        start_over(&*device);
    }
    upload(&*device, STAGING, &table(tile, run));
    device
        .submit(mmsb_engine::device::Queue::Compute, &work())
        .unwrap();
    assert_eq!(read(&*device, 8190..8198), [0, 0, 1, 2, 3, 4, 0, 0]);
}

fn tables_must_be_mapped_and_aligned(open: Open<'_>) {
    let device = zeroed(open);
    let apply = |tiles, tile_count, runs, run_count, payload| Work::Apply {
        tiles,
        tile_count,
        runs,
        run_count,
        payload,
    };
    refused(&*device, &apply(8, 0, 0, 0, 0..0));
    refused(&*device, &apply(0, 0, 4, 0, 0..0));
    refused(&*device, &apply(MEMORY_BYTES - 16, 2, 0, 0, 0..0));
    refused(&*device, &apply(0, 1, MEMORY_BYTES - 8, 2, 0..0));
    refused(&*device, &apply(0, 1, 16, 1, 0..MEMORY_BYTES + 1));
    refused(&*device, &apply(0, u32::MAX, 0, u32::MAX, 0..0));
}
