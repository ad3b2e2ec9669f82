//! More pages than device memory: what is evicted comes back from the log, and nobody can tell from the bytes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::sync::Arc;

use common::steps::{Course, How, Step, pattern, steps};
use common::{connect, open, options, write};
use mmsb_engine::device::{
    DeviceFault, DeviceFaultKind, DeviceOperation, SimulatedDevice, SimulatedOptions,
};
use mmsb_engine::{
    Bus, DeviceOptions, DeviceStatistics, Digest, Durability, Location, Options, PageId,
    Propagation, ReadError, Residency, Retention, TransactionError, replay,
};
use proptest::prelude::*;
use tempfile::tempdir;

const GRANULE_BYTES: u64 = 4096;

fn device(seed: u64) -> Arc<SimulatedDevice> {
    let options = SimulatedOptions {
        seed,
        memory_bytes: 8 << 20,
        reserved_bytes: 64 << 20,
        granule_bytes: GRANULE_BYTES,
        pinned_bytes: 64 << 20,
    };
    Arc::new(SimulatedDevice::new(&options).unwrap())
}

fn on(device: &Arc<SimulatedDevice>, resident_bytes: Option<u64>) -> Options {
    let mut device_options = DeviceOptions::default();
    device_options.staging_bytes = 1 << 20;
    device_options.resident_bytes = resident_bytes;
    Options {
        device: Some(Arc::<SimulatedDevice>::clone(device)),
        device_options,
        ..options()
    }
}

fn allocate(bus: &Bus, len_bytes: u64) -> PageId {
    let mut transaction = bus.begin();
    let page = transaction
        .allocate_at(len_bytes, Location::Device)
        .unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    commit.page(page).unwrap()
}

fn statistics(bus: &Bus) -> DeviceStatistics {
    bus.statistics().device.unwrap()
}

fn residency(bus: &Bus, pages: &[PageId]) -> Vec<&'static str> {
    let names = pages
        .iter()
        .map(|page| bus.residency(*page).unwrap().name());
    names.collect()
}

/// Pages of two granules each, filled with patterns.
fn filled(bus: &Bus, count: u8) -> Vec<PageId> {
    let pages = (0..count).map(|seed| {
        let page = allocate(bus, 2 * GRANULE_BYTES);
        write(bus, page, 0, &pattern(2 * GRANULE_BYTES as usize, seed));
        page
    });
    pages.collect()
}

#[test]
fn of_more_pages_than_fit_those_used_longest_ago_go_and_come_back() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(1), Some(6 * GRANULE_BYTES)));
    let pages = filled(&bus, 5);
    assert_eq!(
        residency(&bus, &pages),
        ["evicted", "evicted", "device", "device", "device"]
    );
    assert_eq!(statistics(&bus).mapped_bytes, 6 * GRANULE_BYTES);
    for (seed, page) in pages.iter().enumerate() {
        assert!(
            *bus.read(*page).unwrap() == *pattern(8192, seed as u8),
            "{page}"
        );
    }
    // The last that were read.
    assert_eq!(
        residency(&bus, &pages),
        ["evicted", "evicted", "device", "device", "device"]
    );
    let figures = statistics(&bus);
    assert_eq!(figures.peak_mapped_bytes, 6 * GRANULE_BYTES);
    assert_eq!((figures.fetched_pages, figures.evictions), (5, 7));
    assert_eq!(figures.fetched_bytes, 5 * 8192);
    let digest = bus.digest().unwrap();
    let replayed = replay(
        directory.path(),
        None,
        on(&device(2), Some(6 * GRANULE_BYTES)),
    );
    assert_eq!(replayed.unwrap().digest().unwrap(), digest);
}

#[test]
fn a_commit_to_an_evicted_page_is_in_it_when_it_comes_back() {
    for compression in compressions() {
        let directory = tempdir().unwrap();
        let options = Options {
            compression,
            ..on(&device(3), None)
        };
        let bus = open(directory.path(), options);
        let pages = filled(&bus, 2);
        assert_eq!(bus.evict(&pages).unwrap(), 2);
        assert_eq!(statistics(&bus).mapped_bytes, 0);
        write(&bus, pages[0], 5, b"evicted");
        assert_eq!(bus.residency(pages[0]).unwrap(), Residency::Evicted);
        let mut expected = pattern(8192, 0);
        expected[5..12].copy_from_slice(b"evicted");
        assert!(*bus.read(pages[0]).unwrap() == *expected);
        write(&bus, pages[0], 6, b"here");
        expected[6..10].copy_from_slice(b"here");
        bus.evict(&pages).unwrap();
        bus.prefetch(&pages).unwrap();
        assert_eq!(residency(&bus, &pages), ["device", "device"]);
        assert!(*bus.read(pages[0]).unwrap() == *expected);
        assert!(*bus.view(&pages).unwrap().page(pages[1]).unwrap() == *pattern(8192, 1));
    }
}

