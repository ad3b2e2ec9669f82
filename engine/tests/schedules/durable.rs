//! Group commit, syncs that fail, rotation, and checkpoints beside commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mmsb_engine::{Durability, Options, TransactionError};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::explore::explore;
use crate::memory::Memory;
use crate::world::{PAGE_BYTES, allocate, fill, open, options, pages, value_of};

/// Three threads with two synced commits each. What is acknowledged is on the disk at that moment.
fn acknowledged_is_durable(storage: &Memory) -> usize {
    let bus = Arc::new(open(storage, options()));
    let pages = pages(&bus, 3);
    bus.sync().unwrap();
    let before = storage.syncs.load(Ordering::Relaxed);
    let threads: Vec<_> = (0..3u8)
        .map(|number| {
            let (bus, page, storage) = (Arc::clone(&bus), pages[number as usize], storage.clone());
            thread::spawn(move || {
                for round in 0..2 {
                    let value = 100 + 10 * number + round;
                    let commit = fill(&bus, &[page], value, Durability::Sync).unwrap();
                    assert!(storage.has_durable(&[value; PAGE_BYTES]), "{commit:?}");
                    assert!(bus.durable_lsn() >= commit.lsn);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    storage.syncs.load(Ordering::Relaxed) - before
}

#[test]
fn one_sync_serves_all_who_wait() {
    let fewest = Arc::new(AtomicUsize::new(usize::MAX));
    let least = Arc::clone(&fewest);
    explore(move || {
        let syncs = acknowledged_is_durable(&Memory::default());
        assert!((2..=6).contains(&syncs), "{syncs} syncs for 6 commits");
        least.fetch_min(syncs, Ordering::Relaxed);
    });
    // If no schedule of many has a group in it, commits do not form groups.
    let fewest = fewest.load(Ordering::Relaxed);
    assert!(
        fewest < 6 || std::env::var_os("MMSB_SCHEDULE").is_some(),
        "never fewer than {fewest} syncs for 6 commits"
    );
}

/// A sync fails while others wait: nobody is acknowledged then, and the log takes nothing more.
#[test]
fn a_sync_that_fails_fails_for_all_who_wait() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 3);
        bus.sync().unwrap();
        // Which one is the schedule's choice.
        storage.fail_sync(thread_rng().gen_range(1..=4));
        let threads: Vec<_> = (0..3u8)
            .map(|number| {
                let (bus, page, storage) =
                    (Arc::clone(&bus), pages[number as usize], storage.clone());
                thread::spawn(move || {
                    let mut failed = 0;
                    for round in 0..2 {
                        let value = 100 + 10 * number + round;
                        match fill(&bus, &[page], value, Durability::Sync) {
                            Ok(_) => {
                                assert_eq!(failed, 0, "acknowledged after an error");
                                assert!(storage.has_durable(&[value; PAGE_BYTES]));
                            }
                            Err(
                                TransactionError::InDoubt { .. } | TransactionError::Poisoned(_),
                            ) => failed += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    failed
                })
            })
            .collect();
        let failed: usize = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        let syncs = storage.syncs.load(Ordering::Relaxed);
        // One sync may have served all, and then there was no second one to fail.
        assert_eq!(bus.poisoned().is_some(), failed > 0, "{syncs} syncs");
        if let Some(poison) = bus.poisoned() {
            let refused = fill(&bus, &pages, 1, Durability::Memory);
            assert!(
                matches!(refused, Err(TransactionError::Poisoned(_))),
                "{refused:?}"
            );
            assert!(poison.durable_lsn <= bus.last_lsn());
        }
    });
}

/// Segments end in the middle of all this.
#[test]
fn rotation_under_commits() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let long: Vec<_> = (0..2).map(|_| allocate(&bus, 7_000)).collect();
        bus.sync().unwrap();
        let threads: Vec<_> = (0..2u8)
            .map(|number| {
                let (bus, page) = (Arc::clone(&bus), long[number as usize]);
                thread::spawn(move || {
                    let mut last = 0;
                    for round in 1..4 {
                        let mut transaction = bus.begin();
                        transaction.write(page, 0, &[round; 7_000]).unwrap();
                        let how = [Durability::Memory, Durability::Buffered, Durability::Sync];
                        last = transaction
                            .commit(how[usize::from(round) - 1])
                            .unwrap()
                            .lsn
                            .0;
                    }
                    last
                })
            })
            .collect();
        let maintaining = {
            let bus = Arc::clone(&bus);
            thread::spawn(move || bus.maintain().map(drop).unwrap())
        };
        let acknowledged = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .max();
        maintaining.join().unwrap();
        let left = storage.cut_power();
        let again = open(&left, options());
        assert!(
            Some(again.last_lsn().0) >= acknowledged,
            "{:?}",
            again.opened()
        );
        for page in &long {
            assert_eq!(value_of(&again.read(*page).unwrap()), 3);
        }
    });
}

/// A checkpoint is taken while two threads commit; then the power goes.
#[test]
fn a_checkpoint_beside_commits() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 2);
        let threads: Vec<_> = (0..2u8)
            .map(|number| {
                let (bus, pages) = (Arc::clone(&bus), pages.clone());
                thread::spawn(move || {
                    let own = [pages[number as usize]];
                    let own = fill(&bus, &own, 10 * number + 1, Durability::Memory).unwrap();
                    let both = fill(&bus, &pages, 10 * number + 2, Durability::Sync).unwrap();
                    (own.lsn, both.lsn)
                })
            })
            .collect();
        let checkpoint = {
            let bus = Arc::clone(&bus);
            thread::spawn(move || bus.checkpoint().map(drop).unwrap())
        };
        let lsns: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        checkpoint.join().unwrap();
        let left = storage.cut_power();
        let again = open(&left, options());
        assert_eq!(again.last_lsn(), bus.last_lsn());
        // The last commit of both pages was the later one of the two, unless one of a single page came after it.
        let mut commits = Vec::new();
        for (number, (own, both)) in lsns.iter().enumerate() {
            commits.push((*own, vec![number], 10 * number + 1));
            commits.push((*both, vec![0, 1], 10 * number + 2));
        }
        commits.sort();
        let mut expected = [0; 2];
        for (_, of, value) in commits {
            of.iter().for_each(|page| expected[*page] = value as u8);
        }
        for bus in [&*bus, &again] {
            let seen = [0, 1].map(|page: usize| value_of(&bus.read(pages[page]).unwrap()));
            assert_eq!(seen, expected);
        }
        assert_eq!(again.digest().unwrap(), bus.digest().unwrap());
    });
}

/// An error of the disk during a checkpoint reaches commits too, and the other way round.
#[test]
fn a_checkpoint_whose_sync_fails() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(
            &storage,
            Options {
                segment_bytes: 8 * 1024,
                ..options()
            },
        ));
        let pages = pages(&bus, 2);
        bus.sync().unwrap();
        storage.fail_sync(2);
        let checkpoint = {
            let bus = Arc::clone(&bus);
            thread::spawn(move || bus.checkpoint().is_ok())
        };
        let committed = fill(&bus, &pages, 1, Durability::Sync);
        let is_durable = storage.has_durable(&[1; PAGE_BYTES]);
        let checkpointed = checkpoint.join().unwrap();
        if committed.is_ok() {
            assert!(is_durable);
        }
        // A checkpoint syncs more than once, so the failing one came.
        assert!(bus.poisoned().is_some());
        assert!(!(committed.is_ok() && checkpointed), "nobody was told");
        let again = open(&storage.cut_power(), options());
        if let Ok(commit) = committed {
            assert!(again.last_lsn() >= commit.lsn);
        }
    });
}
