//! The scenario that the README shows passes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use mmsb_harness::scenario::{matrix, parse_str};
use mmsb_harness::world::{self, Context, Verdict};

#[test]
fn the_scenario_of_the_readme_passes() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let scenario = match parse_str("README.md", text) {
        Ok(scenario) => scenario,
        Err(mistakes) => panic!("{}", mistakes.first().unwrap()),
    };
    let cells = matrix::expand(&scenario).unwrap();
    assert_eq!(cells.len(), 2);
    for cell in &cells {
        let outcome = world::run(&scenario, cell, &Context::default());
        match outcome.verdict {
            Verdict::Passed => assert!(outcome.checks > 0),
            Verdict::Failed(failure) => panic!("{}: {failure}", cell.name),
        }
    }
}
