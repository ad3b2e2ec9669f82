//! A bar on the terminal, and nothing where there is none.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is redrawn while nothing happens, so that the clock goes on.
const TICK: Duration = Duration::from_millis(200);

/// Shows how far something is, and when it will be done.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar of `total` of something, drawn on the standard error if that is a terminal.
    pub(super) fn new(total: u64, unit: &str) -> Self {
        let visible = std::io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = format!(
            "{{bar:32}} {{pos}}/{{len}} {unit}, {{elapsed}} gone, {{eta}} left  {{wide_msg}}"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("##-"));
        }
        if visible {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// Whether anybody sees it.
    pub(super) fn is_visible(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Sets how much is done, of how much.
    pub(super) fn set(&mut self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Counts one, and names what was done.
    pub(super) fn advance(&self, message: String) {
        self.bar.inc(1);
        self.bar.set_message(message);
    }

    /// Says what is being done.
    pub(super) fn message(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Writes something without the bar in between.
    pub(super) fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
