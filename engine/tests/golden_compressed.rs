//! Pins what a log with compressed transactions is. That what an earlier build wrote still opens is looked at in `golden.rs`, with all
//! other formats; `MMSB_BLESS=1` writes the files here, where there are none yet.
//!
//! That this build writes the same bytes is no promise: another version of zstd may compress otherwise, and any build
//! reads both.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Numbers, allocate, files, open, options};
use mmsb_engine::inspect::{Entry, Inspection};
use mmsb_engine::{Bus, Compression, Durability, FileStorage, Options};
use tempfile::tempdir;

const DIGEST: &str = "b2499ccf83464b42555f29154311cb13436d64c811ae73beb9299d780f973a8e";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2-zstd")
}

fn small() -> Options {
    Options {
        segment_bytes: 8192,
        ..options()
    }
}

/// Compressed transactions with and without operations, plain ones beside them, a large run, two segments, a checkpoint.
fn workload(bus: &Bus) {
    let mut numbers = Numbers(42);
    let (page, large) = (allocate(bus, 5000), allocate(bus, 70_000));
    let rows = |salt: u64, len: u64| -> Vec<u8> {
        (0..len).map(|at| (at / 9 * salt) as u8 & 0x1f).collect()
    };
    common::write(bus, page, 0, &rows(3, 5000));
    common::write(bus, page, 100, &numbers.bytes(700));
    common::write(bus, large, 1, &rows(5, 66_000));
    let mut transaction = bus.begin();
    let new = transaction.allocate(6000).unwrap();
    transaction.write(new, 500, &rows(7, 5500)).unwrap();
    transaction.annotate(new, "owner", Some(b"golden")).unwrap();
    transaction.commit(Durability::Sync).unwrap();
    bus.checkpoint().unwrap();
    common::write(bus, page, 0, &numbers.bytes(4500));
    common::write(bus, page, 17, &rows(11, 4900));
}

#[test]
fn this_build_logs_the_same_transactions_compressed() {
    let directory = tempdir().unwrap();
    let options = Options {
        compression: Some(Compression::Zstd),
        ..small()
    };
    let bus = open(directory.path(), options);
    workload(&bus);
    assert_eq!(bus.digest().unwrap().to_string(), DIGEST);
    bus.close().unwrap();
    if std::env::var_os("MMSB_BLESS").is_some() && !golden().exists() {
        std::fs::create_dir_all(golden()).unwrap();
        for (name, bytes) in files(directory.path()) {
            std::fs::write(golden().join(name), bytes).unwrap();
        }
    }
    assert_eq!(outline(directory.path()), outline(&golden()));
    // A segment says in its header, behind eight bytes that name its kind, what version it is of.
    let versions = |directory: &Path| -> BTreeSet<Vec<u8>> {
        files(directory)
            .into_iter()
            .filter(|(name, _)| name.starts_with("log-"))
            .map(|(_, bytes)| bytes[8..12].to_vec())
            .collect()
    };
    assert_eq!(versions(directory.path()), versions(&golden()));
}

/// What each transaction does, whether it is compressed, and from how many bytes.
fn outline(directory: &Path) -> Vec<(u64, usize, usize, Option<u64>)> {
    let storage = FileStorage::existing(directory).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let outlined = inspection.entries().filter_map(|entry| match entry {
        Entry::Record(record) => {
            assert_eq!(record.malformed, None);
            let compressed = record
                .compression
                .map(|compression| compression.stream_bytes);
            Some((
                record.lsn.0,
                record.operations.len(),
                record.runs.len(),
                compressed,
            ))
        }
        _ => None,
    });
    let outlined: Vec<_> = outlined.collect();
    assert!(
        outlined
            .iter()
            .filter(|(.., compressed)| compressed.is_some())
            .count()
            >= 4
    );
    outlined
}
