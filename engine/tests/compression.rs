//! Compressed transactions: the same states as without, refused where they are not what they say.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::path::Path;

use common::{Numbers, allocate, files, open, options};
use mmsb_engine::inspect::{Inspection, Origin, Record, RecordKind, diff, salvage};
use mmsb_engine::{
    Bus, Compression, Digest, Durability, FileStorage, Lsn, Options, PageId, RecoveryError, replay,
};
use proptest::prelude::*;
use tempfile::tempdir;

const SEGMENT_HEADER_BYTES: usize = 4096;
const COMPRESSED: u32 = 4;

fn compressing() -> Options {
    Options {
        compression: Some(Compression::Zstd),
        ..options()
    }
}

fn text(len: usize, salt: u8) -> Vec<u8> {
    let words = b"state that changes only through deltas in one order. ";
    let salted =
        |(at, byte): (usize, &u8)| byte.wrapping_add(((at / 50 % 3) as u8).wrapping_mul(salt));
    words
        .iter()
        .cycle()
        .take(len)
        .enumerate()
        .map(salted)
        .collect()
}

fn commit(bus: &Bus, page: PageId, offset: u64, bytes: &[u8]) -> Lsn {
    let mut transaction = bus.begin();
    transaction.write(page, offset, bytes).unwrap();
    transaction.commit(Durability::Sync).unwrap().lsn
}

fn records(directory: &Path) -> Vec<Record> {
    let storage = FileStorage::existing(directory).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let entries = inspection.entries().filter_map(|entry| match entry {
        mmsb_engine::inspect::Entry::Record(record) => Some(record),
        _ => None,
    });
    entries
        .filter(|record| record.kind == RecordKind::Transaction)
        .collect()
}

fn version(directory: &Path, segment: u64) -> u32 {
    let bytes = std::fs::read(directory.join(format!("log-{segment:016x}"))).unwrap();
    u32::from_le_bytes(bytes[8..12].try_into().unwrap())
}

/// One page of 100 000 bytes, and one transaction with LSN 2 that writes text all over it.
fn one(directory: &Path) -> (PageId, Digest) {
    let bus = open(directory, compressing());
    let page = allocate(&bus, 100_000);
    commit(&bus, page, 0, &text(100_000, 1));
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    (page, digest)
}

#[test]
fn a_log_is_shorter_and_opens_with_and_without_compression() {
    let directory = tempdir().unwrap();
    let (page, digest) = one(directory.path());
    assert_eq!(version(directory.path(), 1), 2);
    let compressed = records(directory.path())[1].compression.unwrap();
    assert!(compressed.stream_bytes > 100_000);
    assert!(compressed.stored_bytes < 25_000, "{compressed:?}");
    for options in [options(), compressing()] {
        let bus = open(directory.path(), options);
        assert_eq!(bus.digest().unwrap(), digest);
        assert_eq!(bus.read(page).unwrap().get(..), Some(&text(100_000, 1)[..]));
        bus.close().unwrap();
    }
}

#[test]
fn a_segment_that_was_begun_without_takes_none_and_the_next_one_does() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 8000);
    bus.close().unwrap();
    let bus = open(directory.path(), compressing());
    let plain = commit(&bus, page, 0, &text(6000, 1));
    while bus.statistics().log.rotations == 0 {
        commit(&bus, page, 0, &text(6000, 1));
    }
    let packed = commit(&bus, page, 0, &text(6000, 2));
    bus.close().unwrap();
    assert_eq!(
        (version(directory.path(), 1), version(directory.path(), 2)),
        (1, 2)
    );
    let find = |lsn| {
        records(directory.path())
            .into_iter()
            .find(|record| record.lsn == lsn)
    };
    assert_eq!(find(plain).unwrap().compression, None);
    assert!(find(packed).unwrap().compression.is_some());
    // Without the option a log goes on without, in the same segment and then in segments of version 1.
    let bus = open(directory.path(), options());
    let plain = commit(&bus, page, 0, &text(6000, 3));
    while bus.statistics().log.rotations == 0 {
        commit(&bus, page, 0, &text(6000, 1));
    }
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    assert_eq!(find(plain).unwrap().compression, None);
    assert_eq!(version(directory.path(), 3), 1);
    let replayed = replay(directory.path(), None, options()).unwrap();
    assert_eq!(replayed.digest().unwrap(), digest);
}

#[test]
fn short_and_incompressible_transactions_stay_as_they_are() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), compressing());
    let page = allocate(&bus, 8000);
    commit(&bus, page, 0, &text(4000, 1));
    commit(&bus, page, 0, &Numbers(1).bytes(8000));
    commit(&bus, page, 0, &text(4090, 1));
    bus.close().unwrap();
    let compressed: Vec<bool> = records(directory.path())
        .iter()
        .map(|record| record.compression.is_some())
        .collect();
    assert_eq!(compressed, [false, false, false, true]);
}

