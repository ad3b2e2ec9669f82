//! Replay: building a state from its log, beside reading, checking and copying the same bytes.
//!
//! `cargo bench -p mmsb-engine --bench replay`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails panics"
)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mmsb_engine::{Bus, Durability, Options, PageId, replay};
use tempfile::TempDir;

const LOG_BYTES: u64 = 256 << 20;
const STATE_BYTES: usize = 64 << 20;
const WINDOW_BYTES: usize = 1 << 20;

fn options(appliers: usize) -> Options {
    Options {
        segment_bytes: LOG_BYTES * 2,
        prefill: false,
        appliers,
        ..Options::default()
    }
}

/// A log of `LOG_BYTES` of payload, one delta of `len` bytes a commit, over 64 MiB of 4 KiB pages.
fn log(len: usize, batch: usize) -> TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bus = Bus::open(directory.path(), options(1)).unwrap();
    let mut transaction = bus.begin();
    let new: Vec<_> = (0..STATE_BYTES / 4096)
        .map(|_| transaction.allocate(4096).unwrap())
        .collect();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let pages: Vec<PageId> = new.iter().map(|page| commit.page(*page).unwrap()).collect();
    let bytes = vec![7; len];
    let mut random = 1u64;
    for _ in 0..LOG_BYTES as usize / len / batch {
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
fn reference(directory: &Path, len: usize, batch: usize) -> u32 {
    let file = File::open(directory.join("log-0000000000000001")).unwrap();
    // Recovery starts from memory that nobody has touched, so this does too.
    let mut state = vec![0u8; STATE_BYTES];
    let mut window = vec![0; WINDOW_BYTES];
    let record = batch * (len + 16) + 32;
    let (mut random, mut crc, mut offset) = (1u64, 0, 0);
    let end = (LOG_BYTES as usize / len / batch * record) as u64;
    while offset + WINDOW_BYTES as u64 <= end {
        file.read_exact_at(&mut window, offset).unwrap();
        for record in window.chunks_exact(record) {
            crc ^= crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, record) as u32;
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
    black_box(&state);
    crc
}

fn benches(criterion: &mut Criterion) {
    for (label, len, batch) in [("4KiB", 4096, 1), ("128B", 128, 1), ("64x128B", 128, 64)] {
        let directory = log(len, batch);
        let mut group = criterion.benchmark_group(format!("replay/{label}"));
        group.throughput(Throughput::Bytes(LOG_BYTES));
        group.bench_function("read_crc_memcpy", |bencher| {
            bencher.iter(|| reference(directory.path(), len, batch));
        });
        for appliers in [1, 2] {
            group.bench_function(format!("mmsb_{appliers}_appliers"), |bencher| {
                bencher.iter(|| {
                    replay(directory.path(), None, options(appliers))
                        .unwrap()
                        .lsn()
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = replays;
    config = Criterion::default().measurement_time(Duration::from_secs(5)).sample_size(10);
    targets = benches
}
criterion_main!(replays);
