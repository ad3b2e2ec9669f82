//! What a device does in which time: copies, applies, digests, mapping, and the latency of small work.
//!
//! `cargo bench -p mmsb-engine --features cuda --bench gpu -- --out FOLDER [--runs N] [--device host|simulated]`
//!
//! Each figure is of `runs` runs (200 unless said otherwise), after warming up: the time from before the work is submitted until after it
//! was waited for, unless its name says otherwise. Writes `gpu-bench.json`. On the simulated driver, or on the host, the times mean
//! nothing; the results are checked all the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::single_range_in_vec_init,
    clippy::field_reassign_with_default,
    reason = "a benchmark that cannot go on stops"
)]

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use mmsb_engine::device::cuda::{CudaDevice, CudaOptions};
use mmsb_engine::device::layout::{TILE_BYTES, Tile, TileRun, sum64};
use mmsb_engine::device::{
    Combine, Device, HostDevice, PinnedBuffer, Queue, SimulatedDevice, SimulatedOptions, Work,
};
use mmsb_engine::graph::{Form, Lane, Semiring};

const MIB: u64 = 1 << 20;

/// What the pages of the proof have together: 4, 16 and 64 MiB.
const PAGES_BYTES: u64 = 84 * MIB;
/// Where the pages, what is staged, and results lie in device memory.
const PAGES: u64 = 0;
const STAGED: u64 = 96 * MIB;
const OTHER: u64 = 224 * MIB;
const MAPPED_BYTES: u64 = 320 * MIB;

struct Bench {
    device: Box<dyn Device>,
    runs: usize,
    results: Vec<String>,
}

impl Bench {
    fn wait(&self, queue: Queue) {
        self.device.wait(self.device.fence(queue).unwrap()).unwrap();
    }

    fn submit(&self, queue: Queue, work: &Work<'_>) {
        self.device.submit(queue, work).unwrap();
    }

    fn pin(&self, bytes: &[u8]) -> PinnedBuffer {
        let pinned = self.device.pin(bytes.len()).unwrap();
        // SAFETY: nobody uses the buffer yet.
        unsafe { pinned.bytes_mut(0..bytes.len()) }
            .unwrap()
            .copy_from_slice(bytes);
        pinned
    }

    fn upload(&self, pinned: &PinnedBuffer, to: u64) {
        let from = pinned.slice(0..pinned.len_bytes()).unwrap();
        self.submit(Queue::Copy, &Work::Upload { from, to });
        self.wait(Queue::Copy);
    }

    /// Measures `run`, which moves `len_bytes` (0: that is not the point), a number of times.
    fn measure(&mut self, name: &str, len_bytes: u64, mut run: impl FnMut(&Self) -> Duration) {
        for _ in 0..self.runs.div_ceil(20) {
            run(self);
        }
        let mut times: Vec<Duration> = (0..self.runs).map(|_| run(self)).collect();
        times.sort_unstable();
        self.record(name, len_bytes, &times);
    }

    fn record(&mut self, name: &str, len_bytes: u64, times: &[Duration]) {
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_nanos();
        let (median_ns, p99_ns) = (at(0.5), at(0.99));
        let rate = len_bytes as f64 / median_ns.max(1) as f64;
        println!("{name:44} median {median_ns:>10} ns   p99 {p99_ns:>10} ns   {rate:>8.2} GB/s");
        self.results.push(format!(
            "{{\"name\": \"{name}\", \"runs\": {}, \"len_bytes\": {len_bytes}, \"min_ns\": {}, \"median_ns\": {median_ns}, \
             \"p99_ns\": {p99_ns}, \"gb_per_s\": {rate:.3}}}",
            times.len(),
            at(0.0),
        ));
    }

