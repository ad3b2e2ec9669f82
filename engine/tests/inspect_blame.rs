//! Who wrote a byte, what differs, and the figures.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use std::path::Path;

use common::history::{History, history};
use common::{Numbers, open, options, write};
use mmsb_engine::inspect::{Blame, BlameError, Inspection, Origin, PageDifference, Relation, diff};
use mmsb_engine::{Durability, FileStorage, Lsn, Options, PageId, Retention, replay};
use tempfile::{TempDir, tempdir};

fn made(checkpoints: [bool; 2]) -> (TempDir, History) {
    let directory = tempdir().unwrap();
    let history = history(directory.path(), 11, checkpoints);
    (directory, history)
}

/// The answer of a scan, which must be that of an index.
fn blame(directory: &Path, page: PageId, offset: u64) -> Result<Blame, BlameError> {
    let storage = FileStorage::existing(directory).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let beside = tempdir().unwrap();
    let index = FileStorage::existing(beside.path()).unwrap();
    inspection.write_blame_index(&index, "blame").unwrap();
    let scanned = inspection.blame(page, offset);
    let indexed = inspection.blame_with_index(&index, "blame", page, offset);
    match (&scanned, &indexed) {
        (Ok(scanned), Ok(indexed)) => assert_eq!(scanned, indexed),
        (Err(scanned), Err(indexed)) => assert_eq!(scanned.to_string(), indexed.to_string()),
        _ => panic!("{scanned:?}, but by the index {indexed:?}"),
    }
    scanned
}

#[test]
fn the_transaction_that_is_blamed_is_the_one_that_changed_the_byte() {
    let (directory, history) = made([false, false]);
    let last = Lsn(history.digests.len() as u64 - 1);
    let end = replay(directory.path(), None, options()).unwrap();
    let mut numbers = Numbers(5);
    for round in 0..40 {
        let page = history.pages[round % history.pages.len()];
        let len = end.info(page).unwrap().len_bytes;
        let offset = numbers.below(len);
        let answer = blame(directory.path(), page, offset).unwrap();
        assert_eq!((answer.until, answer.is_broken), (last, false));
        let value = end.read(page).unwrap()[offset as usize];
        let Origin::Written {
            lsn,
            file,
            byte_offset,
            ..
        } = &answer.origin
        else {
            assert!(matches!(answer.origin, Origin::NeverWritten { .. }));
            assert_eq!(value, 0);
            continue;
        };
        let bytes = std::fs::read(directory.path().join(file)).unwrap();
        assert_eq!(bytes[byte_offset.unwrap() as usize], value, "{answer:?}");
        // From this transaction on it is what it is at the end. The page may have had another id then.
        let mut named = answer.ids.iter().rev();
        let id = named.find(|(_, since)| since.unwrap() <= *lsn).unwrap().0;
        let then = replay(directory.path(), Some(*lsn), options()).unwrap();
        assert_eq!(then.read(id).unwrap()[offset as usize], value);
    }
}

#[test]
fn ids_are_followed_and_ends_are_told() {
    let (directory, history) = made([true, true]);
    let (old, new) = history.moved;
    let by_old = blame(directory.path(), old, 5).unwrap();
    let by_new = blame(directory.path(), new, 5).unwrap();
    assert_eq!(by_old.origin, by_new.origin);
    assert_eq!(
        by_old.ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [old, new]
    );
    let freed = blame(directory.path(), history.freed, 0).unwrap();
    let gone = freed.freed.unwrap();
    let Origin::Written { lsn, .. } = freed.origin else {
        panic!("{freed:?}");
    };
    assert_eq!(lsn, gone.previous());
    let untouched = blame(directory.path(), history.freed, 50).unwrap();
    assert!(matches!(untouched.origin, Origin::NeverWritten { .. }));
    let derived = blame(directory.path(), history.derived, 0).unwrap();
    assert!(matches!(derived.origin, Origin::Derived { since: Some(_) }));
    let too_far = blame(directory.path(), history.freed, 200).unwrap_err();
    assert!(matches!(
        too_far,
        BlameError::OutOfRange { len_bytes: 200, .. }
    ));
    let unknown = blame(directory.path(), PageId::new(99, 1), 0).unwrap_err();
    assert!(matches!(unknown, BlameError::UnknownPage { .. }));
}

