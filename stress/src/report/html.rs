//! One page that holds everything: no script, nothing from the network.

use std::fmt::Write as _;
use std::path::Path;

use super::plot::{Line, Range, plot, ranges};
use super::summary::{descriptor_leak, duration, leak, mebibytes, quantiles_ns, rate};
use crate::campaign::Coverage;
use crate::monitor::{Leak, Sample, WARM_UP};
use crate::run::{Finding, State, Verdict};

const STYLE: &str = include_str!("style.css");

/// The report of a state that is kept in this directory.
#[must_use]
pub fn html(state: &State, directory: &Path) -> String {
    let (class, word) = match state.verdict() {
        Verdict::Passed => ("passed", "PASSED"),
        Verdict::Failed => ("failed", "FAILED"),
        Verdict::NothingRan => ("failed", "NOTHING RAN"),
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>MMSB stress: {word}</title><style>\n{STYLE}</style></head><body>\n\
         <h1>MMSB stress: <span id=\"verdict\" class=\"verdict {class}\">{word}</span></h1>\n"
    );
    head(&mut out, state);
    findings(&mut out, state, directory);
    over_time(&mut out, state);
    campaigns(&mut out, state);
    heat(&mut out, &state.coverage, &state.findings);
    out.push_str("</body></html>\n");
    out
}

fn head(out: &mut String, state: &State) {
    let stopped = if state.finished {
        ""
    } else {
        " It was stopped before its end."
    };
    let _ = writeln!(
        out,
        "<p>{} scenarios and {} steps in {:.0} s, {:.0} steps a second. {} canaries failed, as they must.{stopped}</p>\
         <p class=\"dim\">Seeds drawn from <code>{}</code>, shard {}; workers replaced: {}.</p>",
        state.scenarios(),
        state.steps(),
        state.elapsed_s,
        rate(state),
        state.canaries(),
        escape(&state.seed_from),
        state.shard,
        state.replaced_workers,
    );
    for (campaign, seed) in &state.silent {
        let _ = writeln!(
            out,
            "<p class=\"failed\">The canary of {campaign}, seed {seed}, did not fail: this run can find nothing.</p>"
        );
    }
}

fn findings(out: &mut String, state: &State, directory: &Path) {
    let _ = write!(
        out,
        "<h2>Findings: {}</h2>\n<div id=\"findings\">",
        state.findings.len()
    );
    if state.findings.is_empty() {
        out.push_str("<p>None.</p>");
    }
    for finding in &state.findings {
        let _ = write!(
            out,
            "<details class=\"finding\" open><summary><b class=\"failed\">{}</b></summary>\
             <p>{} times, first in {} ({}), seed {}. Steps: {} when found, {} here, {} tries. {}</p>\
             <pre>{}</pre><p>To see it again: <code>{}</code></p><pre>{}</pre></details>",
            escape(&finding.signature.to_string()),
            finding.count,
            finding.job.campaign,
            escape(&finding.workload),
            finding.job.seed,
            finding.steps_before,
            finding.steps_after,
            finding.tries,
            match finding.reproduction {
                crate::run::Reproduction::Verified => "It fails again every time.",
                crate::run::Reproduction::Sometimes => "It failed again, but need not every time.",
                crate::run::Reproduction::Never => "It did not fail again.",
            },
            escape(&finding.message),
            escape(&finding.command(directory)),
            escape(&finding.scenario),
        );
    }
    out.push_str("</div>\n");
}

fn over_time(out: &mut String, state: &State) {
    let samples = state.series.samples();
    out.push_str("<h2>Over time</h2>\n");
    out.push_str(&plot(
        "Steps a second",
        &[Line {
            label: "steps/s",
            class: "one",
            points: rates(samples),
        }],
        |value| format!("{value:.0}"),
    ));
    out.push_str(&ranges(
        "How long scenarios took: half of them, 99 of 100, the longest",
        &state
            .campaigns
            .iter()
            .map(|(campaign, of)| Range {
                label: campaign.as_str(),
                middle_ns: of.latency.quantile_ns(500_000),
                high_ns: of.latency.quantile_ns(990_000),
                longest_ns: of.latency.max_ns(),
            })
            .collect::<Vec<_>>(),
    ));
    let memory = |of: fn(&Sample) -> u64| {
        samples
            .iter()
            .map(|at| (at.at_s, to_f64(of(at)) / f64::from(1 << 20)))
            .collect::<Vec<_>>()
    };
    let (workers, resting, runner) = (
        memory(|at| at.worker_rss_bytes),
        memory(|at| at.resting_rss_bytes),
        memory(|at| at.own_rss_bytes),
    );
    out.push_str(&plot(
        "Resident memory, MiB",
        &[
            Line {
                label: "slope of the steady part",
                class: "fit",
                points: fitted(&resting, state.worker_leak()),
            },
            Line {
                label: "",
                class: "fit",
                points: fitted(&runner, state.own_leak()),
            },
            Line {
                label: "largest worker",
                class: "three",
                points: workers,
            },
            Line {
                label: "between scenarios",
                class: "one",
                points: resting,
            },
            Line {
                label: "runner",
                class: "two",
                points: runner,
            },
        ],
        |value| format!("{value:.0}"),
    ));
    let _ = writeln!(
        out,
        "<p class=\"dim\" id=\"peak\">All processes together had {} at most.</p>",
        mebibytes(state.peak_rss_bytes)
    );
    for (who, verdict, words) in [
        (
            "Workers' memory",
            state.worker_leak(),
            leak(state.worker_leak()),
        ),
        ("Runner's memory", state.own_leak(), leak(state.own_leak())),
        (
            "Workers' descriptors",
            state.descriptor_leak(),
            descriptor_leak(state.descriptor_leak()),
        ),
    ] {
        let class = match verdict {
            Leak::Leaks { .. } => "failed",
            Leak::Ok { .. } => "passed",
            Leak::Incomplete => "dim",
        };
        let _ = writeln!(
            out,
            "<p class=\"leak\">{who}: <span class=\"{class}\">{words}</span></p>"
        );
    }
}