fn compressions() -> Vec<Option<mmsb_engine::Compression>> {
    #[cfg(feature = "zstd")]
    return vec![None, Some(mmsb_engine::Compression::Zstd)];
    #[cfg(not(feature = "zstd"))]
    vec![None]
}

#[test]
fn what_lies_where_another_page_lay_before_comes_back_as_itself() {
    let directory = tempdir().unwrap();
    let options = Options {
        retention: Retention::Checkpoints,
        ..on(&device(4), None)
    };
    let bus = open(directory.path(), options);
    let old = filled(&bus, 2);
    let mut transaction = bus.begin();
    transaction.free(old[0]).unwrap();
    transaction.transfer(old[1]).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let moved = commit.transferred(old[1]).unwrap();
    let new = allocate(&bus, 5000);
    write(&bus, new, 4000, b"new");
    let mut expected = vec![0; 5000];
    expected[4000..4003].copy_from_slice(b"new");
    for round in 0..3 {
        assert_eq!(bus.evict(&[new, moved]).unwrap(), 2);
        assert!(*bus.read(new).unwrap() == *expected, "{round}");
        assert!(*bus.read(moved).unwrap() == *pattern(8192, 1), "{round}");
        // Also where images, and part of the log, is all that there is.
        bus.evict(&[new]).unwrap();
        bus.checkpoint().unwrap();
        write(&bus, new, 0, &[round + 1; 8]);
        expected[..8].fill(round + 1);
    }
}

#[test]
fn what_cannot_go_is_named_when_memory_runs_out() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(5), Some(6 * GRANULE_BYTES)));
    let pages = filled(&bus, 2);
    connect(&bus, pages[1], "copy", &[], &[pages[0]]);
    let handle = bus.device_page(pages[0]).unwrap();
    let mut transaction = bus.begin();
    transaction
        .allocate_at(3 * GRANULE_BYTES, Location::Device)
        .unwrap();
    // Of another thread: this one holds a handle.
    let error = std::thread::scope(|scope| {
        let committing = scope.spawn(|| transaction.commit(Durability::Memory).unwrap_err());
        committing.join().unwrap()
    });
    let TransactionError::Device(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), "device.out-of-memory");
    let text = error.to_string();
    assert!(
        text.contains("by 2 pages of 16384 bytes, of which 1 are derived and 1 are pinned"),
        "{text}"
    );
    assert_eq!(bus.evict(&pages).unwrap(), 0);
    drop(handle);
    allocate(&bus, 3 * GRANULE_BYTES);
    assert_eq!(residency(&bus, &pages), ["evicted", "device"]);
    // A page that can never fit, whatever goes.
    let mut transaction = bus.begin();
    transaction
        .allocate_at(7 * GRANULE_BYTES, Location::Device)
        .unwrap();
    assert!(transaction.commit(Durability::Memory).is_err());
    assert!(*bus.read(pages[1]).unwrap() == *pattern(8192, 0));
}

#[test]
fn without_a_limit_the_devices_own_memory_is_one() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(6), None));
    let pages: Vec<_> = (0..5u8)
        .map(|seed| {
            let page = allocate(&bus, 2 << 20);
            write(&bus, page, 70_000, &pattern(1 << 20, seed));
            page
        })
        .collect();
    assert_eq!(bus.residency(pages[0]).unwrap(), Residency::Evicted);
    assert_eq!(bus.residency(pages[4]).unwrap(), Residency::Device);
    for (seed, page) in pages.iter().enumerate() {
        assert!(
            bus.read(*page).unwrap()[70_000..70_000 + (1 << 20)] == *pattern(1 << 20, seed as u8)
        );
    }
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    // What does not fit is left out while the log is read, and comes when it is asked for.
    let bus = open(directory.path(), on(&device(7), None));
    assert_eq!(statistics(&bus).resident.evicted_pages, 2);
    assert_eq!(bus.digest().unwrap(), digest);
}