    /// As [`Bench::measure`], of one piece of work on a queue.
    fn measure_work(&mut self, name: &str, len_bytes: u64, queue: Queue, work: &Work<'_>) {
        self.measure(name, len_bytes, |bench| {
            timed(|| {
                bench.submit(queue, work);
                bench.wait(queue);
            })
        });
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Bytes that look random, the same in every run.
fn noise(seed: u64, len_bytes: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = vec![0; len_bytes as usize];
    for word in bytes.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    bytes
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1).cloned()
    };
    let Some(out) = option("--out") else {
        // Also `cargo bench` of everything comes here.
        println!("nothing is measured without --out FOLDER");
        return;
    };
    let runs = option("--runs").map_or(200, |runs| runs.parse().unwrap());
    let start = Instant::now();
    let device = open(option("--device").as_deref());
    let open_ns = start.elapsed().as_nanos();
    let info = device.info();
    let mut bench = Bench {
        device,
        runs,
        results: Vec::new(),
    };
    println!("{} on {}, {}", info.kind, info.name, info.driver);
    mapping(&mut bench, info.granule_bytes);
    bench.device.map(0..MAPPED_BYTES).unwrap();
    copies(&mut bench);
    applies(&mut bench);
    digests(&mut bench);
    other_work(&mut bench);
    latency(&mut bench);
    pipeline(&mut bench);
    let mut json = String::new();
    write!(
        json,
        "{{\n  \"kind\": \"{}\",\n  \"device\": \"{}\",\n  \"driver\": \"{}\",\n  \"open_ns\": {open_ns},\n  \"results\": [\n    {}\n  ]\n}}\n",
        info.kind,
        info.name,
        info.driver,
        bench.results.join(",\n    ")
    )
    .unwrap();
    std::fs::write(std::path::Path::new(&out).join("gpu-bench.json"), json).unwrap();
}

fn open(kind: Option<&str>) -> Box<dyn Device> {
    match kind {
        None | Some("cuda") => {
            let mut options = CudaOptions::default();
            // What mapping gives back is measured with and without having to ask the driver for it: see `mapping`.
            options.spare_bytes =
                std::env::var("MMSB_GPU_SPARE_BYTES").map_or(0, |bytes| bytes.parse().unwrap());
            match CudaDevice::open(0, &options) {
                Ok(device) => Box::new(device),
                Err(error) => panic!("{error}"),
            }
        }
        Some("host") => Box::new(HostDevice::new(MAPPED_BYTES).unwrap()),
        Some("simulated") => Box::new(SimulatedDevice::new(&SimulatedOptions::default()).unwrap()),
        Some(other) => panic!("{other}: there are cuda, host and simulated"),
    }
}

fn mapping(bench: &mut Bench, granule: u64) {
    for (name, len_bytes) in [
        ("map_one_granule", granule),
        ("map_84mib", PAGES_BYTES.next_multiple_of(granule)),
    ] {
        bench.measure(name, len_bytes, |bench| {
            let took = timed(|| bench.device.map(0..len_bytes).unwrap());
            bench.device.unmap(0..len_bytes).unwrap();
            took
        });
        bench.measure(&format!("un{name}"), len_bytes, |bench| {
            bench.device.map(0..len_bytes).unwrap();
            timed(|| bench.device.unmap(0..len_bytes).unwrap())
        });
    }
    let runs = std::mem::replace(&mut bench.runs, 5);
    bench.measure("pin_84mib", PAGES_BYTES, |bench| {
        timed(|| drop(bench.device.pin(PAGES_BYTES as usize).unwrap()))
    });
    bench.runs = runs;
}