/// A step of a history: what the page gets, how long, how.
type Write = (u8, u16, u8, bool);

/// Runs a history and gives the digest after each transaction.
fn run(directory: &Path, options: Options, writes: &[Write]) -> Vec<Digest> {
    let bus = open(directory, options);
    let mut pages = [allocate(&bus, 70_000), allocate(&bus, 5000)];
    let derived = allocate(&bus, 5000);
    common::connect(&bus, derived, "copy", &[], &[pages[1]]);
    let mut digests = Vec::new();
    for (number, (kind, len, salt, structural)) in writes.iter().enumerate() {
        let which = usize::from(*kind) % 2;
        let limit = [70_000, 5000][which];
        let len = (usize::from(*len) * 3) % limit + 1;
        let bytes = match kind % 3 {
            0 => text(len, *salt),
            1 => Numbers(number as u64).bytes(len),
            _ => vec![*salt; len],
        };
        let mut transaction = bus.begin();
        let offset = (limit - len) as u64;
        transaction.write(pages[which], offset, &bytes).unwrap();
        transaction.write(pages[0], 7, &text(300, *salt)).unwrap();
        if *structural {
            transaction.transfer(pages[1]).unwrap();
        }
        let commit = transaction.commit(Durability::Buffered).unwrap();
        pages[1] = commit.transferred(pages[1]).unwrap_or(pages[1]);
        digests.push(bus.digest().unwrap());
        if number % 7 == 6 {
            bus.checkpoint().unwrap();
        }
    }
    bus.close().unwrap();
    digests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_history_comes_to_the_same_states_with_and_without(
        writes in proptest::collection::vec(any::<Write>(), 1..16),
        reopened in any::<bool>(),
    ) {
        let (plain, packed) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = run(plain.path(), options(), &writes);
        prop_assert_eq!(&run(packed.path(), compressing(), &writes), &expected);
        for (after, digest) in expected.iter().enumerate() {
            for appliers in [1, 3] {
                let options = Options { appliers, ..options() };
                let lsn = Lsn(after as u64 + 5);
                let replayed = replay(packed.path(), Some(lsn), options).unwrap();
                prop_assert_eq!(replayed.digest().unwrap(), *digest, "LSN {}", lsn);
            }
        }
        let stores = [&plain, &packed].map(|d| FileStorage::existing(d.path()).unwrap());
        let difference = diff(&stores[0], &stores[1], &options()).unwrap();
        prop_assert_eq!(difference.first_record, None);
        if reopened {
            let bus = open(packed.path(), compressing());
            prop_assert_eq!(bus.digest().unwrap(), *expected.last().unwrap());
        }
    }
}

#[test]
fn inspection_names_the_parts_and_finds_who_wrote_a_byte() {
    let directory = tempdir().unwrap();
    let (page, _) = one(directory.path());
    let storage = FileStorage::existing(directory.path()).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let fields = inspection.fields("log-0000000000000001").unwrap();
    let of_two: Vec<_> = fields
        .iter()
        .filter(|field| field.lsn == Some(Lsn(2)))
        .collect();
    let names: Vec<&str> = of_two.iter().map(|field| field.name).skip(7).collect();
    assert_eq!(
        &names[..3],
        [
            "record.uncompressed length",
            "record.compressed length",
            "record.compressed stream"
        ]
    );
    assert_eq!(of_two[8].offset % 16, 4);
    let record = &records(directory.path())[1];
    let compression = record.compression.unwrap();
    let frame = of_two[9];
    assert!(compression.stored_bytes - 8 - frame.len_bytes < 16);
    assert_eq!(record.runs[0].file_offset, None);
    let stream = inspection.stream(record).unwrap();
    assert_eq!(stream.len() as u64, compression.stream_bytes);
    let at = record.runs[0].stream_offset as usize;
    assert_eq!(stream[at..at + 100_000], text(100_000, 1));
    let origin = inspection.blame(page, 4321).unwrap().origin;
    assert!(
        matches!(&origin, Origin::Written { lsn: Lsn(2), byte_offset: None, record_offset, .. }
            if *record_offset == record.offset),
        "{origin:?}"
    );
    let stats = inspection.stats(1);
    assert_eq!(
        (
            stats.compressed,
            stats.compressed_bytes,
            stats.uncompressed_bytes
        ),
        (1, compression.stored_bytes, compression.stream_bytes)
    );
}

