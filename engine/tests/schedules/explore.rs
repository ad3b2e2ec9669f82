//! Runs a program under many schedules.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Schedules a scheduler tries, where `MMSB_SCHEDULES` does not say.
const DEFAULT_SCHEDULES: usize = 200;
/// A schedule with more steps than this hangs.
const MAX_STEPS: usize = 1_000_000;
/// Stack of a thread, in bytes: opening a bus takes more than the default.
const STACK_BYTES: usize = 1 << 20;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
    })
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.failure_persistence = match std::env::var_os("MMSB_SCHEDULE_FOLDER") {
        Some(folder) => FailurePersistence::File(Some(folder.into())),
        None => FailurePersistence::Print,
    };
    config.silence_warnings = true;
    config
}

/// Runs `program` under random schedules, and under schedules with few changes of priority (PCT).
///
/// With `MMSB_SCHEDULE`, a file that an earlier failure left, that one alone is run again.
pub(crate) fn explore(program: impl Fn() + Send + Sync + Clone + 'static) {
    if let Ok(file) = std::env::var("MMSB_SCHEDULE") {
        let scheduler = ReplayScheduler::new_from_file(&file).unwrap();
        Runner::new(scheduler, config()).run(program);
        return;
    }
    let schedules = number("MMSB_SCHEDULES", DEFAULT_SCHEDULES);
    let seed = number("MMSB_SCHEDULE_SEED", 1) as u64;
    run(
        "random",
        seed,
        RandomScheduler::new_from_seed(seed, schedules),
        program.clone(),
    );
    for depth in [2, 4] {
        run(
            &format!("pct of depth {depth}"),
            seed,
            PctScheduler::new_from_seed(seed, depth, schedules / 2),
            program.clone(),
        );
    }
}

fn run(
    name: &str,
    seed: u64,
    scheduler: impl Scheduler + 'static,
    program: impl Fn() + Send + Sync + 'static,
) {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(scheduler, config()).run(move || {
            count.fetch_add(1, Ordering::Relaxed);
            program();
        })
    }));
    let elapsed = start.elapsed().as_secs_f64();
    match outcome {
        Ok(ran) => eprintln!("{name}, seed {seed}: {ran} schedules in {elapsed:.2} s"),
        Err(cause) => {
            eprintln!(
                "{name}, seed {seed}: schedule {} failed after {elapsed:.2} s",
                begun.load(Ordering::Relaxed)
            );
            resume_unwind(cause);
        }
    }
}
