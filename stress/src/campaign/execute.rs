//! Does what a job says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mmsb_harness::scenario::ast::StorageKind;
use mmsb_harness::scenario::{Cell, Scenario, print};
use mmsb_harness::world::{self, Context, Difference, Outcome, Signature, SimulatedStorage};
use thiserror::Error;

use super::coverage::coverage;
use super::job::{Campaign, Done, Found, Job};
use super::killed;
use crate::workload::make;

/// What jobs are given from outside.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// A directory for real files; each job leaves it as it was. Needed by `threads` and `kill` alone.
    pub scratch: PathBuf,
    /// The program whose `kill-child` is one child of a kill; this one, if left out.
    pub program: Option<PathBuf>,
    /// Counted up whenever a step begins, or a process was killed.
    pub pulse: Option<Arc<AtomicU64>>,
    /// Whether the directory of a kill that found something stays.
    pub keep: bool,
}

/// Why a job could not be done; what it found wrong is no such error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CampaignError {
    /// Something with real files.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What could not be done.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kills could not be carried out.
    #[error(transparent)]
    Kill(#[from] mmsb_harness::kill::KillError),
}

/// Makes the scenario of a job and runs it.
///
/// # Errors
/// When it cannot be run; what it found wrong is in the result.
pub fn execute(job: &Job, environment: &Environment) -> Result<Done, CampaignError> {
    let made = make(job.campaign.flavour(), job.seed, job.canary);
    let mut done = execute_scenario(
        job.campaign,
        &made.scenario,
        job.seed,
        job.canary,
        environment,
    )?;
    made.kind.as_str().clone_into(&mut done.workload);
    done.coverage = coverage(&made.scenario);
    if done.failure.is_some() {
        done.scenario = Some(print(&made.scenario));
    }
    Ok(done)
}

/// Runs a scenario as a campaign does; the seed says when processes are killed, and `patient` that they live until something
/// is found.
///
/// # Errors
/// When it cannot be run; what it found wrong is in the result.
pub fn execute_scenario(
    campaign: Campaign,
    scenario: &Scenario,
    seed: u64,
    patient: bool,
    environment: &Environment,
) -> Result<Done, CampaignError> {
    match campaign {
        Campaign::Sim | Campaign::Replay | Campaign::Threads => alone(scenario, environment),
        Campaign::Twice => Ok(twice(scenario, environment)),
        Campaign::Kill => killed::killed(scenario, seed, patient, environment),
    }
}

fn done(outcome: &Outcome) -> Done {
    Done {
        failure: outcome.failure().map(|failure| Found {
            signature: Signature::of(failure),
            message: failure.to_string(),
        }),
        steps: outcome.steps,
        commits: outcome.commits,
        written_bytes: outcome.written_bytes,
        ..Done::default()
    }
}

fn alone(scenario: &Scenario, environment: &Environment) -> Result<Done, CampaignError> {
    let mut context = Context {
        pulse: environment.pulse.clone(),
        ..Context::default()
    };
    let mut scratch = None;
    if scenario.options.storage == Some(StorageKind::Fs) {
        let made = tempfile::Builder::new()
            .prefix("bus-")
            .tempdir_in(&environment.scratch);
        let made = made.map_err(|source| CampaignError::File {
            what: "make a directory in",
            path: environment.scratch.clone(),
            source,
        })?;
        context.scratch = made.path().join("bus");
        scratch = Some(made);
    }
    let outcome = world::run(scenario, &Cell::default(), &context);
    drop(scratch);
    Ok(done(&outcome))
}

/// Runs a scenario twice, and compares what was written byte for byte.
fn twice(scenario: &Scenario, environment: &Environment) -> Done {
    let run = || {
        let storage = SimulatedStorage::new();
        let context = Context {
            simulated: Some(storage.clone()),
            pulse: environment.pulse.clone(),
            ..Context::default()
        };
        (world::run(scenario, &Cell::default(), &context), storage)
    };
    let (first, first_storage) = run();
    let mut result = done(&first);
    if result.failure.is_some() {
        return result;
    }
    let (second, second_storage) = run();
    result.steps += second.steps;
    result.commits += second.commits;
    result.written_bytes += second.written_bytes;
    result.failure = done(&second).failure.or_else(|| {
        // Compared where they are: copies of both would be what takes most memory of all that a worker does.
        if first_storage.holds_the_same_as(&second_storage) {
            return None;
        }
        let message = difference(&first_storage.files(), &second_storage.files())
            .unwrap_or_else(|| "two runs left other files".to_owned());
        Some(Found {
            signature: Signature::new("nondeterministic", &message, "files"),
            message,
        })
    });
    result
}

/// The first file that is not the same.
fn difference(first: &[(String, Vec<u8>)], second: &[(String, Vec<u8>)]) -> Option<String> {
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    if names(first) != names(second) {
        return Some(format!(
            "two runs left other files: {} and {}",
            names(first).join(" "),
            names(second).join(" ")
        ));
    }
    first
        .iter()
        .zip(second)
        .find_map(|((name, first), (_, second))| {
            let difference = Difference::between(name, 0, ["first", "second"], first, second)?;
            Some(format!(
                "two runs wrote other bytes to the same file\n{difference}"
            ))
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn seeds_pass_and_canaries_fail_as_they_must() {
        let scratch = tempfile::tempdir().unwrap();
        let environment = Environment {
            scratch: scratch.path().to_owned(),
            ..Environment::default()
        };
        for campaign in [
            Campaign::Sim,
            Campaign::Replay,
            Campaign::Twice,
            Campaign::Threads,
        ] {
            for seed in 0..12 {
                let job = Job {
                    campaign,
                    seed,
                    canary: seed % 4 == 3,
                };
                let done = execute(&job, &environment).unwrap();
                match (&done.failure, job.canary) {
                    (None, false) => {}
                    (Some(found), true) => {
                        assert_eq!(found.signature.kind, "difference", "{found:?}");
                        assert_eq!(found.signature.place, "expect", "{found:?}");
                        assert!(done.scenario.is_some());
                    }
                    (other, _) => panic!("{campaign} {seed}: {other:?}\n{:?}", done.scenario),
                }
            }
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_that_differ_are_told() {
        let file = |byte: u8| vec![("log-1".to_owned(), vec![byte; 4])];
        assert_eq!(difference(&file(1), &file(1)), None);
        let told = difference(&file(1), &file(2)).unwrap();
        assert!(told.contains("other bytes"), "{told}");
        assert!(difference(&file(1), &[]).unwrap().contains("other files"));
    }
}
