//! Recovery, checkpoints and replay on the real file system.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use common::{Numbers, allocate, connect, files, open, options, try_open, write};
use mmsb_engine::{Bus, Digest, Durability, Lsn, Options, PageId, Retention, replay};
use tempfile::tempdir;

/// Some work of every kind; returns the digest after each commit.
fn work(
    bus: &Bus,
    numbers: &mut Numbers,
    pages: &mut Vec<PageId>,
    commits: usize,
    durability: Durability,
) -> Vec<(Lsn, Digest)> {
    let mut history = Vec::new();
    for _ in 0..commits {
        let mut transaction = bus.begin();
        let mut new = None;
        match numbers.below(10) {
            0 | 1 => {
                let len = [1, 64, 100, 4096, 5000, 70_000][numbers.below(6) as usize];
                let page = transaction.allocate(len).unwrap();
                transaction.write(page, 0, &numbers.bytes(1)).unwrap();
                new = Some(page);
            }
            2 if pages.len() > 4 => {
                let page = pages.swap_remove(numbers.below(pages.len() as u64) as usize);
                transaction.free(page).unwrap();
            }
            3 if !pages.is_empty() => {
                let at = numbers.below(pages.len() as u64) as usize;
                transaction
                    .annotate(pages[at], "note", Some(&numbers.bytes(5)))
                    .unwrap();
            }
            _ => {
                for _ in 0..numbers.below(5) {
                    let Some(page) = pages.get(numbers.below(pages.len().max(1) as u64) as usize)
                    else {
                        continue;
                    };
                    let len = bus.info(*page).unwrap().len_bytes;
                    let offset = numbers.below(len);
                    let count = 1 + numbers.below((len - offset).min(300));
                    transaction
                        .write(*page, offset, &numbers.bytes(count as usize))
                        .unwrap();
                }
            }
        }
        let commit = transaction.commit(durability).unwrap();
        pages.extend(new.and_then(|page| commit.page(page)));
        history.push((commit.lsn, bus.digest().unwrap()));
    }
    history
}

#[test]
fn replay_to_any_lsn_gives_the_digest_of_then_with_any_number_of_appliers() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let mut numbers = Numbers(1);
    let history = work(
        &bus,
        &mut numbers,
        &mut Vec::new(),
        300,
        Durability::Buffered,
    );
    assert!(
        bus.statistics().log.rotations > 2,
        "{:?}",
        bus.statistics().log
    );
    for (lsn, digest) in history.iter().step_by(37).chain(history.last()) {
        for appliers in [1, 2, 8] {
            let state = replay(
                directory.path(),
                Some(*lsn),
                Options {
                    appliers,
                    ..options()
                },
            )
            .unwrap();
            assert_eq!(
                (state.lsn(), state.digest().unwrap()),
                (*lsn, *digest),
                "{appliers} appliers"
            );
        }
    }
    assert!(replay(directory.path(), Some(Lsn(301)), options()).is_err());
}

#[test]
fn reopening_goes_on_where_it_was_with_and_without_checkpoints() {
    let directory = tempdir().unwrap();
    let mut numbers = Numbers(2);
    let mut pages = Vec::new();
    let mut history = Vec::new();
    for round in 0..12 {
        let appliers = [1, 2, 8][round % 3];
        let bus = open(
            directory.path(),
            Options {
                appliers,
                ..options()
            },
        );
        assert_eq!(bus.opened().created, round == 0);
        if let Some((lsn, digest)) = history.last() {
            assert_eq!(
                (bus.last_lsn(), bus.digest().unwrap()),
                (*lsn, *digest),
                "round {round}"
            );
        }
        history.extend(work(&bus, &mut numbers, &mut pages, 40, Durability::Memory));
        if round % 3 == 1 {
            let report = bus.checkpoint().unwrap();
            assert_eq!(report.replay_after, bus.last_lsn());
            history.extend(work(&bus, &mut numbers, &mut pages, 10, Durability::Memory));
        }
        if round % 2 == 0 {
            bus.close().unwrap()
        } else {
            drop(bus)
        }
    }
    for (lsn, digest) in history.iter().step_by(53) {
        let state = replay(directory.path(), Some(*lsn), options()).unwrap();
        assert_eq!(state.digest().unwrap(), *digest);
        assert!(!state.is_from_checkpoint());
    }
    let bus = open(directory.path(), options());
    assert!(bus.opened().checkpoint.is_some());
    assert!(bus.opened().applied < 100, "{:?}", bus.opened());
}

