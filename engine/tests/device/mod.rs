//! What tests of devices share: a plain byte vector that does what a device is asked, and buffers that are easy to use.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::ops::Range;

use mmsb_engine::device::layout::{Changed, TILE_BYTES, Tile, TileRun, sum64};
use mmsb_engine::device::{Combine, Device, DeviceError, PinnedBuffer, Queue, Work};
use mmsb_engine::graph::{Form, Lane, Semiring};
use proptest::prelude::*;

/// One run of an apply: where it goes in device memory, and its bytes. It stays inside of one tile.
pub type Run = (u64, Vec<u8>);

/// One thing to do, without pinned memory: the driver provides it.
#[derive(Clone, Debug)]
pub enum Op {
    Upload {
        to: u64,
        bytes: Vec<u8>,
    },
    Copy {
        from: Range<u64>,
        to: u64,
    },
    Move {
        from: Range<u64>,
        to: u64,
    },
    Fill {
        range: Range<u64>,
        byte: u8,
    },
    Apply {
        staging: u64,
        runs: Vec<Run>,
    },
    Combine {
        combine: Combine,
        inputs: Vec<u64>,
        output: u64,
        range: Range<u64>,
    },
    Download {
        range: Range<u64>,
    },
    Digest {
        ranges: Vec<Range<u64>>,
    },
    Sum {
        range: Range<u64>,
    },
}

/// Pinned memory that is used from one thread, and only after waiting.
pub struct Pinned(pub PinnedBuffer);

impl Pinned {
    pub fn new(device: &dyn Device, len_bytes: usize) -> Self {
        Self::try_new(device, len_bytes).unwrap()
    }

    pub fn with(device: &dyn Device, bytes: &[u8]) -> Self {
        Self::try_with(device, bytes).unwrap()
    }

    pub fn try_new(device: &dyn Device, len_bytes: usize) -> Result<Self, DeviceError> {
        device.pin(len_bytes).map(Self)
    }

    pub fn try_with(device: &dyn Device, bytes: &[u8]) -> Result<Self, DeviceError> {
        let pinned = Self::try_new(device, bytes.len().max(1))?;
        pinned.write(0, bytes);
        Ok(pinned)
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: tests are single-threaded, and keep no slice.
        let part = unsafe { self.0.bytes_mut(at..at + bytes.len()) };
        part.unwrap().copy_from_slice(bytes);
    }

    pub fn read(&self, range: Range<usize>) -> Vec<u8> {
        // SAFETY: as above.
        unsafe { self.0.bytes(range) }.unwrap().to_vec()
    }

    pub fn all(&self) -> Vec<u8> {
        self.read(0..self.0.len_bytes())
    }

    pub fn slice(&self, range: Range<usize>) -> mmsb_engine::device::PinnedSlice {
        self.0.slice(range).unwrap()
    }

    pub fn whole(&self) -> mmsb_engine::device::PinnedSlice {
        self.slice(0..self.0.len_bytes())
    }
}

pub fn finish(device: &dyn Device, queue: Queue) -> Result<(), DeviceError> {
    device.wait(device.fence(queue)?)
}

/// The tables of an apply as bytes, and where each begins in them: tiles, runs, payload, end.
pub fn batch(runs: &[Run]) -> (Vec<u8>, [usize; 4], u32, u32) {
    let mut tiles: Vec<Tile> = Vec::new();
    let mut table = Vec::new();
    let mut payload = Vec::new();
    let mut places: Vec<u64> = runs.iter().map(|(to, _)| to - to % TILE_BYTES).collect();
    places.sort_unstable();
    places.dedup();
    for to in places {
        let first_run = table.len() as u32;
        for (place, bytes) in runs {
            if place - place % TILE_BYTES == to {
                table.push(TileRun {
                    from: payload.len() as u32,
                    at: (place - to) as u16,
                    last: (bytes.len() - 1) as u16,
                });
                payload.extend_from_slice(bytes);
            }
        }
        tiles.push(Tile {
            to,
            first_run,
            run_count: table.len() as u32 - first_run,
        });
    }
    let mut bytes: Vec<u8> = tiles.iter().flat_map(|tile| tile.to_bytes()).collect();
    let runs_at = bytes.len();
    bytes.extend(table.iter().flat_map(|run| run.to_bytes()));
    let payload_at = bytes.len();
    bytes.extend(payload);
    let ends = [0, runs_at, payload_at, bytes.len()];
    (bytes, ends, tiles.len() as u32, table.len() as u32)
}

