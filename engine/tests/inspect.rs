//! Looking at, and salvaging, damaged copies of a small real directory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use std::path::Path;

use common::history::{History, history};
use common::{files, options, try_open};
use mmsb_engine::inspect::{
    Entry, FileFault, Inspection, Loss, Salvaged, SpanKind, Start, Survey, Verdict, salvage,
};
use mmsb_engine::{FileStorage, LogError, Lsn, RecoveryError};
use tempfile::{TempDir, tempdir};

/// A directory, what it was made of, and a place to salvage to.
struct Bench {
    directory: TempDir,
    history: History,
}

impl Bench {
    fn new(checkpoints: [bool; 2]) -> Self {
        let directory = tempdir().unwrap();
        let history = history(directory.path(), 7, checkpoints);
        Self { directory, history }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn last(&self) -> Lsn {
        Lsn(self.history.digests.len() as u64 - 1)
    }

    /// The names of files that begin so, in order.
    fn named(&self, prefix: &str) -> Vec<String> {
        let names = files(self.path()).into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    fn flip(&self, file: &str, offset: u64) {
        let path = self.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset as usize] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.path().join(file)).unwrap();
    }

    /// File and offset of the first field of that name, of that transaction.
    fn field(&self, name: &str, lsn: Lsn) -> (String, u64) {
        let storage = FileStorage::existing(self.path()).unwrap();
        let inspection = Inspection::new(&storage).unwrap();
        for file in inspection.files() {
            for field in inspection.fields(&file.name).unwrap() {
                if field.name == name && field.lsn == Some(lsn) {
                    return (file.name.clone(), field.offset);
                }
            }
        }
        panic!("no {name} of LSN {lsn}");
    }

    fn survey(&self) -> Survey {
        let storage = FileStorage::existing(self.path()).unwrap();
        Inspection::new(&storage).unwrap().survey().unwrap()
    }

    /// Salvages, and checks everything that holds for whatever was salvaged.
    fn salvage(&self) -> Salvaged {
        let before = files(self.path());
        let source = FileStorage::existing(self.path()).unwrap();
        let target = tempdir().unwrap();
        let to = FileStorage::existing(target.path()).unwrap();
        let salvaged = salvage(&source, &to, &options()).unwrap();
        assert_eq!(files(self.path()), before, "the source was changed");
        let again = tempdir().unwrap();
        let twice = salvage(
            &to,
            &FileStorage::existing(again.path()).unwrap(),
            &options(),
        )
        .unwrap();
        assert_eq!(twice.losses, []);
        assert_eq!(
            (twice.last_lsn, twice.digest),
            (salvaged.last_lsn, salvaged.digest)
        );
        let bus = try_open(target.path(), options()).unwrap();
        assert_eq!(bus.last_lsn(), salvaged.last_lsn);
        assert_eq!(bus.opened().torn, None);
        assert_eq!(bus.opened().warnings, Vec::<String>::new());
        let digest = self.history.digests[salvaged.last_lsn.0 as usize];
        assert_eq!(bus.digest().unwrap(), digest);
        assert_eq!(salvaged.digest, Some(digest));
        // It goes on where it was.
        common::write(&bus, self.history.pages[0], 0, b"on");
        let lsn = bus.last_lsn();
        bus.close().unwrap();
        assert_eq!(try_open(target.path(), options()).unwrap().last_lsn(), lsn);
        salvaged
    }

    /// Opening must be refused; what the survey says must be what opening says.
    fn refused(&self) -> RecoveryError {
        let survey = self.survey();
        assert!(!survey.is_clean());
        let opened = try_open(self.path(), options()).unwrap_err();
        let Verdict::Refused(error) = survey.verdict else {
            panic!("{opened}, but {:?}", survey.verdict);
        };
        assert_eq!(error.to_string(), opened.to_string());
        error
    }
}

