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

const VERSION: u32 = 1;
const DIGEST: &str = "b67134ee92c318b8ff0119b2aa305757457dfdc8bf53b011a77477dd86396541";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{VERSION}"))
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
    assert_eq!(bus.digest().unwrap().to_string(), DIGEST);
    bus.close().unwrap();
    let written = files(directory.path());
    if std::env::var_os("MMSB_BLESS").is_some() {
        std::fs::create_dir_all(golden()).unwrap();
        for (name, bytes) in &written {
            std::fs::write(golden().join(name), bytes).unwrap();
        }
    }
    let expected = files(&golden());
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

#[test]
fn every_golden_version_still_opens() {
    for version in 1..=VERSION {
        let directory = tempdir().unwrap();
        for (name, bytes) in files(&golden().with_file_name(format!("v{version}"))) {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let replayed = replay(directory.path(), None, small()).unwrap();
        let bus = open(directory.path(), small());
        for page in bus.pages() {
            let (from_both, from_log) = (bus.read(page).unwrap(), replayed.read(page).unwrap());
            assert_eq!((page, from_both.epoch()), (page, from_log.epoch()));
        }
        assert_eq!(bus.opened().warnings, [""; 0]);
        assert!(bus.opened().checkpoint.is_some());
        // From the checkpoint, and from the log alone.
        assert_eq!(bus.digest().unwrap().to_string(), DIGEST);
        assert_eq!(replayed.digest().unwrap().to_string(), DIGEST);
    }
}

/// A build that knows no compression does not take what it cannot read for damage.
#[cfg(not(feature = "zstd"))]
#[test]
fn a_log_that_may_be_compressed_is_refused_as_newer() {
    let directory = tempdir().unwrap();
    for (name, bytes) in files(&golden().with_file_name("v2-zstd")) {
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