#[test]
fn a_disconnect_is_named_as_what_wrote_the_bytes_it_kept() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let parent = common::allocate(&bus, 64);
    let child = common::allocate(&bus, 64);
    write(&bus, parent, 3, b"abc");
    common::connect(&bus, child, "copy", &[], &[parent]);
    let mut transaction = bus.begin();
    transaction.disconnect(child).unwrap();
    transaction.write(child, 4, b"X").unwrap();
    let lsn = transaction.commit(Durability::Sync).unwrap().lsn;
    bus.close().unwrap();
    for (offset, by) in [(3, true), (4, false), (60, true)] {
        let answer = blame(directory.path(), child, offset).unwrap();
        let Origin::Written {
            lsn: found,
            by_disconnect,
            ..
        } = answer.origin
        else {
            panic!("{answer:?}");
        };
        assert_eq!((found, by_disconnect), (lsn, by), "{offset}");
    }
}

#[test]
fn an_index_of_a_log_that_went_on_or_was_changed_is_refused() {
    let (directory, history) = made([false, false]);
    let storage = FileStorage::existing(directory.path()).unwrap();
    let beside = tempdir().unwrap();
    let index = FileStorage::existing(beside.path()).unwrap();
    let write_index = || {
        let inspection = Inspection::new(&storage).unwrap();
        inspection.write_blame_index(&index, "blame").unwrap()
    };
    let ask = || {
        let inspection = Inspection::new(&storage).unwrap();
        inspection.blame_with_index(&index, "blame", history.disconnected, 0)
    };
    write_index();
    let answer = ask().unwrap();
    // The record that it names rots.
    let Origin::Written {
        file, byte_offset, ..
    } = &answer.origin
    else {
        panic!("{answer:?}");
    };
    let path = directory.path().join(file);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[byte_offset.unwrap() as usize] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(ask(), Err(BlameError::Index { .. })));
    std::fs::write(&path, whole).unwrap();
    assert_eq!(ask().unwrap(), answer);
    // The log goes on.
    let bus = open(directory.path(), options());
    write(&bus, history.disconnected, 0, b"!");
    bus.close().unwrap();
    assert!(matches!(ask(), Err(BlameError::Index { .. })));
    write_index();
    assert_ne!(ask().unwrap().origin, answer.origin);
    // The index rots, in every byte: an answer is the right one, or none.
    let right = ask().unwrap();
    let path = beside.path().join("blame");
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x11;
        std::fs::write(&path, bytes).unwrap();
        match ask() {
            Ok(answer) => assert_eq!(answer, right),
            Err(BlameError::Index { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn what_was_before_a_trimmed_log_is_gone() {
    let directory = tempdir().unwrap();
    let trimmed = || Options {
        retention: Retention::Checkpoints,
        ..options()
    };
    let bus = open(directory.path(), trimmed());
    let quiet = common::allocate(&bus, 64);
    let busy = common::allocate(&bus, 4096);
    let derived = common::allocate(&bus, 64);
    write(&bus, quiet, 0, b"q");
    common::connect(&bus, derived, "copy", &[], &[quiet]);
    for round in 0..60 {
        write(&bus, busy, 0, &[round; 1024]);
        if round % 20 == 19 {
            bus.checkpoint().unwrap();
        }
    }
    write(&bus, busy, 7, b"seven");
    let last = bus.last_lsn();
    bus.close().unwrap();
    let gone = blame(directory.path(), quiet, 0).unwrap();
    let Origin::BeforeLog { first_lsn } = gone.origin else {
        panic!("{gone:?}");
    };
    assert!(first_lsn > Lsn(5));
    let answer = blame(directory.path(), busy, 8).unwrap();
    assert!(matches!(answer.origin, Origin::Written { lsn, .. } if lsn == last));
    let answer = blame(directory.path(), derived, 0).unwrap();
    assert_eq!(answer.origin, Origin::Derived { since: None });
}

#[test]
fn where_two_logs_part_is_found() {
    let (left, history) = made([false, false]);
    let (right, _) = made([true, true]);
    let compare = |left: &Path, right: &Path| {
        diff(
            &FileStorage::existing(left).unwrap(),
            &FileStorage::existing(right).unwrap(),
            &options(),
        )
        .unwrap()
    };
    let same = compare(left.path(), right.path());
    assert_eq!(
        (same.relation, same.is_same_identity),
        (Relation::Same, true)
    );
    let last = same.left.last;

    let page = history.pages[2];
    let go_on = |directory: &Path, bytes: &[u8]| {
        let bus = open(directory, options());
        write(&bus, page, 100, bytes);
        bus.close().unwrap();
    };
    go_on(right.path(), b"same");
    let longer = compare(left.path(), right.path());
    assert_eq!(longer.relation, Relation::LeftIsPrefix);
    assert_eq!(
        compare(right.path(), left.path()).relation,
        Relation::RightIsPrefix
    );
    go_on(left.path(), b"some");
    let parted = compare(left.path(), right.path());
    assert_eq!(parted.relation, Relation::Diverged);
    assert_eq!(parted.first_record, Some(last.next()));
    let state = parted.first_state.unwrap();
    assert_eq!(state.lsn, last.next());
    let byte = PageDifference::Byte {
        page,
        offset: 101,
        left: b'o',
        right: b'a',
    };
    assert_eq!(state.page, byte);
}

#[test]
fn other_records_that_come_to_the_same_pages_are_told_from_other_pages() {
    let make = |steps: &[(u64, &[u8])], identity: u8| {
        let directory = tempdir().unwrap();
        let bus = open(
            directory.path(),
            Options {
                identity: Some([identity; 16]),
                ..options()
            },
        );
        let page = common::allocate(&bus, 64);
        for (offset, bytes) in steps {
            write(&bus, page, *offset, bytes);
        }
        bus.close().unwrap();
        (directory, page)
    };
    let compare = |left: &TempDir, right: &TempDir| {
        diff(
            &FileStorage::existing(left.path()).unwrap(),
            &FileStorage::existing(right.path()).unwrap(),
            &options(),
        )
        .unwrap()
    };
    // The second writes more, but the same; the fifth differs, and the others do not write over it.
    let steps = |second: &'static [u8], fifth: &'static [u8]| -> Vec<(u64, &[u8])> {
        let second = (2 - second.len() as u64, second);
        let rest: [(u64, &[u8]); 4] = [(2, b"c"), (3, b"d"), (4, fifth), (5, b"g")];
        [(0, &b"a"[..]), second]
            .into_iter()
            .chain(rest)
            .chain([(6, &b"h"[..]), (7, b"i")])
            .collect()
    };
    let (one, page) = make(&steps(b"b", b"e"), 1);
    let (two, _) = make(&steps(b"ab", b"f"), 2);
    let found = compare(&one, &two);
    assert!(!found.is_same_identity);
    assert_eq!(found.first_record, Some(Lsn(3)));
    let state = found.first_state.unwrap();
    let byte = PageDifference::Byte {
        page,
        offset: 4,
        left: b'e',
        right: b'f',
    };
    assert_eq!((state.lsn, state.page), (Lsn(6), byte));
    let (three, _) = make(&steps(b"ab", b"e"), 1);
    let found = compare(&one, &three);
    assert_eq!(found.relation, Relation::OtherRecordsSamePages);
    assert_eq!(found.first_state, None);
}

#[test]
fn figures_are_what_was_written() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let small = common::allocate(&bus, 64);
    let large = common::allocate(&bus, 8192);
    for round in 0..10 {
        write(&bus, small, round, b"xy");
    }
    write(&bus, large, 0, &[1; 5000]);
    bus.checkpoint().unwrap();
    bus.close().unwrap();
    let storage = FileStorage::existing(directory.path()).unwrap();
    let stats = Inspection::new(&storage).unwrap().stats(1);
    assert_eq!(stats.transactions, 13);
    assert_eq!((stats.runs, stats.payload_bytes), (11, 5020));
    assert_eq!(stats.operations.allocate, 2);
    assert_eq!(
        stats.run_lengths.buckets().collect::<Vec<_>>(),
        [(2, 10), (4096, 1)]
    );
    assert_eq!(stats.lsns, Some((Lsn(1), Lsn(13))));
    assert_eq!(stats.largest.as_ref().unwrap().0, Lsn(13));
    assert_eq!(stats.written_pages, 2);
    assert_eq!(
        (stats.top_pages[0].page, stats.top_pages[0].bytes),
        (large, 5000)
    );
    assert_eq!(stats.checkpoints[0].replay_after, Lsn(13));
    assert_eq!(stats.checkpoints[0].chain_files, 1);
    assert_eq!(stats.durable_lsn, Lsn(13));
    let kinds: Vec<_> = stats
        .kinds
        .iter()
        .map(|kind| (kind.kind, kind.files))
        .collect();
    let expected = [
        ("segments", 1),
        ("manifests", 1),
        ("images", 1),
        ("close mark", 1),
    ];
    assert_eq!(kinds, expected);
}