#[test]
fn a_healthy_directory_is_clean_and_salvaged_whole() {
    for checkpoints in [[false, false], [true, true]] {
        let bench = Bench::new(checkpoints);
        let survey = bench.survey();
        assert!(survey.is_clean(), "{survey:#?}");
        assert_eq!(survey.durable.as_ref().unwrap().0, bench.last());
        for file in &survey.files {
            let mut end = 0;
            for span in &file.spans {
                assert_eq!(span.offset, end, "{file:?}");
                end += span.len_bytes;
            }
            assert!(file.spans.is_empty() || end == file.info.len_bytes);
        }
        let salvaged = bench.salvage();
        assert_eq!(salvaged.losses, []);
        assert_eq!(salvaged.repairs, Vec::<String>::new());
        assert_eq!(salvaged.start, Start::Beginning);
        assert_eq!(salvaged.last_lsn, bench.last());
    }
}

#[test]
fn entries_name_every_transaction_and_where_its_bytes_are() {
    let bench = Bench::new([false, false]);
    let storage = FileStorage::existing(bench.path()).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let mut expected = Lsn(1);
    let mut found = false;
    for entry in inspection.entries() {
        let Entry::Record(record) = entry else {
            continue;
        };
        assert!(record.in_order, "{record:?}");
        assert_eq!(record.malformed, None);
        if record.kind == mmsb_engine::inspect::RecordKind::Transaction {
            assert_eq!(record.lsn, expected);
            expected = expected.next();
        }
        let bytes = std::fs::read(bench.path().join(&record.file)).unwrap();
        for run in &record.runs {
            let at = run.file_offset.unwrap() as usize;
            found |= &bytes[at..at + run.len_bytes as usize] == b"soon gone"
                && run.page == bench.history.freed;
        }
    }
    assert!(found);
    assert_eq!(expected.previous(), bench.last());
}

#[test]
fn a_bit_in_a_record_is_damage_and_costs_what_is_behind_it() {
    for name in [
        "record header.length",
        "record header.lsn",
        "record.payload",
    ] {
        let bench = Bench::new([false, false]);
        let (file, offset) = bench.field(name, Lsn(20));
        bench.flip(&file, offset);
        let RecoveryError::Log(LogError::Damaged { lsn, .. }) = bench.refused() else {
            panic!("not damage");
        };
        assert_eq!(lsn, Lsn(20), "{name}");
        let survey = bench.survey();
        let spans: Vec<_> = survey.files.iter().flat_map(|file| &file.spans).collect();
        assert!(spans.iter().any(|span| span.kind == SpanKind::Unknown));
        let stranded: u64 = spans
            .iter()
            .filter(|span| span.kind == SpanKind::Stranded)
            .map(|span| span.transactions)
            .sum();
        assert_eq!(stranded, bench.last().0 - 20);
        let salvaged = bench.salvage();
        assert_eq!(salvaged.last_lsn, Lsn(19), "{name}");
        let lost: Vec<String> = salvaged.losses.iter().map(ToString::to_string).collect();
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert_eq!(lost[0], "LSN 20: no intact record is left");
        let Loss::Stranded {
            first, last, pages, ..
        } = &salvaged.losses[1]
        else {
            panic!("{lost:?}");
        };
        assert_eq!((*first, *last), (Lsn(21), bench.last()));
        assert!(pages.contains(&bench.history.freed));
    }
}

#[test]
fn an_intact_checkpoint_behind_the_damage_saves_the_state_and_loses_the_history() {
    let bench = Bench::new([true, true]);
    let (file, offset) = bench.field("record.payload", Lsn(20));
    bench.flip(&file, offset);
    // Opening starts from the checkpoint and does not even notice.
    let survey = bench.survey();
    assert!(matches!(survey.verdict, Verdict::Opens { .. }));
    assert!(!survey.is_clean());
    let salvaged = bench.salvage();
    assert_eq!(salvaged.last_lsn, bench.last());
    assert_eq!(salvaged.first_lsn, Lsn(21));
    let Start::Checkpoint { sequence: 1, .. } = salvaged.start else {
        panic!("{:?}", salvaged.start);
    };
    let history = Loss::History {
        first: Lsn(1),
        last: Lsn(20),
    };
    assert_eq!(salvaged.losses, [history]);
}

