//! Detached views: released on any thread, waited for by nobody.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::thread;

use mmsb_engine::{Bus, DetachedPage, DetachedView, Durability, Options, PageId, Propagation};
use mmsb_engine::{ReadError, TransactionError, TransformId};

fn options() -> Options {
    Options {
        arena_bytes: 16 << 20,
        segment_bytes: 1 << 16,
        ..Options::default()
    }
}

fn page(bus: &Bus, len_bytes: u64) -> PageId {
    let mut transaction = bus.begin();
    let new = transaction.allocate(len_bytes).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    commit.page(new).unwrap()
}

fn write(bus: &Bus, page: PageId, bytes: &[u8]) -> Result<(), TransactionError> {
    let mut transaction = bus.begin();
    transaction.write(page, 0, bytes)?;
    transaction.commit(Durability::Memory).map(drop)
}

#[test]
fn they_may_go_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<DetachedView<'static>>();
    is_send::<DetachedPage<'static>>();
}

#[test]
fn what_they_hold_is_refused_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path(), options()).unwrap();
    let (held, other) = (page(&bus, 64), page(&bus, 64));
    let address = bus.read(held).unwrap().as_ptr();
    let one = bus.read_detached(held).unwrap();
    assert_eq!(one.bytes().as_ptr(), address, "nothing is copied");
    let refused = write(&bus, held, b"x").unwrap_err();
    assert!(
        matches!(refused, TransactionError::ViewHeld { views: 1 }),
        "{refused}"
    );
    assert_eq!(refused.kind(), "view.held");
    write(&bus, other, b"goes on").unwrap();
    bus.checkpoint().unwrap();
    bus.digest().unwrap();
    // A change of the graph needs all locks.
    let mut transaction = bus.begin();
    let copy = TransformId {
        name: "copy".into(),
        version: 1,
        params: Vec::new(),
    };
    transaction.connect(other, copy, &[page_ref(held)]).unwrap();
    let refused = transaction.try_commit(Durability::Memory).unwrap_err();
    assert_eq!(refused.kind(), "view.held");
    // Released by another thread; then the very transaction that was refused goes through, and is empty.
    thread::scope(|scope| {
        scope.spawn(move || drop(one));
    });
    transaction.try_commit(Durability::Memory).unwrap();
    assert!(transaction.is_empty());
    write(&bus, held, b"y").unwrap();
    assert_eq!(bus.read(other).unwrap()[0], b'y');
}

fn page_ref(page: PageId) -> mmsb_engine::PageRef {
    page.into()
}

#[test]
fn a_view_of_several_counts_once_a_lock() {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path(), options()).unwrap();
    let pages = [page(&bus, 8), page(&bus, 8)];
    let both = bus.view_detached(&pages).unwrap();
    let first = bus.view_detached(&pages[..1]).unwrap();
    assert_eq!(both.pages().len(), 2);
    let refused = write(&bus, pages[0], b"x").unwrap_err();
    assert!(
        matches!(refused, TransactionError::ViewHeld { views: 2 }),
        "{refused}"
    );
    drop(both);
    let refused = write(&bus, pages[0], b"x").unwrap_err();
    assert!(
        matches!(refused, TransactionError::ViewHeld { views: 1 }),
        "{refused}"
    );
    write(&bus, pages[1], b"x").unwrap();
    drop(first);
    write(&bus, pages[0], b"x").unwrap();
}

#[test]
fn a_deferred_wave_that_cannot_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let deferred = Options {
        propagation: Propagation::Deferred,
        ..options()
    };
    let bus = Bus::open(directory.path(), deferred).unwrap();
    let base = page(&bus, 8);
    let mut transaction = bus.begin();
    let derived = transaction.allocate(8).unwrap();
    let copy = TransformId {
        name: "copy".into(),
        version: 1,
        params: Vec::new(),
    };
    transaction.connect(derived, copy, &[base.into()]).unwrap();
    let derived = transaction
        .commit(Durability::Memory)
        .unwrap()
        .page(derived)
        .unwrap();
    write(&bus, base, b"1").unwrap();
    // The parent can be looked at before the wave; the derived page and it have one lock.
    let held = bus.read_detached(base).unwrap();
    assert!(matches!(
        bus.read(derived),
        Err(ReadError::ViewHeld { views: 1, .. })
    ));
    assert_eq!(bus.propagate().unwrap_err().kind(), "view.held");
    drop(held);
    assert_eq!(bus.read(derived).unwrap()[0], b'1');
}

/// A commit that waits for a guard notices a detached view that comes meanwhile, instead of waiting for it.
#[test]
fn a_commit_under_way_does_not_wait_either() {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path(), options()).unwrap();
    let (held, other) = (page(&bus, 8), page(&bus, 8));
    // So that the view below does not queue behind the writer.
    let elsewhere = bus.read_detached(other).unwrap();
    let guard = bus.read(held).unwrap();
    let refused = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&bus, held, b"x"));
        thread::sleep(std::time::Duration::from_millis(20));
        let view = bus.read_detached(held).unwrap();
        let refused = writer.join().unwrap();
        drop(view);
        refused
    });
    drop((guard, elsewhere));
    assert_eq!(refused.unwrap_err().kind(), "view.held");
    write(&bus, held, b"x").unwrap();
}
