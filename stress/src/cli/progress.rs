//! A line on the terminal that says how far a run is, and nothing where there is no terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mmsb_stress::run::Now;

/// Shows how a run goes.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on the standard error, if that is a terminal.
    pub(super) fn new(duration: Duration) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(duration.as_secs().max(1)), target);
        let template = "{bar:24} {elapsed_precise}, {eta_precise} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("##-"));
        }
        Self { bar }
    }

    /// Shows how it stands.
    pub(super) fn show(&self, now: &Now<'_>) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_position(whole(now.state.elapsed_s));
        self.bar.set_message(text(now));
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How a run stands, on one line.
pub(super) fn text(now: &Now<'_>) -> String {
    let state = now.state;
    let rate = whole(mmsb_stress::report::rate(state));
    let current = now.running.first().map_or(String::new(), |job| {
        format!(", {} seed {}", job.campaign, job.seed)
    });
    let small = if now.minimising { ", minimising" } else { "" };
    format!(
        "{} scenarios, {rate} steps/s, {} found{small}{current}",
        state.scenarios(),
        state.findings.len()
    )
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}
