//! Folding the log into checkpoints: how much disk that takes, and which states can still be had.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Numbers, allocate, open, options};
use mmsb_engine::{
    Bus, Digest, Durability, Lsn, Options, PageId, RecoveryError, Retention, replay,
};
use tempfile::tempdir;

const SEGMENT_BYTES: u64 = 32 * 1024;

fn retaining(retention: Retention) -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        prefill: false,
        retention,
        ..options()
    }
}

fn directory_bytes(directory: &Path) -> u64 {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// Writes `len` random bytes to a random place.
fn write_somewhere(bus: &Bus, pages: &[PageId], numbers: &mut Numbers, len: u64) -> Lsn {
    let page = pages[numbers.below(pages.len() as u64) as usize];
    let room = bus.info(page).unwrap().len_bytes - len;
    let mut transaction = bus.begin();
    let bytes = numbers.bytes(len as usize);
    transaction
        .write(page, numbers.below(room + 1), &bytes)
        .unwrap();
    transaction.commit(Durability::Memory).unwrap().lsn
}

/// The oldest state that can be had, as the refusal of an older one names it.
fn oldest(directory: &Path, options: &Options) -> Lsn {
    let error = replay(directory, Some(Lsn(1)), options.clone()).unwrap_err();
    assert_eq!(error.kind(), "replay.not-retained", "{error}");
    let text = error.to_string();
    match error {
        RecoveryError::NotRetained { until, oldest } => {
            assert_eq!(until, Lsn(1));
            assert!(text.ends_with(&format!("LSN {oldest}")), "{text}");
            oldest
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_run_without_end_takes_a_bounded_directory() {
    const PAGES: u64 = 64;
    const ROUND_BYTES: u64 = 12 * SEGMENT_BYTES;
    const ROUNDS: u64 = 36;
    let page_bytes = PAGES * 4096;
    // A chain of images is begun anew once it has more than twice the bytes of the pages, and 1 MiB; two
    // checkpoints may have different chains, each with one file too many.
    let images_bytes = 2 * ((2 * page_bytes).max(1 << 20) + 2 * page_bytes);
    // Two rounds, the one that is being written, and files that wait to be used again.
    let log_bytes = 3 * (ROUND_BYTES + SEGMENT_BYTES) + 3 * SEGMENT_BYTES;
    let bound_bytes = images_bytes + log_bytes + (64 << 10);

    let directory = tempdir().unwrap();
    let bus = open(directory.path(), retaining(Retention::Checkpoints));
    let pages: Vec<_> = (0..PAGES).map(|_| allocate(&bus, 4096)).collect();
    let mut numbers = Numbers(11);
    let mut most_bytes = 0;
    for round in 1..=ROUNDS {
        while bus.statistics().log.appended_bytes < round * ROUND_BYTES {
            write_somewhere(&bus, &pages, &mut numbers, 400);
        }
        bus.checkpoint().unwrap();
        let bytes = directory_bytes(directory.path());
        assert!(
            bytes <= bound_bytes,
            "round {round}: {bytes} > {bound_bytes}"
        );
        most_bytes = most_bytes.max(bytes);
    }
    let log = bus.statistics().log;
    assert!(log.rotations > 400, "{log:?}");
    assert!(log.recycled > 20, "{log:?}");
    // Without retention the log alone would not have fit.
    assert!(log.appended_bytes > 2 * bound_bytes, "{log:?}");
    assert!(most_bytes > log_bytes / 3, "{most_bytes}");
    let digest = bus.digest().unwrap();
    drop(bus);
    let bus = open(directory.path(), retaining(Retention::Checkpoints));
    assert_eq!(bus.digest().unwrap(), digest);
}

#[test]
fn checkpoints_taken_under_load_give_back_every_byte_and_epoch() {
    let directory = tempdir().unwrap();
    let kept = Options {
        segment_bytes: 256 << 10,
        ..retaining(Retention::Checkpoints)
    };
    let mut pages = Vec::new();
    for round in 0..4u64 {
        let bus = open(directory.path(), kept.clone());
        if round == 0 {
            // Pages that are copied in one go, and some that commits come in between.
            pages = [64, 4096, 4096, 40_000, 300_000, 2 << 20]
                .map(|len| allocate(&bus, len))
                .to_vec();
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (bus, pages, stop) = (&bus, &pages, &stop);
                scope.spawn(move || {
                    let mut numbers = Numbers(round * 2 + writer);
                    while !stop.load(Ordering::Relaxed) {
                        write_somewhere(bus, pages, &mut numbers, 50);
                    }
                });
            }
            for _ in 0..4 {
                std::thread::sleep(std::time::Duration::from_millis(10));
                bus.checkpoint().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let digest = bus.digest().unwrap();
        let epochs: Vec<u64> = pages
            .iter()
            .map(|page| bus.info(*page).unwrap().epoch)
            .collect();
        bus.close().unwrap();
        let replayed = replay(directory.path(), None, kept.clone()).unwrap();
        assert_eq!(replayed.digest().unwrap(), digest, "round {round}");
        let bus = open(directory.path(), kept.clone());
        assert!(bus.opened().checkpoint.is_some());
        assert_eq!(bus.opened().warnings, [""; 0]);
        assert_eq!(bus.digest().unwrap(), digest, "round {round}");
        for (page, epoch) in pages.iter().zip(&epochs) {
            assert_eq!(
                bus.info(*page).unwrap().epoch,
                *epoch,
                "{page}, round {round}"
            );
            assert_eq!(
                replayed.info(*page).unwrap().epoch,
                *epoch,
                "{page}, round {round}"
            );
        }
    }
}

/// Writes and takes checkpoints; returns the digest after each commit, and how much log there was.
fn history(bus: &Bus, pages: &[PageId], rounds: usize) -> Vec<(Lsn, Digest, u64)> {
    let mut numbers = Numbers(12);
    let mut history = Vec::new();
    for _ in 0..rounds {
        for _ in 0..120 {
            let lsn = write_somewhere(bus, pages, &mut numbers, 700);
            let appended_bytes = bus.statistics().log.appended_bytes;
            history.push((lsn, bus.digest().unwrap(), appended_bytes));
        }
        bus.checkpoint().unwrap();
    }
    bus.sync().unwrap();
    history
}

#[test]
fn every_state_inside_of_the_window_can_be_had_and_none_outside() {
    for retention in [Retention::Checkpoints, Retention::Bytes(200_000)] {
        let directory = tempdir().unwrap();
        let kept = retaining(retention);
        let bus = open(directory.path(), kept.clone());
        let pages: Vec<_> = (0..8).map(|_| allocate(&bus, 5000)).collect();
        let history = history(&bus, &pages, 8);
        let oldest = oldest(directory.path(), &kept);
        let split = history.partition_point(|(lsn, ..)| *lsn < oldest);
        let (before, window) = history.split_at(split);
        assert_eq!(window[0].0, oldest);
        for (lsn, digest, _) in window.iter().step_by(7).chain(window.last()) {
            let state = replay(directory.path(), Some(*lsn), kept.clone()).unwrap();
            assert_eq!((state.lsn(), state.digest().unwrap()), (*lsn, *digest));
            assert!(state.is_from_checkpoint());
        }
        for (lsn, ..) in before.iter().step_by(50).chain(before.last()) {
            match replay(directory.path(), Some(*lsn), kept.clone()).unwrap_err() {
                RecoveryError::NotRetained {
                    until,
                    oldest: named,
                } => {
                    assert_eq!((until, named), (*lsn, oldest));
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_window_of_bytes_is_kept_and_no_more_than_it_takes() {
    const WINDOW_BYTES: u64 = 400_000;
    let directory = tempdir().unwrap();
    let (mut short, mut long) = (0, 0);
    for (retention, window_bytes) in [
        (Retention::Checkpoints, &mut short),
        (Retention::Bytes(WINDOW_BYTES), &mut long),
    ] {
        let directory = directory.path().join(format!("{retention:?}"));
        let kept = retaining(retention);
        let bus = open(&directory, kept.clone());
        let pages: Vec<_> = (0..8).map(|_| allocate(&bus, 5000)).collect();
        let history = history(&bus, &pages, 16);
        let oldest = oldest(&directory, &kept);
        let (_, _, at_oldest) = history.iter().find(|(lsn, ..)| *lsn == oldest).unwrap();
        let (_, _, at_end) = history.last().unwrap();
        *window_bytes = at_end - at_oldest;
        // Kept across an open, too: the next checkpoint must not forget what the window needs.
        drop(bus);
        let bus = open(&directory, kept.clone());
        write_somewhere(&bus, &pages, &mut Numbers(1), 8);
        bus.checkpoint().unwrap();
        assert!(self::oldest(&directory, &kept) >= oldest);
        if retention != Retention::Checkpoints {
            let (_, _, at) = history
                .iter()
                .find(|(lsn, ..)| *lsn == self::oldest(&directory, &kept))
                .unwrap();
            assert!(at_end - at >= WINDOW_BYTES, "{}", at_end - at);
        }
    }
    // A round takes about 90 kB of log.
    assert!(short < WINDOW_BYTES / 2, "{short}");
    assert!((WINDOW_BYTES..2 * WINDOW_BYTES).contains(&long), "{long}");
}

#[test]
fn the_state_that_a_refusal_names_can_be_had_even_where_a_checkpoint_is_damaged() {
    let directory = tempdir().unwrap();
    let kept = retaining(Retention::Checkpoints);
    let bus = open(directory.path(), kept.clone());
    let pages: Vec<_> = (0..8).map(|_| allocate(&bus, 5000)).collect();
    let history = history(&bus, &pages, 40);
    bus.close().unwrap();
    let named = oldest(directory.path(), &kept);
    let mut sparing = 0;
    for (name, mut bytes) in common::files(directory.path()) {
        if !name.starts_with("images-") && !name.starts_with("checkpoint-") {
            continue;
        }
        let path = directory.path().join(&name);
        let good = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        match replay(directory.path(), Some(Lsn(1)), kept.clone()).unwrap_err() {
            RecoveryError::NotRetained { oldest, .. } => {
                let digest = history.iter().find(|(lsn, ..)| *lsn == oldest).unwrap().1;
                let state = replay(directory.path(), Some(oldest), kept.clone()).unwrap();
                assert_eq!(state.digest().unwrap(), digest, "{name}");
                sparing += 1;
            }
            // Every checkpoint needs that file.
            error => assert_eq!(error.kind(), "log.truncated", "{name}: {error}"),
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert!(sparing >= 2, "{sparing}");
    assert_eq!(oldest(directory.path(), &kept), named);
}
