//! What needs a mount of its own: a full disk, and a file system that cannot be written to. `ci/real-files` runs these in a
//! namespace in which they may mount; without one they are shown as ignored.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use common::{allocate, files, open, options, try_open, write};
use mmsb_engine::{Bus, CheckpointError, Durability, Options, PageId, TransactionError, replay};
use tempfile::{TempDir, tempdir};

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(
        status.success(),
        "{program} {arguments:?}: {status}; `ci/real-files` runs this where it may mount"
    );
}

/// A directory on a file system of its own, which ends with the test.
struct Mounted(TempDir);

impl Mounted {
    fn tmpfs(size: &str) -> Self {
        let directory = tempdir().unwrap();
        let options = format!("size={size}");
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &options,
                "none",
                directory.path().to_str().unwrap(),
            ],
        );
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn segments(prefill: bool) -> Options {
    Options {
        prefill,
        ..options()
    }
}

/// Writes rounds until the disk is full. The last round that was acknowledged, and the error of the next.
fn fill_up(bus: &Bus, page: PageId, durability: Durability) -> (u8, TransactionError) {
    for round in 1..=255 {
        let mut transaction = bus.begin();
        transaction.write(page, 0, &[round; 4096]).unwrap();
        if let Err(error) = transaction.commit(durability) {
            return (round - 1, error);
        }
    }
    panic!("the disk never became full");
}

/// The page holds the last acknowledged round, or the one whose outcome is not known.
#[track_caller]
fn assert_holds(bus: &Bus, page: PageId, acknowledged: u8) {
    let bytes = bus.read(page).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    assert!(
        (acknowledged..=acknowledged + 1).contains(&bytes[0]),
        "round {acknowledged} was acknowledged, but round {} is there",
        bytes[0]
    );
}

fn full_disk(prefill: bool, durability: Durability) {
    let disk = Mounted::tmpfs("512k");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 256 << 10]).unwrap();
    let directory = disk.path().join("bus");
    let bus = open(&directory, segments(prefill));
    let page = allocate(&bus, 4096);
    bus.sync().unwrap();
    let (acknowledged, error) = fill_up(&bus, page, durability);
    assert!(acknowledged > 5, "full after {acknowledged} rounds");
    assert_eq!(error.kind(), "bus.poisoned", "{error}");
    for words in [
        "read-only",
        "storage full: free some space",
        "log-",
        "open it again",
    ] {
        assert!(
            error.to_string().contains(words),
            "`{words}` is not in: {error}"
        );
    }
    assert_eq!(
        bus.poisoned().map(|poison| poison.kind),
        Some(io::ErrorKind::StorageFull)
    );
    // Readers go on; writers and checkpoints are refused, and do not try again.
    assert_eq!(bus.read(page).unwrap().len(), 4096);
    let mut transaction = bus.begin();
    transaction.write(page, 0, b"no").unwrap();
    let again = transaction.commit(Durability::Memory).unwrap_err();
    let cause = bus.poisoned().unwrap().to_string();
    for error in [&again, &error] {
        assert!(error.to_string().contains(&cause), "{error}");
    }
    let checkpoint = bus.checkpoint().unwrap_err();
    assert!(
        matches!(checkpoint, CheckpointError::Poisoned(_)),
        "{checkpoint}"
    );
    drop(bus);

    // The disk is as full as before, which keeps nobody from opening and reading.
    assert!(
        fs::write(disk.path().join("probe"), [1; 64 << 10]).is_err(),
        "the disk is not full"
    );
    let _ = fs::remove_file(disk.path().join("probe"));
    let bus = open(&directory, segments(prefill));
    assert_holds(&bus, page, acknowledged);
    drop(bus);
    let bus = open(&directory, segments(prefill));
    assert_holds(&bus, page, acknowledged);
    drop(bus);

    fs::remove_file(ballast).unwrap();
    let bus = open(&directory, segments(prefill));
    assert_holds(&bus, page, acknowledged);
    for round in 1..=10 {
        let mut transaction = bus.begin();
        transaction.write(page, 0, &[round; 4096]).unwrap();
        transaction.commit(Durability::Sync).unwrap();
    }
    bus.checkpoint().unwrap();
    bus.close().unwrap();
    let bus = open(&directory, segments(prefill));
    assert_eq!(&*bus.read(page).unwrap(), [10; 4096]);
}

#[test]
#[ignore = "mounts a tmpfs: run ci/real-files"]
fn a_full_disk_makes_the_bus_read_only_and_loses_nothing() {
    for prefill in [true, false] {
        for durability in [Durability::Sync, Durability::Buffered] {
            full_disk(prefill, durability);
        }
    }
}

#[test]
#[ignore = "mounts a tmpfs: run ci/real-files"]
fn a_checkpoint_that_does_not_fit_is_refused_and_nothing_is_lost() {
    let disk = Mounted::tmpfs("512k");
    let directory = disk.path().join("bus");
    let bus = open(&directory, segments(true));
    let page = allocate(&bus, 160 << 10);
    write(&bus, page, 0, &[7; 160 << 10]);
    bus.sync().unwrap();
    // Something else takes what is left.
    let mut left = 512 << 10;
    while left > 0 && fs::write(disk.path().join(format!("ballast-{left}")), vec![1; left]).is_err()
    {
        fs::remove_file(disk.path().join(format!("ballast-{left}"))).unwrap();
        left -= 4096;
    }
    let error = bus.checkpoint().unwrap_err();
    assert!(
        error.to_string().contains("storage full: free some space"),
        "{error}"
    );
    assert_eq!(&*bus.read(page).unwrap(), vec![7; 160 << 10]);
    drop(bus);
    let bus = open(&directory, segments(true));
    assert_eq!(&*bus.read(page).unwrap(), vec![7; 160 << 10]);
    fs::remove_file(disk.path().join(format!("ballast-{left}"))).unwrap();
    bus.checkpoint().unwrap();
    bus.close().unwrap();
    let bus = open(&directory, segments(true));
    assert!(bus.opened().checkpoint.is_some());
    assert_eq!(&*bus.read(page).unwrap(), vec![7; 160 << 10]);
}

#[test]
#[ignore = "mounts a directory read-only: run ci/real-files"]
fn a_read_only_directory_is_refused_and_can_be_replayed() {
    let disk = Mounted::tmpfs("1m");
    let directory = disk.path().join("bus");
    let bus = open(&directory, options());
    let page = allocate(&bus, 64);
    write(&bus, page, 0, b"written before");
    bus.close().unwrap();
    run(
        "mount",
        &["-o", "remount,ro", disk.path().to_str().unwrap()],
    );
    let before = files(&directory);
    for (path, operation) in [
        (directory.clone(), "lock"),
        (disk.path().join("new"), "create"),
    ] {
        let error = Bus::open(&path, options()).unwrap_err();
        assert_eq!(error.kind(), "open.io", "{error}");
        let message = error.to_string();
        for words in [
            operation,
            path.to_str().unwrap(),
            "make it writable",
            "`replay`",
        ] {
            assert!(message.contains(words), "`{words}` is not in: {message}");
        }
    }
    let replayed = replay(&directory, None, options()).unwrap();
    assert!(replayed.read(page).unwrap().starts_with(b"written before"));
    assert_eq!(before, files(&directory));
    run(
        "mount",
        &["-o", "remount,rw", disk.path().to_str().unwrap()],
    );
    assert!(try_open(&directory, options()).is_ok());
}
