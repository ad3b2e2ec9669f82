//! What a run has come to, as it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::finding::Finding;
use super::options::Shard;
use crate::campaign::{Campaign, Coverage};
use crate::monitor::{
    Histogram, Leak, MIN_STEADY_S, NOISE_BYTES, NOISE_DESCRIPTORS, Sample, Series, judge,
};

/// The name of the file that a run goes on from.
pub const STATE_FILE: &str = "state.json";
/// The version of that file.
const VERSION: u32 = 1;
/// How often memory is looked at, at first.
const SAMPLE_S: f64 = 1.0;

/// What a run has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The text that seeds are drawn from.
    pub seed_from: String,
    /// The part of the fleet.
    pub shard: Shard,
    /// One in so many scenarios is a canary.
    pub canary_every: u64,
    /// How long it has run, breaks not counted, in seconds.
    pub elapsed_s: f64,
    /// Whether it came to its end, and was not stopped.
    pub finished: bool,
    /// What each campaign has come to.
    pub campaigns: BTreeMap<Campaign, CampaignState>,
    /// Scenarios of each workload.
    pub workloads: BTreeMap<String, u64>,
    /// Which steps met which conditions.
    pub coverage: Coverage,
    /// What was found, each once.
    pub findings: Vec<Finding>,
    /// Canaries that were silent: the campaign and the seed.
    pub silent: Vec<(Campaign, u64)>,
    /// Memory and throughput over time.
    pub series: Series,
    /// Workers that were replaced because they had grown, died or hung.
    pub replaced_workers: u64,
    /// The most memory that the runner, its workers and their children had resident together, in bytes.
    #[serde(default)]
    pub peak_rss_bytes: u64,
    /// How long the steady part has to be before anything is said of leaks, in seconds.
    #[serde(default = "min_steady_s")]
    pub min_steady_s: f64,
}

fn min_steady_s() -> f64 {
    MIN_STEADY_S
}

/// What a campaign has come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CampaignState {
    /// The next scenario of this shard.
    pub next: u64,
    /// Those that are under way.
    pub pending: BTreeSet<u64>,
    /// Those that were under way when the run was stopped, and come first.
    pub again: Vec<u64>,
    /// Scenarios that were run.
    pub scenarios: u64,
    /// Steps that they executed.
    pub steps: u64,
    /// Transactions that they committed.
    pub commits: u64,
    /// Bytes that they wrote to pages.
    pub written_bytes: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Canaries that failed, as they must.
    pub canaries: u64,
    /// The time of all of it, in seconds.
    pub busy_s: f64,
    /// How long scenarios took.
    pub latency: Histogram,
}

impl CampaignState {
    /// How long a scenario takes on average, in seconds.
    #[must_use]
    pub fn mean_s(&self) -> f64 {
        if self.scenarios == 0 {
            return 1.0;
        }
        self.busy_s / to_f64(self.scenarios)
    }
}

/// What a run comes to in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was found, and every canary failed.
    Passed,
    /// Something was found, a canary was silent, or something leaks.
    Failed,
    /// Nothing ran.
    NothingRan,
}

impl State {
    /// The state of a run that begins.
    #[must_use]
    pub fn new(seed_from: &str, shard: Shard, canary_every: u64) -> Self {
        Self {
            version: VERSION,
            seed_from: seed_from.to_owned(),
            shard,
            canary_every,
            elapsed_s: 0.0,
            finished: false,
            campaigns: BTreeMap::new(),
            workloads: BTreeMap::new(),
            coverage: Coverage::default(),
            findings: Vec::new(),
            silent: Vec::new(),
            series: Series::new(SAMPLE_S),
            replaced_workers: 0,
            peak_rss_bytes: 0,
            min_steady_s: MIN_STEADY_S,
        }
    }

    /// Reads what an earlier run has left in a directory.
    ///
    /// # Errors
    /// When there is none, or none that can be gone on with.
    pub fn load(directory: &Path) -> Result<Self, RunError> {
        let path = directory.join(STATE_FILE);
        let text = fs::read_to_string(&path).map_err(RunError::file("read", &path))?;
        let unfit = |why: String| RunError::State {
            path: path.clone(),
            why,
        };
        let mut state: Self =
            serde_json::from_str(&text).map_err(|error| unfit(error.to_string()))?;
        if state.version != VERSION {
            return Err(unfit(format!(
                "its version is {}, not {VERSION}",
                state.version
            )));
        }
        for of in state.campaigns.values_mut() {
            of.again.extend(std::mem::take(&mut of.pending));
        }
        state.finished = false;
        Ok(state)
    }

