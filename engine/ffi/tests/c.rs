//! The C ABI as C sees it: compiled with every warning an error, and run.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn library_folder() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

fn check(output: &Output, what: &str) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Compiles a program of `tests/c` against the shared library.
fn compile(name: &str, folder: &Path, extra: &[&str]) -> PathBuf {
    let program = folder.join(name);
    let libraries = library_folder();
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-g",
            "-O1",
            "-pthread",
        ])
        .args(extra)
        .arg("-I")
        .arg(root().join("include"))
        .arg(root().join("tests/c").join(format!("{name}.c")))
        .arg("-o")
        .arg(&program)
        .arg(libraries.join("libmmsb_ffi.so"))
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .output()
        .unwrap();
    check(&output, name);
    program
}

fn run(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(name, folder.path(), &[]);
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    check(&Command::new(program).arg(state).output().unwrap(), name);
}

#[test]
fn every_function_and_every_refusal() {
    run("abi");
}

#[test]
fn views_never_dangle() {
    run("views");
}

#[test]
fn another_process_sees_commits_whole() {
    run("shared");
}

#[test]
fn transforms_of_c_run_in_waves() {
    run("transforms");
}

#[test]
fn the_header_is_also_c_plus_plus() {
    let output = Command::new("c++")
        .args([
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-fsyntax-only",
            "-x",
            "c++",
        ])
        .arg(root().join("include/mmsb.h"))
        .output()
        .unwrap();
    check(&output, "mmsb.h");
}
