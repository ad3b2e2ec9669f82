//! Restoring pages on a device from the log alone, beside a bare copy of the same bytes from pinned memory, and reading the log by as many
//! threads.
//!
//! `cargo bench -p mmsb-engine --bench restore`. `MMSB_BENCH_DEVICE` says on which device (`host`, the default, or `cuda` in a build
//! with that feature), `MMSB_BENCH_ROUNDS` how often everything is measured (default 21), `MMSB_BENCH_APPLIERS` how many threads read the log
//! (default: the processors less two, at least 1), `MMSB_BENCH_BYTES` how many bytes of pages there are (default 84 MiB as
//! 4 + 16 + 64; more is added in pages of 64 MiB), `MMSB_BENCH_STAGING` how many bytes of pinned memory they go through (default: that of the options), `MMSB_BENCH_DIR` where the log is written, `MMSB_BENCH_JSON` a file for the figures.
//!
//! What is restored is compared with what was written, by the digests that the device computes, after every round.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails panics, and prints what it found"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mmsb_engine::device::{Device, HostDevice, Queue, Work};
use mmsb_engine::{Bus, DeviceOptions, Digest, Durability, Location, Options, PageId};

const MIB: usize = 1 << 20;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn device(bytes: usize) -> Arc<dyn Device> {
    match std::env::var("MMSB_BENCH_DEVICE").as_deref() {
        Ok("cuda") => cuda(),
        _ => Arc::new(HostDevice::new(bytes as u64 * 2 + (1 << 30)).unwrap()),
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Arc<dyn Device> {
    use mmsb_engine::device::cuda::{CudaDevice, CudaOptions};
    let start = Instant::now();
    let device = CudaDevice::open(0, &CudaOptions::default()).unwrap();
    println!("opening the device: {:.1} ms", ms(start.elapsed()));
    Arc::new(device)
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Arc<dyn Device> {
    println!("this build has no CUDA; build with --features cuda");
    std::process::exit(2)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Median and 99th percentile, in milliseconds.
fn figures(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let last = times.len() - 1;
    (ms(times[last / 2]), ms(times[(last * 99).div_ceil(100)]))
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    });
    words.take(len).collect()
}

struct Content {
    pages: Vec<(PageId, Vec<u8>)>,
    log_bytes: u64,
}

/// Dense pages, each written by transactions of 4 MiB, then short runs all over them.
fn fill(bus: &Bus, lens: &[usize]) -> Content {
    let mut pages = Vec::new();
    let mut log_bytes = 0;
    for (seed, len) in lens.iter().enumerate() {
        let mut transaction = bus.begin();
        let new = transaction
            .allocate_at(*len as u64, Location::Device)
            .unwrap();
        let page = transaction
            .commit(Durability::Memory)
            .unwrap()
            .page(new)
            .unwrap();
        let bytes = pattern(*len, seed as u64 + 1);
        for (part, chunk) in bytes.chunks(4 * MIB).enumerate() {
            let mut transaction = bus.begin();
            transaction
                .write(page, (part * 4 * MIB) as u64, chunk)
                .unwrap();
            transaction.commit(Durability::Memory).unwrap();
        }
        log_bytes += *len as u64;
        pages.push((page, bytes));
    }
    let mut random = 7u64;
    for round in 0..64u8 {
        let mut transaction = bus.begin();
        for _ in 0..64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (page, bytes) = {
                let at = (random >> 40) as usize % pages.len();
                &mut pages[at]
            };
            let at = (random >> 8) as usize % (bytes.len() - 128);
            bytes[at..at + 128].fill(round);
            transaction
                .write(*page, at as u64, &bytes[at..at + 128])
                .unwrap();
            log_bytes += 128;
        }
        transaction.commit(Durability::Memory).unwrap();
    }
    Content { pages, log_bytes }
}

/// One copy of everything from pinned memory, and nothing else.
fn bare_copy(device: &dyn Device, bytes: usize, rounds: usize) -> Vec<Duration> {
    let info = device.info();
    let start = info.reserved_bytes - (bytes as u64).next_multiple_of(info.granule_bytes);
    device.reset().unwrap();
    device.map(start..info.reserved_bytes).unwrap();
    let pinned = device.pin(bytes).unwrap();
    let from = pinned.slice(0..bytes).unwrap();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        device
            .submit(Queue::Copy, &Work::Upload { from, to: start })
            .unwrap();
        let fence = device.fence(Queue::Copy).unwrap();
        device.wait(fence).unwrap();
        times.push(begin.elapsed());
    }
    device.reset().unwrap();
    times
}

