//! Commits while a checkpoint is taken, beside the same commits without one.
//!
//! `cargo bench -p mmsb-engine --bench checkpoint`; `MMSB_BENCH_BYTES` sets the bytes of pages, all of which every
//! checkpoint writes (default 1 GiB), `MMSB_BENCH_ROUNDS` how often everything is measured (default 3).
//!
//! One thread commits one delta of 128 bytes at a time, to random places, and measures how long each takes. With and
//! without take turns; the ratio is the median of those of the rounds.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails panics, and prints what it found"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mmsb_engine::{Bus, Durability, Options, PageId, Retention};

const DELTA_BYTES: usize = 128;
/// What a checkpoint copies of a page at least: each of these gets a write, so that it has to copy all.
const GRANULES_PER_PAGE: u64 = 64;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn next(random: &mut u64) -> u64 {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *random >> 20
}

fn allocate(bus: &Bus, count: usize, page_bytes: u64) -> Vec<PageId> {
    let mut transaction = bus.begin();
    let new: Vec<_> = (0..count)
        .map(|_| transaction.allocate(page_bytes).unwrap())
        .collect();
    let commit = transaction.commit(Durability::Memory).unwrap();
    new.iter().map(|page| commit.page(*page).unwrap()).collect()
}

/// Writes to every granule of every page.
fn touch_all(bus: &Bus, pages: &[PageId], page_bytes: u64) {
    let step = (page_bytes / GRANULES_PER_PAGE).max(4096);
    for pages in pages.chunks(16) {
        let mut transaction = bus.begin();
        for page in pages {
            for offset in (0..page_bytes).step_by(step as usize) {
                transaction.write(*page, offset, &[1; DELTA_BYTES]).unwrap();
            }
        }
        transaction.commit(Durability::Memory).unwrap();
    }
    bus.sync().unwrap();
}

/// Commits until `stop`, and says how long each commit took, in nanoseconds.
fn commits(
    bus: &Bus,
    pages: &[PageId],
    page_bytes: u64,
    durability: Durability,
    stop: &AtomicBool,
) -> Vec<u64> {
    let mut latencies = Vec::with_capacity(1 << 24);
    let mut random = 7;
    while !stop.load(Ordering::Relaxed) {
        let page = pages[next(&mut random) as usize % pages.len()];
        let offset = next(&mut random) % (page_bytes / DELTA_BYTES as u64) * DELTA_BYTES as u64;
        let start = Instant::now();
        let mut transaction = bus.begin();
        transaction.write(page, offset, &[2; DELTA_BYTES]).unwrap();
        transaction.commit(durability).unwrap();
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    latencies
}

/// The latencies of commits during `work`, sorted.
fn during<T>(
    bus: &Bus,
    pages: &[PageId],
    page_bytes: u64,
    durability: Durability,
    work: impl FnOnce() -> T,
) -> (Vec<u64>, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| commits(bus, pages, page_bytes, durability, &stop));
        let result = work();
        stop.store(true, Ordering::Relaxed);
        let mut latencies = writer.join().unwrap();
        latencies.sort_unstable();
        (latencies, result)
    })
}

/// p50, p99, p999 and the longest, in microseconds.
fn percentiles(sorted: &[u64]) -> [f64; 4] {
    [500, 990, 999, 1000].map(|part| {
        let at = (sorted.len() * part / 1000).min(sorted.len() - 1);
        sorted[at] as f64 / 1e3
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One round: percentiles without and with a checkpoint, and how long that took.
struct Sample {
    without: [f64; 4],
    with: [f64; 4],
    elapsed: Duration,
}

fn measure(
    label: &str,
    state_bytes: usize,
    page_bytes: u64,
    durability: Durability,
    rounds: usize,
) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = Options {
        retention: Retention::Checkpoints,
        ..Options::default()
    };
    let bus = Bus::open(directory.path(), options).unwrap();
    let pages = allocate(&bus, state_bytes / page_bytes as usize, page_bytes);
    // Zeros would not be written, so there are none.
    let content = vec![1; page_bytes as usize];
    for page in &pages {
        let mut transaction = bus.begin();
        transaction.write(*page, 0, &content).unwrap();
        transaction.commit(Durability::Memory).unwrap();
    }
    bus.checkpoint().unwrap();
    let mut samples = Vec::new();
    for _ in 0..rounds {
        touch_all(&bus, &pages, page_bytes);
        let start = Instant::now();
        let (with, report) = during(&bus, &pages, page_bytes, durability, || bus.checkpoint());
        let elapsed = start.elapsed();
        assert!(report.unwrap().image_bytes >= state_bytes as u64);
        let wait = elapsed.clamp(Duration::from_millis(200), Duration::from_secs(3));
        let (without, ()) = during(&bus, &pages, page_bytes, durability, || {
            std::thread::sleep(wait);
        });
        samples.push(Sample {
            without: percentiles(&without),
            with: percentiles(&with),
            elapsed,
        });
    }
    let figures = |pick: fn(&Sample) -> [f64; 4]| {
        [0, 1, 2, 3].map(|at| median(samples.iter().map(|sample| pick(sample)[at])))
    };
    let (without, with) = (
        figures(|sample| sample.without),
        figures(|sample| sample.with),
    );
    let ratio = median(
        samples
            .iter()
            .map(|sample| sample.with[1] / sample.without[1]),
    );
    let seconds = median(samples.iter().map(|sample| sample.elapsed.as_secs_f64()));
    println!(
        "{label:>16} {durability:?}: p50/p99/p999/max {:.1}/{:.1}/{:.0}/{:.0} us without, {:.1}/{:.1}/{:.0}/{:.0} us with; \
         p99 x {ratio:.2}; checkpoint {seconds:.2} s",
        without[0], without[1], without[2], without[3], with[0], with[1], with[2], with[3],
    );
}

fn main() {
    let state_bytes = number("MMSB_BENCH_BYTES", 1 << 30);
    let rounds = number("MMSB_BENCH_ROUNDS", 3);
    println!(
        "checkpoint of {} MiB, median of {rounds}",
        state_bytes >> 20
    );
    for (label, page_bytes) in [("pages of 4 KiB", 4096), ("pages of 64 MiB", 64 << 20)] {
        for durability in [Durability::Memory, Durability::Sync] {
            measure(label, state_bytes, page_bytes, durability, rounds);
        }
    }
}
