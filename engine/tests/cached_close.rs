//! A close whose last sync fails must not cost what is committed after the next open.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "common/cached.rs"]
mod cached;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cached::Cached;
use mmsb_engine::{Bus, Durability, Options, PageId, SteppingClock};

fn open(storage: &Cached) -> Bus {
    let options = Options {
        segment_bytes: 64 << 10,
        arena_bytes: 1 << 20,
        ..Options::default()
    };
    let clock = Arc::new(SteppingClock::new(0, 1));
    Bus::open_with(Arc::new(storage.clone()), clock, options).unwrap()
}

fn write(bus: &Bus, page: PageId, bytes: &[u8]) {
    let mut transaction = bus.begin();
    transaction.write(page, 0, bytes).unwrap();
    transaction.commit(Durability::Sync).unwrap();
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
        let bus = open(&storage);
        let mut transaction = bus.begin();
        let new = transaction.allocate(4096).unwrap();
        let commit = transaction.commit(Durability::Sync).unwrap();
        let page = commit.page(new).unwrap();
        write(&bus, page, &vec![1; len]);
        fails.store(true, Ordering::Relaxed);
        assert!(bus.close().is_err());

        // The next process, on the same running machine.
        let bus = open(&disk);
        write(&bus, page, b"acknowledged");
        bus.abandon();

        disk.power_cut();
        let bus = open(&disk);
        if &bus.read(page).unwrap()[..12] != b"acknowledged" {
            lost.push((len, bus.opened().torn.clone()));
        }
    }
    assert!(lost.is_empty(), "{} lost, first {:?}", lost.len(), lost[0]);
}
