//! Unified pages: in host memory, with a mirror on the device that is brought up to date when somebody needs it there.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::sync::Arc;

use common::steps::{Course, How, Step, pattern, steps};
use common::{connect, files, open, options, write};
use mmsb_engine::device::{
    DeviceFault, DeviceFaultKind, DeviceOperation, SimulatedDevice, SimulatedOptions,
};
use mmsb_engine::{
    Bus, DeviceOptions, DeviceStatistics, Digest, Durability, Location, Options, PageId,
    Propagation, ReadError, Residency, TransactionError, replay,
};
use proptest::prelude::*;
use tempfile::tempdir;

const GRANULE_BYTES: u64 = 4096;

fn device(seed: u64) -> Arc<SimulatedDevice> {
    device_of(seed, 64 << 20)
}

fn device_of(seed: u64, reserved_bytes: u64) -> Arc<SimulatedDevice> {
    let options = SimulatedOptions {
        seed,
        memory_bytes: 8 << 20,
        reserved_bytes,
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

fn allocate(bus: &Bus, len_bytes: u64, location: Location) -> PageId {
    let mut transaction = bus.begin();
    let page = transaction.allocate_at(len_bytes, location).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    commit.page(page).unwrap()
}

/// A unified page that is filled with a pattern.
fn unified(bus: &Bus, len_bytes: u64, seed: u8) -> PageId {
    let page = allocate(bus, len_bytes, Location::Unified);
    write(bus, page, 0, &pattern(len_bytes as usize, seed));
    page
}

fn statistics(bus: &Bus) -> DeviceStatistics {
    bus.statistics().device.unwrap()
}

/// What was sent to mirrors so far: ranges, and bytes.
fn sent(bus: &Bus) -> (u64, u64) {
    let figures = statistics(bus);
    (figures.mirror_uploads, figures.mirror_uploaded_bytes)
}

/// The device has of a page what the host has.
fn assert_mirrored(bus: &Bus, page: PageId) {
    let host = Digest::of(&bus.read(page).unwrap());
    assert_eq!(bus.device_digest(page).unwrap(), host, "{page}");
}

#[test]
fn a_mirror_is_made_when_it_is_needed_and_then_sent_what_changed() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(1), None));
    let page = unified(&bus, 3 * GRANULE_BYTES, 1);
    let info = bus.info(page).unwrap();
    assert_eq!((info.location, info.offset), (Location::Unified, 0));
    assert_eq!(bus.residency(page).unwrap(), Residency::Host);
    assert_eq!(statistics(&bus).mapped_bytes, 0);
    assert!(*bus.read(page).unwrap() == *pattern(12_288, 1));
    assert_eq!(sent(&bus), (0, 0));

    bus.prefetch(&[page]).unwrap();
    assert_eq!(bus.residency(page).unwrap(), Residency::Mirrored);
    assert_eq!(statistics(&bus).resident.mirror_bytes, 12_288);
    assert_eq!(sent(&bus), (1, 12_288));
    assert_mirrored(&bus, page);
    // Nothing changed, so nothing is sent.
    assert_eq!(sent(&bus), (1, 12_288));

    write(&bus, page, 5, b"abc");
    write(&bus, page, 9_000, b"defgh");
    write(&bus, page, 7, b"c again");
    assert_eq!(sent(&bus), (1, 12_288));
    assert_mirrored(&bus, page);
    assert_eq!(sent(&bus), (3, 12_288 + 9 + 5));

    // Many small changes come in few ranges.
    for at in 0..40 {
        write(&bus, page, at * 300, b"!");
    }
    assert_mirrored(&bus, page);
    let (ranges, bytes) = sent(&bus);
    assert_eq!(ranges, 7);
    assert!(bytes < 2 * 12_288 + 14, "{bytes}");
}