/// The line whose slope the verdict is about, over the part that it is about.
fn fitted(points: &[(f64, f64)], leak: Leak) -> Vec<(f64, f64)> {
    let bytes_per_hour = match leak {
        Leak::Incomplete => return Vec::new(),
        Leak::Ok { bytes_per_hour } | Leak::Leaks { bytes_per_hour, .. } => bytes_per_hour,
    };
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let slope = bytes_per_hour / 3600.0 / f64::from(1 << 20);
    let from_s = first.0 + (last.0 - first.0) * WARM_UP;
    let mut heights: Vec<f64> = points
        .iter()
        .filter(|point| point.0 >= from_s)
        .map(|point| point.1 - slope * point.0)
        .collect();
    heights.sort_by(f64::total_cmp);
    let Some(height) = heights.get(heights.len() / 2) else {
        return Vec::new();
    };
    [from_s, last.0]
        .map(|at_s| (at_s, height + slope * at_s))
        .to_vec()
}

/// Steps a second between each sample and the next.
fn rates(samples: &[Sample]) -> Vec<(f64, f64)> {
    samples
        .iter()
        .zip(samples.iter().skip(1))
        .map(|(from, to)| {
            let steps = to_f64(to.steps.saturating_sub(from.steps));
            (to.at_s, steps / (to.at_s - from.at_s).max(0.001))
        })
        .collect()
}

fn campaigns(out: &mut String, state: &State) {
    out.push_str(
        "<h2>Campaigns</h2>\n<div class=\"scroll\"><table><tr><th>campaign</th><th>scenarios</th><th>steps</th>\
         <th>commits</th><th>kills</th><th>canaries</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th>\
         <th>p99.99</th><th>longest</th></tr>",
    );
    for (campaign, of) in &state.campaigns {
        let _ = write!(
            out,
            "<tr><td>{campaign}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            of.scenarios, of.steps, of.commits, of.kills, of.canaries
        );
        for ns in quantiles_ns(&of.latency) {
            let _ = write!(out, "<td>{}</td>", duration(ns));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>\n<p class=\"dim\">Times are of whole scenarios. Workloads: ");
    let workloads = state
        .workloads
        .iter()
        .map(|(name, count)| format!("{} {count}", escape(name)));
    out.push_str(&workloads.collect::<Vec<_>>().join(", "));
    out.push_str(".</p>\n");
}

/// Steps down, what they met across, darker the more often.
fn heat(out: &mut String, coverage: &Coverage, findings: &[Finding]) {
    let conditions = coverage.conditions();
    out.push_str(
        "<h2>Which steps met what</h2>\n<p class=\"dim\">How often scenarios had each step while a fault of this kind could strike, \
         or before such a crash. The last column counts what was found there, with the invariants that were broken.</p>\n<div class=\"scroll\"><table class=\"heat\" id=\"coverage\"><tr><th>step</th>",
    );
    for condition in &conditions {
        let _ = write!(out, "<th>{}</th>", escape(condition));
    }
    out.push_str("<th>broken invariants</th></tr>");
    let most = coverage
        .0
        .values()
        .flat_map(|of| of.values())
        .max()
        .copied()
        .unwrap_or(1);
    for (verb, of) in &coverage.0 {
        let _ = write!(out, "<tr><td>{}</td>", escape(verb));
        for condition in &conditions {
            match of.get(condition) {
                Some(count) => {
                    let shade = to_f64(*count).ln_1p() / to_f64(most).ln_1p() * 0.7 + 0.05;
                    let _ = write!(
                        out,
                        "<td style=\"background:rgba(var(--heat),{shade:.2})\">{}</td>",
                        short(*count)
                    );
                }
                None => out.push_str("<td></td>"),
            }
        }
        let broken: Vec<&Finding> = findings
            .iter()
            .filter(|finding| finding.signature.place == *verb)
            .collect();
        if broken.is_empty() {
            out.push_str("<td></td>");
        } else {
            let count: u64 = broken.iter().map(|finding| finding.count).sum();
            let invariants: Vec<String> = broken
                .iter()
                .map(|finding| escape(&finding.signature.invariant))
                .collect();
            let _ = write!(
                out,
                "<td class=\"broken\" title=\"{}\">{count}</td>",
                invariants.join("; ")
            );
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>\n");
}

fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn to_f64(number: u64) -> f64 {
    number as f64
}