    /// Writes the state beside the old one, and then in its place: a run that is killed leaves one of the two.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn save(&self, directory: &Path) -> Result<(), RunError> {
        let path = directory.join(STATE_FILE);
        let beside = directory.join("state.json.tmp");
        let text = serde_json::to_string(self).map_err(|error| RunError::State {
            path: path.clone(),
            why: error.to_string(),
        })?;
        fs::write(&beside, text).map_err(RunError::file("write", &beside))?;
        fs::rename(&beside, &path).map_err(RunError::file("replace", &path))
    }

    /// Scenarios that were run.
    #[must_use]
    pub fn scenarios(&self) -> u64 {
        self.campaigns.values().map(|of| of.scenarios).sum()
    }

    /// Steps that were executed.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.campaigns.values().map(|of| of.steps).sum()
    }

    /// Canaries that failed, as they must.
    #[must_use]
    pub fn canaries(&self) -> u64 {
        self.campaigns.values().map(|of| of.canaries).sum()
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() || !self.silent.is_empty() || self.leaks() {
            Verdict::Failed
        } else if self.scenarios() == 0 {
            Verdict::NothingRan
        } else {
            Verdict::Passed
        }
    }

    fn judged(&self, noise: f64, of: impl Fn(&Sample) -> u64) -> Leak {
        self.judged_of(noise, |_| true, of)
    }

    fn judged_of(
        &self,
        noise: f64,
        wanted: impl Fn(&Sample) -> bool,
        of: impl Fn(&Sample) -> u64,
    ) -> Leak {
        let points = self.series.samples().iter().filter(|at| wanted(at));
        let points: Vec<_> = points.map(|at| (at.at_s, at.steps, of(at))).collect();
        judge(&points, self.min_steady_s, noise)
    }

    /// Whether the runner itself leaks memory.
    #[must_use]
    pub fn own_leak(&self) -> Leak {
        self.judged(NOISE_BYTES, |at| at.own_rss_bytes)
    }

    /// Whether the workers, in which the engine is, leak memory: by what they keep between scenarios, as what they need for one
    /// says how large it is.
    #[must_use]
    pub fn worker_leak(&self) -> Leak {
        let is_known = |at: &Sample| at.resting_rss_bytes > 0;
        if self.series.samples().iter().any(is_known) {
            self.judged_of(NOISE_BYTES, is_known, |at| at.resting_rss_bytes)
        } else {
            self.judged(NOISE_BYTES, |at| at.worker_rss_bytes)
        }
    }

    /// Whether the workers leak descriptors; figures are of descriptors in the place of bytes.
    #[must_use]
    pub fn descriptor_leak(&self) -> Leak {
        // While no worker runs, as at the end of a run, there is nothing that could hold any.
        let is_known = |at: &Sample| at.worker_descriptors > 0;
        self.judged_of(NOISE_DESCRIPTORS, is_known, |at| at.worker_descriptors)
    }

    /// Whether anything leaks.
    #[must_use]
    pub fn leaks(&self) -> bool {
        [self.own_leak(), self.worker_leak(), self.descriptor_leak()]
            .iter()
            .any(|leak| matches!(leak, Leak::Leaks { .. }))
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_was_under_way_comes_first_when_the_run_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = State::new("text", Shard::default(), 50);
        let of = state.campaigns.entry(Campaign::Sim).or_default();
        (of.next, of.scenarios) = (9, 7);
        of.pending.extend([5, 8]);
        of.latency.record(5000);
        state.save(directory.path()).unwrap();
        let read = State::load(directory.path()).unwrap();
        let of = read.campaigns.get(&Campaign::Sim).unwrap();
        assert_eq!((of.again.clone(), of.pending.len()), (vec![5, 8], 0));
        assert_eq!(read.scenarios(), 7);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(State::load(directory.path()).is_err());
        let mut state = State::new("text", Shard::default(), 50);
        state.version = 99;
        state.save(directory.path()).unwrap();
        let error = State::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("version is 99"), "{error}");
    }

    #[test]
    fn a_silent_canary_fails_a_run_that_found_nothing() {
        let mut state = State::new("text", Shard::default(), 50);
        assert_eq!(state.verdict(), Verdict::NothingRan);
        state.campaigns.entry(Campaign::Sim).or_default().scenarios = 1;
        assert_eq!(state.verdict(), Verdict::Passed);
        state.silent.push((Campaign::Sim, 3));
        assert_eq!(state.verdict(), Verdict::Failed);
    }

    #[test]
    fn what_scenarios_need_is_no_leak_and_what_stays_after_them_is() {
        for (grows, wanted) in [(0, Verdict::Passed), (1u64, Verdict::Failed)] {
            let mut state = State::new("text", Shard::default(), 50);
            state.campaigns.entry(Campaign::Sim).or_default().scenarios = 1;
            for second in 0..300u32 {
                let at = u64::from(second);
                state.series.push(Sample {
                    at_s: f64::from(second),
                    // Scenarios get larger and larger.
                    worker_rss_bytes: (30 + at) << 20,
                    // The first sample comes before the first scenario has ended.
                    resting_rss_bytes: u64::from(second > 0)
                        * ((20 << 20) + at * grows * (1 << 18)),
                    ..Sample::default()
                });
            }
            assert_eq!(state.verdict(), wanted);
        }
    }

    #[test]
    fn a_leak_fails_a_run_that_found_nothing() {
        for grows in [0, 1u64] {
            let mut state = State::new("text", Shard::default(), 50);
            state.campaigns.entry(Campaign::Sim).or_default().scenarios = 1;
            for second in 0..300u32 {
                state.series.push(Sample {
                    at_s: f64::from(second),
                    worker_rss_bytes: 30 << 20,
                    worker_descriptors: 9 + u64::from(second) * grows,
                    ..Sample::default()
                });
            }
            // The last sample comes when the workers are gone.
            state.series.push(Sample {
                at_s: 300.0,
                ..Sample::default()
            });
            let wanted = [Verdict::Passed, Verdict::Failed];
            assert_eq!(Some(&state.verdict()), wanted.get(grows as usize));
        }
    }
}