#[test]
fn salvage_keeps_compressed_records_bit_for_bit_also_without_the_header_of_their_segment() {
    for wipe_header in [false, true] {
        let directory = tempdir().unwrap();
        let (_, digest) = one(directory.path());
        let path = directory.path().join("log-0000000000000001");
        let mut bytes = std::fs::read(&path).unwrap();
        if wipe_header {
            bytes[50] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
        }
        let target = tempdir().unwrap();
        let (from, to) = (
            FileStorage::existing(directory.path()).unwrap(),
            FileStorage::existing(target.path()).unwrap(),
        );
        salvage(&from, &to, &options()).unwrap();
        assert_eq!(version(target.path(), 1), 2);
        let salvaged = std::fs::read(target.path().join("log-0000000000000001")).unwrap();
        let record = &records(target.path())[1];
        let range = record.offset as usize..(record.offset + record.len_bytes) as usize;
        assert_eq!(salvaged[range.clone()], bytes[range]);
        assert_eq!(open(target.path(), options()).digest().unwrap(), digest);
    }
}

/// Puts another body behind the header of the compressed record, and seals both.
fn forge(directory: &Path, body: impl FnOnce(&mut Vec<u8>)) {
    let record = &records(directory)[1];
    let path = directory.join(&record.file);
    let mut bytes = std::fs::read(&path).unwrap();
    let start = record.offset as usize;
    let mut forged = bytes[start + 32..start + record.len_bytes as usize].to_vec();
    body(&mut forged);
    let mut header = bytes[start..start + 32].to_vec();
    assert_eq!(
        u32::from_le_bytes(header[24..28].try_into().unwrap()) >> 28,
        COMPRESSED
    );
    let len = 32 + forged.len();
    assert!(len <= record.len_bytes as usize && len.is_multiple_of(16));
    header[0..4].copy_from_slice(&(len as u32 / 16).to_le_bytes());
    header[4..8].fill(0);
    header[16..20].copy_from_slice(&crc_fast::crc32_iscsi(&forged).to_le_bytes());
    // Identity and sequence number of the segment, then the header.
    let covered = [&bytes[16..40], &header].concat();
    header[4..8].copy_from_slice(&crc_fast::crc32_iscsi(&covered).to_le_bytes());
    bytes[start..].fill(0);
    bytes[start..start + 32].copy_from_slice(&header);
    bytes[start + 32..start + len].copy_from_slice(&forged);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_forged_record_is_refused_as_a_record_and_not_as_damage() {
    type Forge = fn(&mut Vec<u8>);
    let cases: [(&str, Forge, &str); 6] = [
        ("longer", |body| body[0] ^= 1, "cannot be the"),
        ("much longer", |body| body[2] = 0x20, "cannot be the"),
        ("bomb", |body| body[3] = 0x7f, "more than the"),
        ("cut", |body| body.truncate(64), "lengths before"),
        (
            "cut with its length",
            |body| {
                body.truncate(64);
                body[4..8].copy_from_slice(&56u32.to_le_bytes());
            },
            "no single zstd frame",
        ),
        (
            "scrambled",
            |body| body[8..].reverse(),
            "no single zstd frame",
        ),
    ];
    for (name, change, why) in cases {
        for appliers in [1, 3] {
            let directory = tempdir().unwrap();
            one(directory.path());
            forge(directory.path(), change);
            let options = Options {
                appliers,
                ..options()
            };
            let error = replay(directory.path(), None, options.clone()).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, RecoveryError::Record { lsn: Lsn(2), .. }),
                "{name}: {message}"
            );
            assert!(message.contains(why), "{name}: {message}");
            // What comes before it is good.
            replay(directory.path(), Some(Lsn(1)), options).unwrap();
            let malformed = records(directory.path())[1].malformed.clone();
            assert!(
                malformed.is_some_and(|malformed| malformed.contains(why)),
                "{name}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_of_the_frame_is_damage_as_anywhere() {
    let directory = tempdir().unwrap();
    let (page, _) = one(directory.path());
    let bus = open(directory.path(), compressing());
    commit(&bus, page, 0, b"later");
    bus.close().unwrap();
    let record = &records(directory.path())[1];
    let path = directory.path().join(&record.file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[record.offset as usize + 1000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let error = Bus::open(directory.path(), options()).unwrap_err();
    assert_eq!(error.kind(), "log.damaged");
}

#[test]
fn many_records_that_expand_a_lot_are_applied_in_batches() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), compressing());
    let page = allocate(&bus, 3 << 20);
    for round in 0..20 {
        commit(&bus, page, round, &vec![round as u8; (3 << 20) - 20]);
    }
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    let log_bytes: usize = files(directory.path())
        .iter()
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!(log_bytes < 100_000 + SEGMENT_HEADER_BYTES, "{log_bytes}");
    for appliers in [1, 3] {
        let options = Options {
            appliers,
            ..options()
        };
        let replayed = replay(directory.path(), None, options).unwrap();
        assert_eq!(replayed.digest().unwrap(), digest);
    }
}