fn copies(bench: &mut Bench) {
    let bytes = noise(1, PAGES_BYTES);
    let pinned = bench.pin(&bytes);
    let from = pinned.slice(0..bytes.len()).unwrap();
    let upload = Work::Upload { from, to: PAGES };
    bench.measure_work("upload_84mib", PAGES_BYTES, Queue::Copy, &upload);
    for chunk in [MIB, 4 * MIB] {
        let name = format!("upload_84mib_in_{}mib", chunk / MIB);
        bench.measure(&name, PAGES_BYTES, |bench| {
            timed(|| {
                for at in (0..PAGES_BYTES).step_by(chunk as usize) {
                    let from = pinned.slice(at as usize..(at + chunk) as usize).unwrap();
                    bench.submit(Queue::Copy, &Work::Upload { from, to: at });
                }
                bench.wait(Queue::Copy);
            })
        });
    }
    let target = bench.device.pin(bytes.len()).unwrap();
    let to = target.slice(0..bytes.len()).unwrap();
    let download = Work::Download { from: PAGES, to };
    bench.measure_work("download_84mib", PAGES_BYTES, Queue::Copy, &download);
    // SAFETY: the download was waited for.
    assert!(unsafe { target.bytes(0..bytes.len()) }.unwrap() == bytes);
    let sum_to = bench.device.pin(8).unwrap();
    let sum = Work::Sum {
        range: 0..PAGES_BYTES,
        to: sum_to.slice(0..8).unwrap(),
    };
    bench.measure_work("sum_84mib", PAGES_BYTES, Queue::Compute, &sum);
    // SAFETY: the sum was waited for.
    let found = unsafe { sum_to.bytes(0..8) }.unwrap();
    assert_eq!(found, sum64(&bytes).to_le_bytes());
}

/// Tables and payload of runs of `run_bytes` each, `runs` of them spread over each tile of the pages; and the pages with them applied.
fn batch(run_bytes: u64, runs: u64, seed: u64) -> (Vec<u8>, Vec<u8>, Work<'static>) {
    let tile_count = PAGES_BYTES / TILE_BYTES;
    let run_count = tile_count * runs;
    let payload = noise(seed, run_count * run_bytes);
    let mut pages = vec![0; PAGES_BYTES as usize];
    let mut tables = Vec::new();
    let mut rows = Vec::new();
    for tile in 0..tile_count {
        tables.extend_from_slice(
            &Tile {
                to: PAGES + tile * TILE_BYTES,
                first_run: (tile * runs) as u32,
                run_count: runs as u32,
            }
            .to_bytes(),
        );
        for run in 0..runs {
            let from = (tile * runs + run) * run_bytes;
            let at = run * (TILE_BYTES / runs);
            rows.extend_from_slice(
                &TileRun {
                    from: from as u32,
                    at: at as u16,
                    last: (run_bytes - 1) as u16,
                }
                .to_bytes(),
            );
            let to = (tile * TILE_BYTES + at) as usize;
            pages[to..to + run_bytes as usize]
                .copy_from_slice(&payload[from as usize..(from + run_bytes) as usize]);
        }
    }
    let runs_at = STAGED + tables.len() as u64;
    let payload_at = runs_at + rows.len() as u64;
    tables.extend(rows);
    tables.extend(payload);
    let work = Work::Apply {
        tiles: STAGED,
        tile_count: tile_count as u32,
        runs: runs_at,
        run_count: run_count as u32,
        payload: payload_at..STAGED + tables.len() as u64,
    };
    (tables, pages, work)
}

fn digest_of(bench: &Bench, range: Range<u64>) -> [u8; 32] {
    let pinned = bench.device.pin(32).unwrap();
    let ranges = [range];
    let to = pinned.slice(0..32).unwrap();
    bench.submit(
        Queue::Compute,
        &Work::Digest {
            ranges: &ranges,
            to,
        },
    );
    bench.wait(Queue::Compute);
    // SAFETY: the digest was waited for.
    unsafe { pinned.bytes(0..32) }.unwrap().try_into().unwrap()
}

fn applies(bench: &mut Bench) {
    for (name, run_bytes, runs) in [
        ("apply_84mib_dense_4096", 4096, 1),
        ("apply_84mib_dense_128", 128, 32),
        ("apply_4_of_128_a_tile", 128, 4),
        ("apply_1_of_16_a_tile", 16, 1),
    ] {
        let (staged, pages, work) = batch(run_bytes, runs, run_bytes);
        let pinned = bench.pin(&staged);
        bench.upload(&pinned, STAGED);
        let fill = Work::Fill {
            range: PAGES..PAGES_BYTES,
            byte: 0,
        };
        bench.submit(Queue::Compute, &fill);
        let len_bytes = PAGES_BYTES / TILE_BYTES * runs * run_bytes;
        bench.measure_work(name, len_bytes, Queue::Compute, &work);
        let expected = blake3::hash(&pages);
        assert_eq!(digest_of(bench, 0..PAGES_BYTES), *expected.as_bytes());
    }
}

