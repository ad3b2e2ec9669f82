//! Replay: building a state from its log, beside reading, checking and copying the same bytes.
//!
//! `cargo bench -p mmsb-engine --bench replay`; `MMSB_BENCH_BYTES` sets the bytes of payload (default 1 GiB),
//! `MMSB_BENCH_ROUNDS` how often everything is measured (default 7).
//!
//! Reference and engine take turns, so that whatever else the machine does meets both; the ratio is the median of
//! those of the rounds.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails panics, and prints what it found"
)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mmsb_engine::memory::Arena;
use mmsb_engine::{Bus, Durability, Options, PageId, replay};
use tempfile::TempDir;

const STATE_BYTES: usize = 64 << 20;
const WINDOW_BYTES: usize = 1 << 20;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn options(log_bytes: usize, appliers: usize) -> Options {
    Options {
        // One segment holds it all: the reference need not know of more.
        segment_bytes: log_bytes as u64 * 2 + (16 << 20),
        prefill: false,
        appliers,
        ..Options::default()
    }
}

/// A log of `log_bytes` of payload, `batch` deltas of `len` bytes a commit, over 64 MiB of 4 KiB pages.
fn log(log_bytes: usize, len: usize, batch: usize) -> TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bus = Bus::open(directory.path(), options(log_bytes, 1)).unwrap();
    let mut transaction = bus.begin();
    let new: Vec<_> = (0..STATE_BYTES / 4096)
        .map(|_| transaction.allocate(4096).unwrap())
        .collect();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let pages: Vec<PageId> = new.iter().map(|page| commit.page(*page).unwrap()).collect();
    let bytes = vec![7; len];
    let mut random = 1u64;
    for _ in 0..log_bytes / len / batch {
        let mut transaction = bus.begin();
        for _ in 0..batch {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let page = pages[(random >> 33) as usize % pages.len()];
            let offset = (random >> 20) % (4096 / len) as u64 * len as u64;
            transaction.write(page, offset, &bytes).unwrap();
        }
        transaction.commit(Durability::Memory).unwrap();
    }
    bus.close().unwrap();
    directory
}

/// Reads the segment, checksums it record by record, and copies each payload to where it belongs.
fn reference(directory: &Path, log_bytes: usize, len: usize, batch: usize) -> (u32, Arena) {
    let file = File::open(directory.join("log-0000000000000001")).unwrap();
    // Recovery starts from memory that nobody has touched, so this does too, and it is memory of the same kind: the
    // first touch of shared memory costs nearly twice that of private memory.
    let arena = Arena::new(STATE_BYTES as u64).unwrap();
    // SAFETY: nobody else knows of this arena, and this is the only slice of it.
    let state = unsafe { arena.bytes_mut(0, STATE_BYTES) }.unwrap();
    let mut window = vec![0; WINDOW_BYTES];
    let record = batch * (len + 16) + 32;
    let (mut random, mut crc, mut offset) = (1u64, 0, 0);
    let end = (log_bytes / len / batch * record) as u64;
    while offset + WINDOW_BYTES as u64 <= end {
        file.read_exact_at(&mut window, offset).unwrap();
        for record in window.chunks_exact(record) {
            crc ^= crc_fast::crc32_iscsi(record);
            for run in record[32..].chunks_exact(len + 16) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let page = (random >> 33) as usize % (STATE_BYTES / 4096);
                let at = page * 4096 + (random >> 20) as usize % (4096 / len) * len;
                state[at..at + len].copy_from_slice(&run[16..]);
            }
        }
        offset += WINDOW_BYTES as u64;
    }
    (crc, arena)
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = black_box(work());
    let elapsed = start.elapsed();
    drop(result);
    elapsed
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let log_bytes = number("MMSB_BENCH_BYTES", 1 << 30);
    let rounds = number("MMSB_BENCH_ROUNDS", 7);
    let only = std::env::var("MMSB_BENCH_ONLY").unwrap_or_default();
    println!(
        "replay of {} MiB of payload, median of {rounds}",
        log_bytes >> 20
    );
    for (label, len, batch) in [("4KiB", 4096, 1), ("128B", 128, 1), ("64x128B", 128, 64)] {
        if !only.is_empty() && only != label {
            continue;
        }
        let directory = log(log_bytes, len, batch);
        let path = directory.path();
        let mut times = [const { Vec::new() }; 3];
        let mut ratios = [const { Vec::new() }; 2];
        for round in 0..=rounds {
            let loop_time = timed(|| reference(path, log_bytes, len, batch));
            let engine_times = [1, 2].map(|appliers| {
                timed(|| replay(path, None, options(log_bytes, appliers)).unwrap())
            });
            if round == 0 {
                continue; // Brings the log to the page cache.
            }
            times[0].push(loop_time.as_secs_f64());
            for (slot, time) in engine_times.iter().enumerate() {
                times[slot + 1].push(time.as_secs_f64());
                ratios[slot].push(loop_time.as_secs_f64() / time.as_secs_f64());
            }
        }
        let [loop_s, one_s, two_s] = times.each_mut().map(|times| median(times));
        let [one, two] = ratios.each_mut().map(|ratios| median(ratios));
        println!(
            "{label:>8}  read+crc+memcpy {:.0} ms   1 applier {:.0} ms = {one:.2} of it   2 appliers {:.0} ms = {two:.2}",
            loop_s * 1e3,
            one_s * 1e3,
            two_s * 1e3,
        );
    }
}
