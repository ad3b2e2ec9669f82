//! Commits of every kind at every moment of a checkpoint, and a power cut afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::cached::Cached;
use mmsb_engine::{
    Bus, Durability, OpenError, Options, PageId, Retention, SteppingClock, replay_from,
};

/// Longer than what a checkpoint copies, and writes, at once.
const LARGE_BYTES: usize = (2 << 20) + 5000;

/// What is committed inside of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Write,
    Transfer,
    FreeAndAllocate,
    Free,
    Connect,
    Disconnect,
}

const ACTS: [Act; 6] = [
    Act::Write,
    Act::Transfer,
    Act::FreeAndAllocate,
    Act::Free,
    Act::Connect,
    Act::Disconnect,
];

/// A page of each kind.
struct Pages {
    small: PageId,
    large: PageId,
    parent: PageId,
    child: PageId,
}

/// Who commits when its moment has come, and with what.
type User = Arc<Mutex<Option<(Arc<Bus>, Pages)>>>;

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        arena_bytes: 64 << 20,
        retention: Retention::Checkpoints,
        identity: Some(*b"0123456789abcdef"),
        ..Options::default()
    }
}

fn open(storage: &Cached) -> Result<Bus, OpenError> {
    let clock = Arc::new(SteppingClock::new(0, 1));
    Bus::open_with(Arc::new(storage.clone()), clock, options())
}

fn create(storage: &Cached, child_is_derived: bool) -> (Bus, Pages) {
    let bus = open(storage).unwrap();
    let mut transaction = bus.begin();
    let lens = [100, LARGE_BYTES as u64, 5000, 5000, 8 << 20];
    let new = lens.map(|len| transaction.allocate(len).unwrap());
    if child_is_derived {
        let copy = common::transform("copy", &[]);
        transaction.connect(new[3], copy, &[new[2].into()]).unwrap();
    }
    transaction.write(new[0], 0, &[1; 90]).unwrap();
    transaction.write(new[1], 0, &[2; LARGE_BYTES]).unwrap();
    transaction.write(new[2], 0, &[3; 90]).unwrap();
    let commit = transaction.commit(Durability::Sync).unwrap();
    let [small, large, parent, child, _] = new.map(|page| commit.page(page).unwrap());
    let pages = Pages {
        small,
        large,
        parent,
        child,
    };
    (bus, pages)
}

fn act(bus: &Bus, pages: &Pages, act: Act) {
    let mut transaction = bus.begin();
    match act {
        Act::Write => {
            transaction
                .write(pages.large, 0, &[9; LARGE_BYTES])
                .unwrap();
            transaction.write(pages.small, 3, &[7; 20]).unwrap();
        }
        Act::Transfer => {
            transaction.transfer(pages.large).unwrap();
            transaction.write(pages.large, 2 << 20, &[5; 100]).unwrap();
        }
        Act::FreeAndAllocate => {
            transaction.free(pages.large).unwrap();
            let new = transaction.allocate(LARGE_BYTES as u64).unwrap();
            transaction.write(new, 77, &[3; 50]).unwrap();
        }
        Act::Free => transaction.free(pages.parent).unwrap(),
        Act::Connect => {
            let new = transaction.allocate(LARGE_BYTES as u64).unwrap();
            let copy = common::transform("copy", &[]);
            transaction
                .connect(new, copy, &[pages.large.into()])
                .unwrap();
        }
        Act::Disconnect => {
            transaction.disconnect(pages.child).unwrap();
            transaction.write(pages.child, 1, &[8; 9]).unwrap();
        }
    }
    transaction.commit(Durability::Buffered).unwrap();
}

/// Runs `what` before the `nth` operation of a checkpoint. `None`: there are fewer. Otherwise what is wrong.
fn interleave(what: Act, nth: usize) -> Option<Vec<String>> {
    let disk = Cached::new();
    let user = User::default();
    let left = Arc::new(AtomicUsize::new(0));
    let storage = disk.hooked({
        let (user, left) = (Arc::clone(&user), Arc::clone(&left));
        move |_, _| {
            let count = left.load(Ordering::Relaxed);
            left.store(count.saturating_sub(1), Ordering::Relaxed);
            if count == 1 {
                let (bus, pages) = user.lock().unwrap().take().unwrap();
                act(&bus, &pages, what);
            }
            Ok(())
        }
    });
    let (bus, pages) = create(&storage, what != Act::Free);
    let bus = Arc::new(bus);
    bus.checkpoint().unwrap();
    common::write(&bus, pages.large, 0, &[4; LARGE_BYTES]);
    common::write(&bus, pages.parent, 9, &[6; 9]);
    // Nothing is left for the checkpoint to do under the lock of the log, where a commit would wait for itself.
    let before_lsn = bus.sync().unwrap();
    let before = bus.digest().unwrap();
    *user.lock().unwrap() = Some((Arc::clone(&bus), pages));
    left.store(nth, Ordering::Relaxed);
    bus.checkpoint().unwrap();
    if left.swap(0, Ordering::Relaxed) > 0 {
        // The bus has the storage, which has the hook, which would have the bus for ever.
        *user.lock().unwrap() = None;
        return None;
    }
    bus.checkpoint().unwrap();
    bus.sync().unwrap();
    let after = bus.digest().unwrap();
    disk.power_cut();
    let mut wrong = Vec::new();
    match open(&disk) {
        Ok(bus) if bus.digest().unwrap() == after => {}
        Ok(_) => wrong.push("another state was recovered".to_owned()),
        Err(error) => wrong.push(error.to_string()),
    }
    // The state before it may be out of the window by now, but must not be another.
    if let Ok(replayed) = replay_from(&disk, Some(before_lsn), &options())
        && replayed.digest().unwrap() != before
    {
        wrong.push("another past was replayed".to_owned());
    }
    Some(wrong)
}

#[test]
fn a_commit_at_any_moment_of_a_checkpoint_is_recovered() {
    let mut wrong = Vec::new();
    for what in ACTS {
        let mut moments = 0;
        while let Some(found) = interleave(what, moments + 1) {
            moments += 1;
            let place = |text: String| format!("{what:?} at operation {moments}: {text}");
            wrong.extend(found.into_iter().map(place));
        }
        assert!(moments > 5, "{what:?} had {moments} moments");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
