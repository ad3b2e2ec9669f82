//! What was found, made small and written down.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mmsb_harness::scenario::{Scenario, parse_str, print};
use mmsb_harness::world::{self, Budget, Signature};
use serde::{Deserialize, Serialize};

use super::error::RunError;
use crate::campaign::{Campaign, Found, Job};
use crate::worker::{Answer, Request, Worker};

/// Whether a finding shows itself again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reproduction {
    /// The written file was run and failed in the same way.
    Verified,
    /// It failed in the same way, but not every time.
    Sometimes,
    /// It did not fail again; the file holds the scenario as it was found.
    Never,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub signature: Signature,
    /// What was said when it was found.
    pub message: String,
    /// The job that found it first.
    pub job: Job,
    /// The workload of that job.
    pub workload: String,
    /// How many scenarios failed in this way.
    pub count: u64,
    /// When it was found, in seconds of the run.
    pub at_s: f64,
    /// Whether it shows itself again.
    pub reproduction: Reproduction,
    /// Steps of the scenario as it was found, and as it was written.
    pub steps_before: usize,
    /// Steps of the scenario that was written.
    pub steps_after: usize,
    /// Scenarios that were run to make it small.
    pub tries: usize,
    /// The file, relative to the directory of the run.
    pub file: String,
    /// The text of the file.
    pub scenario: String,
}

impl Finding {
    /// The command that shows it again, for the directory of the run.
    #[must_use]
    pub fn command(&self, directory: &Path) -> String {
        let file = directory.join(&self.file);
        let file = file.display();
        match self.job.campaign {
            Campaign::Sim | Campaign::Replay | Campaign::Threads
                if !matches!(self.signature.kind.as_str(), HANG | DIED) =>
            {
                format!("mmsb run {file}")
            }
            Campaign::Kill => format!(
                "mmsb-stress repro {file} --campaign kill --seed {}",
                self.job.seed
            ),
            campaign => format!("mmsb-stress repro {file} --campaign {campaign}"),
        }
    }
}

/// The kind of the signature of a job that hung.
pub(super) const HANG: &str = "hang";
/// The kind of the signature of a job that its worker died of.
pub(super) const DIED: &str = "died";

/// What an answer found, if anything.
pub(super) fn found(campaign: Campaign, answer: &Answer) -> Option<Found> {
    match answer {
        Answer::Done(done) => done.failure.clone(),
        Answer::Hung => Some(Found {
            signature: Signature::new(HANG, "it came to no end", campaign.as_str()),
            message: "it came to no end in time".to_owned(),
        }),
        Answer::Died(how) => Some(Found {
            signature: Signature::new(DIED, how, campaign.as_str()),
            message: format!("the process died: {how}"),
        }),
        Answer::Failed(_) | Answer::Stopped => None,
    }
}

/// A failure to be made small.
pub(super) struct Case<'a> {
    pub(super) job: Job,
    pub(super) workload: &'a str,
    pub(super) scenario: &'a Scenario,
    pub(super) found: &'a Found,
    pub(super) at_s: f64,
    pub(super) timeout: Duration,
    pub(super) budget: Budget,
    pub(super) seed_from: &'a str,
}

/// A candidate that may hang is not waited for as long as a scenario of the run: most take milliseconds, and those that do hang, of
/// which there is one for each step that goes, would use up the time. What is written is waited for as long as any.
const HANG_TIMEOUT: Duration = Duration::from_millis(1500);
/// A failure that depends on threads is tried so often.
const ATTEMPTS: usize = 4;

impl Case<'_> {
    /// Makes the scenario small, checks that what is left fails, and writes it into `directory/findings`.
    pub(super) fn settle(
        &self,
        worker: &mut Worker,
        directory: &Path,
        stop: &AtomicBool,
    ) -> Result<Finding, RunError> {
        let mut error = None;
        let mut fails_in =
            |candidate: &Scenario, timeout| match self.fails(worker, candidate, timeout, stop) {
                Ok(fails) => fails,
                Err(failed) => {
                    error.get_or_insert(failed);
                    false
                }
            };
        let timeout = if self.found.signature.kind == HANG {
            self.timeout.min(HANG_TIMEOUT)
        } else {
            self.timeout
        };
        let mut best = self.scenario.clone();
        let mut tries = 0;
        let reproduces = fails_in(&best, timeout);
        // Kills take seconds each, and depend on the moment: those are left as they are.
        if reproduces && self.job.campaign != Campaign::Kill {
            let shrunk =
                world::minimise(&best, self.budget, |candidate| fails_in(candidate, timeout));
            (best, tries) = (shrunk.scenario, shrunk.tries);
        }
        let steps_before = world::count_steps(&self.scenario.steps);
        let steps_after = world::count_steps(&best.steps);
        let mut finding = Finding {
            signature: self.found.signature.clone(),
            message: self.found.message.clone(),
            job: self.job,
            workload: self.workload.to_owned(),
            count: 1,
            at_s: self.at_s,
            reproduction: Reproduction::Never,
            steps_before,
            steps_after,
            tries,
            file: format!("findings/{}.yaml", self.found.signature.slug()),
            scenario: String::new(),
        };
        best.about = format!("Found by the stress runner: {}", self.found.signature);
        let mut text = self.text(&best, &finding);
        // What is verified is what will be read from the file.
        let read = parse_str(&finding.file, &text);
        finding.reproduction = match read.map(|read| fails_in(&read, self.timeout)) {
            Ok(true) if self.job.campaign.is_deterministic() => Reproduction::Verified,
            Ok(true) => Reproduction::Sometimes,
            _ => Reproduction::Never,
        };
        if let Some(error) = error {
            return Err(error);
        }
        if finding.reproduction == Reproduction::Never {
            let note = "tries.\n# It did not fail again when it was tried.\n";
            text = text.replacen("tries.\n", note, 1);
        }
        let path = directory.join(&finding.file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(RunError::file("make", folder))?;
        }
        fs::write(&path, &text).map_err(RunError::file("write", &path))?;
        finding.scenario = text;
        Ok(finding)
    }

    /// The file: the scenario, and where it came from.
    fn text(&self, scenario: &Scenario, finding: &Finding) -> String {
        let printed = print(scenario);
        let (schema, rest) = printed.split_once('\n').unwrap_or(("", &printed));
        let origin = format!(
            "# Found by mmsb-stress: campaign {}, workload {}, seed {} of the text {:?}.\n\
             # Steps: {} when it was found, {} here; {} tries.\n",
            self.job.campaign,
            self.workload,
            self.job.seed,
            self.seed_from,
            finding.steps_before,
            finding.steps_after,
            finding.tries
        );
        format!("{schema}\n{origin}{rest}")
    }

    /// Whether a candidate fails in the same way.
    fn fails(
        &self,
        worker: &mut Worker,
        candidate: &Scenario,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<bool, RunError> {
        let attempts = if self.job.campaign.is_deterministic() {
            1
        } else {
            ATTEMPTS
        };
        let request = Request {
            job: self.job,
            scenario: Some(print(candidate)),
        };
        for _ in 0..attempts {
            let answer = worker.ask(&request, timeout, stop)?;
            let again = found(self.job.campaign, &answer);
            if again.is_some_and(|again| again.signature == self.found.signature) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
