//! Shows that bugs are found: plants them in the engine, one at a time, and runs until each is.
//!
//! The bugs are in the engine's own code, and only in a build with `--cfg mmsb_planted`.

mod minima;
mod report;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mmsb_harness::world::Budget;
use serde::Serialize;

use crate::campaign::Campaign;
use crate::run::{self, Finding, Options, RunError};
use crate::worker::{Answer, Limits, Request, Worker};

pub use report::markdown;

/// What became of one bug.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// Its name; `none` for the control, in which no bug is live.
    pub name: String,
    /// What it does.
    pub about: String,
    /// Scenarios until it was found, or in all.
    pub scenarios: u64,
    /// Steps of them.
    pub steps: u64,
    /// How long it lived, in seconds.
    pub elapsed_s: f64,
    /// What was found.
    pub finding: Option<Finding>,
    /// What leaks, as far as the run was long enough to say.
    pub leak: Option<String>,
    /// How often it was found, until the scenario was short enough or no more was tried.
    pub found_in: u32,
    /// The fewest steps that are known to show it.
    pub known_minimum: Option<usize>,
    /// Whether the scenario that shows it passes when no bug is live: else something else was found.
    pub passes_without: bool,
}

impl Proof {
    /// Whether it came as it must: a bug was found, and where there is none, nothing was.
    #[must_use]
    pub fn is_good(&self) -> bool {
        if is_leak(&self.name) {
            return self.leak.is_some() && self.finding.is_none();
        }
        match &self.finding {
            Some(finding) => {
                self.name != CONTROL && self.passes_without && self.is_small(finding.steps_after)
            }
            None => self.name == CONTROL && self.leak.is_none(),
        }
    }

    /// Whether the bug was found, with a scenario that is longer than it may be.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        let finding = self.finding.as_ref();
        let is_large = finding.is_some_and(|it| !self.is_small(it.steps_after));
        self.name != CONTROL && !is_leak(&self.name) && self.passes_without && is_large
    }

    /// Whether so many steps are at most twice as many as are needed, as far as that is known.
    #[must_use]
    pub fn is_small(&self, steps: usize) -> bool {
        self.known_minimum
            .is_none_or(|minimum| steps <= 2 * minimum)
    }
}

/// Whether a bug shows itself in figures of the process, and not in what a scenario does.
fn is_leak(name: &str) -> bool {
    name.starts_with("leak-")
}

/// How long a run has to be to tell a leak, and how much of it has to be steady.
const LEAK_RUN: Duration = Duration::from_secs(40);
const LEAK_STEADY: Duration = Duration::from_secs(15);

/// The name of a run in which no bug is live, and which must find nothing.
pub const CONTROL: &str = "none";

/// Every bug that this build has: its name, and what it does. None in a normal build.
#[must_use]
pub fn bugs() -> &'static [(&'static str, &'static str)] {
    #[cfg(mmsb_planted)]
    {
        mmsb_engine::planted::ALL
    }
    #[cfg(not(mmsb_planted))]
    {
        &[]
    }
}

/// Runs until a bug is found, or the budget of the options is used up. The options' directory is that of this bug alone.
///
/// # Errors
/// When it cannot be carried out.
pub fn prove(
    name: &str,
    about: &str,
    mut options: Options,
    minimise_for: Duration,
    stop: &AtomicBool,
) -> Result<Proof, RunError> {
    options.planted = (name != CONTROL).then(|| name.to_owned());
    options.max_findings = 1;
    options.canary_every = 0;
    // Bugs that lose a wake-up show as scenarios that come to no end.
    options.scenario_timeout = Duration::from_secs(8);
    options.budget = Budget {
        tries: 1500,
        duration: minimise_for,
    };
    options.campaigns = vec![Campaign::Sim, Campaign::Replay, Campaign::Threads];
    // Where nothing leaks on purpose, so short a run may still grow by some MiB while it warms up: there it is judged by the usual time.
    if is_leak(name) {
        options.steady = LEAK_STEADY;
        options.campaigns = vec![Campaign::Sim];
        options.duration = LEAK_RUN;
    }
    let mut lived_s = None;
    let state = run::run(&options, stop, &mut |now| {
        if now.minimising {
            lived_s.get_or_insert(now.state.elapsed_s);
        }
    })?;
    let finding = state.findings.first().cloned();
    let passes_without = match &finding {
        Some(finding) => passes_without(&options, finding, stop)?,
        None => true,
    };
    let leak = state.leaks().then(|| {
        format!(
            "memory {:?}, descriptors {:?}",
            state.worker_leak(),
            state.descriptor_leak()
        )
    });
    Ok(Proof {
        leak,
        found_in: 1,
        known_minimum: minima::of(name),
        name: name.to_owned(),
        about: about.to_owned(),
        scenarios: state.scenarios(),
        steps: state.steps(),
        elapsed_s: lived_s.unwrap_or(state.elapsed_s),
        finding,
        passes_without,
    })
}

/// Runs the scenario of a finding in a worker without a bug.
fn passes_without(
    options: &Options,
    finding: &Finding,
    stop: &AtomicBool,
) -> Result<bool, RunError> {
    let mut worker = Worker::new(Limits {
        program: options.program.clone(),
        scratch: options.out.join("work").join("without"),
        max_rss_bytes: options.max_rss_bytes,
        planted: None,
    });
    let request = Request {
        job: finding.job,
        scenario: Some(finding.scenario.clone()),
    };
    let answer = worker.ask(&request, options.scenario_timeout, stop)?;
    Ok(matches!(answer, Answer::Done(done) if done.failure.is_none()))
}
