//! Who last wrote a byte, in a log of 1 GiB: by reading it, and from an index.
//!
//! `MMSB_BENCH_LOG_MIB` makes the log shorter.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that fails panics"
)]

use std::path::Path;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mmsb_engine::inspect::Inspection;
use mmsb_engine::{Bus, Durability, FileStorage, Options, PageId};

/// The page that is written to.
const PAGE_BYTES: u64 = 64 << 20;

/// A log of about `log_bytes` of deltas of `delta_bytes` each, one a transaction, spread over one page.
fn fill(directory: &Path, log_bytes: u64, delta_bytes: u64) -> PageId {
    let bus = Bus::open(directory, Options::default()).unwrap();
    let mut transaction = bus.begin();
    let page = transaction.allocate(PAGE_BYTES).unwrap();
    let page = transaction
        .commit(Durability::Memory)
        .unwrap()
        .page(page)
        .unwrap();
    let bytes = vec![7; delta_bytes as usize];
    let record_bytes = 48 + delta_bytes;
    for number in 0..log_bytes / record_bytes {
        // An odd stride visits every place before it repeats.
        let slot = number.wrapping_mul(0x9e37_79b1) % (PAGE_BYTES / delta_bytes);
        let mut transaction = bus.begin();
        transaction.write(page, slot * delta_bytes, &bytes).unwrap();
        transaction.commit(Durability::Memory).unwrap();
    }
    bus.close().unwrap();
    page
}

fn blame(criterion: &mut Criterion) {
    let mib = std::env::var("MMSB_BENCH_LOG_MIB").ok();
    let log_bytes = mib.map_or(1 << 30, |mib| mib.parse::<u64>().unwrap() << 20);
    let mut group = criterion.benchmark_group("blame");
    group.sample_size(10);
    for delta_bytes in [4096, 128] {
        let directory = tempfile::tempdir().unwrap();
        let page = fill(directory.path(), log_bytes, delta_bytes);
        let storage = FileStorage::existing(directory.path()).unwrap();
        let beside = tempfile::tempdir().unwrap();
        let index = FileStorage::existing(beside.path()).unwrap();
        group.bench_function(BenchmarkId::new("scan", delta_bytes), |bencher| {
            bencher.iter(|| {
                Inspection::new(&storage)
                    .unwrap()
                    .blame(page, 12_345)
                    .unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("write index", delta_bytes), |bencher| {
            bencher.iter(|| {
                let inspection = Inspection::new(&storage).unwrap();
                inspection.write_blame_index(&index, "blame").unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("ask index", delta_bytes), |bencher| {
            bencher.iter(|| {
                let inspection = Inspection::new(&storage).unwrap();
                inspection
                    .blame_with_index(&index, "blame", page, 12_345)
                    .unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, blame);
criterion_main!(benches);
