//! An operating system's cache between the log and the disk: a sync that fails leaves pages that look clean.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use common::cached::Cached;
use mmsb_engine::{Bus, Durability, Options, PageId, Retention, SteppingClock};

fn open(storage: &Cached, segment_bytes: u64, retention: Retention) -> Bus {
    let options = Options {
        segment_bytes,
        arena_bytes: 1 << 20,
        retention,
        ..Options::default()
    };
    let clock = Arc::new(SteppingClock::new(0, 1));
    Bus::open_with(Arc::new(storage.clone()), clock, options).unwrap()
}

fn write(bus: &Bus, page: PageId, bytes: &[u8], durability: Durability) {
    let mut transaction = bus.begin();
    transaction.write(page, 0, bytes).unwrap();
    transaction.commit(durability).unwrap();
}

#[test]
fn a_close_whose_sync_fails_costs_nothing_that_is_committed_later() {
    let mut lost = Vec::new();
    // The last record ends at every place of a page of the cache in turn.
    for len in (16..=4096).step_by(16) {
        let disk = Cached::new();
        let fails = Arc::new(AtomicBool::new(false));
        let storage = disk.hooked({
            let fails = Arc::clone(&fails);
            move |operation, name| {
                let strikes = operation == "sync" && name.starts_with("log-");
                match strikes && fails.swap(false, Ordering::Relaxed) {
                    true => Err(io::Error::other("the disk fails once")),
                    false => Ok(()),
                }
            }
        });
        let bus = open(&storage, 64 << 10, Retention::Everything);
        let mut transaction = bus.begin();
        let new = transaction.allocate(4096).unwrap();
        let commit = transaction.commit(Durability::Sync).unwrap();
        let page = commit.page(new).unwrap();
        write(&bus, page, &vec![1; len], Durability::Sync);
        fails.store(true, Ordering::Relaxed);
        assert!(bus.close().is_err());

        // The next process, on the same running machine.
        let bus = open(&disk, 64 << 10, Retention::Everything);
        write(&bus, page, b"acknowledged", Durability::Sync);
        bus.abandon();

        disk.power_cut();
        let bus = open(&disk, 64 << 10, Retention::Everything);
        if &bus.read(page).unwrap()[..12] != b"acknowledged" {
            lost.push((len, bus.opened().torn.clone()));
        }
    }
    assert!(lost.is_empty(), "{} lost, first {:?}", lost.len(), lost[0]);
}

#[test]
fn a_commit_that_begins_a_segment_while_a_checkpoint_frees_the_one_before_leaves_a_log() {
    let disk = Cached::new();
    // The bus has the storage, which has the hook: an `Arc` in it would keep all three for ever.
    let user: Arc<OnceLock<(Weak<Bus>, PageId)>> = Arc::default();
    let armed = Arc::new(AtomicBool::new(false));
    let storage = disk.hooked({
        let (user, armed) = (Arc::clone(&user), Arc::clone(&armed));
        move |operation, name| {
            // Another thread commits just now: the checkpoint holds nothing that would keep it out.
            if operation == "create"
                && name.ends_with(".tmp")
                && armed.swap(false, Ordering::Relaxed)
            {
                let (bus, page) = user.get().unwrap();
                let bus = bus.upgrade().unwrap();
                write(&bus, *page, &[3; 3000], Durability::Buffered);
            }
            Ok(())
        }
    });
    let bus = Arc::new(open(&storage, 8 << 10, Retention::Checkpoints));
    let mut transaction = bus.begin();
    let new = transaction.allocate(3000).unwrap();
    let commit = transaction.commit(Durability::Sync).unwrap();
    let page = commit.page(new).unwrap();
    assert!(user.set((Arc::downgrade(&bus), page)).is_ok());
    write(&bus, page, &[2; 3000], Durability::Sync);
    bus.checkpoint().unwrap();
    armed.store(true, Ordering::Relaxed);
    let report = bus.checkpoint().unwrap();
    assert!(!armed.load(Ordering::Relaxed));
    assert!(report.freed_segments > 0, "{report:?}");

    disk.power_cut();
    let bus = open(&disk, 8 << 10, Retention::Checkpoints);
    assert!(bus.read(page).unwrap()[0] >= 2);
}
