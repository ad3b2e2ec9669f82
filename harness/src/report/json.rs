//! A run as JSON.
//!
//! ```json
//! {
//!   "format": "mmsb-run",
//!   "version": 1,
//!   "summary": {
//!     "passed": 2, "failed": 1, "skipped": 1, "steps": 40, "checks": 12, "duration_us": 5210
//!   },
//!   "tests": [
//!     {
//!       "name": "delta/sparse[threads=2]", "folder": "delta", "file": "scenarios/delta/sparse.yaml",
//!       "verdict": "failed", "steps": 3, "checks": 1, "duration_us": 410,
//!       "problems": [
//!         { "line": 7, "column": 5, "step": "steps[2].expect", "message": "…", "details": "…" }
//!       ]
//!     }
//!   ]
//! }
//! ```
//!
//! `verdict` is one of `passed`, `failed`, `invalid` (the file is no scenario; counted as failed) and
//! `skipped`, which has a `reason`. `line` and `column` start at 1 and are left out where unknown, as
//! are empty `step` and `details`. Keys may be added without a new version; none changes its
//! meaning or goes away without one. Tests are in order of name.

use serde::Serialize;

use super::results::{Problem, Run, TestResult, Verdict};
use crate::world::Coverage;

/// The version of the format.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    version: u32,
    summary: Summary,
    tests: Vec<Test<'a>>,
}

#[derive(Serialize)]
struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
    steps: u64,
    checks: u64,
    duration_us: u128,
}

#[derive(Serialize)]
struct Test<'a> {
    name: &'a str,
    folder: &'a str,
    file: &'a str,
    verdict: &'static str,
    steps: u64,
    checks: u64,
    duration_us: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crashes: Option<Crashes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Place<'a>>,
}

/// How much of what crashes can leave was tried.
#[derive(Serialize)]
struct Crashes {
    moments: u64,
    windows: u64,
    covered: u64,
    again: u64,
    again_covered: u64,
    recoveries: u64,
}

impl Crashes {
    fn of(coverage: &Coverage) -> Option<Self> {
        (coverage.moments > 0).then_some(Self {
            moments: coverage.moments,
            windows: coverage.windows,
            covered: coverage.covered,
            again: coverage.again,
            again_covered: coverage.again_covered,
            recoveries: coverage.recoveries,
        })
    }
}

#[derive(Serialize)]
struct Place<'a> {
    #[serde(skip_serializing_if = "is_unknown")]
    line: u32,
    #[serde(skip_serializing_if = "is_unknown")]
    column: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    step: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_unknown(position: &u32) -> bool {
    *position == 0
}

/// Writes a run as indented JSON with a line break at its end.
#[must_use]
pub fn to_json(run: &Run) -> String {
    let totals = run.totals();
    let report = Report {
        format: "mmsb-run",
        version: VERSION,
        summary: Summary {
            passed: totals.passed,
            failed: totals.failed,
            skipped: totals.skipped,
            steps: totals.steps,
            checks: totals.checks,
            duration_us: run.duration.as_micros(),
        },
        tests: run.results.iter().map(test).collect(),
    };
    // Strings, numbers and lists cannot fail to serialise.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}

fn test(result: &TestResult) -> Test<'_> {
    let (verdict, reason) = match &result.verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Failed(_) => ("failed", None),
        Verdict::Invalid(_) => ("invalid", None),
        Verdict::Skipped(reason) => ("skipped", Some(reason.as_str())),
    };
    Test {
        name: &result.name,
        folder: result.folder(),
        file: &result.file,
        verdict,
        steps: result.steps,
        checks: result.checks,
        duration_us: result.duration.as_micros(),
        reason,
        crashes: Crashes::of(&result.coverage),
        problems: result.problems().iter().map(place).collect(),
    }
}

fn place(problem: &Problem) -> Place<'_> {
    let Problem {
        line,
        column,
        step,
        message,
        details,
    } = problem;
    Place {
        line: *line,
        column: *column,
        step,
        message,
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::examples;
    use super::*;

    #[test]
    fn every_verdict_is_told() {
        let value: serde_json::Value = serde_json::from_str(&to_json(&examples::run())).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["summary"]["failed"], 2);
        assert_eq!(value["summary"]["duration_us"], 45_000);
        let verdicts: Vec<_> = value["tests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|test| &test["verdict"])
            .collect();
        assert_eq!(
            verdicts,
            ["passed", "passed", "failed", "skipped", "invalid"]
        );
        assert_eq!(value["tests"][2]["problems"][0]["line"], 4);
        assert_eq!(value["tests"][3]["reason"], "needs a GPU");
        assert!(value["tests"][4]["problems"][1].get("line").is_none());
        assert!(value["tests"][0].get("problems").is_none());
    }
}
