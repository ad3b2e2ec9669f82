//! `mmsb-stress run`.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mmsb_harness::world::Budget;
use mmsb_stress::report;
use mmsb_stress::run::{self, Options, State, Verdict};

use super::args::RunArgs;
use super::exit::Exit;
use super::output::{BAD, CommandError, DIM, GOOD, Output, styled};
use super::progress::Progress;

/// Runs scenarios, and reports.
pub(super) fn run(args: &RunArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends the process at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(CommandError::of)?;
    }
    let options = options(args)?;
    let progress = Progress::new(options.duration);
    let state = run::run(&options, &stop, &mut |now| progress.show(now));
    progress.clear();
    let state = state.map_err(CommandError::of)?;
    report::write(&state, &options.out).map_err(CommandError::of)?;
    show(&state, &options.out, out);
    if stop.load(Ordering::Relaxed) {
        out.line(format_args!(
            "{}",
            styled(
                DIM,
                format_args!(
                    "stopped; go on with: mmsb-stress run --resume {}",
                    options.out.display()
                )
            )
        ));
    }
    Ok(exit(&state))
}

/// The exit code of a state.
pub(super) fn exit(state: &State) -> Exit {
    match state.verdict() {
        Verdict::Passed => Exit::Passed,
        Verdict::Failed => Exit::Failed,
        Verdict::NothingRan => Exit::NothingRan,
    }
}

fn options(args: &RunArgs) -> Result<Options, CommandError> {
    let program = env::current_exe()
        .map_err(|error| CommandError(format!("cannot find this program: {error}")))?;
    let out = match (&args.resume, &args.out) {
        (Some(directory), _) | (None, Some(directory)) => directory.clone(),
        (None, None) => fresh(Path::new("target/stress")),
    };
    let mut options = Options::new(out, program);
    if args.resume.is_some() {
        let state = State::load(&options.out).map_err(CommandError::of)?;
        options.seed_from.clone_from(&state.seed_from);
        options.shard = state.shard;
        options.resume = true;
    } else {
        options.seed_from.clone_from(&args.seed_from);
        options.shard = args.shard;
    }
    options.duration = args.duration;
    options.max_scenarios = args.scenarios;
    options.campaigns.clone_from(&args.campaign);
    if let Some(jobs) = args.jobs {
        options.jobs = jobs.get();
    }
    options.scenario_timeout = args.timeout;
    options.canary_every = args.canary_every;
    options.budget = Budget {
        duration: args.minimise_for,
        ..options.budget
    };
    options.max_rss_bytes = args.max_rss << 20;
    options.steady = args.steady;
    options.monitor = !args.no_monitor;
    options.planted = env::var("MMSB_PLANTED").ok();
    Ok(options)
}

/// The first directory with this name and a number that is not there.
fn fresh(base: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    };
    (1..u32::MAX)
        .map(name)
        .find(|path| !path.exists())
        .unwrap_or_else(|| base.to_owned())
}

/// Tells what a run came to.
pub(super) fn show(state: &State, directory: &Path, out: &mut Output) {
    out.line(report::text(state));
    for finding in &state.findings {
        out.line(format_args!(
            "\n{} {} ({} times, {} steps of {})",
            styled(BAD, "FOUND"),
            finding.signature,
            finding.count,
            finding.steps_after,
            finding.steps_before
        ));
        for line in finding.message.lines() {
            out.line(format_args!("      {line}"));
        }
        out.line(format_args!(
            "      to see it again: {}",
            finding.command(directory)
        ));
    }
    for (campaign, seed) in &state.silent {
        out.line(format_args!(
            "\n{} the canary of {campaign}, seed {seed}, did not fail: this run can find nothing",
            styled(BAD, "SILENT")
        ));
    }
    let report = directory.join("report.html");
    match state.verdict() {
        Verdict::Passed => out.line(styled(GOOD, "nothing was found")),
        Verdict::Failed => {}
        Verdict::NothingRan => out.line(styled(BAD, "nothing ran")),
    }
    out.line(styled(DIM, format_args!("report: {}", report.display())));
}
