//! What the border costs: each call beside the Rust call that it stands for, in the same run.
//!
//! `cargo bench -p mmsb-ffi --bench border`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails panics"
)]

use std::ffi::CString;
use std::hint::black_box;
use std::ptr::{null, null_mut};

use criterion::{Criterion, criterion_group, criterion_main};
use mmsb_engine::{Bus, Durability, Options, PageId, Retention};
use mmsb_ffi::bus::{mmsb_bus_close, mmsb_bus_open};
use mmsb_ffi::commit::{mmsb_commit_writes, mmsb_write};
use mmsb_ffi::options::{MMSB_RETAIN_CHECKPOINTS, mmsb_options};
use mmsb_ffi::status::MMSB_OK;
use mmsb_ffi::transaction::*;
use mmsb_ffi::view::*;

const PAGES: usize = 1000;
const PAGE_BYTES: u64 = 4096;
const DELTAS: usize = 1000;
const DELTA_BYTES: usize = 128;

fn rust_bus(directory: &std::path::Path) -> (Bus, Vec<PageId>) {
    let options = Options {
        retention: Retention::Checkpoints,
        ..Options::default()
    };
    let bus = Bus::open(directory, options).unwrap();
    let mut transaction = bus.begin();
    for _ in 0..PAGES {
        transaction.allocate(PAGE_BYTES).unwrap();
    }
    let pages = transaction.commit(Durability::Memory).unwrap().allocated;
    (bus, pages)
}

fn c_bus(directory: &std::path::Path) -> (u64, Vec<u64>) {
    let directory = CString::new(directory.to_str().unwrap()).unwrap();
    let options = mmsb_options {
        size: size_of::<mmsb_options>() as u64,
        retention: MMSB_RETAIN_CHECKPOINTS,
        ..mmsb_options::default()
    };
    let (mut bus, mut transaction) = (0, 0);
    // SAFETY: every pointer is to a variable of its type.
    unsafe {
        assert_eq!(
            mmsb_bus_open(directory.as_ptr(), &options, &mut bus),
            MMSB_OK
        );
        assert_eq!(mmsb_transaction_begin(bus, &mut transaction), MMSB_OK);
        let mut pages = vec![0; PAGES];
        for page in &mut pages {
            assert_eq!(
                mmsb_transaction_allocate(transaction, PAGE_BYTES, 0, page),
                MMSB_OK
            );
        }
        assert_eq!(
            mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, null_mut()),
            MMSB_OK
        );
        for page in &mut pages {
            assert_eq!(mmsb_transaction_page(transaction, *page, page), MMSB_OK);
        }
        assert_eq!(mmsb_transaction_release(transaction), MMSB_OK);
        (bus, pages)
    }
}

fn border(criterion: &mut Criterion) {
    let directories = [0, 1].map(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let (bus, pages) = rust_bus(directories[0].path());
    let (handle, c_pages) = c_bus(directories[1].path());
    // Touched, so that no measurement pays for fresh memory.
    let warm = [1; PAGE_BYTES as usize];
    for (page, c_page) in pages.iter().zip(&c_pages) {
        let mut transaction = bus.begin();
        transaction.write(*page, 0, &warm).unwrap();
        transaction.commit(Durability::Memory).unwrap();
        let write = mmsb_write {
            page: *c_page,
            offset: 0,
            bytes: warm.as_ptr(),
            len: PAGE_BYTES,
        };
        // SAFETY: every pointer is to a variable of its type.
        let status = unsafe { mmsb_commit_writes(handle, &write, 1, MMSB_MEMORY, 0, null_mut()) };
        assert_eq!(status, MMSB_OK);
    }
    reads(criterion, &bus, pages[7], handle, c_pages[7]);
    writes(criterion, &bus, pages[7], handle, c_pages[7]);
    commits(criterion, &bus, &pages, handle, &c_pages);
    assert_eq!(mmsb_bus_close(handle), MMSB_OK);
}

fn reads(criterion: &mut Criterion, bus: &Bus, page: PageId, handle: u64, c_page: u64) {
    let mut group = criterion.benchmark_group("read 16 B");
    let mut to = [0_u8; 16];
    group.bench_function("rust", |b| {
        b.iter(|| {
            let guard = bus.read(black_box(page)).unwrap();
            to.copy_from_slice(&guard[64..80]);
        });
    });
    group.bench_function("c", |b| {
        // SAFETY: the buffer has that length.
        b.iter(|| unsafe { mmsb_read_into(handle, black_box(c_page), 64, to.as_mut_ptr(), 16) });
    });
    group.finish();
    let mut group = criterion.benchmark_group("open and release a view");
    group.bench_function("rust guard", |b| {
        b.iter(|| bus.read(black_box(page)).unwrap().as_ptr());
    });
    group.bench_function("rust detached", |b| {
        b.iter(|| bus.read_detached(black_box(page)).unwrap().bytes().as_ptr());
    });
    group.bench_function("c", |b| {
        let mut view = 0;
        let mut bytes = mmsb_bytes {
            data: null(),
            len: 0,
        };
        b.iter(|| {
            // SAFETY: every pointer is to a variable of its type.
            unsafe { mmsb_view_one(handle, black_box(c_page), &mut view, &mut bytes) };
            mmsb_view_release(view)
        });
    });
    group.finish();
}

/// One more write to a transaction that holds few: what a call costs.
fn writes(criterion: &mut Criterion, bus: &Bus, page: PageId, handle: u64, c_page: u64) {
    const CALLS: u64 = 1000;
    let bytes = [5_u8; 16];
    let mut group = criterion.benchmark_group("1000 writes of 16 B to a transaction");
    group.bench_function("rust", |b| {
        b.iter(|| {
            let mut transaction = bus.begin();
            for at in 0..CALLS {
                transaction.write(black_box(page), at, &bytes).unwrap();
            }
        });
    });
    group.bench_function("c", |b| {
        b.iter(|| {
            let mut transaction = 0;
            // SAFETY: every pointer is to a variable of its type.
            unsafe {
                mmsb_transaction_begin(handle, &mut transaction);
                for at in 0..CALLS {
                    mmsb_transaction_write(transaction, black_box(c_page), at, bytes.as_ptr(), 16);
                }
            }
            mmsb_transaction_release(transaction)
        });
    });
    group.finish();
}

fn commits(criterion: &mut Criterion, bus: &Bus, pages: &[PageId], handle: u64, c_pages: &[u64]) {
    let bytes = [7_u8; DELTA_BYTES];
    let mut group = criterion.benchmark_group("commit of 1000 deltas of 128 B");
    group.throughput(criterion::Throughput::Elements(DELTAS as u64));
    group.bench_function("rust", |b| {
        b.iter(|| {
            let mut transaction = bus.begin();
            for page in pages {
                transaction.write(*page, 256, &bytes).unwrap();
            }
            transaction.commit(Durability::Memory).unwrap()
        });
    });
    group.bench_function("c, one call", |b| {
        let writes: Vec<mmsb_write> = c_pages
            .iter()
            .map(|page| mmsb_write {
                page: *page,
                offset: 256,
                bytes: bytes.as_ptr(),
                len: DELTA_BYTES as u64,
            })
            .collect();
        // SAFETY: the writes and their bytes are there.
        b.iter(|| unsafe {
            mmsb_commit_writes(
                handle,
                writes.as_ptr(),
                writes.len(),
                MMSB_MEMORY,
                0,
                null_mut(),
            )
        });
    });
    group.finish();
}

criterion_group!(benches, border);
criterion_main!(benches);
