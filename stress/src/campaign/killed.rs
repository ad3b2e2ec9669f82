//! Kills processes that run a scenario on real files; the harness does, this prepares it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::{env, fs};

use mmsb_harness::kill::{self, Bounds, Limit};
use mmsb_harness::scenario::{Scenario, print};
use mmsb_harness::world::Signature;

use super::execute::{CampaignError, Environment};
use super::job::{Done, Found};

/// Children a seed.
const ROUNDS: u64 = 4;
/// Children a seed at most where something must be found: some are killed before they come to it.
const PATIENT_ROUNDS: u64 = 60;

pub(super) fn killed(
    scenario: &Scenario,
    seed: u64,
    patient: bool,
    environment: &Environment,
) -> Result<Done, CampaignError> {
    let folder = environment.scratch.join(format!("kill-{seed}"));
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| CampaignError::File { what, path, source }
    };
    // What a run that was stopped in the middle has left is of no use.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
    }
    fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    let file = folder.join("scenario.yaml");
    fs::write(&file, print(scenario)).map_err(failed("write", &file))?;
    let program = match &environment.program {
        Some(program) => program.clone(),
        None => env::current_exe().map_err(failed("find", Path::new("this program")))?,
    };
    let spawn =
        |bus: &Path, bounds: Bounds, verify: bool| child(&program, &file, bus, bounds, verify);
    let campaign = kill::Campaign {
        directory: folder.join("campaign"),
        scenario: file.display().to_string(),
        seed,
        limit: Limit {
            rounds: Some(if patient { PATIENT_ROUNDS } else { ROUNDS }),
            duration: None,
        },
    };
    let report = kill::run(&campaign, &spawn, &|_, _| {
        if let Some(pulse) = &environment.pulse {
            pulse.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let failure = report.finding.as_ref().map(|finding| {
        let (path, message) = split(&finding.message);
        Found {
            signature: signature(path, message, &finding.message),
            message: format!("killed while {}: {}", finding.phase, finding.message),
        }
    });
    if failure.is_none() || !environment.keep {
        fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
    }
    Ok(Done {
        failure,
        steps: report.commits.total(),
        commits: report.commits.total(),
        kills: report.kills.total(),
        ..Done::default()
    })
}

/// A failure came over a pipe as text: where, then what.
fn split(text: &str) -> (&str, &str) {
    text.split_once(": ").unwrap_or(("kill", text))
}

fn signature(path: &str, message: &str, all: &str) -> Signature {
    let kind = if all.contains("differs from byte") {
        "difference"
    } else {
        "failure"
    };
    let place = path.rsplit('.').next().unwrap_or_default();
    let place: String = place
        .chars()
        .take_while(|c| c.is_ascii_lowercase())
        .collect();
    Signature::new(
        kind,
        message,
        if place.is_empty() { "kill" } else { &place },
    )
}

fn child(program: &PathBuf, file: &Path, bus: &Path, bounds: Bounds, verify: bool) -> Command {
    let mut command = Command::new(program);
    command.arg("kill-child").arg(file).arg("--bus").arg(bus);
    command.args(["--at-least", &bounds.at_least.to_string()]);
    if let Some(at_most) = bounds.at_most {
        command.args(["--at-most", &at_most.to_string()]);
    }
    if verify {
        command.arg("--verify");
    }
    command
}