#[test]
fn two_runs_with_the_same_clock_write_the_same_bytes() {
    let run = || {
        let directory = tempdir().unwrap();
        let bus = open(directory.path(), options());
        let mut pages = Vec::new();
        let mut numbers = Numbers(3);
        work(&bus, &mut numbers, &mut pages, 150, Durability::Memory);
        bus.checkpoint().unwrap();
        work(&bus, &mut numbers, &mut pages, 50, Durability::Sync);
        bus.checkpoint().unwrap();
        bus.close().unwrap();
        files(directory.path())
    };
    let (first, second) = (run(), run());
    assert!(
        first.len() >= 5,
        "{:?}",
        first.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    assert_eq!(first, second);
}

#[test]
fn retention_frees_segments_and_says_what_cannot_be_replayed_any_more() {
    let directory = tempdir().unwrap();
    let kept = Options {
        retention: Retention::Checkpoints,
        ..options()
    };
    let bus = open(directory.path(), kept.clone());
    let mut numbers = Numbers(4);
    let mut pages = Vec::new();
    let mut freed = 0;
    let mut history = Vec::new();
    for _ in 0..6 {
        history.extend(work(
            &bus,
            &mut numbers,
            &mut pages,
            100,
            Durability::Buffered,
        ));
        freed += bus.checkpoint().unwrap().freed_segments;
    }
    history.extend(work(&bus, &mut numbers, &mut pages, 100, Durability::Sync));
    assert!(freed > 3, "{freed}");
    assert!(
        bus.statistics().log.recycled > 0,
        "{:?}",
        bus.statistics().log
    );
    let early = replay(directory.path(), Some(Lsn(5)), kept.clone()).unwrap_err();
    assert_eq!(early.kind(), "replay.not-retained", "{early}");
    for (lsn, digest) in history.iter().rev().take(100).step_by(9) {
        let state = replay(directory.path(), Some(*lsn), kept.clone()).unwrap();
        assert_eq!(state.digest().unwrap(), *digest);
        assert!(state.is_from_checkpoint());
    }
    let digest = bus.digest().unwrap();
    drop(bus);
    assert_eq!(open(directory.path(), kept).digest().unwrap(), digest);
}

#[test]
fn an_abandoned_bus_keeps_what_was_handed_to_the_system() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    write(&bus, page, 0, b"written");
    bus.begin().commit(Durability::Buffered).unwrap();
    write(&bus, page, 0, b"dropped");
    bus.abandon();
    let bus = open(directory.path(), options());
    assert_eq!(&bus.read(page).unwrap()[..7], b"written");
    assert_eq!(bus.last_lsn(), Lsn(3));
}