#[test]
fn a_transaction_writes_to_pages_and_to_pages_with_mirrors() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(10), None));
    let (a, b) = (unified(&bus, 8192, 1), unified(&bus, 8192, 2));
    let page = allocate(&bus, 8192, Location::Device);
    let computed = allocate(&bus, 8192, Location::Unified);
    connect(&bus, computed, "xor", &[], &[page, a]);
    bus.prefetch(&[a, b, computed]).unwrap();
    let mut transaction = bus.begin();
    for (at, page) in [a, page, b, page, a].into_iter().enumerate() {
        transaction
            .write(page, at as u64 * 100, b"together")
            .unwrap();
    }
    transaction.commit(Durability::Memory).unwrap();
    for mirrored in [a, b, computed] {
        assert_mirrored(&bus, mirrored);
    }
    assert!(bus.read(page).unwrap()[300..308] == *b"together");
}

#[test]
fn a_wave_on_the_device_takes_mirrors_as_they_are_on_the_host() {
    let directory = tempdir().unwrap();
    let device = device(2);
    let bus = open(directory.path(), on(&device, None));
    let (a, b) = (unified(&bus, 8192, 1), unified(&bus, 8192, 2));
    // Unified pages that are computed, of which one is computed from.
    let computed = allocate(&bus, 8192, Location::Unified);
    connect(&bus, computed, "xor", &[], &[a, b]);
    let on_device = allocate(&bus, 8192, Location::Device);
    connect(&bus, on_device, "xor", &[], &[computed, b]);
    let copied = allocate(&bus, 16_384, Location::Device);
    connect(&bus, copied, "concat", &[], &[b, on_device]);
    // Once all is there, a change costs itself, and nothing is copied to the host.
    let before = (sent(&bus), device.counters());
    write(&bus, b, 4000, &[7; 100]);
    let after = (sent(&bus), device.counters());
    assert_eq!(
        after.0.1 - before.0.1,
        200,
        "that of the page, and of the computed one"
    );
    assert_eq!(after.1.downloads, before.1.downloads);
    assert!(after.1.launches > before.1.launches);
    let expected = pattern(8192, 1);
    assert!(*bus.read(on_device).unwrap() == *expected);
    assert!(bus.read(copied).unwrap()[8192..] == *expected);
    assert!(bus.read(copied).unwrap()[..8192] == *bus.read(b).unwrap());
    // One that is on the host is not mirrored, so all is computed there.
    let host = allocate(&bus, 8192, Location::Host);
    write(&bus, host, 0, &pattern(8192, 9));
    let mixed = allocate(&bus, 8192, Location::Device);
    connect(&bus, mixed, "xor", &[], &[host, a]);
    assert_eq!(
        bus.read(mixed).unwrap()[5],
        pattern(8192, 9)[5] ^ pattern(8192, 1)[5]
    );
    // And a unified page from pages on the device.
    let back = allocate(&bus, 8192, Location::Unified);
    connect(&bus, back, "xor", &[], &[on_device, a]);
    assert!(bus.read(back).unwrap().iter().all(|byte| *byte == 0));
    for page in [a, b, computed, back] {
        assert_mirrored(&bus, page);
    }
    write(&bus, a, 10, b"once more");
    for page in [a, b, computed, back] {
        assert_mirrored(&bus, page);
    }
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    let replayed = replay(directory.path(), None, options()).unwrap();
    assert_eq!(replayed.digest().unwrap(), digest);
}

