//! The results of a run.

use std::time::Duration;

use crate::world::Coverage;

/// A run: the result of every test, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The results.
    pub results: Vec<TestResult>,
    /// How long the whole run took by the clock.
    pub duration: Duration,
}

/// The result of one test: one scenario in one cell of its matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// The name of the test, such as `delta/sparse[threads=2]`.
    pub name: String,
    /// The scenario file, as it was found.
    pub file: String,
    /// What became of it.
    pub verdict: Verdict,
    /// How long it took by the clock; zero if it was skipped.
    pub duration: Duration,
    /// Steps that were executed.
    pub steps: u64,
    /// Checks that were executed.
    pub checks: u64,
    /// What crashes at each moment came to.
    pub coverage: Coverage,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every check held, and there was at least one.
    Passed,
    /// A check did not hold, or a step failed.
    Failed(Problem),
    /// The file is no scenario: one problem for each thing that is wrong with it.
    Invalid(Vec<Problem>),
    /// It was not run, for this reason.
    Skipped(String),
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// Line in the file, starting at 1, or 0 for the file as a whole.
    pub line: u32,
    /// Column in the file, starting at 1, or 0 for the file as a whole.
    pub column: u32,
    /// The step, such as `steps[3].repeat[7].steps[0].write`; empty if it is about no step.
    pub step: String,
    /// What is wrong, on one line.
    pub message: String,
    /// More to look at, such as the differing bytes; empty if there is none.
    pub details: String,
}

/// How many tests came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and files that are no scenarios.
    pub failed: u64,
    /// Of those that failed, the files that are no scenarios.
    pub invalid: u64,
    /// Tests that were not run.
    pub skipped: u64,
    /// Steps that were executed.
    pub steps: u64,
    /// Checks that were executed.
    pub checks: u64,
    /// The times of the tests together, which is more than the run took if some ran side by side.
    pub duration: Duration,
}

impl Totals {
    /// Adds one result.
    pub fn add(&mut self, result: &TestResult) {
        match &result.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Invalid(_) => {
                self.failed += 1;
                self.invalid += 1;
            }
            Verdict::Skipped(_) => self.skipped += 1,
        }
        self.steps = self.steps.saturating_add(result.steps);
        self.checks = self.checks.saturating_add(result.checks);
        self.duration = self.duration.saturating_add(result.duration);
    }

    /// Counts some results.
    pub fn of<'a>(results: impl IntoIterator<Item = &'a TestResult>) -> Self {
        let mut totals = Self::default();
        results.into_iter().for_each(|result| totals.add(result));
        totals
    }

    /// How many tests there are.
    #[must_use]
    pub fn tests(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

impl Run {
    /// The counts of the whole run.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::of(&self.results)
    }

    /// The results by folder, folders in the order of their first test.
    #[must_use]
    pub fn folders(&self) -> Vec<(&str, Vec<&TestResult>)> {
        let mut folders: Vec<(&str, Vec<&TestResult>)> = Vec::new();
        for result in &self.results {
            // Results are in order of name, but `a/b` may stand between two tests of folder `a`.
            match folders
                .iter_mut()
                .find(|(folder, _)| *folder == result.folder())
            {
                Some((_, results)) => results.push(result),
                None => folders.push((result.folder(), vec![result])),
            }
        }
        folders
    }
}

impl Run {
    /// What crashes at each moment came to, over all tests.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for result in &self.results {
            coverage.add(&result.coverage);
        }
        coverage
    }
}

impl TestResult {
    /// The folder part of the name, or `.` for a test at the top.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.split().map_or(".", |(folder, _)| folder)
    }

    /// The name without the folder.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.split().map_or(&self.name, |(_, name)| name)
    }

    /// Splits at the last slash before the cell, whose values may hold slashes.
    fn split(&self) -> Option<(&str, &str)> {
        let end = self.name.find('[').unwrap_or(self.name.len());
        let slash = self.name.get(..end)?.rfind('/')?;
        Some((self.name.get(..slash)?, self.name.get(slash + 1..)?))
    }

    /// What is wrong with the test; nothing if it passed or was skipped.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match &self.verdict {
            Verdict::Failed(problem) => std::slice::from_ref(problem),
            Verdict::Invalid(problems) => problems,
            Verdict::Passed | Verdict::Skipped(_) => &[],
        }
    }

    /// A problem with its place, as an editor understands it: `file:line:column: message`, the step
    /// and the details on lines of their own.
    #[must_use]
    pub fn describe(&self, problem: &Problem) -> String {
        let mut text = self.file.clone();
        if problem.line > 0 {
            text.push_str(&format!(":{}:{}", problem.line, problem.column));
        }
        text.push_str(": ");
        text.push_str(&problem.message);
        if !problem.step.is_empty() {
            text.push_str("\n  at ");
            text.push_str(&problem.step);
        }
        if !problem.details.is_empty() {
            text.push('\n');
            text.push_str(problem.details.trim_end_matches('\n'));
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    pub(crate) fn result(name: &str, verdict: Verdict, milliseconds: u64) -> TestResult {
        let file = format!("scenarios/{}.yaml", name.split('[').next().unwrap());
        let duration = Duration::from_millis(milliseconds);
        TestResult {
            name: name.to_owned(),
            file,
            verdict,
            duration,
            steps: 3,
            checks: 2,
            coverage: Coverage::default(),
        }
    }

    pub(crate) fn run() -> Run {
        let difference = Problem {
            line: 4,
            column: 5,
            step: "steps[1].expect".to_owned(),
            message: "page `a` is \"<not>\" what & 'it' should be \u{1b}\u{0}".to_owned(),
            details: "  expected 00000000  01\n  found    00000000  02".to_owned(),
        };
        let missing = Problem {
            message: "`version` is missing".to_owned(),
            ..Problem::default()
        };
        Run {
            results: vec![
                result("a/passes", Verdict::Passed, 10),
                result("a/passes[size=1/2]", Verdict::Passed, 30),
                result("a/sub/fails", Verdict::Failed(difference), 20),
                result("a/z", Verdict::Skipped("needs a GPU".to_owned()), 0),
                result("b", Verdict::Invalid(vec![missing.clone(), missing]), 0),
            ],
            duration: Duration::from_millis(45),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_keep_their_tests_together() {
        let run = examples::run();
        let folders = run.folders();
        let names: Vec<_> = folders
            .iter()
            .map(|(folder, tests)| (*folder, tests.len()))
            .collect();
        assert_eq!(names, [("a", 3), ("a/sub", 1), (".", 1)]);
        assert_eq!(folders[0].1[1].short_name(), "passes[size=1/2]");
    }

    #[test]
    fn an_invalid_file_counts_as_failed() {
        let totals = examples::run().totals();
        assert_eq!(
            (totals.passed, totals.failed, totals.invalid, totals.skipped),
            (2, 2, 1, 1)
        );
        assert_eq!(totals.tests(), 5);
    }

    #[test]
    fn a_problem_is_described_with_its_place() {
        let run = examples::run();
        let result = &run.results[2];
        let text = result.describe(&result.problems()[0]);
        assert!(
            text.starts_with("scenarios/a/sub/fails.yaml:4:5: page `a`"),
            "{text}"
        );
        assert!(
            text.contains("\n  at steps[1].expect\n  expected 00000000  01\n"),
            "{text}"
        );
        let result = &run.results[4];
        assert_eq!(
            result.describe(&result.problems()[0]),
            "scenarios/b.yaml: `version` is missing"
        );
    }
}
