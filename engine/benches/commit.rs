//! Commits: how fast deltas get into the log and onto their pages, beside a loop that does only that.
//!
//! `cargo bench -p mmsb-engine --bench commit`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails panics"
)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use mmsb_engine::{Bus, Durability, Options, PageId, Retention};
use tempfile::TempDir;

const SEGMENT_BYTES: u64 = 64 << 20;

/// Where the benchmarks write: a real disk, not a tmpfs.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

struct Bench {
    bus: Bus,
    pages: Vec<PageId>,
    _directory: TempDir,
}

impl Bench {
    fn new(pages: usize, page_len_bytes: u64) -> Self {
        let directory = directory();
        let bus = Bus::open(
            directory.path(),
            Options {
                segment_bytes: SEGMENT_BYTES,
                retention: Retention::Checkpoints,
                ..Options::default()
            },
        )
        .unwrap();
        let mut transaction = bus.begin();
        let new: Vec<_> = (0..pages)
            .map(|_| transaction.allocate(page_len_bytes).unwrap())
            .collect();
        let commit = transaction.commit(Durability::Sync).unwrap();
        let pages: Vec<PageId> = new.iter().map(|page| commit.page(*page).unwrap()).collect();
        for page in &pages {
            let mut transaction = bus.begin();
            transaction
                .write(*page, 0, &vec![1; page_len_bytes as usize])
                .unwrap();
            transaction.commit(Durability::Memory).unwrap();
        }
        let bench = Self {
            bus,
            pages,
            _directory: directory,
        };
        // Fill the pool of segments, so that what is measured is the steady state.
        for _ in 0..3 {
            bench.run(
                20_000,
                64,
                4096.min(page_len_bytes as usize),
                Durability::Memory,
            );
            bench.settle();
        }
        bench
    }

    /// What a maintenance thread does now and then, outside of the measured time.
    fn settle(&self) {
        self.bus.sync().unwrap();
        self.bus.checkpoint().unwrap();
        self.bus.maintain().unwrap();
    }

    fn run(&self, deltas: u64, batch: u64, len: usize, durability: Durability) -> Duration {
        let bytes = vec![7u8; len];
        let mut random = 1u64;
        let start = Instant::now();
        let mut done = 0;
        while done < deltas {
            let mut transaction = self.bus.begin();
            for _ in 0..batch {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let page = self.pages[(random >> 33) as usize % self.pages.len()];
                let slots = (4096 / len).max(1) as u64;
                let offset = (random >> 20) % slots * len as u64;
                transaction.write(page, offset, black_box(&bytes)).unwrap();
            }
            transaction.commit(durability).unwrap();
            done += batch;
        }
        start.elapsed()
    }
}

/// The least that any engine with a log must do: encode, checksum, write, apply.
struct Reference {
    file: File,
    position: u64,
    pages: Vec<u8>,
    buffer: Vec<u8>,
    _directory: TempDir,
}

impl Reference {
    fn new(pages: usize, page_len_bytes: u64) -> Self {
        let directory = directory();
        let path = directory.path().join("log");
        std::fs::write(&path, vec![0; SEGMENT_BYTES as usize]).unwrap();
        let file = File::options().write(true).read(true).open(path).unwrap();
        file.sync_all().unwrap();
        Self {
            file,
            position: 0,
            pages: vec![1; pages * page_len_bytes as usize],
            buffer: Vec::new(),
            _directory: directory,
        }
    }

