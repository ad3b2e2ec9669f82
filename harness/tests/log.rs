//! `mmsb log` as a user meets it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail like the test itself"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mmsb_engine::{Bus, Durability, FileStorage, Options, PageId, SteppingClock};
use serde_json::Value;
use tempfile::TempDir;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect(&self.stdout)
    }
}

/// A bus in `data`, and a place to work in.
struct Workspace {
    directory: TempDir,
    page: PageId,
}

fn bus(directory: &Path) -> Bus {
    let options = Options {
        segment_bytes: 8192,
        identity: Some(*b"mmsb command log"),
        ..Options::default()
    };
    let storage = FileStorage::create(directory).unwrap();
    let clock = SteppingClock::new(1_700_000_000_000_000_000, 1_000);
    Bus::open_with(Arc::new(storage), Arc::new(clock), options).unwrap()
}

fn write(bus: &Bus, page: PageId, offset: u64, bytes: &[u8]) {
    let mut transaction = bus.begin();
    transaction.write(page, offset, bytes).unwrap();
    transaction.commit(Durability::Sync).unwrap();
}

impl Workspace {
    /// LSN 1 allocates a page of 256 bytes, 2 to 41 write 200 bytes each from 0 to 39 on, 42 writes `last` at 8.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bus = bus(&directory.path().join("data"));
        let mut transaction = bus.begin();
        let page = transaction.allocate(256).unwrap();
        transaction.annotate(page, "name", Some(b"demo")).unwrap();
        let commit = transaction.commit(Durability::Sync).unwrap();
        let page = commit.page(page).unwrap();
        for round in 0..40 {
            write(&bus, page, round, &[round as u8; 200]);
        }
        write(&bus, page, 8, b"last");
        bus.close().unwrap();
        Self { directory, page }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self, args: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_mmsb"))
            .arg("log")
            .args(args)
            .current_dir(self.directory.path())
            .env_remove("CLICOLOR_FORCE")
            .output()
            .unwrap();
        Ran {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn copy(&self, to: &str) {
        std::fs::create_dir(self.path(to)).unwrap();
        for entry in std::fs::read_dir(self.path("data")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), self.path(to).join(entry.file_name())).unwrap();
        }
    }

    /// Flips a bit of the payload of transaction `lsn`.
    fn damage(&self, lsn: u64) {
        let from = lsn.to_string();
        let ran = self.log(&["dump", "data", "--from", &from, "--to", &from, "--json"]);
        let record = ran.json();
        let path = self.path("data").join(record["file"].as_str().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[record["runs"][0]["file_offset"].as_u64().unwrap() as usize] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_healthy_log_is_verified_and_counted() {
    let workspace = Workspace::new();
    let ran = workspace.log(&["verify", "data"]).expect(0);
    assert!(
        ran.stdout.ends_with("verdict: opens as of LSN 42\n"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("way out"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\x1b'), "colour in a pipe");
    let json = workspace
        .log(&["verify", "data", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        (&json["clean"], &json["verdict"]),
        (&true.into(), &"opens".into())
    );
    assert_eq!(json["durable_lsn"], 42);
    let stats = workspace.log(&["stats", "data", "--json"]).expect(0).json();
    assert_eq!(stats["transactions"], 42);
    assert_eq!(stats["payload_bytes"], 40 * 200 + 4);
    assert_eq!(stats["top_pages"][0]["page"], workspace.page.to_string());
    let text = workspace.log(&["stats", "data"]).expect(0).stdout;
    assert!(
        text.contains("LSN 1 to 42") && text.contains("128 B up"),
        "{text}"
    );
}

#[test]
fn a_dump_shows_what_is_asked_for() {
    let workspace = Workspace::new();
    let all = workspace.log(&["dump", "data"]).expect(0).stdout;
    assert!(all.starts_with("log-0000000000000001\n"), "{all}");
    assert!(all.contains("allocate 0.1 of 256 b, host\n"), "{all}");
    assert!(all.contains("close after LSN 42"), "{all}");
    let some = ["dump", "data", "--from", "42", "--to", "42", "--hex"];
    let some = workspace.log(&some).expect(0).stdout;
    let lines: Vec<&str> = some.lines().map(str::trim).collect();
    assert_eq!(lines[1], "write 0.1 8+4", "{some}");
    assert_eq!(lines[2], "00000008  6c617374", "{some}");
    let none = workspace.log(&["dump", "data", "--page", "7"]).expect(0);
    assert_eq!(none.stdout, "");
    let one = workspace
        .log(&["dump", "data", "--page", "0.1", "--json"])
        .expect(0);
    assert_eq!(one.stdout.lines().count(), 42);
    for line in one.stdout.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["kind"], "transaction");
    }
}

#[test]
fn damage_is_shown_and_what_can_be_saved_is() {
    let workspace = Workspace::new();
    workspace.damage(20);
    let ran = workspace.log(&["verify", "data"]).expect(1);
    assert!(
        ran.stdout.contains("LSN 20 is not intact"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .ends_with("way out: mmsb log salvage data data.salvaged\n"),
        "{}",
        ran.stdout
    );
    let json = workspace
        .log(&["verify", "data", "--json"])
        .expect(1)
        .json();
    assert_eq!(json["verdict"], "log.damaged");
    let dump = workspace.log(&["dump", "data"]).expect(1).stdout;
    assert!(
        dump.contains("no record") && dump.contains("LSN 21  durable 20  behind a gap"),
        "{dump}"
    );

    let ran = workspace
        .log(&["salvage", "data", "data.salvaged"])
        .expect(1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[0], "lost      LSN 20: no intact record is left",
        "{}",
        ran.stdout
    );
    assert!(
        lines[1].starts_with("lost      LSN 21 to 42: intact in log-"),
        "{}",
        ran.stdout
    );
    assert!(
        lines[2].starts_with("saved: data.salvaged holds the state as of LSN 19"),
        "{}",
        ran.stdout
    );
    workspace.log(&["verify", "data.salvaged"]).expect(0);
    let digest = lines[3].strip_prefix("digest: ").unwrap();
    let bus = bus(&workspace.path("data.salvaged"));
    assert_eq!(bus.digest().unwrap().to_string(), digest);
    bus.close().unwrap();
    // Never over something.
    let ran = workspace
        .log(&["salvage", "data", "data.salvaged"])
        .expect(2);
    assert!(ran.stderr.contains("is not empty"), "{}", ran.stderr);
    let again = workspace
        .log(&["salvage", "data.salvaged", "again", "--json"])
        .expect(0);
    assert_eq!(again.json()["losses"], Value::Array(Vec::new()));

    workspace.log(&["diff", "data", "data.salvaged"]).expect(1);
    let json = workspace
        .log(&["salvage", "data", "third", "--json"])
        .expect(1)
        .json();
    assert_eq!(
        (&json["last_lsn"], &json["losses"][1]["kind"]),
        (&19.into(), &"stranded".into())
    );
    assert_eq!(json["losses"][1]["pages"][0], "0.1");

    let blame = workspace.log(&["blame", "data", "0.1", "8"]).expect(1);
    assert!(
        blame.stdout.contains("the log breaks after LSN 19"),
        "{}",
        blame.stdout
    );
}

#[test]
fn blame_names_the_transaction_with_and_without_an_index() {
    let workspace = Workspace::new();
    let expected = "byte 8 of page 0.1 was written by LSN 42: record at offset ";
    let scanned = workspace
        .log(&["blame", "data", "0.1", "0x8"])
        .expect(0)
        .stdout;
    assert!(scanned.starts_with(expected), "{scanned}");
    let args = ["blame", "data", "0.1", "8", "--index"];
    assert_eq!(workspace.log(&args).expect(0).stdout, scanned);
    assert!(workspace.path("data.blame-index").exists());
    let second = workspace.log(&args).expect(0);
    assert_eq!((second.stdout, second.stderr), (scanned, String::new()));
    let unwritten = workspace
        .log(&["blame", "data", "0.1", "250", "--json"])
        .expect(0);
    assert_eq!(unwritten.json()["origin"], "never_written");
    // The log goes on: the index is made anew, and says so.
    let bus = bus(&workspace.path("data"));
    write(&bus, workspace.page, 8, b"more");
    bus.close().unwrap();
    let ran = workspace.log(&args).expect(0);
    assert!(ran.stdout.contains("LSN 43"), "{}", ran.stdout);
    assert!(ran.stderr.contains("anew"), "{}", ran.stderr);
    let ran = workspace
        .log(&["blame", "data", "9.1", "8", "--index=data.blame-index"])
        .expect(2);
    assert!(
        ran.stderr.contains("there is no page 9.1"),
        "{}",
        ran.stderr
    );
    let ran = workspace.log(&["blame", "data", "0.1", "256"]).expect(2);
    assert!(ran.stderr.contains("has 256 bytes"), "{}", ran.stderr);
}

#[test]
fn a_difference_is_told_in_plain_words() {
    let workspace = Workspace::new();
    workspace.copy("copy");
    let ran = workspace.log(&["diff", "data", "copy"]).expect(0);
    assert!(
        ran.stdout.ends_with("the same transactions\n"),
        "{}",
        ran.stdout
    );
    let go_on = |name: &str, bytes: &[u8]| {
        let bus = bus(&workspace.path(name));
        write(&bus, workspace.page, 100, bytes);
        bus.close().unwrap();
    };
    go_on("copy", b"two");
    let ran = workspace.log(&["diff", "data", "copy"]).expect(1);
    assert!(
        ran.stdout
            .ends_with("the same up to LSN 42; the right one goes on from there\n"),
        "{}",
        ran.stdout
    );
    go_on("data", b"tea");
    let ran = workspace.log(&["diff", "data", "copy"]).expect(1);
    let expected = "\
they part at LSN 43
first: byte 101 of page 0.1 is 0x65 ('e') in the left one, 0x77 ('w') in the right one
";
    assert!(ran.stdout.ends_with(expected), "{}", ran.stdout);
    let json = workspace
        .log(&["diff", "data", "copy", "--json"])
        .expect(1)
        .json();
    assert_eq!(
        (&json["relation"], &json["first_state"]),
        (&"diverged".into(), &43.into())
    );
    assert_eq!(
        (&json["offset"], &json["left_byte"]),
        (&101.into(), &b'e'.into())
    );
}

#[test]
fn what_cannot_be_read_is_a_usage_error_and_changes_nothing() {
    let workspace = Workspace::new();
    for args in [
        &["verify", "nowhere"][..],
        &["dump", "nowhere"],
        &["stats", "nowhere"],
        &["diff", "data", "nowhere"],
        &["blame", "nowhere", "0.1", "0"],
        &["blame", "data", "0", "0"],
        &["salvage", "nowhere", "target"],
    ] {
        let ran = workspace.log(args).expect(2);
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    assert!(!workspace.path("nowhere").exists() && !workspace.path("target").exists());
    std::fs::create_dir(workspace.path("empty")).unwrap();
    let ran = workspace.log(&["verify", "empty"]).expect(0);
    assert_eq!(
        ran.stdout,
        "verdict: there is no log; opening creates one\n"
    );
    let ran = workspace.log(&["salvage", "empty", "target"]).expect(2);
    assert!(ran.stderr.contains("nothing to salvage"), "{}", ran.stderr);
}