#[test]
fn evicting_drops_the_mirror_and_leaves_the_page() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(3), None));
    let page = unified(&bus, 8192, 1);
    assert_eq!(bus.evict(&[page]).unwrap(), 0);
    bus.prefetch(&[page]).unwrap();
    let handle = bus.device_page(page).unwrap();
    assert_eq!((handle.len_bytes(), handle.lsn()), (8192, bus.last_lsn()));
    assert_eq!(bus.evict(&[page]).unwrap(), 0, "a handle points there");
    let address = handle.address();
    drop(handle);
    assert_eq!(bus.evict(&[page]).unwrap(), 1);
    assert_eq!(bus.residency(page).unwrap(), Residency::Host);
    assert_eq!(statistics(&bus).mapped_bytes, 0);
    assert_eq!(statistics(&bus).mirror_evictions, 1);
    assert_eq!(statistics(&bus).evictions, 0);
    write(&bus, page, 100, b"without a mirror");
    assert!(bus.read(page).unwrap()[100..116] == *b"without a mirror");
    // All of it comes back, and to where it was.
    assert_eq!(bus.device_page(page).unwrap().address(), address);
    assert_eq!(sent(&bus), (2, 2 * 8192));
    assert_mirrored(&bus, page);
    // A transfer takes it along, a free ends it.
    let mut transaction = bus.begin();
    transaction.transfer(page).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let moved = commit.transferred(page).unwrap();
    write(&bus, moved, 0, b"moved");
    assert_mirrored(&bus, moved);
    assert_eq!(sent(&bus), (3, 2 * 8192 + 5));
    let mut transaction = bus.begin();
    transaction.free(moved).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    assert_eq!(statistics(&bus).resident.mirrors, 0);
    let next = allocate(&bus, 8192, Location::Unified);
    assert_mirrored(&bus, next);
    // Also if it was dropped, and nothing had to be noted for it: the next page at its position has another length.
    bus.evict(&[next]).unwrap();
    write(&bus, next, 0, b"noted nowhere");
    let mut transaction = bus.begin();
    transaction.free(next).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    let longer = unified(&bus, 20_000, 3);
    assert_eq!(longer.index(), next.index());
    assert_mirrored(&bus, longer);
    let host = allocate(&bus, 8, Location::Host);
    let error = bus.device_digest(host).unwrap_err();
    assert!(matches!(error, ReadError::NotOnDevice { .. }), "{error}");
}

#[test]
fn a_lost_device_takes_mirrors_and_no_page() {
    let directory = tempdir().unwrap();
    let device = device(4);
    let bus = open(directory.path(), on(&device, None));
    let page = unified(&bus, 8192, 1);
    let derived = allocate(&bus, 8192, Location::Unified);
    connect(&bus, derived, "copy", &[], &[page]);
    bus.prefetch(&[page, derived]).unwrap();
    write(&bus, page, 0, b"before");
    device
        .inject(DeviceFault {
            on: DeviceOperation::Upload,
            nth: 1,
            kind: DeviceFaultKind::Lost,
        })
        .unwrap();
    let error = bus.device_digest(page).unwrap_err();
    assert_eq!(error.kind(), "device.lost");
    assert!(bus.device_fault().is_some());
    // Read, written, computed, allocated, checkpointed and digested as ever.
    assert!(bus.read(page).unwrap().starts_with(b"before"));
    write(&bus, page, 0, b"during");
    assert!(bus.read(derived).unwrap().starts_with(b"during"));
    let late = unified(&bus, 100, 2);
    bus.checkpoint().unwrap();
    let digest = bus.digest().unwrap();
    assert_eq!(bus.prefetch(&[page]).unwrap_err().kind(), "device.lost");
    device.heal();
    let restored = bus.restore_device().unwrap();
    assert_eq!((restored.pages, restored.page_bytes), (0, 0));
    assert_eq!(bus.residency(page).unwrap(), Residency::Host);
    for page in [page, derived, late] {
        assert_mirrored(&bus, page);
    }
    assert_eq!(bus.digest().unwrap(), digest);
    // Given away, they are gone, and come back.
    bus.release_device().unwrap();
    assert_eq!(bus.residency(page).unwrap(), Residency::Host);
    write(&bus, page, 0, b"released");
    assert_eq!(
        bus.device_digest(page).unwrap_err().kind(),
        "device.released"
    );
    bus.restore_device().unwrap();
    assert_mirrored(&bus, page);
    assert_mirrored(&bus, derived);
}

