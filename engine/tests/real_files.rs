//! What a real file system does to a bus besides working: other processes, other files, and paths that are no
//! directories. `real_mounts.rs` has what needs a mount.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{allocate, files, open, options, try_open, write};
use mmsb_engine::{Bus, Durability, OpenError, PageId, replay};
use tempfile::{TempDir, tempdir};

/// Names a directory to the test that is another process.
const OWNED: &str = "MMSB_TEST_OWNED_DIRECTORY";

/// A bus of several segments, closed; its page holds the last round.
fn closed_bus(directory: &Path) -> PageId {
    let bus = open(directory, options());
    let page = allocate(&bus, 4096);
    for round in 1..=20 {
        write(&bus, page, 0, &[round; 4096]);
    }
    bus.close().unwrap();
    assert!(segment(directory, 4).exists());
    page
}

fn segment(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("log-{sequence:016x}"))
}

fn refusal(directory: &Path) -> OpenError {
    match try_open(directory, options()) {
        Ok(_) => panic!("the bus opens"),
        Err(error) => error,
    }
}

/// The error of an open has this kind, and its message has these words: what is wrong, where, and what to do.
#[track_caller]
fn assert_refused(error: &OpenError, kind: &str, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

/// What `change` does to a good bus is refused, and the refusal changes nothing.
#[track_caller]
fn assert_refused_after(change: impl FnOnce(&Path), kind: &str, words: &[&str]) {
    let directory = tempdir().unwrap();
    closed_bus(directory.path());
    change(directory.path());
    let listing = |directory: &TempDir| -> Vec<_> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).ok();
                (path, bytes)
            })
            .filter(|(path, _)| !path.ends_with("lock"))
            .collect();
        names.sort();
        names
    };
    let before = listing(&directory);
    assert_refused(&refusal(directory.path()), kind, words);
    assert_eq!(before, listing(&directory));
}

/// The process that has a bus open: started by the test below, which kills it.
#[test]
#[ignore = "another process of the test that starts it"]
fn other_process() {
    let directory = env::var_os(OWNED).unwrap_or_else(|| panic!("{OWNED} is not set"));
    let bus = Bus::open(directory, options()).unwrap();
    let mut transaction = bus.begin();
    let page = transaction.allocate(64).unwrap();
    transaction.write(page, 0, b"of the other process").unwrap();
    transaction.commit(Durability::Buffered).unwrap();
    fs::write(
        env::var_os(OWNED)
            .map(PathBuf::from)
            .unwrap()
            .with_extension("ready"),
        "",
    )
    .unwrap();
    thread::sleep(Duration::from_secs(60));
}

/// The other process, which does not outlive the test, whatever becomes of that.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_owner(directory: &Path) -> Owner {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "other_process", "--ignored", "--nocapture"])
        .env(OWNED, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while !directory.with_extension("ready").exists() {
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.stdout.take().map(BufReader::new).unwrap();
            let lines: Vec<String> = output.lines().map_while(io::Result::ok).collect();
            panic!(
                "the other process ended with {status}: {}",
                lines.join("\n")
            );
        }
        thread::sleep(Duration::from_millis(5));
    }
    Owner(child)
}

#[test]
#[cfg(unix)]
fn a_second_process_is_refused_with_the_number_of_the_first_until_that_is_killed() {
    let scratch = tempdir().unwrap();
    let directory = scratch.path().join("bus");
    let owner = start_owner(&directory);
    let process = format!("in use by process {}", owner.0.id());
    let words = [
        process.as_str(),
        directory.to_str().unwrap(),
        "close it first",
    ];
    assert_refused(&refusal(&directory), "open.in-use", &words);
    // Whoever only reads is not kept out.
    let replayed = replay(&directory, None, options()).unwrap();
    assert_eq!(replayed.lsn().0, 1);
    drop(owner);
    let bus = open(&directory, options());
    let page = bus.pages()[0];
    assert!(bus.read(page).unwrap().starts_with(b"of the other process"));
    let own = format!("in use by process {}", std::process::id());
    assert_refused(&refusal(&directory), "open.in-use", &[&own]);
}

