//! Pages on a device, seen through a bus: the same bytes as on the host, and nothing lost when the device fails.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::steps::{Course, How, Step, pattern, steps};
use common::{connect, open, options, try_open, write};
use mmsb_engine::device::{
    Device, DeviceError, DeviceInfo, Fence, HostDevice, PinnedBuffer, Queue, Work,
};
use mmsb_engine::{
    Bus, CheckpointError, Digest, Durability, Location, Options, PageId, ReadError,
    TransactionError,
};
use proptest::prelude::*;
use tempfile::tempdir;

/// A device of host memory that fails when it is told to.
#[derive(Debug)]
struct Fragile {
    inner: HostDevice,
    /// Pieces of work until one fails.
    fails_in: AtomicU64,
    /// Whether the next upload arrives with one bit flipped.
    corrupts: AtomicBool,
}

impl Fragile {
    fn new(memory_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: HostDevice::new(memory_bytes).unwrap(),
            fails_in: AtomicU64::new(u64::MAX),
            corrupts: AtomicBool::new(false),
        })
    }

    fn fail_after(&self, pieces: u64) {
        self.fails_in.store(pieces, Ordering::Relaxed);
    }
}

impl Device for Fragile {
    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }
    fn map(&self, range: Range<u64>) -> Result<(), DeviceError> {
        self.inner.map(range)
    }
    fn unmap(&self, range: Range<u64>) -> Result<(), DeviceError> {
        self.inner.unmap(range)
    }
    fn address(&self, offset: u64) -> u64 {
        self.inner.address(offset)
    }
    fn pin(&self, len_bytes: usize) -> Result<PinnedBuffer, DeviceError> {
        self.inner.pin(len_bytes)
    }
    fn submit(&self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError> {
        let left = self.fails_in.load(Ordering::Relaxed);
        if left == 0 {
            return Err(DeviceError::Failed {
                work: work.name(),
                reason: "it was told to".to_owned(),
            });
        }
        if left < u64::MAX {
            self.fails_in.store(left - 1, Ordering::Relaxed);
        }
        self.inner.submit(queue, work)?;
        if let Work::Upload { to, from } = work
            && self.corrupts.swap(false, Ordering::Relaxed)
        {
            let range = *to..to + from.len_bytes() as u64 / 2;
            self.inner
                .submit(queue, &Work::Fill { range, byte: 0x5a })?;
        }
        Ok(())
    }
    fn fence(&self, queue: Queue) -> Result<Fence, DeviceError> {
        self.inner.fence(queue)
    }
    fn order(&self, queue: Queue, fence: Fence) -> Result<(), DeviceError> {
        self.inner.order(queue, fence)
    }
    fn is_reached(&self, fence: Fence) -> Result<bool, DeviceError> {
        self.inner.is_reached(fence)
    }
    fn wait(&self, fence: Fence) -> Result<(), DeviceError> {
        self.inner.wait(fence)
    }
    fn reset(&self) -> Result<(), DeviceError> {
        self.inner.reset()
    }
}

fn on(device: &Arc<Fragile>) -> Options {
    let device: Arc<dyn Device> = Arc::<Fragile>::clone(device);
    Options {
        device: Some(device),
        ..options()
    }
}

fn allocate_at(bus: &Bus, len_bytes: u64, location: Location) -> PageId {
    let mut transaction = bus.begin();
    let page = transaction.allocate_at(len_bytes, location).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    commit.page(page).unwrap()
}

#[test]
fn a_page_on_the_device_starts_as_zeros_and_holds_what_is_written() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate_at(&bus, 300_000, Location::Device);
    assert!(bus.read(page).unwrap().iter().all(|byte| *byte == 0));
    let info = bus.info(page).unwrap();
    assert_eq!((info.location, info.offset), (Location::Device, 0));
    assert_eq!(bus.device().unwrap().kind.name(), "host");

    let long = pattern(200_000, 1);
    write(&bus, page, 50_001, &long);
    write(&bus, page, 60_000, b"last writer wins");
    let mut expected = vec![0; 300_000];
    expected[50_001..250_001].copy_from_slice(&long);
    expected[60_000..60_016].copy_from_slice(b"last writer wins");
    assert!(*bus.read(page).unwrap() == *expected);
    assert!(bus.view(&[page]).unwrap().page(page).unwrap() == expected);
    assert_eq!(bus.read(page).unwrap().epoch(), 2);
}

