//! Segments are freed only if what is left of the log can be opened after a crash.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "common/cached.rs"]
mod cached;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cached::Cached;
use mmsb_engine::{Bus, Durability, OpenError, Options, PageId, Retention, SteppingClock};

fn open(storage: &Cached) -> Result<Bus, OpenError> {
    let options = Options {
        segment_bytes: 8 << 10,
        arena_bytes: 1 << 20,
        retention: Retention::Checkpoints,
        ..Options::default()
    };
    let clock = Arc::new(SteppingClock::new(0, 1));
    Bus::open_with(Arc::new(storage.clone()), clock, options)
}

fn write(bus: &Bus, page: PageId, byte: u8, durability: Durability) {
    let mut transaction = bus.begin();
    transaction.write(page, 0, &[byte; 3000]).unwrap();
    transaction.commit(durability).unwrap();
}

#[test]
fn a_commit_that_begins_a_segment_while_a_checkpoint_frees_the_one_before_leaves_a_log() {
    let disk = Cached::new();
    let user: Arc<OnceLock<(Arc<Bus>, PageId)>> = Arc::default();
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
                write(bus, *page, 3, Durability::Buffered);
            }
            Ok(())
        }
    });
    let bus = Arc::new(open(&storage).unwrap());
    let mut transaction = bus.begin();
    let new = transaction.allocate(3000).unwrap();
    let commit = transaction.commit(Durability::Sync).unwrap();
    let page = commit.page(new).unwrap();
    assert!(user.set((Arc::clone(&bus), page)).is_ok());
    write(&bus, page, 2, Durability::Sync);
    bus.checkpoint().unwrap();
    armed.store(true, Ordering::Relaxed);
    let report = bus.checkpoint().unwrap();
    assert!(!armed.load(Ordering::Relaxed));
    println!("freed {}", report.freed_segments);

    disk.power_cut();
    let bus = open(&disk).unwrap();
    assert!(bus.read(page).unwrap()[0] >= 2);
}
