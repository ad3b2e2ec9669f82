//! Runs are applied as one after another would be, whatever their tables look like, and bad tables are refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use common::{Memory, ORDERS, noise, run};
use mmsb_engine::device::kernels::{Apply, ApplyFault, Launch};
use mmsb_engine::device::layout::{Tile, TileRun};
use mmsb_kernels_cpu::Order;
use proptest::prelude::*;

/// What a batch is made of.
#[derive(Clone, Debug)]
struct Batch {
    memory_len_bytes: usize,
    tiles: Vec<Tile>,
    runs: Vec<TileRun>,
    payload_len_bytes: usize,
}

/// The obvious way: one run after the other, checked one by one.
fn reference(batch: &Batch, payload: &[u8], memory: &mut [u8]) -> Option<ApplyFault> {
    let mut fault = None;
    let mut found = |what: ApplyFault| fault = fault.max(Some(what));
    for tile in &batch.tiles {
        let first = tile.first_run as usize;
        let Some(runs) = batch
            .runs
            .get(first..)
            .and_then(|runs| runs.get(..tile.run_count as usize))
        else {
            found(ApplyFault::Runs);
            continue;
        };
        if !tile.to.is_multiple_of(4096) {
            found(ApplyFault::Alignment);
            continue;
        }
        for run in runs {
            let len_bytes = usize::from(run.last) + 1;
            if usize::from(run.at) + len_bytes > 4096 {
                found(ApplyFault::Tile);
                continue;
            }
            let Some(from) = payload
                .get(run.from as usize..)
                .and_then(|from| from.get(..len_bytes))
            else {
                found(ApplyFault::Payload);
                continue;
            };
            let to = usize::try_from(tile.to)
                .ok()
                .and_then(|start| start.checked_add(usize::from(run.at)))
                .and_then(|start| memory.get_mut(start..))
                .and_then(|to| to.get_mut(..len_bytes));
            match to {
                Some(to) => to.copy_from_slice(from),
                None => found(ApplyFault::Memory),
            }
        }
    }
    fault
}

fn table<const LEN: usize>(entries: impl Iterator<Item = [u8; LEN]>) -> Memory {
    Memory::of(&entries.flatten().collect::<Vec<_>>())
}

/// Applies the batch in the given order and compares with the reference.
fn check(batch: &Batch, payload_skew: usize, multiprocessors: u32, order: Order) {
    let payload_bytes = noise(batch.payload_len_bytes, 1);
    let mut expected = noise(batch.memory_len_bytes, 2);
    let mut memory = Memory::of(&expected);
    let expected_fault = reference(batch, &payload_bytes, &mut expected);

    let tiles = table(batch.tiles.iter().map(|tile| tile.to_bytes()));
    let runs = table(batch.runs.iter().map(|run| run.to_bytes()));
    let mut payload = Memory::new(payload_skew + payload_bytes.len());
    payload.bytes_mut()[payload_skew..].copy_from_slice(&payload_bytes);
    let fault = Memory::of(&[0; 8]);
    let apply = Apply {
        memory: memory.address(),
        memory_len_bytes: batch.memory_len_bytes as u64,
        tiles: tiles.address(),
        tile_count: batch.tiles.len() as u32,
        runs: runs.address(),
        run_count: batch.runs.len() as u32,
        payload: payload.address() + payload_skew as u64,
        payload_len_bytes: batch.payload_len_bytes as u64,
        fault: fault.address(),
    };
    run(&Launch::apply(&apply, multiprocessors), order);
    let found = ApplyFault::from_code(fault.word() as u32);
    assert_eq!(found, expected_fault, "{order:?}");
    let wrong = memory
        .bytes_mut()
        .iter()
        .zip(&expected)
        .position(|(found, expected)| found != expected);
    assert_eq!(wrong, None, "byte, in {order:?}");
}

/// Runs of one tile: their places and lengths.
fn places() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let cut = |most: usize| {
        // Cuts in ascending order make runs that do not overlap.
        prop::collection::btree_set(0_u16..4096, 2..most).prop_map(|cuts| {
            let cuts: Vec<u16> = cuts.into_iter().collect();
            cuts.windows(2)
                .map(|pair| (pair[0], pair[1] - pair[0] - 1))
                .step_by(1 + cuts.len() % 2)
                .collect::<Vec<_>>()
        })
    };
    let any = (0_u16..4096, 0_u16..4096).prop_map(|(at, last)| (at, last.min(4095 - at)));
    let short = (0_u16..4096, 0_u16..40).prop_map(|(at, last)| (at, last.min(4095 - at)));
    prop_oneof![
        any.clone().prop_map(|run| vec![run]),
        Just(vec![(0, 4095)]),
        Just((0..32).map(|i| (i * 128, 127)).collect()),
        Just((0..32).rev().map(|i| (i * 128, 127)).collect()),
        cut(40),
        cut(40).prop_shuffle(),
        cut(400).prop_shuffle(),
        prop::collection::vec(any, 2..6),
        prop::collection::vec(short.clone(), 2..140),
        prop::collection::vec(short, 2..500),
    ]
}