#[test]
fn damage_is_refused_and_a_torn_tail_is_cut_and_reported() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    for round in 0..20u8 {
        let mut transaction = bus.begin();
        transaction.write(page, 0, &[round; 64]).unwrap();
        transaction.commit(Durability::Sync).unwrap();
    }
    let digest = bus.digest().unwrap();
    bus.abandon();
    let segment = directory.path().join("log-0000000000000001");
    let good = std::fs::read(&segment).unwrap();
    let end = 4096
        + good[4096..]
            .chunks(16)
            .rposition(|c| c.iter().any(|b| *b != 0))
            .unwrap()
            * 16
        + 16;

    // The very last record: nothing after it says that it had been there.
    let mut torn = good.clone();
    torn[end - 10] ^= 1;
    std::fs::write(&segment, &torn).unwrap();
    let bus = open(directory.path(), options());
    let report = bus.opened().torn.clone().unwrap();
    assert_eq!((bus.last_lsn(), report.lsn), (Lsn(20), Lsn(21)));
    assert_eq!(bus.read(page).unwrap()[0], 18);
    bus.abandon();
    // It was cut for good: the next opening finds nothing to report.
    let bus = open(directory.path(), options());
    assert_eq!((bus.last_lsn(), bus.opened().torn.clone()), (Lsn(20), None));
    bus.abandon();

    // Any earlier one: later records name it as durable.
    for at in (4096..end - 112).step_by(61) {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&segment, &damaged).unwrap();
        match try_open(directory.path(), options()) {
            Err(error) => assert_eq!(error.kind(), "log.damaged", "offset {at}: {error}"),
            Ok(bus) => {
                // A flipped bit in the padding of a run is covered too, so this is a failure.
                panic!("damage at {at} was accepted: {:?}", bus.opened());
            }
        }
        assert_eq!(
            std::fs::read(&segment).unwrap(),
            damaged,
            "a refused open changed the file"
        );
    }
    std::fs::write(&segment, &good).unwrap();
    assert_eq!(open(directory.path(), options()).digest().unwrap(), digest);
}

#[test]
fn large_runs_are_aligned_in_the_file_and_large_records_get_their_own_segment() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 3 << 20);
    let small = allocate(&bus, 64);
    let mut numbers = Numbers(5);
    let bytes = numbers.bytes(2 << 20);
    write(&bus, small, 0, b"before");
    write(&bus, page, 4096, &bytes);
    write(&bus, small, 0, b"after!");
    write(&bus, page, 100, &bytes[..70_000]);
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    let found = files(directory.path())
        .into_iter()
        .find_map(|(_, content)| {
            content
                .windows(64)
                .position(|window| window == &bytes[..64])
                .map(|at| at % 4096)
        });
    assert_eq!(found, Some(0));
    let bus = open(directory.path(), options());
    assert_eq!(bus.digest().unwrap(), digest);
    assert_eq!(
        replay(directory.path(), None, options())
            .unwrap()
            .digest()
            .unwrap(),
        digest
    );
}

#[test]
fn a_second_bus_is_refused_and_the_owner_named() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let error = try_open(directory.path(), options()).unwrap_err();
    assert_eq!(error.kind(), "open.in-use");
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    drop(bus);
    open(directory.path(), options());
}

#[test]
fn derived_pages_come_back_without_being_logged() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (a, b, sum) = (
        allocate(&bus, 4096),
        allocate(&bus, 4096),
        allocate(&bus, 4096),
    );
    connect(&bus, sum, "xor", &[], &[a, b]);
    write(&bus, a, 10, &[0xf0; 100]);
    write(&bus, b, 60, &[0x0f; 100]);
    bus.checkpoint().unwrap();
    write(&bus, b, 0, &[1; 5]);
    let digest = bus.digest().unwrap();
    let derived = bus.read(sum).unwrap().to_vec();
    assert_eq!(
        (derived[0], derived[10], derived[60], derived[159]),
        (1, 0xf0, 0xff, 0x0f)
    );
    bus.close().unwrap();
    let bus = open(directory.path(), options());
    assert_eq!(bus.opened().applied, 1);
    assert_eq!(&*bus.read(sum).unwrap(), &derived[..]);
    assert_eq!(bus.digest().unwrap(), digest);
}

#[test]
fn an_open_that_is_aborted_leaves_the_files_as_they_are() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    work(
        &bus,
        &mut Numbers(6),
        &mut Vec::new(),
        100,
        Durability::Sync,
    );
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    let before = files(directory.path());
    for appliers in [1, 8] {
        let aborting = Options {
            appliers,
            progress: Some(std::sync::Arc::new(|progress| {
                assert!(progress.done_bytes <= progress.total_bytes);
                std::ops::ControlFlow::Break(())
            })),
            ..options()
        };
        let error = try_open(directory.path(), aborting).unwrap_err();
        assert_eq!(error.kind(), "open.aborted", "{error}");
        assert!(
            files(directory.path()) == before,
            "an aborted open changed a file"
        );
    }
    assert_eq!(open(directory.path(), options()).digest().unwrap(), digest);
}
