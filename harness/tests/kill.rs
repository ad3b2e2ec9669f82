//! `mmsb kill`: what a killed process leaves on real files is what it acknowledged, and a directory of which that is not true
//! is found out.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail like the test itself"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mmsb_harness::kill::Bounds;
use serde_json::Value;

const SCENARIO: &str = "scenarios/kill/steady-writers.yaml";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn kill(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmsb"))
        .current_dir(root())
        .args(["kill", SCENARIO, "--json", "--dir"])
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// What the campaign expects at the next open.
fn bounds(directory: &Path) -> Bounds {
    let text = fs::read_to_string(directory.join("campaign.json")).unwrap();
    let notes: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(notes["bounds"].clone()).unwrap()
}

fn set_bounds(directory: &Path, bounds: Bounds) {
    let path = directory.join("campaign.json");
    let mut notes: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    notes["bounds"] = serde_json::to_value(bounds).unwrap();
    fs::write(path, notes.to_string()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A directory on which processes were killed until it holds some commits.
fn killed(directory: &Path) -> u64 {
    for _ in 0..50 {
        let output = kill(directory, &["--rounds", "5", "--set", "rounds=1000000"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let lsn = report(&output)["last_lsn"].as_u64().unwrap();
        if lsn > 100 {
            return lsn;
        }
    }
    unreachable!("no process lived long enough to commit")
}

/// Verifies a copy after something was done to it. What is wrong is said again the second time.
fn verdict_after(original: &Path, tamper: impl FnOnce(&Path)) -> Option<String> {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("campaign");
    copy(original, &directory);
    tamper(&directory);
    let verify = || {
        let output = kill(&directory, &["--rounds", "0", "--set", "rounds=1000000"]);
        let report = report(&output);
        let finding = report["finding"]["message"].as_str().map(str::to_owned);
        assert_eq!(output.status.code(), Some(i32::from(finding.is_some())));
        if finding.is_some() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(stderr.contains("--rounds 0"), "{stderr}");
        }
        finding
    };
    let first = verify();
    assert_eq!(first, verify());
    first
}

/// The newest segment of the log.
fn newest_segment(directory: &Path) -> PathBuf {
    let names = fs::read_dir(directory.join("bus")).unwrap();
    let names = names.map(|entry| entry.unwrap().path());
    names
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("log-")
        })
        .max()
        .unwrap()
}

#[test]
fn killed_processes_leave_what_they_acknowledged_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("campaign");
    let output = kill(&directory, &["--for", "8s", "--set", "rounds=1000000"]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let while_writing =
        ["committing", "checkpointing"].map(|phase| report["kills"][phase].as_u64());
    assert!(
        while_writing.into_iter().flatten().sum::<u64>() > 0,
        "{report:#}"
    );
    assert!(report["verified_opens"].as_u64().unwrap() > 1, "{report:#}");
    assert!(
        report["commits"]["buffered"].as_u64().unwrap() > 0,
        "{report:#}"
    );
}

#[test]
fn a_finished_scenario_is_verified_and_begun_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let output = kill(
        &scratch.path().join("campaign"),
        &["--rounds", "40", "--set", "rounds=1"],
    );
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert!(
        report["finished_directories"].as_u64().unwrap() > 0,
        "{report:#}"
    );
}

#[test]
fn what_is_wrong_with_a_directory_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("campaign");
    let lsn = killed(&directory);
    let known = bounds(&directory);
    assert_eq!(verdict_after(&directory, |_| {}), None);
    let too_few = verdict_after(&directory, |directory| {
        set_bounds(
            directory,
            Bounds {
                at_least: lsn + 9,
                at_most: None,
            },
        );
    });
    assert!(
        too_few
            .unwrap()
            .contains(&format!("up to LSN {} was acknowledged", lsn + 9))
    );
    let too_many = verdict_after(&directory, |directory| {
        set_bounds(
            directory,
            Bounds {
                at_least: 0,
                at_most: Some(lsn - 1),
            },
        );
    });
    assert!(too_many.unwrap().contains("was ever begun"));
    // Everything in the newest segment is gone: what was acknowledged is missing, or was known to be durable.
    let emptied = verdict_after(&directory, |directory| {
        let path = newest_segment(directory);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..].fill(0);
        fs::write(path, bytes).unwrap();
        set_bounds(
            directory,
            Bounds {
                at_least: known.at_least + 1,
                ..known
            },
        );
    });
    assert!(emptied.is_some());
    // A checkpoint that is damaged is no loss: there is another one, and the log.
    let newest = |directory: &Path| {
        let names = fs::read_dir(directory.join("bus")).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        let images = names.filter(|path| path.to_string_lossy().contains("checkpoint-"));
        images.max()
    };
    if let Some(path) = newest(&directory) {
        let name = path.file_name().unwrap().to_owned();
        let damaged = verdict_after(&directory, |directory| {
            fs::write(directory.join("bus").join(name), "no checkpoint").unwrap();
        });
        assert_eq!(damaged, None);
    }
}

#[test]
fn what_cannot_be_carried_out_is_refused_before_anything_is_started() {
    let scratch = tempfile::tempdir().unwrap();
    let mmsb = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mmsb"))
            .current_dir(root())
            .args(["kill", "--dir"])
            .arg(scratch.path().join("campaign"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let crashing = mmsb(&["scenarios/recovery/process-death-keeps-buffered.yaml"]);
    assert!(
        crashing.contains("`crash`") && crashing.contains("line "),
        "{crashing}"
    );
    assert!(mmsb(&[SCENARIO, "--set", "turns=5"]).contains("no variable `turns`"));
    assert!(mmsb(&[SCENARIO, "--set", "rounds"]).contains("NAME=NUMBER"));
    assert!(mmsb(&[SCENARIO, "--for", "5"]).contains("30s, 5m or 8h"));
    assert!(mmsb(&["scenarios/replay/to-lsn.yaml", "--cell", "nonsense"]).contains("no such cell"));
    fs::create_dir_all(scratch.path().join("campaign/letters")).unwrap();
    assert!(mmsb(&[SCENARIO]).contains("holds no campaign"));
}