    fn run(&mut self, deltas: u64, batch: u64, len: usize, sync: bool) -> Duration {
        let bytes = vec![7u8; len];
        let mut random = 1u64;
        let pages = self.pages.len() / 4096;
        let start = Instant::now();
        let mut done = 0;
        while done < deltas {
            self.buffer.clear();
            for _ in 0..batch {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let page = (random >> 33) as usize % pages;
                let offset = page * 4096 + ((random >> 20) % (4096 / len) as u64) as usize * len;
                self.buffer
                    .extend_from_slice(&(offset as u64).to_le_bytes());
                self.buffer.extend_from_slice(&(len as u64).to_le_bytes());
                self.buffer.extend_from_slice(black_box(&bytes));
                self.pages[offset..offset + len].copy_from_slice(&bytes);
            }
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &self.buffer);
            self.buffer.extend_from_slice(&crc.to_le_bytes());
            if self.position + self.buffer.len() as u64 > SEGMENT_BYTES {
                self.position = 0;
            }
            self.file.write_all_at(&self.buffer, self.position).unwrap();
            self.position += self.buffer.len() as u64;
            if sync {
                self.file.sync_data().unwrap();
            }
            done += batch;
        }
        start.elapsed()
    }
}

/// Runs `work` for about `deltas` deltas at a time, settling in between.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    step: u64,
    mut work: impl FnMut(u64) -> Duration,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut left = iterations * step;
            let mut elapsed = Duration::ZERO;
            while left > 0 {
                let now = left.min(200_000 / step * step).max(step);
                elapsed += work(now);
                left -= now.min(left);
            }
            elapsed
        });
    });
}

/// 128 B deltas in batches, logged, not synced: the headline.
fn batched(criterion: &mut Criterion) {
    for (label, pages) in [("hot_256KiB", 64), ("random_64MiB", 16 * 1024)] {
        let bench = Bench::new(pages, 4096);
        let mut reference = Reference::new(pages, 4096);
        for batch in [1, 64, 1024] {
            let mut group = criterion.benchmark_group(format!("commit_128B/{label}/batch_{batch}"));
            group.throughput(Throughput::Elements(batch));
            measure(&mut group, "reference", batch, |deltas| {
                reference.run(deltas, batch, 128, false)
            });
            measure(&mut group, "mmsb", batch, |deltas| {
                let elapsed = bench.run(deltas, batch, 128, Durability::Memory);
                bench.settle();
                elapsed
            });
            group.finish();
        }
    }
}

/// One 4 KiB delta a commit, beside memcpy and CRC32C of 4 KiB.
fn page_sized(criterion: &mut Criterion) {
    let bench = Bench::new(1024, 4096);
    let mut group = criterion.benchmark_group("commit_4KiB");
    group.throughput(Throughput::Bytes(4096));
    let source = vec![7u8; 4096];
    let mut target = vec![0u8; 4 << 20];
    let mut at = 0;
    group.bench_function("memcpy_and_crc32c", |bencher| {
        bencher.iter(|| {
            at = (at + 4096) % target.len();
            target[at..at + 4096].copy_from_slice(black_box(&source));
            crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, black_box(&source))
        });
    });
    let mut reference = Reference::new(1024, 4096);
    measure(&mut group, "reference_with_log", 1, |deltas| {
        // The log is written in chunks of 256 KiB, as the engine does.
        reference
            .run(deltas.next_multiple_of(64), 64, 4096, false)
            .mul_f64(deltas as f64 / deltas.next_multiple_of(64) as f64)
    });
    measure(&mut group, "mmsb", 1, |deltas| {
        let mut elapsed = Duration::ZERO;
        for part in 0..deltas.div_ceil(10_000) {
            elapsed += bench.run(
                (deltas - part * 10_000).min(10_000),
                1,
                4096,
                Durability::Memory,
            );
            bench.settle();
        }
        elapsed
    });
    group.finish();
}

/// Groups of 64 deltas of 128 B, each group synced, beside the same bytes written to a zero-filled file and synced.
fn durable(criterion: &mut Criterion) {
    let bench = Bench::new(1024, 4096);
    let mut reference = Reference::new(1024, 4096);
    let mut group = criterion.benchmark_group("durable_64x128B");
    group.throughput(Throughput::Elements(64));
    measure(&mut group, "raw_file", 64, |deltas| {
        reference.run(deltas, 64, 128, true)
    });
    measure(&mut group, "mmsb", 64, |deltas| {
        let elapsed = bench.run(deltas, 64, 128, Durability::Sync);
        bench.settle();
        elapsed
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = batched, page_sized, durable
}
criterion_main!(benches);
