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
const APPLIERS: [usize; 2] = [1, 2];

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn options(log_bytes: usize, appliers: usize) -> Options {
    Options {
        // One segment holds it all: the reference need not know of more.
        segment_bytes: log_bytes as u64 * 2 + (16 << 20),
        prefill: false,
        // Small enough to be mapped under a profiler.
        arena_bytes: 4 * STATE_BYTES as u64,
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

/// What some work took.
#[derive(Default)]
struct Cost {
    elapsed: Duration,
    /// Time of the processor for the thread that did it, in the program and in the kernel. It is counted in ticks of
    /// 10 ms, so only the sum of some rounds says something.
    user: Duration,
    system: Duration,
}

fn processor_times() -> [Duration; 2] {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut ticks = fields
        .split_whitespace()
        .skip(11)
        .map(|ticks| ticks.parse().unwrap());
    [(); 2].map(|()| Duration::from_millis(10 * ticks.next().unwrap_or(0)))
}

fn timed<T>(work: impl FnOnce() -> T) -> Cost {
    let [user, system] = processor_times();
    let start = Instant::now();
    let result = black_box(work());
    let elapsed = start.elapsed();
    let [user_after, system_after] = processor_times();
    drop(result);
    Cost {
        elapsed,
        user: user_after - user,
        system: system_after - system,
    }
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
        let deltas = (log_bytes / len * rounds) as f64;
        let mut times = [const { Vec::new() }; 3];
        let mut ratios = [const { Vec::new() }; 2];
        let mut sums = [const { [Duration::ZERO; 2] }; 2];
        for round in 0..=rounds {
            let loop_cost = timed(|| reference(path, log_bytes, len, batch));
            let engine_costs = APPLIERS.map(|appliers| {
                timed(|| replay(path, None, options(log_bytes, appliers)).unwrap())
            });
            if round == 0 {
                continue; // Brings the log to the page cache.
            }
            let loop_s = loop_cost.elapsed.as_secs_f64();
            times[0].push(loop_s);
            for (slot, cost) in engine_costs.iter().enumerate() {
                times[slot + 1].push(cost.elapsed.as_secs_f64());
                ratios[slot].push(loop_s / cost.elapsed.as_secs_f64());
            }
            for (sum, cost) in sums.iter_mut().zip([&loop_cost, &engine_costs[0]]) {
                sum[0] += cost.user;
                sum[1] += cost.system;
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
        let [loop_ns, one_ns] = sums.map(|sum| sum.map(|time| time.as_secs_f64() * 1e9 / deltas));
        println!(
            "          user and system time a delta: {:.1} + {:.1} ns   1 applier {:.1} + {:.1} ns",
            loop_ns[0], loop_ns[1], one_ns[0], one_ns[1],
        );
    }
}
