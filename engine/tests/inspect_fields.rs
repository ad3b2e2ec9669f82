//! Every byte of every file has exactly one name.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::history::history;
use mmsb_engine::FileStorage;
use mmsb_engine::inspect::{Field, Inspection};
use tempfile::tempdir;

/// The fields of all files, each file checked for gaps and overlaps.
fn covered(directory: &Path) -> Vec<(String, Vec<Field>)> {
    let storage = FileStorage::existing(directory).unwrap();
    let inspection = Inspection::new(&storage).unwrap();
    let mut all = Vec::new();
    for file in inspection.files() {
        let fields = inspection.fields(&file.name).unwrap();
        let mut end = 0;
        for field in &fields {
            assert_eq!(field.offset, end, "{} {field:?}", file.name);
            assert!(field.len_bytes > 0, "{} {field:?}", file.name);
            end += field.len_bytes;
        }
        let len = std::fs::metadata(directory.join(&file.name)).unwrap().len();
        assert_eq!(end, len, "{}", file.name);
        all.push((file.name.clone(), fields));
    }
    all
}

fn names(all: &[(String, Vec<Field>)]) -> BTreeSet<&'static str> {
    let fields = all.iter().flat_map(|(_, fields)| fields);
    fields.map(|field| field.name).collect()
}

#[test]
fn every_byte_of_a_healthy_directory_has_one_name_and_every_name_occurs() {
    let directory = tempdir().unwrap();
    history(directory.path(), 1, [true, true]);
    std::fs::write(
        directory.path().join("checkpoint-00000000000000ff.tmp"),
        "half",
    )
    .unwrap();
    let all = covered(directory.path());
    let names = names(&all);
    for name in [
        "segment header.checksum",
        "segment header.zeros",
        "record header.lsn",
        "record.operations",
        "record.operations alignment",
        "record.run head.offset",
        "record.payload",
        "record.alignment",
        "padding header",
        "padding",
        "close header",
        "terminator",
        "unused",
        "manifest head.magic",
        "manifest body",
        "images head.identity",
        "image head.lsn",
        "image bytes",
        "image alignment",
        "spare",
        "unfinished manifest",
        "other",
    ] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    assert!(!names.contains("unknown"), "{names:?}");
    // What is called a payload is what was written.
    let is_found = all.iter().any(|(file, fields)| {
        let bytes = std::fs::read(directory.path().join(file)).unwrap();
        let is_payload = |field: &&Field| field.name == "record.payload";
        fields.iter().filter(is_payload).any(|field| {
            let at = field.offset as usize;
            &bytes[at..at + field.len_bytes as usize] == b"soon gone"
        })
    });
    assert!(is_found);
}

#[test]
fn damaged_and_truncated_files_are_covered_too() {
    let directory = tempdir().unwrap();
    history(directory.path(), 2, [true, true]);
    let files: Vec<String> = covered(directory.path())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in &files {
        let path = directory.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 9, 20, 4096 + 5, 4096 + 40, whole.len() / 2] {
            let mut damaged = whole.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 0x10;
            }
            std::fs::write(&path, &damaged).unwrap();
            covered(directory.path());
        }
        for len in [0, 1, 63, 65, 4095, 4097, 4111, whole.len() - 1] {
            std::fs::write(&path, &whole[..len.min(whole.len())]).unwrap();
            covered(directory.path());
        }
        std::fs::write(&path, &whole).unwrap();
    }
}