/// Reads all segments of the log with `threads` threads, a part after the other into a buffer that stays in the cache, and does nothing
/// with it: what is faster than this would have to do without reading.
fn bare_read(directory: &Path, threads: usize, rounds: usize) -> (usize, Vec<Duration>) {
    const PART_BYTES: usize = 256 << 10;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("log-")
        {
            files.push(File::open(path).unwrap());
        }
    }
    // The end of the last segment was never written, and reads as nothing or as zeros, which costs the same.
    let parts: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let len_bytes = file.metadata().unwrap().len();
            (0..len_bytes)
                .step_by(PART_BYTES)
                .map(move |start| (file, start, (len_bytes - start).min(PART_BYTES as u64)))
        })
        .collect();
    let total = parts.iter().map(|(.., len)| *len as usize).sum();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut buffer = vec![0; PART_BYTES];
                    while let Some((file, start, len)) =
                        parts.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        file.read_exact_at(&mut buffer[..*len as usize], *start)
                            .unwrap();
                    }
                });
            }
        });
        times.push(begin.elapsed());
    }
    (total, times)
}

fn main() {
    let bytes = number("MMSB_BENCH_BYTES", 84 * MIB);
    let rounds = number("MMSB_BENCH_ROUNDS", 21);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let appliers = number("MMSB_BENCH_APPLIERS", processors.saturating_sub(2).max(1));
    let mut lens = vec![4 * MIB, 16 * MIB, 64 * MIB];
    while lens.iter().sum::<usize>() < bytes {
        lens.push(64 * MIB);
    }
    let total: usize = lens.iter().sum();
    let device = device(total);
    let info = device.info();
    println!(
        "{} ({}), {}; {appliers} threads read",
        info.name, info.kind, info.driver
    );
    let mut copies = bare_copy(&*device, total.min(1 << 30), rounds);

    let directory = match std::env::var_os("MMSB_BENCH_DIR") {
        Some(parent) => tempfile::tempdir_in(parent).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let mut device_options = DeviceOptions::default();
    device_options.staging_bytes =
        number("MMSB_BENCH_STAGING", device_options.staging_bytes as usize) as u64;
    let options = Options {
        prefill: false,
        appliers,
        device: Some(device),
        device_options,
        ..Options::default()
    };
    let bus = Bus::open(directory.path(), options).unwrap();
    let content = fill(&bus, &lens);
    let expected = bus.digest().unwrap();
    for (page, bytes) in &content.pages {
        assert!(
            Digest::of(&bus.read(*page).unwrap()) == Digest::of(bytes),
            "{page}"
        );
    }

    let (mut warm, mut cold, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let begin = Instant::now();
        let restored = bus.restore_device().unwrap();
        let time = begin.elapsed();
        assert_eq!(restored.detour, None);
        let begin = Instant::now();
        assert_eq!(
            bus.digest().unwrap(),
            expected,
            "what was restored is not what was written"
        );
        // The first round is to get everything going.
        if round > 0 {
            digests.push(begin.elapsed());
            warm.push(time);
        }
    }
    for _ in 0..rounds.div_ceil(4) {
        bus.release_device().unwrap();
        let begin = Instant::now();
        bus.restore_device().unwrap();
        cold.push(begin.elapsed());
        assert_eq!(
            bus.digest().unwrap(),
            expected,
            "what was restored is not what was written"
        );
    }

    let (log_bytes, mut reads) = bare_read(directory.path(), appliers, rounds);
    let copied = total.min(1 << 30);
    let mut json = String::from("{\n");
    let _ = writeln!(
        json,
        "  \"device\": {:?}, \"driver\": {:?},",
        info.name, info.driver
    );
    let _ = writeln!(
        json,
        "  \"kind\": \"{}\", \"rounds\": {rounds}, \"readers\": {appliers},",
        info.kind
    );
    let _ = writeln!(
        json,
        "  \"page_bytes\": {total}, \"log_payload_bytes\": {},",
        content.log_bytes
    );
    let rows = [
        ("bare pinned copy", copied, &mut copies),
        ("bare read of the log", log_bytes, &mut reads),
        ("restore, memory kept", total, &mut warm),
        ("restore, memory given back before", total, &mut cold),
        ("state digest", total, &mut digests),
    ];
    for (position, (name, len, times)) in rows.into_iter().enumerate() {
        let (median, p99) = figures(times);
        let gb_s = len as f64 / median / 1e6;
        println!(
            "{name:34} {median:9.3} ms median {p99:9.3} ms p99  {gb_s:7.1} GB/s  ({len} bytes)"
        );
        let key = name.replace([' ', ','], "_").replace("__", "_");
        let comma = if position < 4 { "," } else { "" };
        let _ = writeln!(
            json,
            "  \"{key}\": {{\"median_ms\": {median:.4}, \"p99_ms\": {p99:.4}, \"bytes\": {len}}}{comma}"
        );
    }
    json.push_str("}\n");
    if let Some(path) = std::env::var_os("MMSB_BENCH_JSON") {
        std::fs::write(path, json).unwrap();
    }
}
