//! The command as it is used.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

fn stress() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mmsb-stress"))
}

fn run(args: &[&str]) -> Output {
    stress().args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_short_run_passes_and_reports_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let at = out.to_str().unwrap();
    let output = run(&[
        "run",
        "--for",
        "60s",
        "--scenarios",
        "60",
        "--campaign",
        "sim,replay,twice,threads",
        "--canary-every",
        "5",
        "--out",
        at,
        "--jobs",
        "2",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = json(&out.join("report.json"));
    assert_eq!(report["verdict"], "passed");
    assert!(report["scenarios"].as_u64().unwrap() >= 60);
    assert!(report["canaries"].as_u64().unwrap() > 2, "{report}");
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("PASSED") && html.contains("id=\"coverage\""));
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "it needs the network"
    );
    let junit = fs::read_to_string(out.join("junit.xml")).unwrap();
    let junit = roxmltree::Document::parse(&junit).unwrap();
    let suite = junit
        .descendants()
        .find(|node| node.has_tag_name("testsuite"))
        .unwrap();
    assert_eq!(suite.attribute("failures"), Some("0"));
    assert!(
        fs::read_to_string(out.join("report.md"))
            .unwrap()
            .contains("Stress: passed")
    );
    // Nothing of what ran is left.
    for worker in fs::read_dir(out.join("work")).unwrap() {
        assert_eq!(fs::read_dir(worker.unwrap().path()).unwrap().count(), 0);
    }
    // Another run does not write over it.
    let again = run(&["run", "--for", "1s", "--out", at]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again));
    assert!(text(&again).contains("--resume"));
}

#[test]
fn a_run_that_is_stopped_ends_in_order_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let at = out.to_str().unwrap();
    let child = stress()
        .args(["run", "--for", "1h", "--campaign", "sim", "--out", at])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !out.join("state.json").exists() || start.elapsed() < Duration::from_secs(1) {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("--resume"), "{}", text(&output));
    let before = json(&out.join("report.json"));
    assert_eq!(before["finished"], false);
    let scenarios = before["scenarios"].as_u64().unwrap();
    let more = (scenarios + 5).to_string();
    let output = run(&[
        "run",
        "--resume",
        at,
        "--for",
        "1h",
        "--campaign",
        "sim",
        "--scenarios",
        &more,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let after = json(&out.join("report.json"));
    assert!(after["scenarios"].as_u64().unwrap() >= scenarios + 5);
    assert_eq!(after["finished"], true);
}

#[test]
fn kills_find_nothing_and_their_canaries_fail() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let output = run(&[
        "run",
        "--for",
        "120s",
        "--scenarios",
        "3",
        "--campaign",
        "kill",
        "--canary-every",
        "2",
        "--out",
        out.to_str().unwrap(),
        "--jobs",
        "2",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = json(&out.join("report.json"));
    assert!(
        report["campaigns"]["kill"]["kills"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn a_scenario_that_fails_is_reproduced_as_a_campaign() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("canary.yaml");
    let shown = run(&["show", "--campaign", "sim", "--seed", "5", "--canary"]);
    fs::write(&file, &shown.stdout).unwrap();
    for campaign in ["sim", "twice"] {
        let output = run(&["repro", file.to_str().unwrap(), "--campaign", campaign]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("canary"), "{}", text(&output));
    }
    let fine = run(&["show", "--campaign", "sim", "--seed", "5"]);
    fs::write(&file, &fine.stdout).unwrap();
    let output = run(&["repro", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn what_is_asked_wrongly_is_refused_with_a_way_out() {
    for args in [
        &["run", "--campaign", "simm"][..],
        &["run", "--shard", "5/4"],
        &["run", "--for", "8"],
        &["run", "--resume", "/nowhere"],
        &["prove"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
    }
    assert!(text(&run(&["prove"])).contains("ci/prove"));
}