/// Does `op` on the device in the compute queue, and gives back what it reports.
pub fn perform(device: &dyn Device, op: &Op) -> Result<Vec<u8>, DeviceError> {
    let queue = Queue::Compute;
    let result = |len: usize, work: &dyn Fn(&Pinned) -> Result<(), DeviceError>| {
        let pinned = Pinned::try_new(device, len)?;
        work(&pinned)?;
        finish(device, queue)?;
        Ok(pinned.all())
    };
    match op {
        Op::Upload { to, bytes } => {
            let pinned = Pinned::try_with(device, bytes)?;
            let from = pinned.slice(0..bytes.len());
            device.submit(queue, &Work::Upload { from, to: *to })?;
            finish(device, queue).map(|()| Vec::new())
        }
        Op::Copy { from, to } => {
            device.submit(
                queue,
                &Work::Copy {
                    from: from.clone(),
                    to: *to,
                },
            )?;
            finish(device, queue).map(|()| Vec::new())
        }
        Op::Fill { range, byte } => {
            device.submit(
                queue,
                &Work::Fill {
                    range: range.clone(),
                    byte: *byte,
                },
            )?;
            finish(device, queue).map(|()| Vec::new())
        }
        Op::Apply { staging, runs } => {
            let (bytes, [tiles, runs, payload, end], tile_count, run_count) = batch(runs);
            let pinned = Pinned::try_with(device, &bytes)?;
            let from = pinned.slice(0..bytes.len());
            device.submit(queue, &Work::Upload { from, to: *staging })?;
            let at = |position: usize| staging + position as u64;
            let work = Work::Apply {
                tiles: at(tiles),
                tile_count,
                runs: at(runs),
                run_count,
                payload: at(payload)..at(end),
            };
            device.submit(queue, &work)?;
            finish(device, queue).map(|()| Vec::new())
        }
        Op::Move { from, to } => result(16, &|pinned| {
            let changed = pinned.whole();
            device.submit(
                queue,
                &Work::Move {
                    from: from.clone(),
                    to: *to,
                    changed,
                },
            )
        }),
        Op::Combine {
            combine,
            inputs,
            output,
            range,
        } => result(16, &|pinned| {
            let work = Work::Combine {
                combine: *combine,
                inputs,
                output: *output,
                range: range.clone(),
                changed: pinned.whole(),
            };
            device.submit(queue, &work)
        }),
        Op::Download { range } => result((range.end - range.start) as usize, &|pinned| {
            device.submit(
                queue,
                &Work::Download {
                    from: range.start,
                    to: pinned.whole(),
                },
            )
        }),
        Op::Digest { ranges } => result(ranges.len() * 32, &|pinned| {
            device.submit(
                queue,
                &Work::Digest {
                    ranges,
                    to: pinned.whole(),
                },
            )
        }),
        Op::Sum { range } => result(8, &|pinned| {
            device.submit(
                queue,
                &Work::Sum {
                    range: range.clone(),
                    to: pinned.whole(),
                },
            )
        }),
    }
}