#[test]
fn a_damaged_segment_header_is_rebuilt() {
    let segments = Bench::new([false, false]).named("log-");
    assert!(segments.len() >= 4, "{segments:?}");
    for index in [0, 1, segments.len() - 1] {
        for offset in [0, 9, 20, 33, 45, 81] {
            let bench = Bench::new([false, false]);
            bench.flip(&segments[index], offset);
            bench.refused();
            let salvaged = bench.salvage();
            assert_eq!(salvaged.last_lsn, bench.last(), "{offset} of {index}");
            assert_eq!(salvaged.losses, []);
            assert_eq!(salvaged.repairs.len(), 1, "{:?}", salvaged.repairs);
        }
    }
}

#[test]
fn a_missing_segment_costs_what_was_in_it_and_behind_it() {
    let bench = Bench::new([false, false]);
    let segments = bench.named("log-");
    bench.remove(&segments[1]);
    let RecoveryError::Log(LogError::Missing { file }) = bench.refused() else {
        panic!("not missing");
    };
    assert_eq!(file, segments[1]);
    assert_eq!(bench.survey().missing, [segments[1].clone()]);
    let salvaged = bench.salvage();
    assert!(salvaged.last_lsn > Lsn::ZERO && salvaged.last_lsn < bench.last());
    assert!(matches!(salvaged.losses[0], Loss::Transactions { .. }));

    let bench = Bench::new([false, false]);
    bench.remove(&segments[0]);
    assert!(matches!(bench.refused(), RecoveryError::Truncated { .. }));
    let salvaged = bench.salvage_nothing();
    assert_eq!(salvaged.last_lsn, Lsn::ZERO);

    let bench = Bench::new([true, true]);
    bench.remove(&segments[0]);
    let salvaged = bench.salvage();
    assert_eq!(salvaged.last_lsn, bench.last());
}

impl Bench {
    /// As [`Bench::salvage`], where not even the pages exist any more.
    fn salvage_nothing(&self) -> Salvaged {
        let target = tempdir().unwrap();
        let salvaged = salvage(
            &FileStorage::existing(self.path()).unwrap(),
            &FileStorage::existing(target.path()).unwrap(),
            &options(),
        )
        .unwrap();
        let bus = try_open(target.path(), options()).unwrap();
        assert_eq!(bus.digest().unwrap(), self.history.digests[0]);
        salvaged
    }
}

