//! What the fuzzer once found, replayed through the bodies of its targets: `engine/fuzz/regressions/<target>/<what it was>`; and, when
//! `ci/fuzz-replay` asks for it, a corpus.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a target panics where something is wrong"
)]

#[path = "../../engine/fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/fuzz")
}

/// Names and contents of the folders of a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Runs each file of `folder/<target>/` through its target, and says how many there were.
fn replay(folder: &Path) -> usize {
    let mut replayed = 0;
    for folder in entries(folder) {
        let target = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for input in entries(&folder) {
            // Which one it was is the last line before a panic.
            eprintln!("{target}: {}", input.display());
            let known = targets::run(&target, &fs::read(&input).unwrap());
            assert!(known, "there is no target `{target}`");
            replayed += 1;
        }
    }
    replayed
}

#[test]
fn what_the_fuzzer_found_stays_fixed() {
    let replayed = replay(&fuzz().join("regressions"));
    assert!(replayed >= 2, "only {replayed} inputs were found");
}

#[test]
#[ignore = "takes the corpus that MMSB_FUZZ_CORPUS names: see ci/fuzz-replay"]
fn a_corpus_passes() {
    let folder = std::env::var_os("MMSB_FUZZ_CORPUS").expect("MMSB_FUZZ_CORPUS names a folder");
    let replayed = replay(Path::new(&folder));
    eprintln!("replayed {replayed} inputs");
    assert!(replayed >= 100, "only {replayed} inputs were found");
}

/// Every target of the fuzz crate can be replayed here, and takes empty and meaningless input.
#[test]
fn every_target_takes_any_input() {
    let mut count = 0;
    for path in entries(&fuzz().join("fuzz_targets")) {
        let target = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for input in [
            &b""[..],
            &[0; 100],
            &[0xff; 1000],
            b"version: 1\nsteps: [crash]\n",
        ] {
            assert!(
                targets::run(&target, input),
                "`targets::run` does not know `{target}`"
            );
        }
        count += 1;
    }
    assert_eq!(count, 7);
}