/// How a payload offset goes with a place: congruent, as the log has them, or any.
fn batches() -> impl Strategy<Value = Batch> {
    let tile = (
        places(),
        prop::bool::ANY,
        prop::collection::vec(any::<u32>(), 8),
    );
    (prop::collection::vec(tile, 1..6), 0_usize..5).prop_map(|(tiles, gap)| {
        let payload_len_bytes = 20_000;
        let mut batch = Batch {
            memory_len_bytes: 4096 * 8,
            tiles: Vec::new(),
            runs: Vec::new(),
            payload_len_bytes,
        };
        for (position, (places, is_congruent, draws)) in tiles.into_iter().enumerate() {
            batch.tiles.push(Tile {
                to: 4096 * ((position * 5 + gap) % 8) as u64,
                first_run: batch.runs.len() as u32,
                run_count: places.len() as u32,
            });
            for (number, (at, last)) in places.into_iter().enumerate() {
                let draw = draws[number % 8].wrapping_mul(number as u32 * 2 + 1) % 15_000;
                let from = if is_congruent {
                    draw / 16 * 16 + u32::from(at) % 16
                } else {
                    draw
                };
                batch.runs.push(TileRun { from, at, last });
            }
        }
        batch
    })
}

/// Something that makes a table contradict itself, at a position.
fn faults() -> impl Strategy<Value = Vec<(u8, prop::sample::Index)>> {
    prop::collection::vec((0_u8..10, any::<prop::sample::Index>()), 1..4)
}

fn spoil(batch: &mut Batch, fault: u8, index: prop::sample::Index) {
    let run_count = batch.runs.len() as u32;
    let payload = batch.payload_len_bytes as u32;
    let tile = index.index(batch.tiles.len());
    let run = index.index(batch.runs.len());
    match fault {
        0 => batch.tiles[tile].first_run = u32::MAX,
        1 => {
            batch.tiles[tile].run_count =
                (run_count + 1).saturating_sub(batch.tiles[tile].first_run)
        }
        2 => batch.tiles[tile].run_count = u32::MAX,
        3 => batch.tiles[tile].to ^= 16,
        4 => batch.tiles[tile].to = u64::MAX - 4095,
        5 => batch.memory_len_bytes = batch.tiles[tile].to as usize / 4096 % 8 * 4096 + 2048,
        6 => batch.runs[run].from = u32::MAX,
        7 => batch.runs[run].from = payload.wrapping_sub(u32::from(batch.runs[run].last)),
        8 => batch.runs[run].last = 4096_u16.wrapping_sub(batch.runs[run].at),
        _ => {
            batch.runs[run].at = u16::MAX;
            batch.runs[run].last = u16::MAX;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn applies_what_the_obvious_way_applies(batch in batches(), skew in 0_usize..16, multiprocessors in 0_u32..2, seed: u64) {
        for order in [Order::Ascending, Order::Descending, Order::Shuffled(seed)] {
            check(&batch, skew, multiprocessors, order);
        }
    }

    #[test]
    fn refuses_what_contradicts_itself_and_writes_the_rest(mut batch in batches(), faults in faults(), skew in 0_usize..16) {
        for (fault, index) in faults {
            spoil(&mut batch, fault, index);
        }
        for order in ORDERS {
            check(&batch, skew, 1, order);
        }
    }
}

#[test]
fn each_fault_is_told() {
    let good = Batch {
        memory_len_bytes: 8192,
        tiles: vec![
            Tile {
                to: 4096,
                first_run: 0,
                run_count: 1,
            },
            Tile {
                to: 0,
                first_run: 1,
                run_count: 2,
            },
        ],
        runs: vec![
            TileRun {
                from: 0,
                at: 0,
                last: 4095,
            },
            TileRun {
                from: 5,
                at: 4095,
                last: 0,
            },
            TileRun {
                from: 4096,
                at: 0,
                last: 99,
            },
        ],
        payload_len_bytes: 4196,
    };
    let fault_of = |spoil: &dyn Fn(&mut Batch)| {
        let mut batch = good.clone();
        spoil(&mut batch);
        check(&batch, 0, 1, Order::Ascending);
        reference(
            &batch,
            &noise(batch.payload_len_bytes, 1),
            &mut noise(batch.memory_len_bytes, 2),
        )
    };
    assert_eq!(fault_of(&|_| ()), None);
    assert_eq!(
        fault_of(&|batch| batch.tiles[1].run_count = 3),
        Some(ApplyFault::Runs)
    );
    assert_eq!(
        fault_of(&|batch| batch.runs[1].last = 1),
        Some(ApplyFault::Tile)
    );
    assert_eq!(
        fault_of(&|batch| batch.runs[2].from += 1),
        Some(ApplyFault::Payload)
    );
    assert_eq!(
        fault_of(&|batch| batch.memory_len_bytes -= 1),
        Some(ApplyFault::Memory)
    );
    assert_eq!(
        fault_of(&|batch| batch.tiles[0].to += 1),
        Some(ApplyFault::Alignment)
    );
}

#[test]
fn the_last_writer_wins() {
    // 200 runs of one byte more each, in more than one round of the kernel.
    let runs: Vec<_> = (0..200)
        .map(|i| TileRun {
            from: i * 3,
            at: 100,
            last: i as u16,
        })
        .collect();
    let mut reversed = runs.clone();
    reversed.reverse();
    for runs in [runs, reversed] {
        let batch = Batch {
            memory_len_bytes: 4096,
            tiles: vec![Tile {
                to: 0,
                first_run: 0,
                run_count: 200,
            }],
            runs,
            payload_len_bytes: 1000,
        };
        for order in ORDERS {
            check(&batch, 3, 1, order);
        }
    }
}
