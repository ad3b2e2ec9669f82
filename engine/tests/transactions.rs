//! What a transaction may do, and what it may not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use common::{allocate, connect, open, options, transform, write};
use mmsb_engine::{Durability, PageId, Propagation, ReadError, TransactionError};
use tempfile::tempdir;

#[test]
fn a_commit_is_visible_as_a_whole_and_a_dropped_transaction_not_at_all() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 100);
    let mut transaction = bus.begin();
    transaction.write(page, 0, b"lost").unwrap();
    drop(transaction);
    let mut transaction = bus.begin();
    transaction.write(page, 10, b"kept").unwrap();
    transaction.write(page, 12, b"xx").unwrap();
    let lsn = transaction.commit(Durability::Sync).unwrap().lsn;
    let guard = bus.read(page).unwrap();
    assert_eq!(&guard[..14], b"\0\0\0\0\0\0\0\0\0\0kexx");
    assert_eq!((guard.lsn(), guard.epoch(), guard.len()), (lsn, 1, 100));
    assert!(bus.durable_lsn() >= lsn);
}

#[test]
fn stale_and_unknown_ids_are_errors_everywhere() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    let mut transaction = bus.begin();
    transaction.free(page).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    let again = allocate(&bus, 64);
    assert_eq!(
        (again.index(), again.generation()),
        (page.index(), page.generation() + 1)
    );
    assert!(matches!(bus.read(page), Err(ReadError::StalePage { .. })));
    assert!(matches!(
        bus.view(&[again, page]),
        Err(ReadError::StalePage { .. })
    ));
    let mut transaction = bus.begin();
    let stale = |error| matches!(error, TransactionError::StalePage { .. });
    assert!(stale(transaction.write(page, 0, b"x").unwrap_err()));
    assert!(stale(transaction.free(page).unwrap_err()));
    assert!(stale(transaction.transfer(page).unwrap_err()));
    assert!(stale(transaction.disconnect(page).unwrap_err()));
    assert!(stale(
        transaction.annotate(page, "k", Some(b"v")).unwrap_err()
    ));
    assert!(stale(
        transaction
            .connect(again, transform("copy", &[]), &[page.into()])
            .unwrap_err()
    ));
    let unknown = PageId::new(1000, 1);
    assert!(matches!(
        transaction.write(unknown, 0, b"x"),
        Err(TransactionError::UnknownPage { .. })
    ));
    assert!(matches!(
        bus.read(PageId::new(0, 9)),
        Err(ReadError::UnknownPage { .. })
    ));
}

#[test]
fn a_page_freed_between_building_and_committing_is_refused_at_the_commit() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (page, other) = (allocate(&bus, 64), allocate(&bus, 64));
    let mut late = bus.begin();
    late.write(other, 0, b"other").unwrap();
    late.write(page, 0, b"late").unwrap();
    let mut transaction = bus.begin();
    transaction.free(page).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    let lsn = bus.last_lsn();
    assert!(matches!(
        late.commit(Durability::Memory),
        Err(TransactionError::StalePage { .. })
    ));
    assert_eq!(bus.last_lsn(), lsn);
    assert!(bus.read(other).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn a_refused_commit_takes_everything_back() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (a, b) = (allocate(&bus, 64), allocate(&bus, 64));
    connect(&bus, b, "copy", &[], &[a]);
    let before = (bus.digest().unwrap(), bus.statistics().memory, bus.pages());
    let mut transaction = bus.begin();
    let new = transaction.allocate(5000).unwrap();
    transaction.write(new, 0, b"new").unwrap();
    transaction.annotate(a, "key", Some(b"value")).unwrap();
    transaction
        .connect(new, transform("copy", &[]), &[a.into()])
        .unwrap();
    assert!(matches!(
        transaction.commit(Durability::Memory),
        Err(TransactionError::Graph(_))
    ));
    let mut transaction = bus.begin();
    transaction.allocate(64).unwrap();
    transaction.disconnect(b).unwrap();
    transaction
        .connect(a, transform("copy", &[]), &[b.into()])
        .unwrap();
    transaction
        .connect(b, transform("copy", &[]), &[a.into()])
        .unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert_eq!(error.kind(), "graph.cycle", "{error}");
    let after = (bus.digest().unwrap(), bus.statistics().memory, bus.pages());
    assert_eq!((before.0, &before.2), (after.0, &after.2));
    assert_eq!(before.1.live_bytes, after.1.live_bytes);
    assert_eq!(bus.annotation(a, "key").unwrap(), None);
    // The graph is what it was: the wave still runs.
    write(&bus, a, 0, b"still");
    assert_eq!(&bus.read(b).unwrap()[..5], b"still");
}