#[test]
fn memory_that_is_used_again_starts_as_zeros() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate_at(&bus, 10_000, Location::Device);
    let address = bus.device_page(page).unwrap().address();
    write(&bus, page, 0, &pattern(10_000, 7));
    let mut transaction = bus.begin();
    transaction.free(page).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    let again = allocate_at(&bus, 10_000, Location::Device);
    assert_eq!(bus.device_page(again).unwrap().address(), address);
    assert!(bus.read(again).unwrap().iter().all(|byte| *byte == 0));
    // Also where the write to the old page is still on its way when the memory is given to the next.
    write(&bus, again, 0, &pattern(100, 7));
    let mut transaction = bus.begin();
    transaction.free(again).unwrap();
    let next = transaction.allocate_at(10_000, Location::Device).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let next = commit.page(next).unwrap();
    let last = allocate_at(&bus, 10_000, Location::Device);
    assert_eq!(bus.device_page(last).unwrap().address(), address);
    for page in [next, last] {
        assert!(bus.read(page).unwrap().iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_device_serves_one_bus_at_a_time() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let device = Fragile::new(128 << 20);
    let bus = open(one.path(), on(&device));
    let error = try_open(two.path(), on(&device)).unwrap_err();
    assert_eq!(error.kind(), "device.unavailable", "{error}");
    drop(bus);
    try_open(two.path(), on(&device)).unwrap();
}

#[test]
fn a_page_that_does_not_fit_is_refused_and_nothing_else_changes() {
    let directory = tempdir().unwrap();
    let device = Fragile::new(64 << 20);
    let bus = open(directory.path(), on(&device));
    let page = allocate_at(&bus, 1 << 20, Location::Device);
    write(&bus, page, 5, b"kept");
    let digest = bus.digest().unwrap();
    let mut transaction = bus.begin();
    transaction.allocate_at(4096, Location::Device).unwrap();
    transaction.allocate_at(60 << 20, Location::Device).unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert_eq!(error.kind(), "device.out-of-memory", "{error}");
    assert!(bus.device_fault().is_none());
    assert_eq!(bus.digest().unwrap(), digest);
    let next = allocate_at(&bus, 4096, Location::Device);
    assert_eq!(bus.info(next).unwrap().offset, 1 << 20);
    drop(bus);
    let bus = open(directory.path(), on(&device));
    assert_eq!(bus.info(next).unwrap().offset, 1 << 20);
    assert_eq!(bus.read(page).unwrap()[5..9], *b"kept");
}

#[test]
fn after_a_failure_the_host_goes_on_and_the_log_gives_the_device_back() {
    let directory = tempdir().unwrap();
    let device = Fragile::new(256 << 20);
    let bus = open(directory.path(), on(&device));
    let host = allocate_at(&bus, 4096, Location::Host);
    let page = allocate_at(&bus, 1 << 20, Location::Device);
    let derived = allocate_at(&bus, 1 << 20, Location::Device);
    let on_host = allocate_at(&bus, 1 << 20, Location::Host);
    connect(&bus, derived, "copy", &[], &[page]);
    connect(&bus, on_host, "copy", &[], &[derived]);
    write(&bus, page, 0, &pattern(1 << 20, 3));
    write(&bus, host, 0, b"host");
    bus.checkpoint().unwrap();
    write(&bus, page, 77, b"after the checkpoint");
    let digest = bus.digest().unwrap();
    let epochs = |bus: &Bus| [derived, on_host].map(|page| bus.info(page).unwrap().epoch);
    let epochs_before = epochs(&bus);

    device.fail_after(0);
    let error = bus.read(page).unwrap_err();
    assert_eq!(error.kind(), "device.failed", "{error}");
    // It is of no use from here on, even if it would answer again.
    device.fail_after(u64::MAX);
    assert!(matches!(bus.read(page), Err(ReadError::Device { .. })));
    assert!(matches!(bus.digest(), Err(ReadError::Device { .. })));
    assert!(bus.device_fault().is_some());
    let mut transaction = bus.begin();
    transaction.write(page, 0, b"no").unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert!(matches!(error, TransactionError::Device(_)), "{error}");
    let last = bus.last_lsn();
    write(&bus, host, 0, b"host");
    assert_eq!(bus.last_lsn(), last.next());
    assert!(matches!(bus.checkpoint(), Err(CheckpointError::Device(_))));

    let restored = bus.restore_device().unwrap();
    assert_eq!((restored.pages, restored.page_bytes), (2, 2 << 20));
    assert_eq!(restored.detour, None);
    assert!(bus.device_fault().is_none());
    assert_eq!(bus.digest().unwrap(), digest);
    assert_eq!(epochs(&bus), epochs_before);
    write(&bus, page, 1000, b"and on");
    let digest = bus.digest().unwrap();
    assert!(
        bus.checkpoint().unwrap().is_full,
        "images were lost with the one given up"
    );
    drop(bus);
    let bus = open(directory.path(), on(&device));
    assert_eq!(bus.digest().unwrap(), digest);
    assert!(bus.opened().checkpoint.is_some());
}

#[test]
fn a_write_that_the_device_does_not_take_is_committed_all_the_same() {
    let directory = tempdir().unwrap();
    let device = Fragile::new(256 << 20);
    let bus = open(directory.path(), on(&device));
    let page = allocate_at(&bus, 1 << 20, Location::Device);
    let bytes = pattern(1 << 20, 9);
    // The zeros, then the upload fails.
    device.fail_after(1);
    write(&bus, page, 0, &bytes);
    assert_eq!(bus.device_fault().unwrap().kind(), "device.failed");
    device.fail_after(u64::MAX);
    bus.restore_device().unwrap();
    assert!(*bus.read(page).unwrap() == *bytes);
}

#[test]
fn a_restore_that_fails_leaves_the_fault_and_can_be_tried_again() {
    let directory = tempdir().unwrap();
    let device = Fragile::new(256 << 20);
    let bus = open(directory.path(), on(&device));
    let page = allocate_at(&bus, 1 << 20, Location::Device);
    let bytes = pattern(1 << 20, 11);
    write(&bus, page, 0, &bytes);
    assert!(*bus.read(page).unwrap() == *bytes);
    // Zeros, an upload, and its sum.
    for pieces in 0..3 {
        device.fail_after(pieces);
        let error = bus.restore_device().unwrap_err();
        assert_eq!(error.kind(), "device.failed", "{error}");
        assert!(bus.read(page).is_err());
    }
    device.fail_after(u64::MAX);
    bus.restore_device().unwrap();
    assert!(*bus.read(page).unwrap() == *bytes);
}

#[test]
fn a_copy_that_arrives_damaged_is_never_read() {
    for len in [100, 100_000] {
        let directory = tempdir().unwrap();
        let device = Fragile::new(256 << 20);
        let bus = open(directory.path(), on(&device));
        let page = allocate_at(&bus, 1 << 20, Location::Device);
        assert_eq!(bus.read(page).unwrap()[0], 0);
        let bytes = pattern(len, 13);
        device.corrupts.store(true, Ordering::Relaxed);
        write(&bus, page, 0, &bytes);
        let error = bus.read(page).unwrap_err();
        assert_eq!(error.kind(), "device.corrupt-copy", "{len}: {error}");
        bus.restore_device().unwrap();
        assert!(bus.read(page).unwrap()[..len] == *bytes);
    }
}

/// Fills pages in transactions of many shapes, and says what is in them.
fn fill(bus: &Bus, lens: &[usize]) -> Vec<(PageId, Vec<u8>)> {
    let mut pages = Vec::new();
    for (seed, len) in lens.iter().enumerate() {
        let page = allocate_at(bus, *len as u64, Location::Device);
        let mut bytes = pattern(*len, seed as u8);
        write(bus, page, 0, &bytes);
        // Runs of many lengths and alignments, some of which overlap.
        let mut transaction = bus.begin();
        let mut at = seed * 7 + 1;
        let mut run = 1;
        while at + run < *len && run < 30_000 {
            let new = pattern(run, 0x80 | seed as u8);
            transaction.write(page, at as u64, &new).unwrap();
            bytes[at..at + run].copy_from_slice(&new);
            at += run / 2 + 13;
            run = run * 3 / 2 + 1;
        }
        transaction.commit(Durability::Memory).unwrap();
        pages.push((page, bytes));
    }
    pages
}

#[test]
fn long_records_many_segments_and_any_number_of_threads_come_to_the_same_bytes() {
    for appliers in [1, 2, 5] {
        let directory = tempdir().unwrap();
        let device = Fragile::new(256 << 20);
        let options = Options {
            appliers,
            ..on(&device)
        };
        let bus = open(directory.path(), options);
        let host = allocate_at(&bus, 10_000, Location::Host);
        let mut pages = fill(&bus, &[1, 4096, 65_536, 1 << 20, 5_000_001]);
        write(&bus, host, 5, b"host");
        // One record of several long runs.
        let mut transaction = bus.begin();
        for (page, bytes) in pages.iter_mut().skip(3) {
            let new = pattern(900_001, 0x33);
            transaction.write(*page, 77, &new).unwrap();
            bytes[77..77 + new.len()].copy_from_slice(&new);
        }
        transaction.commit(Durability::Memory).unwrap();
        // An id that is no more, and memory that is used again.
        let mut transaction = bus.begin();
        transaction.transfer(pages[2].0).unwrap();
        transaction.free(pages[0].0).unwrap();
        let commit = transaction.commit(Durability::Memory).unwrap();
        pages[2].0 = commit.transferred(pages[2].0).unwrap();
        pages.remove(0);
        write(&bus, pages[1].0, 3, b"under the new id");
        pages[1].1[3..19].copy_from_slice(b"under the new id");
        pages.extend(fill(&bus, &[50, 70_000]));
        let digest = bus.digest().unwrap();

        for state in ["healthy", "broken", "released"] {
            match state {
                "broken" => {
                    device.fail_after(0);
                    bus.read(pages[0].0).unwrap_err();
                    device.fail_after(u64::MAX);
                }
                "released" => {
                    bus.release_device().unwrap();
                    let error = bus.read(pages[0].0).unwrap_err();
                    assert_eq!(error.kind(), "device.released");
                }
                _ => {}
            }
            let restored = bus.restore_device().unwrap();
            assert_eq!(restored.detour, None);
            assert_eq!(restored.pages, pages.len() as u64);
            for (page, bytes) in &pages {
                assert!(*bus.read(*page).unwrap() == **bytes, "{page}");
            }
            assert_eq!(bus.digest().unwrap(), digest);
        }
        // From where only a checkpoint knows, it goes the long way, and comes to the same.
        bus.checkpoint().unwrap();
        drop(bus);
        let bus = open(directory.path(), on(&device));
        let restored = bus.restore_device().unwrap();
        assert_eq!(
            restored.detour.as_deref(),
            Some("a page came with a checkpoint")
        );
        assert_eq!(bus.digest().unwrap(), digest);
    }
}

#[test]
fn a_device_that_fails_while_it_is_filled_is_filled_again() {
    let directory = tempdir().unwrap();
    let device = Fragile::new(256 << 20);
    let bus = open(directory.path(), on(&device));
    let pages = fill(&bus, &[100, 3_000_000]);
    let derived = allocate_at(&bus, 100, Location::Device);
    connect(&bus, derived, "copy", &[], &[pages[0].0]);
    let digest = bus.digest().unwrap();
    let mut failures = 0;
    for pieces in 0.. {
        device.fail_after(pieces);
        match bus.restore_device() {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), "device.failed", "{error}"),
        }
        failures += 1;
        assert!(bus.read(pages[0].0).is_err());
    }
    assert!(failures > 10, "{failures}");
    device.fail_after(u64::MAX);
    assert_eq!(bus.digest().unwrap(), digest);
    // A copy that is damaged on the way is not taken either.
    device.corrupts.store(true, Ordering::Relaxed);
    let restored = bus.restore_device().unwrap();
    assert!(restored.detour.unwrap().contains("did not arrive"));
    assert_eq!(bus.digest().unwrap(), digest);
}

/// Runs the steps; where pages are is decided by `place`.
fn run(steps: &[Step], appliers: usize, place: fn(u8) -> Location) -> Course<Digest> {
    let how = How {
        options: Options {
            appliers,
            ..options()
        },
        place,
        hints: true,
        every: 1,
    };
    common::steps::run(steps, &how, |bus| bus.digest().unwrap(), |_| {})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn bytes_do_not_depend_on_where_pages_are(steps in steps(70_000, 40)) {
        let host = run(&steps, 1, |_| Location::Host);
        let device = run(&steps, 1, |_| Location::Device);
        prop_assert_eq!(&host, &device);
        let unified = run(&steps, 2, |_| Location::Unified);
        prop_assert_eq!(&host, &unified);
        let mixed = run(&steps, 3, |at| match at % 3 {
            0 => Location::Host,
            1 => Location::Device,
            _ => Location::Unified,
        });
        prop_assert_eq!(&host, &mixed);
    }
}
