//! Storms forgive what their faults explain, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use mmsb_harness::scenario::{Cell, ErrorKind, parse_str};
use mmsb_harness::world::{self, Context, Failure};

fn failure(steps: &str) -> Option<Failure> {
    let text = format!("version: 1\npages: {{a: 64}}\nsteps:\n{steps}  - expect: {{pages: 1}}\n");
    let scenario = parse_str("test", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
    world::run(&scenario, &Cell::default(), &Context::default())
        .failure()
        .cloned()
}

const WRITE: &str = "{write: {page: a, text: x}}, commit";

#[test]
fn an_error_that_a_fault_explains_ends_the_storm_and_no_more() {
    let steps = format!(
        "  - storm: {{faults: [{{on: log.sync, nth: 2, kind: failed}}], steps: [{WRITE}, {WRITE}, {{expect: {{page: a, text: never}}}}]}}\n"
    );
    assert_eq!(failure(&steps), None);
}

#[test]
fn an_error_that_no_fault_explains_is_a_failure() {
    let steps = "  - storm: {faults: [{on: log.sync, nth: 90, kind: failed}], steps: [{reopen: {arena: 1}}]}\n";
    let failure = failure(steps).unwrap();
    assert_eq!(failure.error, Some(ErrorKind::BusBadOptions), "{failure}");
}

#[test]
fn a_wrong_expectation_is_no_error_of_the_storage() {
    let steps = "  - storm: {faults: [{on: log.sync, kind: interrupted}], steps: [{write: {page: a, text: x}}, commit, {expect: {page: a, text: y}}]}\n";
    let steps = steps.replace(
        "log.sync, kind: interrupted",
        "log.write, kind: interrupted",
    );
    let failure = failure(&steps).unwrap();
    assert!(failure.path.contains("storm"), "{failure}");
}

#[test]
fn after_a_storm_names_are_what_they_were_if_its_commits_are_gone() {
    let steps = format!(
        "  - storm: {{faults: [{{on: log.sync, kind: failed-lost}}], steps: [{{allocate: {{page: b, size: 8}}}}, {{free: a}}, commit]}}\n  - write: {{page: a, text: still}}\n  - commit\n  - storm: {{faults: [{{on: log.sync, nth: 99, kind: failed}}], then: process, steps: [{WRITE}]}}\n  - replay\n"
    );
    assert_eq!(failure(&steps), None);
}

#[test]
fn drawn_crashes_leave_what_is_acknowledged() {
    for seed in 0..50 {
        let steps = format!(
            "  - write: {{page: a, text: kept}}\n  - commit: sync\n  - repeat: {{times: 5, as: i, steps: [{{write: {{page: a, at: 8, u8: [1, 2, 3]}}}}, commit: buffered]}}\n  - crash: {{seed: {seed}}}\n  - open\n  - expect: {{page: a, text: kept}}\n  - write: {{page: a, text: on}}\n  - commit\n  - crash\n  - open\n  - expect: {{page: a, text: on}}\n"
        );
        assert_eq!(failure(&steps), None, "seed {seed}");
    }
}
