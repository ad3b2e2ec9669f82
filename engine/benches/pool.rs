//! Allocating and releasing device addresses: the pool beside the placement of host pages.
//!
//! One iteration releases a page and allocates another while `live` are there, so the time is that of a pair.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that fails panics"
)]

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use mmsb_engine::device::pool::Pool;
use mmsb_engine::memory::Placement;

const CAPACITY_BYTES: u64 = 1 << 40;

/// A generator good enough to choose lengths and victims.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// Lengths of which every doubling is as likely.
fn length(draw: &mut Draw, from_log: u64, to_log: u64) -> u64 {
    let log = from_log + draw.next() % (to_log - from_log);
    (1 << log) + draw.next() % (1 << log)
}

/// What was drawn before the measurement, so that drawing is not measured: which live page is replaced, and by what length.
struct Plan {
    first: Vec<u64>,
    steps: Vec<(u32, u64)>,
}

impl Plan {
    fn new(live: usize, mut length: impl FnMut(&mut Draw) -> u64) -> Self {
        let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
        Self {
            first: (0..live).map(|_| length(&mut draw)).collect(),
            steps: (0..1 << 16)
                .map(|_| ((draw.next() % live as u64) as u32, length(&mut draw)))
                .collect(),
        }
    }
}

macro_rules! churn {
    ($allocator:ty) => {
        |bencher: &mut Bencher<'_>, plan: &Plan| {
            let mut allocator = <$allocator>::new(CAPACITY_BYTES);
            let mut live: Vec<(u64, u64)> = plan
                .first
                .iter()
                .map(|&len| (allocator.allocate(len).unwrap(), len))
                .collect();
            let mut steps = plan.steps.iter().cycle();
            let mut step = move || {
                let &(victim, len) = steps.next().unwrap();
                let (offset, old) = live[victim as usize];
                allocator.release(offset, old).unwrap();
                live[victim as usize] = (allocator.allocate(len).unwrap(), len);
            };
            // To the steady state.
            for _ in 0..1 << 20 {
                step();
            }
            bencher.iter(step);
        }
    };
}

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("device alloc + release");
    let plans = [
        (
            "64 B to 64 MiB, 10k live",
            Plan::new(10_000, |draw| length(draw, 6, 26)),
        ),
        (
            "4 KiB to 64 MiB, 10k live",
            Plan::new(10_000, |draw| length(draw, 12, 26)),
        ),
        (
            "64 B to 4 KiB, 100k live",
            Plan::new(100_000, |draw| length(draw, 6, 12)),
        ),
        (
            "84 MiB in three, one at a time",
            Plan::new(3, |draw| {
                [4 << 20, 16 << 20, 64 << 20][(draw.next() % 3) as usize]
            }),
        ),
        ("2 MiB, one live", Plan::new(1, |_| 2 << 20)),
    ];
    for (name, plan) in &plans {
        group.bench_with_input(BenchmarkId::new("pool", name), plan, churn!(Pool));
        group.bench_with_input(BenchmarkId::new("placement", name), plan, churn!(Placement));
    }
    group.finish();
}

criterion_group!(benches, pool);
criterion_main!(benches);