#[test]
fn writes_are_checked_and_the_error_names_the_write() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (page, derived) = (allocate(&bus, 64), allocate(&bus, 64));
    connect(&bus, derived, "copy", &[], &[page]);
    let mut transaction = bus.begin();
    transaction.write(page, 63, b"x").unwrap();
    let error = transaction.write(page, 63, b"xy").unwrap_err();
    assert_eq!(
        error.to_string(),
        "write 1 to page 0.1 covers 63..65, but the page has 64 bytes"
    );
    assert_eq!(
        transaction.write(page, u64::MAX, b"xy").unwrap_err().kind(),
        "write.out-of-range"
    );
    assert_eq!(
        transaction.write(page, 0, b"").unwrap_err().kind(),
        "write.empty"
    );
    assert_eq!(
        transaction.write(derived, 0, b"x").unwrap_err().kind(),
        "write.derived"
    );
    assert_eq!(transaction.allocate(0).unwrap_err().kind(), "memory.length");
    assert_eq!(
        transaction.allocate((1 << 32) + 1).unwrap_err().kind(),
        "memory.length"
    );
    assert_eq!(
        transaction.annotate(page, "", None).unwrap_err().kind(),
        "metadata.limit"
    );
}

#[test]
fn parents_cannot_be_freed_before_their_children() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let pages: Vec<_> = (0..3).map(|_| allocate(&bus, 64)).collect();
    connect(&bus, pages[1], "copy", &[], &[pages[0]]);
    connect(&bus, pages[2], "copy", &[], &[pages[1]]);
    let mut transaction = bus.begin();
    transaction.free(pages[0]).unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert!(
        matches!(error, TransactionError::HasDependents { dependent, .. } if dependent == pages[1])
    );
    // All at once, whatever the order of the calls.
    let mut transaction = bus.begin();
    for page in &pages {
        transaction.free(*page).unwrap();
    }
    transaction.commit(Durability::Memory).unwrap();
    assert!(bus.pages().is_empty());
    let mut transaction = bus.begin();
    assert_eq!(transaction.free(pages[0]).unwrap_err().kind(), "page.stale");
}

#[test]
fn transfer_keeps_bytes_and_connections_and_makes_old_ids_stale() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (page, child) = (allocate(&bus, 64), allocate(&bus, 64));
    connect(&bus, child, "copy", &[], &[page]);
    let mut transaction = bus.begin();
    transaction.write(page, 0, b"moved").unwrap();
    transaction.transfer(page).unwrap();
    let new = transaction
        .commit(Durability::Sync)
        .unwrap()
        .transferred(page)
        .unwrap();
    assert!(matches!(bus.read(page), Err(ReadError::StalePage { .. })));
    assert_eq!(&bus.read(new).unwrap()[..5], b"moved");
    assert_eq!(&bus.read(child).unwrap()[..5], b"moved");
    write(&bus, new, 0, b"again");
    assert_eq!(&bus.read(child).unwrap()[..5], b"again");
    let digest = bus.digest().unwrap();
    drop(bus);
    assert_eq!(open(directory.path(), options()).digest().unwrap(), digest);
}

#[test]
fn a_thread_with_a_guard_cannot_commit_and_does_not_hang() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (page, other) = (allocate(&bus, 64), allocate(&bus, 64));
    let guard = bus.read(page).unwrap();
    let second = bus.read(other).unwrap();
    let mut transaction = bus.begin();
    transaction.write(other, 0, &guard[..4]).unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert!(
        matches!(error, TransactionError::GuardHeld { guards: 2 }),
        "{error}"
    );
    assert!(bus.checkpoint().is_err());
    drop((guard, second));
    write(&bus, other, 0, b"fine");
}

#[test]
fn disconnecting_keeps_the_bytes_and_logs_them() {
    for propagation in [Propagation::Eager, Propagation::Deferred] {
        let directory = tempdir().unwrap();
        let bus = open(
            directory.path(),
            mmsb_engine::Options {
                propagation,
                ..options()
            },
        );
        let (page, child) = (allocate(&bus, 200_000), allocate(&bus, 200_000));
        connect(&bus, child, "copy", &[], &[page]);
        write(&bus, page, 100_000, b"derived");
        let mut transaction = bus.begin();
        transaction.disconnect(child).unwrap();
        transaction.write(child, 0, b"own").unwrap();
        transaction.commit(Durability::Sync).unwrap();
        write(&bus, page, 100_000, b"changed");
        assert_eq!(&bus.read(child).unwrap()[100_000..100_007], b"derived");
        assert_eq!(&bus.read(child).unwrap()[..3], b"own");
        let digest = bus.digest().unwrap();
        bus.close().unwrap();
        assert_eq!(open(directory.path(), options()).digest().unwrap(), digest);
    }
}
