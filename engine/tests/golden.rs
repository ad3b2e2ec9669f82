//! Pins the bytes on disk: what this build writes is what earlier builds wrote, and what they wrote
//! still opens. `MMSB_BLESS=1` writes the files of a new format version; the old ones stay.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{Numbers, files, open, options};
use mmsb_engine::{Bus, Durability, Options, PageId, replay};
use tempfile::tempdir;

/// The folder that this build writes the same bytes as.
const NEWEST: &str = "v1";
/// Every folder of golden files, with the digest of the state that they come to. Lines are added and stay: each is a format that some
/// release wrote.
const FOLDERS: [(&str, &str); 2] = [
    (
        NEWEST,
        "b67134ee92c318b8ff0119b2aa305757457dfdc8bf53b011a77477dd86396541",
    ),
    (
        "v2-zstd",
        "b2499ccf83464b42555f29154311cb13436d64c811ae73beb9299d780f973a8e",
    ),
];

fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder)
}

/// Whether this build reads what is in `folder`.
fn reads(folder: &str) -> bool {
    cfg!(feature = "zstd") || !folder.ends_with("-zstd")
}

fn small() -> Options {
    Options {
        segment_bytes: 8192,
        ..options()
    }
}

/// Every kind of record, an image file, two manifests, two segments.
fn workload(bus: &Bus) {
    let mut numbers = Numbers(42);
    let mut transaction = bus.begin();
    let new: Vec<_> = [1, 64, 100, 4096, 64]
        .into_iter()
        .map(|len| transaction.allocate(len).unwrap())
        .collect();
    transaction.write(new[2], 90, b"tail").unwrap();
    transaction
        .annotate(new[1], "owner", Some(b"golden"))
        .unwrap();
    let commit = transaction.commit(Durability::Sync).unwrap();
    let pages: Vec<PageId> = new.iter().map(|page| commit.page(*page).unwrap()).collect();
    common::connect(bus, pages[4], "copy", &[], &[pages[1]]);
    for round in 0..6 {
        let mut transaction = bus.begin();
        let len = 100 + numbers.below(200) as usize;
        let bytes = numbers.bytes(len);
        transaction
            .write(pages[3], numbers.below(3000), &bytes)
            .unwrap();
        transaction.write(pages[1], round, &bytes[..8]).unwrap();
        let durability = [Durability::Memory, Durability::Buffered, Durability::Sync];
        transaction.commit(durability[round as usize % 3]).unwrap();
    }
    bus.checkpoint().unwrap();
    let mut transaction = bus.begin();
    transaction.disconnect(pages[4]).unwrap();
    transaction.transfer(pages[2]).unwrap();
    transaction.free(pages[0]).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    bus.checkpoint().unwrap();
    common::write(bus, pages[3], 0, &numbers.bytes(3000));
}

#[test]
fn this_build_writes_the_golden_bytes() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), small());
    workload(&bus);
    assert_eq!(bus.digest().unwrap().to_string(), FOLDERS[0].1);
    bus.close().unwrap();
    let written = files(directory.path());
    if std::env::var_os("MMSB_BLESS").is_some() {
        std::fs::create_dir_all(golden(NEWEST)).unwrap();
        for (name, bytes) in &written {
            std::fs::write(golden(NEWEST).join(name), bytes).unwrap();
        }
    }
    let expected = files(&golden(NEWEST));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&written), names(&expected));
    for ((name, written), (_, expected)) in written.iter().zip(&expected) {
        let first = written.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(
            (written.len(), first),
            (expected.len(), None),
            "{name} differs"
        );
    }
}

/// A folder without a line in the list would be opened by nothing, and a line without a folder would be a format that is gone.
#[test]
fn every_golden_folder_is_in_the_list() {
    let mut there: Vec<String> = std::fs::read_dir(golden(""))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, FOLDERS.map(|(folder, _)| folder));
}

#[test]
fn every_golden_version_still_opens() {
    for (folder, digest) in FOLDERS {
        if !reads(folder) {
            continue;
        }
        let directory = tempdir().unwrap();
        for (name, bytes) in files(&golden(folder)) {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let replayed = replay(directory.path(), None, small()).unwrap();
        let bus = open(directory.path(), small());
        for page in bus.pages() {
            let (from_both, from_log) = (bus.read(page).unwrap(), replayed.read(page).unwrap());
            assert_eq!((page, from_both.epoch()), (page, from_log.epoch()));
        }
        assert_eq!(bus.opened().warnings, [""; 0], "{folder}");
        assert!(bus.opened().checkpoint.is_some(), "{folder}");
        // From the checkpoint, and from the log alone.
        assert_eq!(bus.digest().unwrap().to_string(), digest, "{folder}");
        assert_eq!(replayed.digest().unwrap().to_string(), digest, "{folder}");
        // It is not only read: the next transaction goes behind what is there.
        let page = common::allocate(&bus, 64);
        common::write(&bus, page, 0, b"after");
        let after = bus.digest().unwrap();
        bus.close().unwrap();
        assert_eq!(
            open(directory.path(), small()).digest().unwrap(),
            after,
            "{folder}"
        );
    }
}

/// A build that knows no compression does not take what it cannot read for damage.
#[cfg(not(feature = "zstd"))]
#[test]
fn a_log_that_may_be_compressed_is_refused_as_newer() {
    let directory = tempdir().unwrap();
    for (name, bytes) in files(&golden("v2-zstd")) {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let error = Bus::open(directory.path(), small()).unwrap_err();
    assert_eq!(error.kind(), "log.newer");
    assert!(error.to_string().contains("feature zstd"), "{error}");
    assert!(matches!(
        replay(directory.path(), None, small()),
        Err(mmsb_engine::RecoveryError::Log(
            mmsb_engine::LogError::Newer { version: 2, .. }
        ))
    ));
}
