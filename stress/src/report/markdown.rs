//! A summary for the page of a CI run.

use std::fmt::Write as _;
use std::path::Path;

use super::summary::{leak, rate};
use crate::run::{State, Verdict};

/// The report of a state that is kept in this directory.
#[must_use]
pub fn markdown(state: &State, directory: &Path) -> String {
    let word = match state.verdict() {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::NothingRan => "NOTHING RAN",
    };
    let mut out = format!(
        "## Stress: {word}\n\n{} scenarios, {} steps in {:.0} s ({:.0} steps/s), seeds from `{}`, shard {}.\n\n",
        state.scenarios(),
        state.steps(),
        state.elapsed_s,
        rate(state),
        state.seed_from,
        state.shard
    );
    out.push_str("| campaign | scenarios | steps | commits | kills | canaries |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
    for (campaign, of) in &state.campaigns {
        let _ = writeln!(
            out,
            "| {campaign} | {} | {} | {} | {} | {} |",
            of.scenarios, of.steps, of.commits, of.kills, of.canaries
        );
    }
    let _ = writeln!(out, "\nWorkers' memory: {}.", leak(state.worker_leak()));
    for (campaign, seed) in &state.silent {
        let _ = writeln!(
            out,
            "\n**The canary of {campaign}, seed {seed}, did not fail.**"
        );
    }
    for finding in &state.findings {
        let _ = writeln!(
            out,
            "\n### {}\n\n{} times; {} steps of {}. To see it again: `{}`\n\n```yaml\n{}```",
            finding.signature,
            finding.count,
            finding.steps_after,
            finding.steps_before,
            finding.command(directory),
            finding.scenario
        );
    }
    out
}
