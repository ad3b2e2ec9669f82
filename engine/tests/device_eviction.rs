//! More pages than device memory: what is evicted comes back from the log, and nobody can tell from the bytes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::sync::Arc;

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

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
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

/// What is done to a bus, in terms of the pages that there are.
#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Write(usize, u32, u32, u8),
    Free(usize),
    Transfer(usize),
    Connect(usize, Vec<usize>, bool),
    Disconnect(usize),
    Checkpoint,
    Reopen,
    RestoreDevice,
    Read(usize),
    Evict(Vec<usize>),
    Prefetch(Vec<usize>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = 0..12usize;
    let some = || prop::collection::vec(0..12usize, 1..6);
    let step = prop_oneof![
        6 => (1..9_000u32).prop_map(Step::Allocate),
        10 => (page.clone(), any::<u32>(), any::<u32>(), any::<u8>())
            .prop_map(|(page, at, len, seed)| Step::Write(page, at, len, seed)),
        1 => page.clone().prop_map(Step::Free),
        1 => page.clone().prop_map(Step::Transfer),
        2 => (page.clone(), prop::collection::vec(page.clone(), 1..4), any::<bool>())
            .prop_map(|(child, parents, is)| Step::Connect(child, parents, is)),
        1 => page.clone().prop_map(Step::Disconnect),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::RestoreDevice),
        4 => page.prop_map(Step::Read),
        3 => some().prop_map(Step::Evict),
        1 => some().prop_map(Step::Prefetch),
    ];
    prop::collection::vec(step, 1..60)
}

/// What steps came to: refusals, digests, and epochs of pages that are not derived.
type Outcome = (Vec<Result<(), &'static str>>, Vec<(Digest, Vec<u64>)>);

/// Runs the steps on a device that may hold `resident_bytes`, and with `hints` or without. Gives the evictions, too.
fn run(
    steps: &[Step],
    deferred: bool,
    resident_bytes: Option<u64>,
    hints: bool,
) -> (Outcome, Vec<u64>) {
    let directory = tempdir().unwrap();
    let device = device(9);
    let options = Options {
        propagation: if deferred {
            Propagation::Deferred
        } else {
            Propagation::Eager
        },
        retention: Retention::Checkpoints,
        ..on(&device, resident_bytes)
    };
    let mut bus = open(directory.path(), options.clone());
    let (mut pages, mut results, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    let mut evictions = Vec::new();
    for step in steps {
        let pick = |at: &usize| pages.get(*at % pages.len().max(1)).copied();
        let mut transaction = bus.begin();
        let mut new = None;
        let built = match step {
            Step::Allocate(len) => transaction
                .allocate_at(u64::from(*len), Location::Device)
                .map(|page| new = Some(page)),
            Step::Write(page, at, len, seed) => match pick(page) {
                None => continue,
                Some(page) => {
                    let len_bytes = bus.info(page).map_or(1, |info| info.len_bytes);
                    let at = u64::from(*at) % len_bytes;
                    let len = 1 + u64::from(*len) % (len_bytes - at);
                    transaction.write(page, at, &pattern(len as usize, *seed))
                }
            },
            Step::Free(page) => match pick(page) {
                None => continue,
                Some(page) => transaction.free(page),
            },
            Step::Transfer(page) => match pick(page) {
                None => continue,
                Some(page) => transaction.transfer(page),
            },
            Step::Connect(child, parents, is_concat) => {
                let parents: Vec<_> = parents.iter().filter_map(&pick).map(Into::into).collect();
                let name = if *is_concat { "concat" } else { "xor" };
                match pick(child) {
                    None => continue,
                    Some(child) => {
                        transaction.connect(child, common::transform(name, &[]), &parents)
                    }
                }
            }
            Step::Disconnect(page) => match pick(page) {
                None => continue,
                Some(page) => transaction.disconnect(page),
            },
            other => {
                drop(transaction);
                match other {
                    Step::Checkpoint => drop(bus.checkpoint().unwrap()),
                    Step::RestoreDevice => drop(bus.restore_device().unwrap()),
                    Step::Read(page) => {
                        results.extend(pick(page).map(|page| {
                            let read = bus.read(page);
                            read.map(drop).map_err(|error| error.kind())
                        }));
                    }
                    Step::Evict(some) if hints => {
                        let some: Vec<_> = some.iter().filter_map(&pick).collect();
                        bus.evict(&some).unwrap();
                    }
                    Step::Prefetch(some) if hints => {
                        let some: Vec<_> = some.iter().filter_map(&pick).collect();
                        bus.prefetch(&some).unwrap();
                    }
                    Step::Reopen => {
                        evictions.extend(bus.statistics().device.map(|device| device.evictions));
                        bus.close().unwrap();
                        bus = open(directory.path(), options.clone());
                    }
                    _ => {}
                }
                continue;
            }
        };
        let result = built.and_then(|()| transaction.commit(Durability::Memory));
        if let Ok(commit) = &result {
            pages.extend(new.and_then(|new| commit.page(new)));
            for (old, new) in &commit.transferred {
                let at = pages.iter().position(|page| page == old).unwrap();
                pages[at] = *new;
            }
            if let Step::Free(at) = step {
                let at = *at % pages.len();
                pages.remove(at);
            }
        }
        results.push(result.map(|_| ()).map_err(|error| error.kind()));
        // Not after every step: it brings all pages back.
        if results.len().is_multiple_of(5) {
            digests.push(observe(&bus));
        }
    }
    digests.push(observe(&bus));
    evictions.extend(bus.statistics().device.map(|device| device.evictions));
    bus.close().unwrap();
    // On the host: nobody can tell.
    let replayed = common::options();
    if let Ok(replayed) = replay(directory.path(), None, replayed) {
        assert_eq!(replayed.digest().unwrap(), digests.last().unwrap().0);
    }
    ((results, digests), evictions)
}

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
    fn bytes_do_not_depend_on_what_was_evicted(steps in steps(), deferred in any::<bool>()) {
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