#[test]
fn files_of_other_names_are_left_alone() {
    let directory = tempdir().unwrap();
    let page = closed_bus(directory.path());
    let strangers = [
        "notes.txt",
        ".hidden",
        "LOG-0000000000000001",
        "log-1",
        "log-00000000000000zz",
        "log-0000000000000001.bak",
        "checkpoint-",
        "images-0000000000000001.tmp",
        "spare-",
    ];
    for name in strangers {
        fs::write(directory.path().join(name), "a stranger").unwrap();
    }
    fs::create_dir(directory.path().join("folder")).unwrap();
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"log-\xff\xfe");
        fs::write(directory.path().join(name), "not UTF-8").unwrap();
    }
    let bus = open(directory.path(), options());
    assert_eq!(&*bus.read(page).unwrap(), [20; 4096]);
    assert_eq!(bus.opened().warnings, Vec::<String>::new());
    bus.checkpoint().unwrap();
    bus.close().unwrap();
    for name in strangers {
        let bytes = fs::read(directory.path().join(name)).unwrap();
        assert_eq!(bytes, b"a stranger", "{name}");
    }
}

#[test]
fn a_file_with_the_name_of_a_segment_that_is_none_is_refused() {
    // At the end, in the place of one, and before the first.
    for sequence in [64, 3, 1, 0] {
        let name = format!("log-{sequence:016x}");
        assert_refused_after(
            |directory| fs::write(segment(directory, sequence), "just text").unwrap(),
            "log.foreign",
            &[&name, "move it away"],
        );
    }
    assert_refused_after(
        |directory| fs::create_dir(segment(directory, 64)).unwrap(),
        "open.io",
        &["log-0000000000000040", "move it away"],
    );
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let other = tempdir().unwrap();
    let identity = Some(*b"another identity");
    let bus = open(
        other.path(),
        mmsb_engine::Options {
            identity,
            ..options()
        },
    );
    let page = allocate(&bus, 4096);
    for round in 1..=20 {
        write(&bus, page, 0, &[round; 4096]);
    }
    bus.close().unwrap();
    assert_refused_after(
        |directory| {
            fs::copy(segment(other.path(), 3), segment(directory, 3)).unwrap();
        },
        "log.foreign",
        &["log-0000000000000003", "another identity", "move it away"],
    );
}

#[test]
fn a_missing_segment_is_named() {
    assert_refused_after(
        |directory| fs::remove_file(segment(directory, 2)).unwrap(),
        "log.missing",
        &["log-0000000000000002", "restore it from a copy"],
    );
    // Without its beginning there is no state to apply the rest to.
    assert_refused_after(
        |directory| fs::remove_file(segment(directory, 1)).unwrap(),
        "log.truncated",
        &["the log begins with LSN", "checkpoint"],
    );
}

#[test]
fn a_log_of_a_newer_version_is_refused() {
    for sequence in [1, 3] {
        let name = format!("log-{sequence:016x}");
        assert_refused_after(
            |directory| {
                let path = segment(directory, sequence);
                let mut bytes = fs::read(&path).unwrap();
                bytes[8] = 3;
                fs::write(path, bytes).unwrap();
            },
            "log.newer",
            &[&name, "version 3", "use a newer build"],
        );
    }
}

#[test]
fn a_path_that_can_be_no_directory_is_refused() {
    let scratch = tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "I was here first").unwrap();
    for path in [file.clone(), file.join("bus"), file.join("deep/bus")] {
        let error = Bus::open(&path, options()).unwrap_err();
        let words = [
            path.to_str().unwrap(),
            "cannot create",
            "choose a path for a directory",
        ];
        assert_refused(&error, "open.io", &words);
        let error = replay(&path, None, options()).unwrap_err();
        assert_eq!(error.kind(), "log.io", "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"I was here first");
    let missing = scratch.path().join("missing");
    let error = replay(&missing, None, options()).unwrap_err();
    assert!(
        error.to_string().contains(missing.to_str().unwrap()),
        "{error}"
    );
    assert!(!missing.exists());
    assert_eq!(files(scratch.path()).len(), 1);
}
