//! Many threads on one bus.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Numbers, allocate, connect, open, options};
use mmsb_engine::{Durability, Options, PageId, Propagation, replay};
use tempfile::tempdir;

/// Sanitizers make everything slower; they set this to a divisor.
fn scaled(count: u64) -> u64 {
    let divisor = std::env::var("MMSB_TEST_DIVISOR")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    (count / divisor).max(2)
}

#[test]
fn the_order_of_lsns_is_a_serial_order() {
    for durability in [Durability::Memory, Durability::Buffered, Durability::Sync] {
        let directory = tempdir().unwrap();
        let bus = open(directory.path(), options());
        let pages: Vec<PageId> = (0..6).map(|_| allocate(&bus, 256)).collect();
        let count = if durability == Durability::Sync {
            scaled(60)
        } else {
            scaled(1500)
        };
        let commits: Vec<(u64, PageId, u64, Vec<u8>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u64)
                .map(|thread| {
                    let (bus, pages) = (&bus, &pages);
                    scope.spawn(move || {
                        let mut numbers = Numbers(thread);
                        let mut done = Vec::new();
                        for _ in 0..count {
                            let mut transaction = bus.begin();
                            let mut writes = Vec::new();
                            for _ in 0..1 + numbers.below(3) {
                                let page = pages[numbers.below(6) as usize];
                                let offset = numbers.below(200);
                                let len = 1 + numbers.below(56) as usize;
                                let bytes = numbers.bytes(len);
                                transaction.write(page, offset, &bytes).unwrap();
                                writes.push((page, offset, bytes));
                            }
                            let lsn = transaction.commit(durability).unwrap().lsn;
                            done.extend(
                                writes
                                    .into_iter()
                                    .map(|(page, offset, bytes)| (lsn.0, page, offset, bytes)),
                            );
                        }
                        done
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        let mut commits = commits;
        commits.sort_by_key(|(lsn, ..)| *lsn);
        let mut model = vec![vec![0u8; 256]; 6];
        for (_, page, offset, bytes) in &commits {
            let at = pages.iter().position(|id| id == page).unwrap();
            model[at][*offset as usize..*offset as usize + bytes.len()].copy_from_slice(bytes);
        }
        for (page, expected) in pages.iter().zip(&model) {
            assert_eq!(&*bus.read(*page).unwrap(), &expected[..], "{durability:?}");
        }
        let digest = bus.digest().unwrap();
        bus.sync().unwrap();
        assert_eq!(
            replay(directory.path(), None, options())
                .unwrap()
                .digest()
                .unwrap(),
            digest
        );
    }
}

#[test]
fn a_view_never_sees_half_a_commit() {
    for propagation in [Propagation::Eager, Propagation::Deferred] {
        let directory = tempdir().unwrap();
        let bus = open(
            directory.path(),
            Options {
                propagation,
                ..options()
            },
        );
        let pages: Vec<PageId> = (0..4).map(|_| allocate(&bus, 64)).collect();
        let derived = allocate(&bus, 64);
        connect(&bus, derived, "copy", &[], &[pages[0]]);
        let stop = AtomicBool::new(false);
        let views = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut wanted = pages.clone();
                    wanted.push(derived);
                    while !stop.load(Ordering::Relaxed) {
                        let view = bus.view(&wanted).unwrap();
                        let first = view.page(wanted[0]).unwrap();
                        assert!(view.pages().all(|(_, bytes)| bytes == first));
                        views.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for round in 0..scaled(3000) {
                let mut transaction = bus.begin();
                for page in &pages {
                    transaction.write(*page, 0, &[round as u8; 64]).unwrap();
                }
                transaction.commit(Durability::Memory).unwrap();
            }
            // On a busy machine the readers may not have had a turn yet.
            while views.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn structure_changes_under_readers_and_writers() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let base = allocate(&bus, 64);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for page in bus.pages() {
                    // It may be gone by now; what is read must be whole.
                    if let Ok(guard) = bus.read(page) {
                        assert!(guard.windows(2).all(|pair| pair[0] == pair[1]));
                    }
                }
                // A guard is held while another page is read.
                let guard = bus.read(base).unwrap();
                let again = bus.view(&[base]).unwrap();
                assert_eq!(again.page(base).unwrap(), &*guard);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut transaction = bus.begin();
                transaction.write(base, 0, &[7; 64]).unwrap();
                transaction.commit(Durability::Memory).unwrap();
                bus.checkpoint().unwrap();
            }
        });
        for round in 0..scaled(400) {
            let mut transaction = bus.begin();
            let page = transaction.allocate(64).unwrap();
            transaction.write(page, 0, &[round as u8; 64]).unwrap();
            let page = transaction
                .commit(Durability::Memory)
                .unwrap()
                .page(page)
                .unwrap();
            connect_and_free(&bus, page, base);
        }
        stop.store(true, Ordering::Relaxed);
    });
    bus.sync().unwrap();
    let digest = bus.digest().unwrap();
    assert_eq!(
        replay(directory.path(), None, options())
            .unwrap()
            .digest()
            .unwrap(),
        digest
    );
}

fn connect_and_free(bus: &mmsb_engine::Bus, page: PageId, base: PageId) {
    let child = allocate(bus, 64);
    connect(bus, child, "copy", &[], &[base]);
    let mut transaction = bus.begin();
    transaction.free(page).unwrap();
    transaction.free(child).unwrap();
    transaction.commit(Durability::Memory).unwrap();
}

#[test]
fn a_slow_subscriber_is_told_how_much_it_lost() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    let subscription = bus.subscribe(4);
    for _ in 0..10 {
        common::write(&bus, page, 0, b"x");
    }
    let drained = subscription.drain();
    assert_eq!((drained.lost, drained.events.len()), (6, 4));
    assert_eq!(
        drained
            .events
            .last()
            .map(|event| (event.lsn, event.pages.to_vec())),
        Some((bus.last_lsn(), vec![page]))
    );
}