#[test]
fn rotten_and_missing_checkpoints_cost_no_transaction() {
    for prefix in ["checkpoint-", "images-"] {
        for index in [0, 1] {
            for damage in ["flip", "head", "cut", "remove"] {
                let bench = Bench::new([true, true]);
                let name = bench.named(prefix)[index].clone();
                let path = bench.path().join(&name);
                let len = std::fs::metadata(&path).unwrap().len();
                match damage {
                    "flip" => bench.flip(&name, len / 2),
                    "head" => bench.flip(&name, 33),
                    "cut" => std::fs::write(&path, &std::fs::read(&path).unwrap()[..100]).unwrap(),
                    _ => bench.remove(&name),
                }
                let survey = bench.survey();
                let is_older_manifest = damage == "remove" && prefix == "checkpoint-";
                assert_eq!(survey.is_clean(), is_older_manifest, "{name} {damage}");
                let salvaged = bench.salvage();
                assert_eq!(salvaged.last_lsn, bench.last(), "{name} {damage}");
                assert_eq!(salvaged.first_lsn, Lsn(1));
            }
        }
    }
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let bench = Bench::new([false, false]);
    let last = bench.last();
    let (file, offset) = bench.field("record header.lsn", last);
    // As if the close had never been written, and the last record in part.
    let path = bench.path().join(&file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[offset as usize + 20..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(bench.path().join("closed")).unwrap();
    let survey = bench.survey();
    let Verdict::Opens { torn, last_lsn, .. } = &survey.verdict else {
        panic!("{:?}", survey.verdict);
    };
    assert_eq!(*last_lsn, last.previous());
    let torn = torn.as_ref().unwrap();
    assert_eq!(
        (&torn.file, torn.offset, torn.lsn),
        (&file, offset - 8, last)
    );
    let salvaged = bench.salvage();
    assert_eq!(salvaged.last_lsn, last.previous());
    let tail = Loss::Tail {
        file,
        offset: offset - 8,
    };
    assert_eq!(salvaged.losses, [tail]);
}

#[test]
fn foreign_and_newer_files_are_named_and_left_out() {
    let bench = Bench::new([false, false]);
    let segments = bench.named("log-");
    let last = segments.last().unwrap();
    // Another log's file, under the name that comes next.
    let other = tempdir().unwrap();
    let mut foreign = options();
    foreign.identity = Some(*b"some other log's");
    drop(common::open(other.path(), foreign));
    let number = u64::from_str_radix(last.trim_start_matches("log-"), 16).unwrap() + 1;
    let next = format!("log-{number:016x}");
    std::fs::copy(
        other.path().join("log-0000000000000001"),
        bench.path().join(&next),
    )
    .unwrap();
    assert!(matches!(
        bench.refused(),
        RecoveryError::Log(LogError::Foreign { .. })
    ));
    let survey = bench.survey();
    let fault = survey.files.iter().find(|file| file.info.name == next);
    assert!(matches!(
        fault.unwrap().info.fault,
        Some(FileFault::Foreign(_))
    ));
    let salvaged = bench.salvage();
    assert_eq!(salvaged.last_lsn, bench.last());
    assert!(matches!(&salvaged.losses[..], [Loss::File { file, .. }] if *file == next));

    let bench = Bench::new([false, false]);
    let path = bench.path().join(last);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(
        bench.refused(),
        RecoveryError::Log(LogError::Newer { version: 9, .. })
    ));
    // The checksum does not match, so it is rot, and what is behind it is as good as ever.
    assert_eq!(bench.salvage().last_lsn, bench.last());
}

#[test]
fn an_intact_header_of_a_newer_version_is_believed() {
    let bench = Bench::new([false, false]);
    let last = bench.named("log-").pop().unwrap();
    let path = bench.path().join(&last);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[..80]) as u32;
    bytes[80..84].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    bench.refused();
    let survey = bench.survey();
    let newer = survey.files.iter().find(|file| file.info.name == last);
    assert!(matches!(
        newer.unwrap().info.fault,
        Some(FileFault::Newer(_))
    ));
    let salvaged = bench.salvage();
    assert!(salvaged.last_lsn < bench.last());
    assert!(
        salvaged
            .losses
            .iter()
            .any(|loss| matches!(loss, Loss::File { file, .. } if *file == last))
    );
}

#[test]
fn an_empty_directory_holds_no_log_and_a_missing_one_cannot_be_read() {
    let directory = tempdir().unwrap();
    let storage = FileStorage::existing(directory.path()).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let survey = inspection.survey().unwrap();
    assert!(survey.is_clean() && matches!(survey.verdict, Verdict::NoLog));
    assert_eq!(inspection.entries().count(), 0);
    let target = tempdir().unwrap();
    let to = FileStorage::existing(target.path()).unwrap();
    let error = salvage(&storage, &to, &options()).unwrap_err();
    assert!(error.to_string().contains("nothing to salvage"), "{error}");
    let gone = directory.path().join("gone");
    let storage = FileStorage::create(&gone).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    assert!(Inspection::new(&storage).is_err());
    // A target that holds something is not touched.
    std::fs::write(target.path().join("mine"), "x").unwrap();
    let bench = Bench::new([false, false]);
    let source = FileStorage::existing(bench.path()).unwrap();
    let error = salvage(&source, &to, &options()).unwrap_err();
    assert!(error.to_string().contains("mine"), "{error}");
}
