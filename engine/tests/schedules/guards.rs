//! Guards and subscriptions beside commits.

use std::sync::Arc;

use mmsb_engine::{Durability, ReadError, TransactionError};
use shuttle::thread;

use crate::explore::explore;
use crate::memory::Memory;
use crate::world::{PAGE_BYTES, allocate, connect, fill, free, open, options, pages, value_of};

/// A page is freed and another one takes its place while it is read: under a guard nothing changes, and no id ever
/// shows the bytes of another page.
#[test]
fn a_page_is_freed_under_readers() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let page = allocate(&bus, PAGE_BYTES);
        fill(&bus, &[page], 7, Durability::Memory).unwrap();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let bus = Arc::clone(&bus);
                thread::spawn(move || match bus.read(page) {
                    Ok(guard) => {
                        assert_eq!(value_of(&guard), 7);
                        thread::yield_now();
                        assert_eq!(value_of(&guard), 7);
                    }
                    Err(ReadError::StalePage { .. }) => {}
                    Err(error) => panic!("{error}"),
                })
            })
            .collect();
        free(&bus, page).unwrap();
        let next = allocate(&bus, PAGE_BYTES);
        assert_eq!(next.index(), page.index());
        assert_eq!(value_of(&bus.read(next).unwrap()), 0);
        fill(&bus, &[next], 9, Durability::Memory).unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// A transaction that gives a page a new id and is refused later has never been: nobody finds the page gone.
#[test]
fn a_transfer_that_is_taken_back_shows_nowhere() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 3);
        connect(&bus, pages[2], "copy", &[pages[1]]).unwrap();
        let page = pages[0];
        fill(&bus, &[page], 7, Durability::Memory).unwrap();
        let reading = {
            let bus = Arc::clone(&bus);
            thread::spawn(move || assert_eq!(value_of(&bus.read(page).unwrap()), 7))
        };
        let viewing = {
            let (bus, pages) = (Arc::clone(&bus), pages.clone());
            thread::spawn(move || {
                let view = bus.view(&pages).unwrap();
                assert_eq!(value_of(view.page(page).unwrap()), 7);
                drop(view);
                fill(&bus, &pages[..1], 7, Durability::Memory).unwrap();
            })
        };
        let mut transaction = bus.begin();
        transaction.transfer(page).unwrap();
        // Its child stays, so this is refused, when everything else has been done.
        transaction.free(pages[1]).unwrap();
        let refused = transaction.commit(Durability::Memory);
        assert!(
            matches!(refused, Err(TransactionError::HasDependents { .. })),
            "{refused:?}"
        );
        reading.join().unwrap();
        viewing.join().unwrap();
    });
}

/// A thread that holds a guard takes another while writers wait for both: nobody waits for ever.
#[test]
fn guards_on_guards_never_deadlock() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 3);
        let mut threads = Vec::new();
        for (first, second) in [(0, 1), (1, 0)] {
            let (bus, pages) = (Arc::clone(&bus), pages.clone());
            threads.push(thread::spawn(move || {
                let guard = bus.read(pages[first]).unwrap();
                let view = bus.view(&[pages[second], pages[first]]).unwrap();
                assert_eq!(view.page(pages[first]).unwrap(), &*guard);
                let again = bus.read(pages[first]).unwrap();
                assert_eq!(&*again, &*guard);
            }));
        }
        let writer = (Arc::clone(&bus), pages.clone());
        threads.push(thread::spawn(move || {
            let (bus, pages) = writer;
            fill(&bus, &pages, 1, Durability::Memory).unwrap();
            free(&bus, pages[2]).unwrap();
        }));
        fill(&bus, &pages[..2], 2, Durability::Memory).unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Writers that lose their race again and again close the turnstile; they get through, and so does everybody else.
#[test]
fn a_writer_that_always_loses_insists() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 3);
        let mut threads = Vec::new();
        for number in 0..2usize {
            let (bus, pages) = (Arc::clone(&bus), pages.clone());
            threads.push(thread::spawn(move || {
                for _ in 0..6 {
                    drop(bus.read(pages[number]).unwrap());
                    fill(&bus, &pages[number..=number], 1, Durability::Memory).unwrap();
                }
            }));
        }
        fill(&bus, &pages, 9, Durability::Memory).unwrap();
        bus.digest().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A subscriber that is too slow is told how much it lost, and what it gets is in the order of LSNs.
#[test]
fn a_subscriber_misses_nothing_uncounted() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 2);
        let start = bus.last_lsn().0;
        let subscription = bus.subscribe(2);
        let threads: Vec<_> = (0..2usize)
            .map(|number| {
                let (bus, pages) = (Arc::clone(&bus), pages.clone());
                thread::spawn(move || {
                    for _ in 0..3 {
                        let own = &pages[number..=number];
                        fill(&bus, own, 1, Durability::Memory).unwrap();
                    }
                })
            })
            .collect();
        let mut next = start + 1;
        let mut drained = 0;
        let mut take = || {
            let taken = subscription.drain();
            assert!(taken.events.len() <= 2);
            next += taken.lost;
            for event in &taken.events {
                assert_eq!(event.lsn.0, next, "after {drained} drains");
                // Whoever was told of a commit sees it.
                let guard = bus.read(event.pages[0]).unwrap();
                assert!(guard.lsn() >= event.lsn);
                next += 1;
            }
            drained += 1;
        };
        take();
        take();
        for thread in threads {
            thread.join().unwrap();
        }
        take();
        assert_eq!(next, start + 7);
    });
}

/// Who subscribes while commits are under way gets all that come after.
#[test]
fn subscribing_beside_commits() {
    explore(|| {
        let storage = Memory::default();
        let bus = Arc::new(open(&storage, options()));
        let pages = pages(&bus, 1);
        let committing = {
            let (bus, pages) = (Arc::clone(&bus), pages.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    fill(&bus, &pages, 1, Durability::Memory).unwrap();
                }
            })
        };
        let subscription = bus.subscribe(8);
        let last = fill(&bus, &pages, 2, Durability::Memory).unwrap().lsn;
        committing.join().unwrap();
        let taken = subscription.drain();
        assert_eq!(taken.lost, 0);
        assert!(taken.events.iter().any(|event| event.lsn == last));
        let lsns: Vec<u64> = taken.events.iter().map(|event| event.lsn.0).collect();
        let expected: Vec<u64> = (lsns[0]..=bus.last_lsn().0).collect();
        assert_eq!(lsns, expected);
    });
}
