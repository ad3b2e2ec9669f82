//! One random byte of a real directory is damaged: nothing panics, and nothing is lost that need not be.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use common::history::{History, history};
use common::{files, options, try_open};
use mmsb_engine::inspect::{Inspection, salvage};
use mmsb_engine::{FileStorage, Lsn};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

/// File, offset, length, LSN.
type Spot = (usize, u64, u64, Option<Lsn>);

struct Original {
    _directory: TempDir,
    files: Vec<(String, Vec<u8>)>,
    history: History,
    /// Places by the name of their field.
    fields: BTreeMap<&'static str, Vec<Spot>>,
}

fn make(seed: u64, checkpoints: [bool; 2]) -> Original {
    let directory = tempdir().unwrap();
    let history = history(directory.path(), seed, checkpoints);
    let files = files(directory.path());
    let storage = FileStorage::existing(directory.path()).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let mut fields: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (index, (name, _)) in files.iter().enumerate() {
        for field in inspection.fields(name).unwrap() {
            let place = (index, field.offset, field.len_bytes, field.lsn);
            fields.entry(field.name).or_default().push(place);
        }
    }
    Original {
        _directory: directory,
        files,
        history,
        fields,
    }
}

fn originals() -> &'static [Original; 3] {
    static ORIGINALS: OnceLock<[Original; 3]> = OnceLock::new();
    ORIGINALS.get_or_init(|| {
        [
            make(1, [false, false]),
            make(2, [true, true]),
            make(3, [false, true]),
        ]
    })
}

fn place(directory: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_damaged_byte_costs_at_most_what_is_behind_it(
        which in 0..3_usize,
        field in any::<prop::sample::Index>(),
        entry in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
    ) {
        let original = &originals()[which];
        let names: Vec<_> = original.fields.keys().copied().collect();
        let name = names[field.index(names.len())];
        let places = &original.fields[name];
        let (file, offset, len_bytes, lsn) = places[entry.index(places.len())];
        let at = offset as usize + byte.index(len_bytes as usize);

        let directory = tempdir().unwrap();
        let mut damaged = original.files.clone();
        damaged[file].1[at] ^= mask;
        place(directory.path(), &damaged);
        let source = FileStorage::existing(directory.path()).unwrap();
        let inspection = Inspection::new(&source).unwrap();
        let survey = inspection.survey().unwrap();
        for info in inspection.files() {
            let fields = inspection.fields(&info.name).unwrap();
            prop_assert_eq!(fields.iter().map(|field| field.len_bytes).sum::<u64>(), info.len_bytes);
        }
        let target = tempdir().unwrap();
        let to = FileStorage::existing(target.path()).unwrap();
        let salvaged = salvage(&source, &to, &options()).unwrap();
        prop_assert_eq!(files(directory.path()), damaged);

        // What stands in a record can be lost with all that follows; everything else loses nothing.
        let last = Lsn(original.history.digests.len() as u64 - 1);
        let is_record = name.starts_with("record");
        let least = lsn.filter(|_| is_record).map_or(last, Lsn::previous);
        prop_assert!(salvaged.last_lsn >= least, "{} {:?}: {:?}", name, lsn, salvaged);
        prop_assert_eq!(survey.is_clean() && is_record, false, "{} {}", name, at);
        if salvaged.last_lsn < last {
            prop_assert!(!salvaged.losses.is_empty());
        }

        let bus = try_open(target.path(), options()).unwrap();
        prop_assert_eq!(bus.last_lsn(), salvaged.last_lsn);
        let digest = original.history.digests[salvaged.last_lsn.0 as usize];
        prop_assert_eq!(bus.digest().unwrap(), digest);
        bus.abandon();
        let again = tempdir().unwrap();
        let twice = salvage(&to, &FileStorage::existing(again.path()).unwrap(), &options()).unwrap();
        prop_assert_eq!(twice.losses, []);
        prop_assert_eq!(twice.digest, Some(digest));
    }
}
