//! A run that is killed and goes on: no seed is lost, and none is counted twice.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mmsb_stress::campaign::{Campaign, Coverage, Environment, Job, execute};
use mmsb_stress::run::{self, State};

const TEXT: &str = "killed";
const CAMPAIGNS: [Campaign; 2] = [Campaign::Sim, Campaign::Replay];
const CANARY_EVERY: u64 = 20;

fn stress(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmsb-stress"));
    command
        .args(["run", "--campaign", "sim,replay", "--for", "1h"])
        .args(["--canary-every", &CANARY_EVERY.to_string(), "--jobs", "2"])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Scenarios that the kept state has, and those that it knows to be under way; 0 where there is none.
fn kept(out: &Path) -> (u64, usize) {
    let Ok(text) = fs::read_to_string(out.join("state.json")) else {
        return (0, 0);
    };
    // It is replaced in one step, so what is there is whole.
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let campaigns = state["campaigns"].as_object().unwrap().values();
    campaigns.fold((0, 0), |(scenarios, pending), of| {
        (
            scenarios + of["scenarios"].as_u64().unwrap(),
            pending + of["pending"].as_array().unwrap().len(),
        )
    })
}

/// Runs until something was kept, goes on for a moment, and is killed.
fn run_and_kill(args: &[&str], out: &Path) {
    let (before, _) = kept(out);
    let mut child = stress(args).spawn().unwrap();
    let start = Instant::now();
    while kept(out).0 <= before {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "nothing was kept"
        );
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    // So that it has done what is not kept yet.
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_that_is_killed_loses_no_seed_and_counts_none_twice() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let at = out.to_str().unwrap();
    run_and_kill(&["--out", at, "--seed-from", TEXT], &out);
    assert!(kept(&out).1 > 0, "nothing was under way when it was kept");
    // What a worker that is gone has left.
    fs::create_dir_all(out.join("work/0/bus-left")).unwrap();
    run_and_kill(&["--resume", at], &out);
    let more = (kept(&out).0 + 20).to_string();
    let status = stress(&["--resume", at, "--scenarios", &more]).status();
    assert_eq!(status.unwrap().code(), Some(0));
    assert!(!out.join("work/0/bus-left").exists());

    let state = State::load(&out).unwrap();
    let (mut coverage, mut workloads) = (Coverage::default(), BTreeMap::<String, u64>::new());
    for campaign in CAMPAIGNS {
        let of = &state.campaigns[&campaign];
        // Whatever was given out is counted, or under way when the last part ended, and comes first in the next.
        assert_eq!(of.scenarios + of.again.len() as u64, of.next, "{campaign}");
        assert_eq!(of.latency.total(), of.scenarios, "{campaign}");
        // What all of them come to, each done once.
        let (mut steps, mut commits, mut written_bytes, mut canaries) = (0, 0, 0, 0);
        for number in (0..of.next).filter(|number| !of.again.contains(number)) {
            let seed = run::seed(TEXT, campaign, number);
            let canary = seed.is_multiple_of(CANARY_EVERY);
            let job = Job {
                campaign,
                seed,
                canary,
            };
            let done = execute(&job, &Environment::default()).unwrap();
            steps += done.steps;
            commits += done.commits;
            written_bytes += done.written_bytes;
            canaries += u64::from(canary);
            coverage.add(&done.coverage);
            *workloads.entry(done.workload).or_default() += 1;
        }
        let sums = (of.steps, of.commits, of.written_bytes, of.canaries);
        assert_eq!(
            sums,
            (steps, commits, written_bytes, canaries),
            "{campaign}"
        );
    }
    assert_eq!(state.coverage, coverage);
    assert_eq!(state.workloads, workloads);
}
