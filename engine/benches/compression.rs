//! What compressing the log costs and saves: commits of 64 KiB, and their replay, with and without.
//!
//! `cargo bench -p mmsb-engine --features zstd --bench compression`; `MMSB_BENCH_BYTES` sets the bytes of payload
//! (default 256 MiB), `MMSB_BENCH_ROUNDS` how often everything is measured (default 5).
//!
//! With and without take turns, so that whatever else the machine does meets both. Medians are printed.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails panics, and prints what it found"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use mmsb_engine::{Bus, Compression, Durability, Options, PageId, replay};
use tempfile::TempDir;

const PAYLOAD_BYTES: usize = 64 << 10;
const PAGES: usize = 64;
/// Different payloads of each kind: more than the processor's caches hold of the compressor's input.
const PAYLOADS: usize = 64;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn options(compression: Option<Compression>) -> Options {
    Options {
        compression,
        ..Options::default()
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Lines of a table as programs log them: few words, and numbers that differ.
fn text(seed: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "page",
        "commit",
        "durable",
        "at",
        "offset",
        "length",
        "state",
        "recovered",
        "of",
        "segment",
        "log",
        "checkpoint",
        "applied",
        "transaction",
        "reader",
        "closed",
    ];
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(PAYLOAD_BYTES + 64);
    while out.len() < PAYLOAD_BYTES {
        for _ in 0..4 {
            out.extend_from_slice(
                WORDS[(next(&mut state) >> 33) as usize % WORDS.len()].as_bytes(),
            );
            out.push(b' ');
        }
        out.extend_from_slice(format!("{:08}\n", next(&mut state) % 100_000_000).as_bytes());
    }
    out.truncate(PAYLOAD_BYTES);
    out
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = (0..PAYLOAD_BYTES / 8).map(|_| next(&mut state));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Commits payloads one by one; gives the time of the commits and the bytes of the log.
fn commit(
    directory: &Path,
    options: Options,
    payloads: &[Vec<u8>],
    count: usize,
) -> (Duration, u64) {
    let bus = Bus::open(directory, options).unwrap();
    let mut transaction = bus.begin();
    let new: Vec<_> = (0..PAGES)
        .map(|_| transaction.allocate(PAYLOAD_BYTES as u64).unwrap())
        .collect();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let pages: Vec<PageId> = new.iter().map(|page| commit.page(*page).unwrap()).collect();
    let start = Instant::now();
    for at in 0..count {
        let mut transaction = bus.begin();
        let payload = black_box(&payloads[at % payloads.len()]);
        transaction
            .write(pages[at * 7 % PAGES], 0, payload)
            .unwrap();
        transaction.commit(Durability::Buffered).unwrap();
    }
    let elapsed = start.elapsed();
    let log_bytes = bus.statistics().log.appended_bytes;
    bus.close().unwrap();
    (elapsed, log_bytes)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let count = number("MMSB_BENCH_BYTES", 256 << 20) / PAYLOAD_BYTES;
    let rounds = number("MMSB_BENCH_ROUNDS", 5);
    println!("{count} commits of 64 KiB, handed to the operating system; median of {rounds}");
    for (label, payload) in [("text", text as fn(u64) -> Vec<u8>), ("noise", noise)] {
        let payloads: Vec<_> = (1..=PAYLOADS as u64)
            .map(|seed| payload(seed * 977))
            .collect();
        let mut commits = [const { Vec::new() }; 2];
        let mut replays = [const { Vec::new() }; 2];
        let mut log_bytes = [0; 2];
        for _ in 0..rounds {
            for (slot, compression) in [None, Some(Compression::Zstd)].into_iter().enumerate() {
                let directory: TempDir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
                let (elapsed, bytes) =
                    commit(directory.path(), options(compression), &payloads, count);
                log_bytes[slot] = bytes;
                commits[slot].push(elapsed.as_secs_f64() / count as f64);
                let start = Instant::now();
                black_box(replay(directory.path(), None, options(None)).unwrap());
                replays[slot].push(start.elapsed().as_secs_f64() / count as f64);
            }
        }
        for (slot, name) in ["as it is", "compressed"].into_iter().enumerate() {
            println!(
                "{label:>6} {name:>10}   commit {:6.1} µs   replay {:6.1} µs   log {:6} B a commit",
                median(commits[slot].clone()) * 1e6,
                median(replays[slot].clone()) * 1e6,
                log_bytes[slot] / count as u64,
            );
        }
    }
}