#[test]
fn restoring_brings_what_fits_and_leaves_the_rest_in_the_log() {
    let directory = tempdir().unwrap();
    let device = device(8);
    let bus = open(directory.path(), on(&device, Some(8 * GRANULE_BYTES)));
    let pages = filled(&bus, 6);
    connect(&bus, pages[5], "xor", &[], &[pages[0], pages[1]]);
    let digest = bus.digest().unwrap();
    bus.release_device().unwrap();
    assert!(matches!(bus.read(pages[0]), Err(ReadError::Device { .. })));
    write_refused(&bus, pages[0]);
    bus.restore_device().unwrap();
    assert_eq!(statistics(&bus).resident.pages, 4);
    assert_eq!(bus.residency(pages[5]).unwrap(), Residency::Device);
    assert_eq!(bus.digest().unwrap(), digest);
    // And after a checkpoint, the long way.
    bus.checkpoint().unwrap();
    drop(bus);
    let bus = open(directory.path(), on(&device, Some(8 * GRANULE_BYTES)));
    assert_eq!(bus.digest().unwrap(), digest);
    assert!(bus.restore_device().unwrap().detour.is_some());
    assert_eq!(bus.digest().unwrap(), digest);
}

fn write_refused(bus: &Bus, page: PageId) {
    let mut transaction = bus.begin();
    transaction.write(page, 0, b"no").unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert!(matches!(error, TransactionError::Device(_)), "{error}");
}

#[test]
fn a_device_that_fails_while_a_page_comes_back_loses_nothing() {
    let mut failures = 0;
    for count in 1.. {
        let directory = tempdir().unwrap();
        let device = device(count);
        let bus = open(directory.path(), on(&device, Some(6 * GRANULE_BYTES)));
        let pages = filled(&bus, 5);
        let operation = match count % 3 {
            0 => DeviceOperation::Map,
            1 => DeviceOperation::Launch,
            _ => DeviceOperation::Upload,
        };
        let fault = DeviceFault {
            on: operation,
            nth: count.div_ceil(3),
            kind: DeviceFaultKind::Failed,
        };
        device.inject(fault).unwrap();
        let read = bus.read(pages[0]).map(|guard| guard.to_vec());
        match read {
            Ok(bytes) => {
                assert!(bytes == pattern(8192, 0));
                device.heal();
                if count > 60 {
                    break;
                }
            }
            Err(error) => {
                failures += 1;
                assert_eq!(error.kind(), bus.device_fault().unwrap().kind());
                bus.restore_device().unwrap();
            }
        }
        for (seed, page) in pages.iter().enumerate() {
            assert!(
                *bus.read(*page).unwrap() == *pattern(8192, seed as u8),
                "{count} {page}"
            );
        }
    }
    assert!(failures > 5, "{failures}");
}

/// Runs the steps on a device that may hold `resident_bytes`, and with `hints` or without. Gives the evictions, too.
fn run(
    steps: &[Step],
    deferred: bool,
    resident_bytes: Option<u64>,
    hints: bool,
) -> (Course<(Digest, Vec<u64>)>, Vec<u64>) {
    let propagation = match deferred {
        true => Propagation::Deferred,
        false => Propagation::Eager,
    };
    let how = How {
        options: Options {
            propagation,
            retention: Retention::Checkpoints,
            ..on(&device(9), resident_bytes)
        },
        place: |_| Location::Device,
        hints,
        every: 5,
    };
    let mut evictions = Vec::new();
    let course = common::steps::run(steps, &how, observe, |bus| {
        evictions.extend(bus.statistics().device.map(|device| device.evictions));
    });
    (course, evictions)
}

/// The digest, and epochs of pages that are not derived.
fn observe(bus: &Bus) -> (Digest, Vec<u64>) {
    let pages = bus.pages();
    let infos = pages.iter().map(|page| bus.info(*page).unwrap());
    let epochs = infos.filter(|info| !info.is_derived).map(|info| info.epoch);
    let epochs = epochs.collect();
    (bus.digest().unwrap(), epochs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn bytes_do_not_depend_on_what_was_evicted(
        steps in steps(9_000, 60),
        deferred in any::<bool>(),
    ) {
        let (all_there, _) = run(&steps, deferred, None, false);
        let (hinted, _) = run(&steps, deferred, None, true);
        prop_assert_eq!(&all_there, &hinted);
        let (crowded, evictions) = run(&steps, deferred, Some(24 * GRANULE_BYTES), true);
        prop_assert_eq!(&all_there, &crowded);
        let (again, evictions_again) = run(&steps, deferred, Some(24 * GRANULE_BYTES), true);
        prop_assert_eq!(&all_there, &again);
        prop_assert_eq!(evictions, evictions_again);
    }
}