fn digests(bench: &mut Bench) {
    let pages = [0..64 * MIB, 64 * MIB..80 * MIB, 80 * MIB..84 * MIB];
    let one = [0..PAGES_BYTES];
    let cut = |len: u64| -> Vec<Range<u64>> {
        let starts = (0..PAGES_BYTES).step_by(len as usize);
        starts.map(|at| at..at + len).collect()
    };
    let (small, cells) = (cut(4096), cut(64 * 1024));
    for (name, ranges) in [
        ("digest_84mib_3_pages", &pages[..]),
        ("digest_84mib_1_page", &one[..]),
        ("digest_84mib_pages_of_64kib", &cells),
        ("digest_84mib_pages_of_4kib", &small),
    ] {
        let pinned = bench.device.pin(32 * ranges.len()).unwrap();
        let to = pinned.slice(0..32 * ranges.len()).unwrap();
        let work = Work::Digest { ranges, to };
        bench.measure_work(name, PAGES_BYTES, Queue::Compute, &work);
    }
}

fn other_work(bench: &mut Bench) {
    let pinned = bench.device.pin(16).unwrap();
    let changed = pinned.slice(0..16).unwrap();
    let fill = Work::Fill {
        range: OTHER..OTHER + PAGES_BYTES,
        byte: 5,
    };
    bench.measure_work("fill_84mib", PAGES_BYTES, Queue::Compute, &fill);
    let copy = Work::Copy {
        from: PAGES..PAGES_BYTES,
        to: OTHER,
    };
    bench.measure_work("copy_84mib_on_device", PAGES_BYTES, Queue::Compute, &copy);
    let same = Work::Move {
        from: PAGES..PAGES_BYTES,
        to: OTHER,
        changed,
    };
    bench.measure_work(
        "move_84mib_nothing_changed",
        PAGES_BYTES,
        Queue::Compute,
        &same,
    );
    for (name, lane) in [("f32", Lane::F32), ("u8", Lane::U8), ("f64", Lane::F64)] {
        let combine = Work::Combine {
            combine: Combine {
                semiring: Semiring::MinPlus,
                lane,
                form: Form::Sum,
            },
            inputs: &[PAGES, PAGES + 28 * MIB],
            output: OTHER,
            range: 0..28 * MIB,
            changed,
        };
        let name = format!("combine_min_plus_2_of_28mib_{name}");
        bench.measure_work(&name, 3 * 28 * MIB, Queue::Compute, &combine);
    }
    let little = Work::Combine {
        combine: Combine {
            semiring: Semiring::PlusTimes,
            lane: Lane::U32,
            form: Form::Sum,
        },
        inputs: &[PAGES, PAGES + 28 * MIB],
        output: OTHER,
        range: 4096..4112,
        changed,
    };
    bench.measure_work("combine_16_bytes", 16, Queue::Compute, &little);
}

fn latency(bench: &mut Bench) {
    let fill = Work::Fill {
        range: 0..16,
        byte: 1,
    };
    bench.measure_work("fill_16_bytes_and_wait", 0, Queue::Compute, &fill);
    bench.measure("submit_fill_of_16_bytes", 0, |bench| {
        let took = timed(|| bench.submit(Queue::Compute, &fill));
        bench.wait(Queue::Compute);
        took
    });
    bench.measure("fence_after_work", 0, |bench| {
        bench.submit(Queue::Compute, &fill);
        let mut fence = None;
        let took = timed(|| fence = Some(bench.device.fence(Queue::Compute).unwrap()));
        bench.device.wait(fence.unwrap()).unwrap();
        took
    });
    let done = bench.device.fence(Queue::Compute).unwrap();
    bench.device.wait(done).unwrap();
    bench.measure("wait_for_what_is_reached", 0, |bench| {
        timed(|| bench.device.wait(done).unwrap())
    });
    bench.measure("order_behind_the_other_queue", 0, |bench| {
        bench.submit(Queue::Copy, &fill);
        let fence = bench.device.fence(Queue::Copy).unwrap();
        let took = timed(|| bench.device.order(Queue::Compute, fence).unwrap());
        bench.wait(Queue::Compute);
        took
    });
    let pinned = bench.device.pin(4096).unwrap();
    for len in [16, 4096] {
        let slice = pinned.slice(0..len).unwrap();
        let up = Work::Upload { from: slice, to: 0 };
        let name = format!("upload_{len}_bytes_and_wait");
        bench.measure_work(&name, 0, Queue::Copy, &up);
        let down = Work::Download { from: 0, to: slice };
        let name = format!("download_{len}_bytes_and_wait");
        bench.measure_work(&name, 0, Queue::Copy, &down);
    }
}

