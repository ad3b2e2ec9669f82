//! The runner, on workers that behave as badly as a test wants.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mmsb_harness::scenario::parse_file;
use mmsb_harness::world::Budget;
use mmsb_stress::campaign::Campaign;
use mmsb_stress::report;
use mmsb_stress::run::{self, Options, Reproduction, State, Verdict};

const PASSED: &str = r#"{"done":{"workload":"w","failure":null,"steps":3,"commits":1,"written_bytes":0,"kills":0,"coverage":{},"scenario":null}}"#;
const FAILED: &str = r#"{"done":{"workload":"w","failure":{"signature":{"kind":"failure","invariant":"it <broke>","place":"checkpoint"},"message":"it <broke>"},"steps":3,"commits":1,"written_bytes":0,"kills":0,"coverage":{},"scenario":null}}"#;

fn worker(directory: &Path, body: &str) -> PathBuf {
    let path = directory.join("worker");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn options(directory: &Path, body: &str) -> Options {
    let mut options = Options::new(directory.join("run"), worker(directory, body));
    options.duration = Duration::from_secs(60);
    options.campaigns = vec![Campaign::Sim];
    options.jobs = 1;
    options.canary_every = 0;
    options.max_findings = 1;
    options.scenario_timeout = Duration::from_secs(1);
    options.budget = Budget {
        tries: 400,
        duration: Duration::from_secs(30),
    };
    options
}

fn run_it(options: &Options) -> State {
    run::run(options, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

#[test]
fn a_canary_that_does_not_fail_fails_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let body = format!("while read -r line; do echo '{PASSED}'; done");
    let mut options = options(directory.path(), &body);
    options.canary_every = 1;
    options.max_scenarios = Some(3);
    let state = run_it(&options);
    assert_eq!(state.verdict(), Verdict::Failed);
    assert!(state.silent.len() >= 3);
    assert!(report::html(&state, directory.path()).contains("did not fail"));
}

#[test]
fn a_scenario_that_hangs_is_a_finding_and_its_worker_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), "while read -r line; do sleep 1000; done");
    options.budget.tries = 2;
    let state = run_it(&options);
    let finding = &state.findings[0];
    assert_eq!(finding.signature.kind, "hang");
    assert_eq!(finding.reproduction, Reproduction::Verified);
    assert!(
        finding.command(&options.out).contains("repro"),
        "{}",
        finding.command(&options.out)
    );
    assert_eq!(state.verdict(), Verdict::Failed);
}

#[test]
fn a_scenario_that_its_worker_dies_of_is_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), "read -r line; kill -11 $$");
    options.budget.tries = 5;
    let state = run_it(&options);
    let finding = &state.findings[0];
    assert_eq!(finding.signature.kind, "died");
    assert!(
        finding.message.contains("signal: 11"),
        "{}",
        finding.message
    );
}

#[test]
fn what_fails_is_made_small_written_once_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    // It fails whenever there is a checkpoint, as a seed or as a candidate.
    let body = format!(
        "while read -r line; do case \"$line\" in *'\"scenario\":null'*|*'- checkpoint'*) echo '{FAILED}';; *) echo '{PASSED}';; esac; done"
    );
    let mut options = options(directory.path(), &body);
    options.max_findings = 2;
    options.max_scenarios = Some(40);
    options.seed_from = "text".to_owned();
    let state = run_it(&options);
    assert_eq!(state.findings.len(), 1);
    let finding = &state.findings[0];
    assert!(finding.count > 1, "{finding:?}");
    if finding.reproduction == Reproduction::Never {
        // The first seed had no checkpoint, so no candidate fails: the scenario is kept as it was.
        assert_eq!(finding.steps_before, finding.steps_after);
    } else {
        assert_eq!(finding.reproduction, Reproduction::Verified);
        // A check is needed; and a checkpoint alone in its list is printed without the dash that this worker looks for.
        assert!(finding.steps_after <= 3, "{}", finding.scenario);
        assert!(finding.steps_before > finding.steps_after);
    }
    let path = options.out.join(&finding.file);
    let read = parse_file(&path).unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert!(!read.steps.is_empty());
    assert!(
        finding
            .scenario
            .contains("# Found by mmsb-stress: campaign sim")
    );
    // What failures say is no markup.
    report::write(&state, &options.out).unwrap();
    let html = fs::read_to_string(options.out.join("report.html")).unwrap();
    assert!(html.contains("it &lt;broke&gt;") && !html.contains("<broke>"));
    let junit = fs::read_to_string(options.out.join("junit.xml")).unwrap();
    let junit = roxmltree::Document::parse(&junit).unwrap();
    let failures = junit
        .descendants()
        .filter(|node| node.has_tag_name("failure"));
    assert_eq!(failures.count(), 1);
}

#[test]
fn a_worker_that_talks_nonsense_ends_the_run_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(
        directory.path(),
        "while read -r line; do echo nonsense; done",
    );
    let result = run::run(&options, &AtomicBool::new(false), &mut |_| {});
    let error = result.unwrap_err().to_string();
    assert!(error.contains("nonsense"), "{error}");
}

#[test]
fn a_finding_that_is_not_settled_is_found_again_by_a_run_that_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    // What is found takes long to be made small.
    let body = format!(
        "while read -r line; do case \"$line\" in *'\"scenario\":null'*) echo '{FAILED}';; *) sleep 5; echo '{PASSED}';; esac; done"
    );
    let mut options = options(directory.path(), &body);
    options.scenario_timeout = Duration::from_secs(30);
    let stop = AtomicBool::new(false);
    let (mut kept, mut minimised) = (None, false);
    let start = std::time::Instant::now();
    let state = run::run(&options, &stop, &mut |now| {
        minimised |= now.minimising;
        if now.minimising && start.elapsed() > Duration::from_secs(6) {
            kept.get_or_insert_with(|| State::load(&options.out).unwrap());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        assert!(start.elapsed() < Duration::from_secs(60));
    });
    assert!(minimised);
    // As a run finds it that goes on after this one was killed.
    let kept = kept.expect("it was still being made small");
    let of = &kept.campaigns[&Campaign::Sim];
    assert_eq!((of.scenarios, of.again.as_slice()), (0, &[0][..]));
    // The run itself ended in order, and lost nothing.
    let state = state.unwrap();
    assert_eq!((state.scenarios(), state.findings.len()), (1, 1));
}

#[test]
fn a_scenario_that_goes_on_is_waited_for_and_one_that_is_busy_too_but_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    // Three times as long as the timeout, with a beat now and then.
    let body = format!(
        "while read -r line; do for i in 1 2 3 4 5 6; do sleep 0.5; echo '{{\"alive\":'$i'}}'; done; echo '{PASSED}'; done"
    );
    let mut options = options(directory.path(), &body);
    options.max_scenarios = Some(1);
    let state = run_it(&options);
    assert_eq!(
        (state.findings.len(), state.verdict()),
        (0, Verdict::Passed)
    );
    for body in [
        // It says that it goes on, and comes to no end.
        "read -r line; i=0; while :; do sleep 0.05; i=$((i+1)); echo '{\"alive\":'$i'}'; done",
        // It says nothing, and is busy all the time.
        "read -r line; while :; do :; done",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = self::options(directory.path(), body);
        options.scenario_timeout = Duration::from_millis(200);
        options.budget.tries = 0;
        let start = std::time::Instant::now();
        let state = run_it(&options);
        assert_eq!(state.findings[0].signature.kind, "hang", "{body}");
        assert!(start.elapsed() > Duration::from_millis(1200), "{body}");
    }
}