#[test]
fn a_copy_that_is_damaged_on_its_way_to_a_mirror_is_found() {
    let directory = tempdir().unwrap();
    let device = device(5);
    let bus = open(directory.path(), on(&device, None));
    for len_bytes in [8192, 200_000] {
        let page = unified(&bus, len_bytes, 1);
        device
            .inject(DeviceFault {
                on: DeviceOperation::Upload,
                nth: 1,
                kind: DeviceFaultKind::Corrupt,
            })
            .unwrap();
        let error = bus.device_page(page).unwrap_err();
        assert_eq!(error.kind(), "device.corrupt-copy", "{len_bytes}");
        device.heal();
        bus.restore_device().unwrap();
        assert_mirrored(&bus, page);
    }
}

#[test]
fn mirrors_go_before_pages_and_are_named_when_they_stay() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), on(&device(6), Some(6 * GRANULE_BYTES)));
    let page = allocate(&bus, 2 * GRANULE_BYTES, Location::Device);
    write(&bus, page, 0, &pattern(8192, 1));
    let mirrored = unified(&bus, 2 * GRANULE_BYTES, 2);
    bus.prefetch(&[mirrored]).unwrap();
    // The page was used longer ago, and stays all the same.
    allocate(&bus, 4 * GRANULE_BYTES, Location::Device);
    assert_eq!(bus.residency(page).unwrap(), Residency::Device);
    assert_eq!(bus.residency(mirrored).unwrap(), Residency::Host);
    assert_eq!(statistics(&bus).evictions, 0);
    // A mirror that is asked for takes the place of pages, used longest ago.
    bus.read(page).unwrap();
    bus.prefetch(&[mirrored]).unwrap();
    assert_eq!(bus.residency(page).unwrap(), Residency::Device);
    assert_eq!(statistics(&bus).evictions, 1);
    let handle = bus.device_page(mirrored).unwrap();
    let mut transaction = bus.begin();
    transaction
        .allocate_at(6 * GRANULE_BYTES, Location::Device)
        .unwrap();
    let error = std::thread::scope(|scope| {
        let committing = scope.spawn(|| transaction.commit(Durability::Memory).unwrap_err());
        committing.join().unwrap()
    });
    let TransactionError::Device(error) = error else {
        panic!("{error}");
    };
    let text = error.to_string();
    assert!(
        text.contains("by 1 mirrors of 8192 bytes, of which 1 are pinned"),
        "{text}"
    );
    drop(handle);
    // A mirror that does not fit leaves the wave to the host.
    let large = unified(&bus, 5 * GRANULE_BYTES, 3);
    let derived = allocate(&bus, 5 * GRANULE_BYTES, Location::Device);
    connect(&bus, derived, "copy", &[], &[large]);
    assert!(*bus.read(derived).unwrap() == *pattern(20_480, 3));
    assert_eq!(
        bus.prefetch(&[large]).unwrap_err().kind(),
        "device.out-of-memory"
    );
    write(&bus, large, 3, b"still");
    assert!(bus.read(derived).unwrap()[3..8] == *b"still");
}