/// Uploads in chunks of 4 MiB, each applied as soon as it is there, and the digest of it all: what a restore does once its bytes are in
/// pinned memory.
fn pipeline(bench: &mut Bench) {
    const CHUNK_TILES: u64 = 4 * MIB / TILE_BYTES;
    let payload = noise(77, PAGES_BYTES);
    let mut tables = Vec::new();
    for tile in 0..CHUNK_TILES {
        let run = TileRun {
            from: (tile * TILE_BYTES) as u32,
            at: 0,
            last: 4095,
        };
        tables.extend_from_slice(&run.to_bytes());
    }
    for chunk in 0..PAGES_BYTES / (4 * MIB) {
        for tile in 0..CHUNK_TILES {
            let tile = Tile {
                to: PAGES + (chunk * CHUNK_TILES + tile) * TILE_BYTES,
                first_run: tile as u32,
                run_count: 1,
            };
            tables.extend_from_slice(&tile.to_bytes());
        }
    }
    let pinned = bench.pin(&payload);
    let table = bench.pin(&tables);
    let digest = bench.device.pin(96).unwrap();
    let pages = [0..64 * MIB, 64 * MIB..80 * MIB, 80 * MIB..84 * MIB];
    let payload_at = STAGED + 4 * MIB;
    for name in ["restore_84mib_in_place", "restore_84mib_applied"] {
        let is_applied = name.ends_with("applied");
        bench.measure(name, PAGES_BYTES, |bench| {
            timed(|| {
                let from = table.slice(0..tables.len()).unwrap();
                bench.submit(Queue::Copy, &Work::Upload { from, to: STAGED });
                for chunk in 0..PAGES_BYTES / (4 * MIB) {
                    let at = chunk * 4 * MIB;
                    let from = pinned.slice(at as usize..(at + 4 * MIB) as usize).unwrap();
                    let to = if is_applied {
                        payload_at + at
                    } else {
                        PAGES + at
                    };
                    bench.submit(Queue::Copy, &Work::Upload { from, to });
                    if is_applied {
                        let arrived = bench.device.fence(Queue::Copy).unwrap();
                        bench.device.order(Queue::Compute, arrived).unwrap();
                        let tiles = STAGED + CHUNK_TILES * 8 + chunk * CHUNK_TILES * 16;
                        let work = Work::Apply {
                            tiles,
                            tile_count: CHUNK_TILES as u32,
                            runs: STAGED,
                            run_count: CHUNK_TILES as u32,
                            payload: to..to + 4 * MIB,
                        };
                        bench.submit(Queue::Compute, &work);
                    }
                }
                let arrived = bench.device.fence(Queue::Copy).unwrap();
                bench.device.order(Queue::Compute, arrived).unwrap();
                let to = digest.slice(0..96).unwrap();
                bench.submit(Queue::Compute, &Work::Digest { ranges: &pages, to });
                bench.wait(Queue::Compute);
            })
        });
        // SAFETY: the digests were waited for.
        let digests = unsafe { digest.bytes(0..96) }.unwrap();
        for (found, page) in digests.chunks(32).zip(&pages) {
            let expected = blake3::hash(&payload[page.start as usize..page.end as usize]);
            assert_eq!(found, expected.as_bytes());
        }
    }
}
