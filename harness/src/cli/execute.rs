//! Runs tests side by side and hands out their results in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mmsb_harness::report::{Problem, TestResult, Verdict};
use mmsb_harness::world::{self, Context, Coverage, Failure, Grain, Progress};

use super::corpus::{Corpus, Invalid, Test};

/// How tests are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Execution {
    /// How many at once.
    pub(super) jobs: usize,
    /// Whether those behind the first that fails are skipped.
    pub(super) fail_fast: bool,
    /// Whether the files of a test that failed are kept.
    pub(super) keep: bool,
    /// How closely crashes at each moment cut the writes that they tear.
    pub(super) grain: Grain,
}

/// Told how far a long trace is: the name of the test, and how much of it is done in percent.
pub(super) type OnProgress = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// Runs every test and calls `on_result` for each, in the order of the corpus.
///
/// Tests are taken up in order, so every test before one that failed has been started, and with
/// `fail_fast` the same tests are reported as skipped however many run at once.
pub(super) fn execute(
    corpus: &Corpus,
    execution: Execution,
    on_progress: &OnProgress,
    mut on_result: impl FnMut(TestResult),
) {
    let next = AtomicUsize::new(0);
    let first_failed = AtomicUsize::new(usize::MAX);
    let (sender, receiver) = mpsc::channel();
    let work = || {
        let sender = sender.clone();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = corpus.entries.get(index) else {
                return;
            };
            let hopeless = execution.fail_fast && index > first_failed.load(Ordering::Relaxed);
            let result = match entry {
                Ok(test) if hopeless => not_run(test),
                Ok(test) => run_test(test, execution, on_progress),
                Err(invalid) => invalid_file(invalid),
            };
            if !result.problems().is_empty() {
                first_failed.fetch_min(index, Ordering::Relaxed);
            }
            // The receiver lives as long as this scope.
            let _ = sender.send((index, result));
        }
    };
    thread::scope(|scope| {
        let workers = execution.jobs.clamp(1, corpus.entries.len().max(1));
        for _ in 0..workers {
            scope.spawn(work);
        }
        deliver(corpus, execution, &receiver, &mut on_result);
    });
}

/// Puts results that come in any order into the order of the corpus.
fn deliver(
    corpus: &Corpus,
    execution: Execution,
    receiver: &mpsc::Receiver<(usize, TestResult)>,
    on_result: &mut impl FnMut(TestResult),
) {
    let mut early = BTreeMap::new();
    let mut failed = false;
    for (expected, entry) in corpus.entries.iter().enumerate() {
        let result = loop {
            if let Some(result) = early.remove(&expected) {
                break result;
            }
            match receiver.recv() {
                Ok((index, result)) => early.insert(index, result),
                Err(_) => return,
            };
        };
        // One that ran because it was started before the failure is reported like those that were not.
        let result = match entry {
            Ok(test) if failed && execution.fail_fast => not_run(test),
            _ => result,
        };
        failed |= !result.problems().is_empty();
        on_result(result);
    }
}

fn not_run(test: &Test) -> TestResult {
    result(
        test,
        Verdict::Skipped("an earlier test failed (--fail-fast)".to_owned()),
        Duration::ZERO,
    )
}

fn invalid_file(invalid: &Invalid) -> TestResult {
    let problem = |diagnostic: &mmsb_harness::scenario::Diagnostic| {
        // Its first line repeats the place, which a problem has itself.
        let text = diagnostic.to_string();
        let details = text
            .split_once('\n')
            .map(|(_, details)| details.to_owned())
            .unwrap_or_default();
        Problem {
            line: diagnostic.line,
            column: diagnostic.column,
            step: String::new(),
            message: format!("error[{}]: {}", diagnostic.code, diagnostic.message),
            details,
        }
    };
    TestResult {
        name: invalid.name.clone(),
        file: invalid.path.display().to_string(),
        verdict: Verdict::Invalid(invalid.diagnostics.iter().map(problem).collect()),
        duration: Duration::ZERO,
        steps: 0,
        checks: 0,
        coverage: Coverage::default(),
    }
}

fn run_test(test: &Test, execution: Execution, on_progress: &OnProgress) -> TestResult {
    let skip = test.skip.clone();
    if let Some(reason) = skip.or_else(|| world::missing(&test.scenario, &test.cell)) {
        return result(test, Verdict::Skipped(reason), Duration::ZERO);
    }
    let scratch = match tempfile::Builder::new().prefix("mmsb-").tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            let message = format!("cannot make a scratch directory: {error}; TMPDIR says where");
            let problem = Problem {
                message,
                ..Problem::default()
            };
            return result(test, Verdict::Failed(problem), Duration::ZERO);
        }
    };
    let context = Context {
        directory: test.path.parent().unwrap_or(Path::new("")).to_owned(),
        scratch: scratch.path().join("bus"),
        grain: execution.grain,
        progress: Some(report(test, on_progress)),
        ..Context::default()
    };
    let start = Instant::now();
    let outcome = world::run(&test.scenario, &test.cell, &context);
    let duration = start.elapsed();
    let mut verdict = match outcome.failure() {
        Some(failure) => Verdict::Failed(problem(failure)),
        None if outcome.checks == 0 => {
            let message = "executed no check; add an `expect` step".to_owned();
            Verdict::Failed(Problem {
                message,
                ..Problem::default()
            })
        }
        None => Verdict::Passed,
    };
    if let Verdict::Failed(problem) = &mut verdict
        && execution.keep
        && context.scratch.exists()
    {
        let kept = scratch.keep().join("bus");
        let separator = if problem.details.is_empty() { "" } else { "\n" };
        problem
            .details
            .push_str(&format!("{separator}  files kept in {}", kept.display()));
    }
    TestResult {
        steps: outcome.steps,
        checks: outcome.checks,
        coverage: outcome.coverage,
        ..result(test, verdict, duration)
    }
}

/// Passes on how much of a trace is done.
fn report(test: &Test, on_progress: &OnProgress) -> Arc<dyn Fn(Progress) + Send + Sync> {
    let name = test.name.clone();
    let on_progress = Arc::clone(on_progress);
    Arc::new(move |progress: Progress| {
        let percent = progress
            .done_bytes
            .saturating_mul(100)
            .checked_div(progress.total_bytes);
        on_progress(&name, percent.unwrap_or_default());
    })
}

fn problem(failure: &Failure) -> Problem {
    let details = failure
        .difference
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    Problem {
        line: failure.span.line,
        column: failure.span.column,
        step: failure.path.clone(),
        message: failure.message.clone(),
        details,
    }
}

fn result(test: &Test, verdict: Verdict, duration: Duration) -> TestResult {
    TestResult {
        name: test.name.clone(),
        file: test.path.display().to_string(),
        verdict,
        duration,
        steps: 0,
        checks: 0,
        coverage: Coverage::default(),
    }
}
