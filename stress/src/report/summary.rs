//! The figures of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::campaign::Campaign;
use crate::monitor::{Histogram, Leak};
use crate::run::{Finding, State, Verdict};

/// Steps a second.
#[must_use]
pub fn rate(state: &State) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let steps = state.steps() as f64;
    steps / state.elapsed_s.max(0.001)
}

/// A run in figures, as `report.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What it comes to.
    pub verdict: Verdict,
    /// Whether it came to its end, and was not stopped.
    pub finished: bool,
    /// The text that seeds were drawn from.
    pub seed_from: String,
    /// The part of the fleet.
    pub shard: String,
    /// How long it ran, in seconds.
    pub elapsed_s: f64,
    /// Scenarios that were run.
    pub scenarios: u64,
    /// Steps that were executed.
    pub steps: u64,
    /// Steps a second, all workers together.
    pub steps_per_s: f64,
    /// Canaries that failed, as they must.
    pub canaries: u64,
    /// Canaries that did not: the campaign and the seed.
    pub silent_canaries: Vec<(Campaign, u64)>,
    /// Each campaign.
    pub campaigns: BTreeMap<Campaign, CampaignFigures>,
    /// Scenarios of each workload.
    pub workloads: BTreeMap<String, u64>,
    /// Workers that were replaced because they had grown, died or hung.
    pub replaced_workers: u64,
    /// The most memory that the runner, its workers and their children had resident together, in bytes.
    pub peak_rss_bytes: u64,
    /// Whether the runner leaks.
    pub own_memory: Leak,
    /// Whether the workers leak, in which the engine is.
    pub worker_memory: Leak,
    /// Whether the workers leak descriptors; figures are of descriptors in the place of bytes.
    pub worker_descriptors: Leak,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The command that shows each finding again.
    pub commands: Vec<String>,
}

/// A campaign in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CampaignFigures {
    /// Scenarios that were run.
    pub scenarios: u64,
    /// Steps that they executed; of kills, commits that were acknowledged.
    pub steps: u64,
    /// Transactions that they committed.
    pub commits: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Canaries that failed, as they must.
    pub canaries: u64,
    /// The time of all of them, in seconds.
    pub busy_s: f64,
    /// How long a scenario took, in nanoseconds: p50, p90, p99, p99.9, p99.99, and the longest.
    pub latency_ns: [u64; 6],
}

/// p50 to p99.99, and the longest.
pub(super) fn quantiles_ns(histogram: &Histogram) -> [u64; 6] {
    let [a, b, c, d, e] =
        [500_000, 900_000, 990_000, 999_000, 999_900].map(|of| histogram.quantile_ns(of));
    [a, b, c, d, e, histogram.max_ns()]
}

impl Summary {
    /// The figures of a state that is kept in this directory.
    #[must_use]
    pub fn of(state: &State, directory: &Path) -> Self {
        let campaigns = state.campaigns.iter().map(|(campaign, of)| {
            let figures = CampaignFigures {
                scenarios: of.scenarios,
                steps: of.steps,
                commits: of.commits,
                kills: of.kills,
                canaries: of.canaries,
                busy_s: of.busy_s,
                latency_ns: quantiles_ns(&of.latency),
            };
            (*campaign, figures)
        });
        let commands = state.findings.iter().map(|it| it.command(directory));
        Self {
            verdict: state.verdict(),
            finished: state.finished,
            seed_from: state.seed_from.clone(),
            shard: state.shard.to_string(),
            elapsed_s: state.elapsed_s,
            scenarios: state.scenarios(),
            steps: state.steps(),
            steps_per_s: rate(state),
            canaries: state.canaries(),
            silent_canaries: state.silent.clone(),
            campaigns: campaigns.collect(),
            workloads: state.workloads.clone(),
            replaced_workers: state.replaced_workers,
            peak_rss_bytes: state.peak_rss_bytes,
            own_memory: state.own_leak(),
            worker_memory: state.worker_leak(),
            worker_descriptors: state.descriptor_leak(),
            commands: commands.collect(),
            findings: state.findings.clone(),
        }
    }
}

/// A leak verdict as a sentence.
pub(super) fn leak(leak: Leak) -> String {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    match leak {
        Leak::Incomplete => "INCOMPLETE: the run was too short to say".to_owned(),
        Leak::Ok { bytes_per_hour } => {
            format!(
                "OK: the floor moves by {:.1} MiB an hour",
                mib(bytes_per_hour)
            )
        }
        Leak::Leaks {
            bytes_per_hour,
            bytes_per_operation,
        } => format!(
            "LEAKS: the floor rises by {:.1} MiB an hour, {bytes_per_operation:.2} B a step",
            mib(bytes_per_hour)
        ),
    }
}

/// The same of descriptors.
pub(super) fn descriptor_leak(leak: Leak) -> String {
    match leak {
        Leak::Incomplete => "INCOMPLETE: the run was too short to say".to_owned(),
        Leak::Ok { bytes_per_hour } => {
            format!("OK: the floor moves by {bytes_per_hour:.1} an hour")
        }
        Leak::Leaks { bytes_per_hour, .. } => {
            format!("LEAKS: the floor rises by {bytes_per_hour:.1} an hour")
        }
    }
}

/// What a run came to, in the few lines that a terminal shows.
#[must_use]
pub fn text(state: &State) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} scenarios, {} steps in {:.0} s: {:.0} steps/s; seeds from {:?}, shard {}",
        state.scenarios(),
        state.steps(),
        state.elapsed_s,
        rate(state),
        state.seed_from,
        state.shard
    );
    for (campaign, of) in &state.campaigns {
        let [p50, .., longest] = quantiles_ns(&of.latency);
        let _ = write!(
            out,
            "  {:<8} {} scenarios, {} steps, {} commits, {} canaries failed as they must; p50 {}, longest {}",
            campaign.as_str(),
            of.scenarios,
            of.steps,
            of.commits,
            of.canaries,
            duration(p50),
            duration(longest)
        );
        if of.kills > 0 {
            let _ = write!(out, "; {} kills", of.kills);
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "  memory of all processes: {} at most",
        mebibytes(state.peak_rss_bytes)
    );
    let _ = writeln!(out, "  workers' memory: {}", leak(state.worker_leak()));
    let _ = writeln!(
        out,
        "  workers' descriptors: {}",
        descriptor_leak(state.descriptor_leak())
    );
    let _ = write!(out, "  runner's memory: {}", leak(state.own_leak()));
    out
}

/// Bytes for people.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Nanoseconds for people.
pub(super) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}