/// Does `op` on plain bytes, naively, and gives back what it reports.
pub fn model(memory: &mut [u8], op: &Op) -> Vec<u8> {
    let part = |range: &Range<u64>| range.start as usize..range.end as usize;
    let differences = |old: &[u8], new: &[u8]| {
        let changed: Vec<u64> = (0..old.len())
            .filter(|&i| old[i] != new[i])
            .map(|i| i as u64)
            .collect();
        Changed {
            first: changed.first().copied().unwrap_or(u64::MAX),
            last: changed.last().copied().unwrap_or(0),
        }
    };
    match op {
        Op::Upload { to, bytes } => {
            memory[*to as usize..][..bytes.len()].copy_from_slice(bytes);
            Vec::new()
        }
        Op::Copy { from, to } => {
            memory.copy_within(part(from), *to as usize);
            Vec::new()
        }
        Op::Move { from, to } => {
            let new = memory[part(from)].to_vec();
            let old = &mut memory[*to as usize..][..new.len()];
            let changed = differences(old, &new);
            old.copy_from_slice(&new);
            changed.to_bytes().to_vec()
        }
        Op::Fill { range, byte } => {
            memory[part(range)].fill(*byte);
            Vec::new()
        }
        Op::Apply { staging, runs } => {
            let (bytes, ..) = batch(runs);
            memory[*staging as usize..][..bytes.len()].copy_from_slice(&bytes);
            for (to, bytes) in runs {
                memory[*to as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Vec::new()
        }
        Op::Combine {
            combine,
            inputs,
            output,
            range,
        } => {
            let whole = *output as usize;
            let old = memory[whole..whole + range.end as usize].to_vec();
            let mut new = old.clone();
            let width = combine.lane.len_bytes() as usize;
            assert_eq!(combine.form, Form::Sum, "the model knows sums of integers");
            for lane in (part(range)).step_by(width) {
                let value = |input: &u64| {
                    let mut bytes = [0; 8];
                    bytes[..width].copy_from_slice(&memory[*input as usize + lane..][..width]);
                    u64::from_le_bytes(bytes)
                };
                let sum = inputs
                    .iter()
                    .map(value)
                    .reduce(|a, b| match combine.semiring {
                        Semiring::PlusTimes => a.wrapping_add(b),
                        Semiring::XorAnd => a ^ b,
                        Semiring::OrAnd => a | b,
                        Semiring::MinPlus => a.min(b),
                        Semiring::MaxPlus => a.max(b),
                        other => unreachable!("{other:?}"),
                    });
                new[lane..lane + width].copy_from_slice(&sum.unwrap().to_le_bytes()[..width]);
            }
            let changed = differences(&old, &new);
            memory[whole..whole + new.len()].copy_from_slice(&new);
            changed.to_bytes().to_vec()
        }
        Op::Download { range } => memory[part(range)].to_vec(),
        Op::Digest { ranges } => ranges
            .iter()
            .flat_map(|range| *blake3::hash(&memory[part(range)]).as_bytes())
            .collect(),
        Op::Sum { range } => sum64(&memory[part(range)]).to_le_bytes().to_vec(),
    }
}

/// Operations on `len_bytes` (a multiple of 4 tiles) of memory, the last quarter of which is for staging alone.
pub fn ops(len_bytes: u64) -> impl Strategy<Value = Op> {
    let quarter = len_bytes / 4;
    let pages = 3 * quarter;
    let short = || prop_oneof![4 => 1..200_u64, 1 => 1..quarter];
    let range = move || (0..pages, short()).prop_map(move |(at, len)| at..(at + len).min(pages));
    // From one quarter to another, so that they never overlap.
    let pair = move || {
        (0..3_u64, 1..3_u64, 0..quarter, 0..quarter, short()).prop_map(
            move |(a, step, from, to, len)| {
                let len = len.min(quarter - from).min(quarter - to);
                let (from, to) = (a * quarter + from, (a + step) % 3 * quarter + to);
                (from..from + len, to)
            },
        )
    };
    let bytes = |range: Range<usize>| prop::collection::vec(any::<u8>(), range);
    let run = (0..pages / TILE_BYTES, 0..TILE_BYTES, bytes(1..40)).prop_map(|(tile, at, bytes)| {
        let at = at.min(TILE_BYTES - bytes.len() as u64);
        (tile * TILE_BYTES + at, bytes)
    });
    let lanes = prop::sample::select(vec![
        (Lane::U8, Semiring::PlusTimes),
        (Lane::U8, Semiring::MaxPlus),
        (Lane::U32, Semiring::PlusTimes),
        (Lane::U32, Semiring::MinPlus),
        (Lane::I64, Semiring::XorAnd),
        (Lane::I64, Semiring::OrAnd),
    ]);
    let combined = (lanes, 0..3_u64, 1..4_usize, 0..quarter / 16, 0..60_u64).prop_map(
        move |((lane, semiring), output, parents, start, count)| {
            let width = u64::from(lane.len_bytes());
            let end = (start * 8 + count * width).min(quarter);
            Op::Combine {
                combine: Combine {
                    semiring,
                    lane,
                    form: Form::Sum,
                },
                inputs: (0..parents as u64)
                    .map(|i| (output + 1 + i % 2) % 3 * quarter)
                    .collect(),
                output: output * quarter,
                range: start * 8..end,
            }
        },
    );
    prop_oneof![
        (0..pages - 300, bytes(0..300)).prop_map(|(to, bytes)| Op::Upload { to, bytes }),
        pair().prop_map(|(from, to)| Op::Copy { from, to }),
        pair().prop_map(|(from, to)| Op::Move { from, to }),
        (range(), any::<u8>()).prop_map(|(range, byte)| Op::Fill { range, byte }),
        prop::collection::vec(run, 1..30).prop_map(move |runs| Op::Apply {
            staging: pages,
            runs
        }),
        combined,
        range().prop_map(|range| Op::Download { range }),
        prop::collection::vec(range(), 1..4).prop_map(|ranges| Op::Digest { ranges }),
        range().prop_map(|range| Op::Sum { range }),
    ]
}