#[test]
fn a_page_that_reaches_into_the_half_of_the_mirrors_takes_their_place() {
    let directory = tempdir().unwrap();
    // A stage of 1 MiB, and 1 MiB for pages.
    let bus = open(directory.path(), on(&device_of(7, 2 << 20), None));
    let mirrored = unified(&bus, 8192, 1);
    let address = bus.device_page(mirrored).unwrap().address();
    let page = allocate(&bus, 1 << 20, Location::Device);
    write(&bus, page, 0, &pattern(1 << 20, 2));
    assert_eq!(bus.residency(mirrored).unwrap(), Residency::Host);
    assert_eq!(
        bus.prefetch(&[mirrored]).unwrap_err().kind(),
        "device.out-of-memory"
    );
    write(&bus, mirrored, 0, b"changed");
    assert!(*bus.read(page).unwrap() == *pattern(1 << 20, 2));
    let mut transaction = bus.begin();
    transaction.free(page).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    assert_eq!(bus.device_page(mirrored).unwrap().address(), address);
    assert_mirrored(&bus, mirrored);
    // What a handle points to stays.
    let handle = bus.device_page(mirrored).unwrap();
    let mut transaction = bus.begin();
    transaction.allocate_at(1 << 20, Location::Device).unwrap();
    let refused = std::thread::scope(|scope| {
        let committing = scope.spawn(|| transaction.commit(Durability::Memory).unwrap_err());
        committing.join().unwrap().kind()
    });
    assert_eq!(refused, "device.out-of-memory");
    drop(handle);
    assert_mirrored(&bus, mirrored);
}

#[test]
fn threads_that_need_the_first_mirror_at_once_get_it() {
    for _ in 0..20 {
        let directory = tempdir().unwrap();
        // No device was chosen: one is made with the first mirror.
        let bus = open(directory.path(), options());
        let page = unified(&bus, 8192, 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_mirrored(&bus, page));
            }
            scope.spawn(|| allocate(&bus, 8192, Location::Device));
        });
    }
}

/// What is seen of a bus: its digest, and that mirrors are what their pages are.
fn observe(bus: &Bus) -> Digest {
    for page in bus.pages() {
        let is_unified = bus.info(page).unwrap().location == Location::Unified;
        if is_unified && bus.read(page).is_ok() {
            assert_mirrored(bus, page);
        }
    }
    bus.digest().unwrap()
}

fn run(
    steps: &[Step],
    deferred: bool,
    resident_bytes: Option<u64>,
    place: fn(u8) -> Location,
    every: usize,
) -> Course<Digest> {
    let propagation = match deferred {
        true => Propagation::Deferred,
        false => Propagation::Eager,
    };
    let how = How {
        options: Options {
            propagation,
            threads: 2,
            ..on(&device(8), resident_bytes)
        },
        place,
        hints: true,
        every,
    };
    common::steps::run(steps, &how, observe, |_| {})
}

const fn mixed(at: u8) -> Location {
    match at % 4 {
        0 => Location::Host,
        1 => Location::Device,
        _ => Location::Unified,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn mirrors_are_what_their_pages_are(steps in steps(9_000, 60), deferred in any::<bool>()) {
        let host = run(&steps, deferred, None, |_| Location::Host, 4);
        let unified = run(&steps, deferred, None, |_| Location::Unified, 4);
        prop_assert_eq!(&host, &unified);
        let crowded = run(&steps, deferred, Some(16 * GRANULE_BYTES), |_| Location::Unified, 4);
        prop_assert_eq!(&host, &crowded);
        // Some wave, and not who looks, is the first that needs a mirror.
        let together = run(&steps, deferred, Some(40 * GRANULE_BYTES), mixed, 4);
        prop_assert_eq!(&host, &together);
    }

    #[test]
    fn a_log_knows_nothing_of_mirrors(steps in prop::collection::vec((0..3usize, 0..8000u64, any::<bool>()), 1..20)) {
        let logs = [false, true].map(|mirrors| {
            let directory = tempdir().unwrap();
            let bus = open(directory.path(), on(&device(9), None));
            let pages = [0, 1, 2].map(|seed| unified(&bus, 8192, seed));
            for (page, at, evict) in &steps {
                write(&bus, pages[*page], *at, b"bytes");
                if mirrors && *evict {
                    bus.evict(&pages).unwrap();
                } else if mirrors {
                    bus.prefetch(&pages[*page..]).unwrap();
                }
            }
            bus.checkpoint().unwrap();
            bus.close().unwrap();
            files(directory.path())
        });
        prop_assert!(logs[0] == logs[1]);
    }
}
