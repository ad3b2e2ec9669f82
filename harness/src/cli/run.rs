//! `mmsb run`: runs tests and tells what came of them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mmsb_harness::report::{Run, TestResult, Totals, Verdict, json, junit, summary};
use mmsb_harness::world::Grain;

use super::args::RunArgs;
use super::corpus::Corpus;
use super::execute::{Execution, OnProgress, execute};
use super::exit::Exit;
use super::output::{BAD, BOLD, CommandError, DIM, GOOD, Output, WARN, complain, styled};
use super::progress::Progress;

/// Runs what is selected, writes the reports and decides the exit code.
pub(super) fn run(args: &RunArgs) -> Result<Exit, CommandError> {
    let mut corpus = Corpus::load(&args.selection)?;
    if let Some(via) = args.via {
        corpus.set("via", via.word());
    }
    run_and_report(&corpus, args, Grain::default())
}

/// Runs the tests of a corpus, writes the reports and decides the exit code.
pub(super) fn run_and_report(
    corpus: &Corpus,
    args: &RunArgs,
    grain: Grain,
) -> Result<Exit, CommandError> {
    let json_to_stdout = args.json.as_deref() == Some(Path::new("-"));
    // What people read gives way to what a program reads.
    let mut out = if json_to_stdout {
        Output::stderr()
    } else {
        Output::stdout()
    };
    let run = run_corpus(corpus, args, grain, &mut out);
    let totals = run.totals();
    if !run.results.is_empty() {
        out.line("");
        out.text(summary::summary(&run));
        if totals.failed > 0 {
            list_failures(&run, &mut out);
        }
    }
    write_reports(&run, args, json_to_stdout)?;
    let exit = exit_code(&totals);
    if exit == Exit::NothingRan {
        complain(&nothing_ran(&run, args));
    }
    out.line(summary::closing_line(&totals));
    out.finish()?;
    Ok(exit)
}

fn run_corpus(corpus: &Corpus, args: &RunArgs, grain: Grain, out: &mut Output) -> Run {
    let progress = Arc::new(Progress::new(corpus.entries.len() as u64, "tests"));
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let execution = Execution {
        jobs: args.jobs.map_or(cores, NonZeroUsize::get),
        fail_fast: args.fail_fast,
        keep: args.keep,
        grain,
    };
    let on_progress: OnProgress = {
        let progress = Arc::clone(&progress);
        Arc::new(move |name: &str, percent: u64| progress.message(format!("{name} {percent} %")))
    };
    // Where a bar shows how far it is, lines for what passed would only hide what failed.
    let brief = args.quiet || progress.is_visible();
    let mut run = Run::default();
    let start = Instant::now();
    execute(corpus, execution, &on_progress, |result| {
        if !brief || !result.problems().is_empty() {
            progress.suspended(|| show(&result, out));
        }
        progress.advance(result.name.clone());
        run.results.push(result);
    });
    progress.clear();
    run.duration = start.elapsed();
    run
}

/// One line for a test, and what is wrong with it below.
fn show(result: &TestResult, out: &mut Output) {
    let name = &result.name;
    let time = styled(DIM, summary::duration_text(result.duration));
    match &result.verdict {
        Verdict::Passed => out.line(format_args!("{} {name} {time}", styled(GOOD, "pass"))),
        Verdict::Skipped(reason) => {
            out.line(format_args!("{} {name}: {reason}", styled(WARN, "skip")))
        }
        Verdict::Failed(_) => out.line(format_args!("{} {name} {time}", styled(BAD, "FAIL"))),
        Verdict::Invalid(_) => out.line(format_args!(
            "{} {name}: not a scenario",
            styled(BAD, "FAIL")
        )),
    }
    for problem in result.problems() {
        for (line, number) in result.describe(problem).lines().zip(0..) {
            // The first line says where and what; the rest is evidence.
            let line = if number == 0 {
                styled(BOLD, line)
            } else {
                line.to_owned()
            };
            out.line(format_args!("     {line}"));
        }
    }
}

/// Names the tests that failed again, where the eye rests at the end.
fn list_failures(run: &Run, out: &mut Output) {
    out.line(format_args!("\n{}", styled(BAD, "failed")));
    for result in run
        .results
        .iter()
        .filter(|result| !result.problems().is_empty())
    {
        let place = result
            .problems()
            .first()
            .map(|problem| (problem.line, problem.column));
        let place = match place {
            Some((line, column)) if line > 0 => format!("{}:{line}:{column}", result.file),
            _ => result.file.clone(),
        };
        out.line(format_args!("  {}  {}", result.name, styled(DIM, place)));
    }
    out.line("");
}

fn write_reports(run: &Run, args: &RunArgs, json_to_stdout: bool) -> Result<(), CommandError> {
    if let Some(path) = &args.json {
        let text = json::to_json(run);
        if json_to_stdout {
            let mut out = Output::stdout();
            out.text(text);
            out.finish()?;
        } else {
            write_file(path, &text)?;
        }
    }
    match &args.junit {
        Some(path) => write_file(path, &junit::to_junit(run)),
        None => Ok(()),
    }
}

fn write_file(path: &Path, text: &str) -> Result<(), CommandError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text))
        .map_err(|error| CommandError::file("write the report", path, &error))
}

/// A file that is no scenario counts more than a failure, as nobody knows what it would have shown.
fn exit_code(totals: &Totals) -> Exit {
    if totals.invalid > 0 {
        Exit::Usage
    } else if totals.failed > 0 {
        Exit::Failed
    } else if totals.passed == 0 {
        Exit::NothingRan
    } else {
        Exit::Passed
    }
}

fn nothing_ran(run: &Run, args: &RunArgs) -> String {
    if !run.results.is_empty() {
        return "nothing ran: every test was skipped".to_owned();
    }
    match &args.selection.filter {
        Some(filter) => format!("nothing ran: no test matches `{filter}`; `mmsb list` names them"),
        None => "nothing ran: there are no scenarios in these paths".to_owned(),
    }
}
